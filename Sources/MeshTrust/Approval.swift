// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// What names a certificate: people compare it, and an operator approves the certificate by it.
///
/// A ticket is a secret until it is used, and can be copied on its way. Where that matters the
/// ticket asks for approval: its certificate counts for nothing until an enrol key has signed the
/// certificate's fingerprint, which the operator hears from whoever stands before the box. Layout:
/// the article `TrustDocuments`.
package struct Fingerprint: Hashable, Sendable {
    /// Characters that people compare, without hyphens: 100 bits, so that nobody can make another
    /// certificate of the same.
    package static let characterCount = 20

    /// The hash of the certificate's body.
    package let hash: Digest

    init(ofBody body: [UInt8], in mesh: MeshID) {
        hash = Blake2b.hash(SigningContext.certificate.message(mesh: mesh, body: body))
    }

    /// Whether a person means this one: letter case, hyphens and white space do not count.
    package func matches(_ text: String) -> Bool {
        let wanted = text.lowercased().filter { $0 != "-" && !$0.isWhitespace }
        return wanted == characters
    }

    private var characters: String {
        String(Base32.encode(hash.array).prefix(Self.characterCount))
    }

    /// The signed word of an enrol key.
    func approval(by key: SigningKey, in mesh: MeshID) -> SignedDocument {
        SignedDocument(hash.array, .approval, key: key, mesh: mesh)
    }
}

extension Fingerprint: CustomStringConvertible {
    /// Groups of four, as people read it to each other.
    package var description: String {
        let all = Array(characters)
        return stride(from: 0, to: all.count, by: 4)
            .map { String(all[$0..<min($0 + 4, all.count)]) }.joined(separator: "-")
    }
}
