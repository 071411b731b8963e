// SPDX-License-Identifier: Apache-2.0

internal import MeshContent
internal import MeshCore
internal import MeshReplication
internal import MeshTrust

/// Judges records of the namespace `_content`: what makes them valid is not who brought them but
/// the signatures in them, so every server may pass them on and none can make one up.
enum ReleaseAdmission {
    static func judge(_ record: MeshReplication.Record, in scope: Scope, root: RootDocument)
        throws(Refusal)
    {
        guard scope.namespace == ContentSpecification.namespace else { return }
        guard record.kind == .put,
            let signed = try? SignedRelease(decoding: record.body, root: root),
            signed.release.audience == scope.audience,
            let key = try? SignedRelease.key(signed.release.channel, signed.release.number),
            key == record.key
        else { throw .badRelease }
    }
}
