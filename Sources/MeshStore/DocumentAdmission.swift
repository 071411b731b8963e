// SPDX-License-Identifier: Apache-2.0

internal import MeshContent
internal import MeshCore
internal import MeshReplication
internal import MeshTrust

/// Judges records whose body is a document of the mesh, a release or a revocation: what makes them
/// valid is not who brought them but the signatures in them, so every server may pass them on and
/// none can make one up.
enum DocumentAdmission {
    /// Whether records of a scope stand by signatures of their own.
    static func appliesTo(_ scope: Scope) -> Bool {
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
        default: return
        }
    }
}
