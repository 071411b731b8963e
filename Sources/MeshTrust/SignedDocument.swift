// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// A body with one signature by a key of the root document: what revocations, policies and changes
/// of the secret are, each under a label of its own. Layout: the article `TrustDocuments`.
package struct SignedDocument: Hashable, Sendable {
    /// The signed bytes.
    package let body: [UInt8]
    /// Who signed.
    package let key: Bytes32
    private let signature: Signature

    /// Signs a body.
    package init(_ body: [UInt8], _ context: SigningContext, key: SigningKey, mesh: MeshID) {
        self.body = body
        self.key = key.publicKey.id
        signature = key.sign(body, for: context, in: mesh)
    }

    /// Reads all of `bytes`; the signature is not judged yet.
    ///
    /// - Parameters:
    ///   - name: what it is, for errors.
    ///   - limit: longest body, in bytes.
    package init(
        decoding bytes: [UInt8], name: String, limit: Int
    ) throws(WireError) {
        var reader = WireReader(bytes)
        body = try reader.medium(name, limit: limit)
        key = try reader.bytes32()
        signature = try reader.signature()
        try reader.finish()
    }

    /// Body, key, signature.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        writer.medium(body)
        writer.append(key)
        writer.append(signature.bytes)
        return writer.bytes
    }

    /// Verifies the signature.
    ///
    /// - Returns: what it is worth under the root document.
    /// - Throws: `unknown` for a key that no version of it names.
    package func verify(
        _ name: String, _ context: SigningContext, by role: RootDocument.Role,
        root: RootDocument, unknown: TrustError
    ) throws(TrustError) -> RootDocument.Standing {
        let standing = root.standing(of: key, as: role, of: body, for: context)
        guard let standing else { throw unknown }
        let verifying = VerifyingKey(key)
        guard verifying.isValid,
            verifying.verify(signature, of: body, for: context, in: root.meshID)
        else { throw .badSignature(name) }
        return standing
    }
}
