// SPDX-License-Identifier: Apache-2.0

internal import MeshContent
package import MeshCore
internal import MeshReplication
internal import MeshTrust

/// Judges records whose body is a document of the mesh.
///
/// What makes a release or a revocation valid is not who brought it but the signatures in it, so
/// every server may pass it on and none can make one up. A policy's record is the centre's, and its
/// policy an operator's.
package enum DocumentAdmission {
    /// Whether records of a scope stand by signatures of their own.
    package static func appliesTo(_ scope: Scope) -> Bool {
        scope.namespace == ContentSpecification.namespace
            || scope.namespace == Revocation.namespace
    }

    /// Whether a key of the mesh's own namespace is one of policies: all that are signed stand
    /// there.
    static func isOfPolicies(_ key: RecordKey) -> Bool {
        key.utf8.starts(with: Array("namespaces/".utf8))
    }

    static func judge(_ record: Record, in scope: Scope, root: RootDocument) throws(Refusal) {
        try judge(record.kind, record.key, record.body, in: scope, root: root)
    }

    static func judge(
        _ kind: Record.Kind, _ key: RecordKey, _ body: [UInt8], in scope: Scope,
        root: RootDocument
    ) throws(Refusal) {
        switch scope.namespace {
        case ContentSpecification.namespace:
            guard kind == .put, let signed = try? SignedRelease(decoding: body, root: root),
                signed.release.audience == scope.audience,
                let own = try? SignedRelease.key(signed.release.channel, signed.release.number),
                own == key
            else { throw .badRelease }
        case Revocation.namespace:
            guard kind == .put, let revocation = try? Revocation(decoding: body, root: root),
                revocation.key == key
            else { throw .badRevocation }
        case NamespacePolicy.meshNamespace:
            guard isOfPolicies(key) else { return }
            guard kind == .put, let namespace = NamespacePolicy.namespace(of: key),
                let document = try? PolicyDocument(decoding: body, root: root),
                document.namespace == namespace
            else { throw .badPolicy }
        default: return
        }
    }
}
