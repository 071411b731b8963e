// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshTrust

/// A namespace's policy as an operator has signed it: whoever runs the centre can carry it and
/// cannot make one up.
///
/// An enrol key signs it, since its holder decides who is a member at all. Of several of one
/// namespace the newest is for new writes; what was written under another stays under that one.
/// Layout: the article `PolicyFormat`.
package struct PolicyDocument: Hashable, Sendable {
    /// Longest encoded document, in bytes.
    package static let byteCountMax = 1024

    /// The namespace.
    package let namespace: String
    /// Milliseconds since 1970 by the signer's clock; orders the documents of a namespace.
    package let created: UInt64
    /// The policy.
    package let policy: NamespacePolicy
    /// The document as it came.
    package let encoded: [UInt8]

    /// Makes and signs a document; the caller has checked the namespace's name.
    package init(
        of namespace: String, _ policy: NamespacePolicy, created: UInt64, key: SigningKey,
        mesh: MeshID
    ) {
        precondition(Name.isValidNamespace(namespace), "the caller checks the name")
        self.namespace = namespace
        self.created = created
        self.policy = policy
        var body = WireWriter()
        body.u8(1)
        body.short(namespace.utf8)
        body.u64(created)
        body.medium(policy.encoded)
        body.u8(0)
        var whole = WireWriter()
        whole.medium(body.bytes)
        whole.append(key.publicKey.id)
        whole.append(key.sign(body.bytes, for: .definition, in: mesh).bytes)
        encoded = whole.bytes
    }

    private struct Envelope {
        let body: [UInt8]
        let key: Bytes32
        let signature: Signature

        init(_ bytes: [UInt8]) throws(WireError) {
            var reader = WireReader(bytes)
            body = try reader.medium("policy document", limit: PolicyDocument.byteCountMax)
            key = try reader.bytes32()
            signature = try reader.signature()
            try reader.finish()
        }
    }

    /// Decodes a document and verifies it against the root document.
    package init(decoding bytes: [UInt8], root: RootDocument) throws(TrustError) {
        let envelope: Envelope
        do throws(WireError) {
            envelope = try Envelope(bytes)
            try self.init(verified: bytes)
        } catch {
            throw .malformed("policy document", error)
        }
        guard Self.standing(envelope, root) != nil else { throw .unknownEnrolKey }
        let key = VerifyingKey(envelope.key)
        guard key.isValid,
            key.verify(
                envelope.signature, of: envelope.body, for: .definition, in: root.meshID)
        else { throw .badSignature("policy document") }
    }

    /// Decodes a document that was verified as its record was taken.
    package init(verified bytes: [UInt8]) throws(WireError) {
        guard bytes.count <= Self.byteCountMax else {
            throw .tooLong("policy document", bytes.count, limit: Self.byteCountMax)
        }
        var fields = WireReader(try Envelope(bytes).body)
        guard try fields.u8() == 1 else { throw .invalid("policy document version") }
        let name = String(decoding: try fields.short(), as: UTF8.self)
        guard Name.isValidNamespace(name) else { throw .invalid("namespace") }
        namespace = name
        created = try fields.u64()
        policy = try NamespacePolicy(
            decoding: try fields.medium("policy", limit: Self.byteCountMax))
        guard try fields.u8() == 0 else { throw .invalid("extension") }
        try fields.finish()
        encoded = bytes
    }

    /// Whether new writes follow this one rather than another of its namespace; of two of one time
    /// the lesser bytes, so that every server says the same.
    package func precedes(_ other: PolicyDocument) -> Bool {
        if created != other.created { return created > other.created }
        return encoded.lexicographicallyPrecedes(other.encoded)
    }

    /// The signed bytes.
    package var body: [UInt8] { (try? Envelope(encoded))?.body ?? [] }

    /// Whether a key signed it that counts.
    package func stands(under root: RootDocument) -> Bool {
        (try? Envelope(encoded)).map { Self.standing($0, root) == .good } ?? false
    }

    private static func standing(
        _ envelope: Envelope, _ root: RootDocument
    ) -> RootDocument.Standing? {
        root.standing(of: envelope.key, as: .enrol, of: envelope.body, for: .definition)
    }

    /// The documents in the bodies of a namespace's records, the one for new writes first.
    ///
    /// One by a retired key comes after all others: what was written under it stands, as before.
    package static func ordered(
        _ bodies: some Sequence<[UInt8]>, root: RootDocument
    ) -> [PolicyDocument] {
        let known = bodies.compactMap { try? PolicyDocument(verified: $0) }
        return known.map { (document: $0, isGood: $0.stands(under: root)) }
            .sorted { one, other in
                if one.isGood != other.isGood { return one.isGood }
                return one.document.precedes(other.document)
            }.map(\.document)
    }
}
