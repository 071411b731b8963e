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
    /// How durable a write of the namespace is to be where its app does not say: a matter of the
    /// server that takes it, and no rule of what is valid.
    package let acknowledged: AckLevel
    /// The signed bytes.
    package let body: [UInt8]
    private let key: Bytes32
    /// The document as it came.
    package let encoded: [UInt8]

    /// The field of a document that says how durable writes are to be.
    private static let acknowledgedTag: UInt8 = 128

    /// Makes and signs a document; the caller has checked the namespace's name.
    package init(
        of namespace: String, _ policy: NamespacePolicy, acknowledged: AckLevel = .local,
        created: UInt64, key: SigningKey, mesh: MeshID
    ) {
        precondition(Name.isValidNamespace(namespace), "the caller checks the name")
        self.namespace = namespace
        self.created = created
        self.policy = policy
        self.acknowledged = acknowledged
        var writer = WireWriter()
        writer.u8(1)
        writer.short(namespace.utf8)
        writer.u64(created)
        writer.medium(policy.encoded)
        let field = Extensions.Field(
            tag: Self.acknowledgedTag, bytes: Array(acknowledged.name.utf8))
        Extensions(acknowledged == .local ? [] : [field]).encode(to: &writer)
        let document = SignedDocument(writer.bytes, .definition, key: key, mesh: mesh)
        (body, self.key, encoded) = (document.body, document.key, document.encoded)
    }

    private static func envelope(_ bytes: [UInt8]) throws(WireError) -> SignedDocument {
        try SignedDocument(decoding: bytes, name: "policy document", limit: byteCountMax)
    }

    /// Decodes a document and verifies it against the root document.
    package init(decoding bytes: [UInt8], root: RootDocument) throws(TrustError) {
        let envelope: SignedDocument
        do throws(WireError) {
            envelope = try Self.envelope(bytes)
            try self.init(verified: bytes)
        } catch {
            throw .malformed("policy document", error)
        }
        _ = try envelope.verify(
            "policy document", .definition, by: .enrol, root: root, unknown: .unknownEnrolKey)
    }

    /// Decodes a document that was verified as its record was taken.
    package init(verified bytes: [UInt8]) throws(WireError) {
        guard bytes.count <= Self.byteCountMax else {
            throw .tooLong("policy document", bytes.count, limit: Self.byteCountMax)
        }
        let envelope = try Self.envelope(bytes)
        (body, key) = (envelope.body, envelope.key)
        var fields = WireReader(body)
        guard try fields.u8() == 1 else { throw .invalid("policy document version") }
        let name = String(decoding: try fields.short(), as: UTF8.self)
        guard Name.isValidNamespace(name) else { throw .invalid("namespace") }
        namespace = name
        created = try fields.u64()
        policy = try NamespacePolicy(
            decoding: try fields.medium("policy", limit: Self.byteCountMax))
        let extensions = try Extensions(from: &fields)
        guard extensions.critical == nil else { throw .invalid("extension") }
        let level = extensions.fields.first { $0.tag == Self.acknowledgedTag }
        // A level of a later version is none that is known here.
        acknowledged =
            level.flatMap { AckLevel(name: String(decoding: $0.bytes, as: UTF8.self)) } ?? .local
        try fields.finish()
        encoded = bytes
    }

    /// Whether new writes follow this one rather than another of its namespace; of two of one time
    /// the lesser bytes, so that every server says the same.
    package func precedes(_ other: PolicyDocument) -> Bool {
        if created != other.created { return created > other.created }
        return encoded.lexicographicallyPrecedes(other.encoded)
    }

    /// Whether a key signed it that counts.
    package func stands(under root: RootDocument) -> Bool {
        root.standing(of: key, as: .enrol, of: body, for: .definition) == .good
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
