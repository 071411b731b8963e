// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshReplication
package import MeshTrust

/// One thing that a transaction changes. A store applies changes in order and judges nothing.
///
/// What follows from them mechanically is the store's own: positions of the feed, marks of digest
/// leaves, sums over rows, counts of what is kept.
package enum Change: Sendable {
    /// A record comes: live, or superseded already and kept.
    case insert(NewRecord)
    /// A live record is superseded, and kept.
    case supersede(LogName, UInt64, by: Dot, UndoShare)
    /// A kept record is superseded by something else than before.
    case rekey(LogName, UInt64, by: Dot, UndoShare)
    /// A kept record lives again, as news of the feed.
    case revive(LogName, UInt64)
    /// A record goes. If it lived, followers of the feed are told that its key changed.
    case remove(LogName, UInt64)
    /// All records, commits and holes of a log from a sequence on go; followers are told likewise.
    case removePast(LogName, from: UInt64)
    /// A commit's header, signature and proof are kept, in the place of what was there.
    case commit(CommitHeader, Signature, CommitProof)
    /// A commit's header goes; its records are the business of other changes.
    case removeCommit(LogName, first: UInt64)
    /// A log ends here now; the header proves it.
    case head(LogName, LogHead, CommitHeader, Signature)
    /// Nothing is left of a log.
    case removeLog(LogName)
    /// The identity of a record is written anew.
    case mend(LogName, UInt64, Digest)
    /// A place is lost: it is part of no digest until it was fetched again.
    case hole(LogName, UInt64)
    /// Whatever lives in a range is to be proven again: it is part of no digest until then.
    case doubt(LogName, ClosedRange<UInt64>)
    /// Places are there again.
    case filled(LogName, ClosedRange<UInt64>)
    /// A row that cannot be believed goes, by the store's own number.
    case discard(row: UInt64)
    /// Followers are told that a key changed, though nothing came that would tell them.
    case notice(KeyName)
    /// Headers of one log are kept as proof of how far an author has written, or that he wrote two
    /// things in one place: together, since one of two that contradict each other shows nothing.
    case evidence(LogName, [SignedHeader])
    /// No header of a log is kept as evidence any more: the log itself shows as much.
    case forgetEvidence(LogName)
    /// Something has lost its place. Its author notes each record that he writes again, by its
    /// identity; all others keep the commit for him, by its own, with what lived of it. Of two
    /// messages with parts of one commit, the store keeps all that is in either.
    case loser(Digest, of: NodeID, CommitsMessage?)
    /// A revocation is known for good.
    case revocation(Revocation)
    /// An answer is kept under its name.
    case answer(String, StoredAnswer)
    /// This node writes in another life from now on.
    case life(Life)
    /// The feed begins another epoch, and nobody goes on from an earlier one.
    case epoch([UInt8])
}

/// The keys of which a transaction changes what readers see.
package struct TouchedKeys: Sendable {
    /// Most keys that are named one by one.
    private static let namesMax = 64

    /// The keys, where all are known.
    package private(set) var names: Set<KeyName> = []
    /// Their scopes.
    package private(set) var scopes: Set<Scope> = []
    /// Whether there are more keys in these scopes than are named.
    package private(set) var areMany = false
    /// Whether any key may be touched.
    package private(set) var areUnknown = false
    /// Whether any is of the mesh's own namespaces, or may be.
    package private(set) var touchesMesh = false
    private var last: Scope?

    mutating func add(_ scope: Scope, _ key: RecordKey) {
        if names.count < Self.namesMax {
            names.insert(KeyName(scope: scope, key: key))
        } else {
            areMany = true
        }
        if scope == last { return }
        last = scope
        scopes.insert(scope)
        if scope.isOfMesh { touchesMesh = true }
    }

    mutating func addUnknown() { (areUnknown, touchesMesh) = (true, true) }
}

extension Change {
    /// Whether it may change what readers see of keys that it does not name.
    var touchesUnknownKeys: Bool {
        switch self {
        case .revive, .remove, .removePast, .removeLog, .mend, .discard, .notice, .epoch: true
        case .insert, .supersede, .rekey, .commit, .removeCommit, .head, .hole, .doubt, .filled,
            .evidence, .forgetEvidence, .loser, .revocation, .answer, .life:
            false
        }
    }
}

/// A record on its way into a store.
package struct NewRecord: Sendable {
    /// Its log.
    package let log: LogName
    /// Its place there.
    package let sequence: UInt64
    /// Its key.
    package let key: RecordKey
    /// Its identity.
    package let id: Digest
    /// Its bytes, as they were hashed.
    package let bytes: [UInt8]
    /// The merge kind of the policy under which it was written.
    package let merge: MergeKind
    /// What superseded it before it came; nil if it lives.
    package let superseded: (by: Dot, undo: UndoShare)?
}

/// What one trip to the store leads to.
package enum Step: Sendable {
    /// Apply these changes and tell more.
    case more([Change], Needs)
    /// Apply these changes, and that is all.
    case done([Change], Conclusion)
}

/// What a transaction leads to once it is durable.
package struct Conclusion: Sendable {
    /// One answer a job, in order.
    package var answers: [JobAnswer] = []
    /// Commits of this node, ready for peers.
    package var committed: [CommitsMessage] = []
    /// Nodes that came to be revoked.
    package var revoked: [Revocation] = []
    /// Whether records of revocations went with a fork of who had brought them.
    package var hasLostRevocations = false
    /// Whether policies may have changed.
    package var touchesPolicies = false
    /// The keys that readers see otherwise now.
    package var touched = TouchedKeys()
    /// Whether more is kept than there is room for, so that a trim should follow.
    package var wantsTrim = false
    /// The life in which this node writes now.
    package var life: Life
    /// The epoch of the feed that began; nil if none did.
    package var epoch: [UInt8]?
    /// The last stamp that was given.
    package var stamp: HybridTime
    /// What was counted.
    package var counts = RuleCounts()
}

/// What the rules count, for metrics.
package struct RuleCounts: Hashable, Sendable {
    package var written = 0
    package var ingested = 0
    package var signatures = 0
    package var verifications = 0
    package var forks = 0
    package var rewritten = 0
    package var damaged = 0
    package var signedAgain = 0
    package var recordsRevoked = 0
    package var recordsRestored = 0
    package var undoDropped = 0
    package var contextsCut = 0
    package var waiting = 0

    /// Nothing was counted yet.
    package init() {}

    /// Adds what another transaction counted.
    package mutating func add(_ other: RuleCounts) {
        for counter in Self.all { self[keyPath: counter] += other[keyPath: counter] }
    }

    private static var all: [WritableKeyPath<RuleCounts, Int>] {
        [
            \.written, \.ingested, \.signatures, \.verifications, \.forks, \.rewritten, \.damaged,
            \.signedAgain, \.recordsRevoked, \.recordsRestored, \.undoDropped, \.contextsCut,
            \.waiting,
        ]
    }
}
