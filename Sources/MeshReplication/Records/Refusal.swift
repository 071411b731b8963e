// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Why a commit or a record from a peer was refused; each is a counter.
package enum Refusal: String, Error, CaseIterable, Sendable {
    /// Not the bytes of what it claims to be.
    case malformed
    /// The signature or the Merkle proof does not verify.
    case badSignature = "bad_signature"
    /// The author's certificate is not known here yet.
    case authorUnknown = "author_unknown"
    /// The author has no grant for the scope.
    case notGranted = "not_granted"
    /// The namespace has no such scope, or this node does not hold it.
    case wrongAudience = "wrong_audience"
    /// The release in it is not signed as its channel's charter asks, or stands under another key.
    case badRelease = "bad_release"
    /// The revocation in it is not signed by a revoke key, or stands under another key.
    case badRevocation = "bad_revocation"
    /// The policy in it is not one, or stands under the key of no namespace.
    case badPolicy = "bad_policy"
    /// The author was revoked, and its log ends before this.
    case revoked
    /// The record breaks its namespace's merge kind.
    case wrongMerge = "wrong_merge"
    /// The record names a place of its own life that is not before it.
    case badContext = "bad_context"
    /// A field that changes what is valid, of a version that is newer than this program.
    case newer
    /// The store could not take it now: the disk is full, or too much waits.
    case unavailable

    /// Whether the author's log can never go on past the commit, whoever brings it: only another
    /// certificate or a newer program changes that.
    package var blocksLog: Bool {
        switch self {
        case .notGranted, .wrongAudience, .badRelease, .badRevocation, .badPolicy, .wrongMerge,
            .badContext, .newer:
            true
        case .malformed, .badSignature, .authorUnknown, .revoked, .unavailable: false
        }
    }
}

/// What a log waits for before its next commit can be taken.
package enum Dependency: Hashable, Sendable {
    /// A policy of a namespace.
    case policy(PolicyID, namespace: String)
    /// A place in another log, which a context or a new life names.
    case place(LogName, sequence: UInt64)
}
