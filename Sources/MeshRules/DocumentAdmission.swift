// SPDX-License-Identifier: Apache-2.0

internal import MeshContent
package import MeshCore
internal import MeshReplication
internal import MeshTrust

/// Judges records whose body is a document of the mesh.
///
/// What makes a release or a revocation valid is not who brought it but the signatures in it, so
/// every server may pass it on and none can make one up. A policy must be one.
package enum DocumentAdmission {
    /// Whether records of a scope stand by signatures of their own.
    package static func appliesTo(_ scope: Scope) -> Bool {
        scope.namespace == ContentSpecification.namespace
            || scope.namespace == Revocation.namespace
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
            guard key.utf8.starts(with: Array("namespaces/".utf8)) else { return }
            guard kind == .put, NamespacePolicy.namespace(of: key) != nil,
                (try? NamespacePolicy(decoding: body)) != nil
            else { throw .badPolicy }
        default: return
        }
    }
}
