// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
internal import MeshStore
import MeshTesting
import MeshTrust

/// A second version of the root document with another enrol key, what stands under it, and what
/// does not.
enum RotationVectors {
    private static let other = TestMesh.key(90, 1)

    /// The second version; the first ticket of the mesh stands.
    static func second(_ mesh: TestMesh) throws -> RootDocument {
        let listed = TestMesh.copy(of: mesh).identity("till").certificate.ticket
        return try mesh.rotated(
            enrol: [other], honours: [Honours.name(of: listed.body, for: .ticket)])
    }

    static func write(_ mesh: TestMesh, _ listed: Certificate) throws {
        let second = try second(mesh)
        func vector(_ format: String, _ name: String, _ expect: String, _ bytes: [UInt8])
            -> Vector
        {
            Vector(
                name: "\(format)-\(name).txt", format: format, expect: expect, bytes: bytes)
        }
        func refused(_ error: TrustError) -> String { "refused \(error)" }
        try vector("root", "second-ok", "ok", second.encoded).write(
            "Two versions; the second names another enrol key and a list of one ticket.")
        let tail = Array(second.encoded.dropFirst(mesh.root.encoded.count))
        try vector(
            "root", "second-of-another", refused(.notASuccessor),
            try TestMesh(seed: 7).root.encoded + tail
        ).write("The second version behind the first of another mesh.")
        try vector(
            "root", "second-alone",
            refused(.malformed("root document", .invalid("extensions"))), tail
        ).write("The second version without the first.")
        try vector("root-carried", "ok", "ok", second.carried).write(
            "The same with its list, as links and files carry it.")
        var writer = WireWriter()
        writer.long(second.encoded)
        writer.long([UInt8](repeating: 0, count: 32))
        try vector("root-carried", "other-list", refused(.wrongHonours), writer.bytes).write(
            "The same with another list than it names.")
        try vector("certificate-later", "listed-ok", "ok", listed.encoded).write(
            "A certificate by the retired key that the second version lists.")
        let unlisted = TestMesh.copy(of: mesh)
        _ = unlisted.identity("till")
        try vector(
            "certificate-later", "unlisted", refused(.retiredEnrolKey),
            unlisted.identity("thief").certificate.encoded
        ).write("A certificate by the retired key that it does not list.")
        let change = SecretDocument(
            MeshSecret(epoch: 2, value: TestMesh.bytes(3, 3)), key: mesh.enrol,
            mesh: mesh.root.meshID)
        try vector("secret", "ok", "ok", change.encoded).write("The second epoch of the secret.")
        var changed = change.encoded
        changed[changed.count - 1] ^= 1
        try vector("secret", "bad-signature", refused(.badSignature("mesh secret")), changed)
            .write("The same with its last bit changed.")
        let foreign = SecretDocument(change.secret, key: other, mesh: mesh.root.meshID)
        try vector("secret", "unknown-key", refused(.unknownEnrolKey), foreign.encoded).write(
            "The same by a key that the root document does not name.")
    }
}
