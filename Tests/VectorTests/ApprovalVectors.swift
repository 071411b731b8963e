// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
internal import MeshStore
import MeshTesting
import MeshTrust

/// Certificates that wait for an operator's word, have it, and have one that is none.
enum ApprovalVectors {
    static func write(_ mesh: TestMesh) throws {
        func write(_ name: String, _ expect: String, _ bytes: [UInt8], _ text: String) throws {
            try Vector(
                name: "certificate-\(name).txt", format: "certificate", expect: expect, bytes: bytes
            ).write(text)
        }
        let copy = TestMesh.copy(of: mesh)
        let id = mesh.root.meshID
        let (one, other) = (
            copy.identity("kiosk", needsApproval: true).certificate,
            copy.identity("kiosk", needsApproval: true).certificate
        )
        let approved = one.approved(by: mesh.enrol, in: id)
        let word = Array(approved.encoded.dropFirst(one.encoded.count))
        try write("approved-ok", "ok", approved.encoded, "A server whose ticket asks for approval.")
        try write(
            "not-approved", "refused \(TrustError.notApproved)", one.encoded,
            "The same without an operator's word.")
        let bad = "refused \(TrustError.badSignature("approval"))"
        try write(
            "approval-of-another", bad, other.encoded + word,
            "Another server with the word for the first.")
        let plain = copy.identity("till").certificate
        try write(
            "approval-unasked", bad, plain.encoded + word,
            "One whose ticket asks for none, with a word.")
        try write(
            "approval-unknown-key", "refused \(TrustError.unknownEnrolKey)",
            one.approved(by: TestMesh.key(90, 2), in: id).encoded,
            "The word of a key that the root document does not name.")
        var changed = approved.encoded
        changed[changed.count - 1] ^= 1
        try write("approval-changed", bad, changed, "The last bit of the word is changed.")
    }
}
