// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// The document that a mesh stands on: who may enrol and revoke nodes, signed by offline keys.
///
/// Its first version's hash is the mesh's identity, so the document proves itself to whoever knows
/// the identity. Layout: the article `TrustDocuments`.
package struct RootDocument: Hashable, Sendable {
    /// Most keys of one role.
    package static let keysMax = 16
    /// Longest encoded document, in bytes.
    package static let byteCountMax = 4096

    /// 1 for the first.
    package let version: UInt32
    /// What people call the mesh.
    package let name: String
    /// Milliseconds since 1970 by the maker's clock; shown, never judged by.
    package let created: UInt64
    /// How many root keys must sign.
    package let threshold: UInt8
    /// The offline keys, ascending.
    package let rootKeys: [Bytes32]
    /// Keys that sign tickets, ascending.
    package let enrolKeys: [Bytes32]
    /// Keys that sign revocations, ascending.
    package let revokeKeys: [Bytes32]

    /// The signed bytes.
    package let body: [UInt8]
    /// One signature of each signing root key, by its index, ascending.
    package let signatures: [(index: UInt8, signature: Signature)]

    /// The mesh that this document founds.
    package let meshID: MeshID

    /// Makes and signs the first document of a mesh with all the given root keys.
    package init(
        name: String, created: UInt64, threshold: UInt8, roots: [SigningKey], enrol: [Bytes32],
        revoke: [Bytes32] = []
    ) {
        precondition(Name.isValid(name), "the caller checks the name")
        precondition(
            threshold >= 1 && Int(threshold) <= roots.count, "the caller checks the threshold")
        let ordered = roots.sorted { $0.publicKey.id < $1.publicKey.id }
        var writer = WireWriter()
        writer.u32(1)
        writer.short(name.utf8)
        writer.u64(created)
        writer.u8(threshold)
        writer.u8(UInt8(ordered.count))
        for key in ordered { writer.append(key.publicKey.id) }
        for keys in [enrol.sorted(), revoke.sorted()] {
            writer.u8(UInt8(keys.count))
            for key in keys { writer.append(key) }
        }
        writer.u8(0)
        version = 1
        self.name = name
        self.created = created
        self.threshold = threshold
        rootKeys = ordered.map(\.publicKey.id)
        enrolKeys = enrol.sorted()
        revokeKeys = revoke.sorted()
        body = writer.bytes
        let message = SigningContext.root.message(mesh: .zero, body: writer.bytes)
        meshID = MeshID(Blake2b.hash(message).bytes)
        signatures = ordered.enumerated().map { (UInt8($0.offset), $0.element.sign(message)) }
    }

    /// Decodes and verifies a document: its form, its keys and a threshold of its signatures.
    package init(decoding bytes: [UInt8]) throws(TrustError) {
        do throws(WireError) {
            guard bytes.count <= Self.byteCountMax else {
                throw .tooLong("root document", bytes.count, limit: Self.byteCountMax)
            }
            var reader = WireReader(bytes)
            body = try reader.medium("root document", limit: Self.byteCountMax)
            signatures = try Self.signatures(&reader)
            try reader.finish()
            var fields = WireReader(body)
            version = try fields.u32()
            name = try fields.name("mesh name")
            created = try fields.u64()
            threshold = try fields.u8()
            rootKeys = try Self.keys(&fields)
            enrolKeys = try Self.keys(&fields)
            revokeKeys = try Self.keys(&fields)
            guard try fields.u8() == 0 else { throw .invalid("extension") }
            try fields.finish()
        } catch {
            throw .malformed("root document", error)
        }
        guard version == 1 else { throw .unsupportedVersion(version) }
        guard threshold >= 1, Int(threshold) <= rootKeys.count else { throw .badThreshold }
        let message = SigningContext.root.message(mesh: .zero, body: body)
        meshID = MeshID(Blake2b.hash(message).bytes)
        for (index, signature) in signatures {
            guard Int(index) < rootKeys.count else { throw .badSignature("root document") }
            let key = VerifyingKey(rootKeys[Int(index)])
            guard key.isValid, key.verify(signature, over: message) else {
                throw .badSignature("root document")
            }
        }
        guard signatures.count >= Int(threshold) else { throw .badThreshold }
    }

    private static func signatures(
        _ reader: inout WireReader
    ) throws(WireError) -> [(index: UInt8, signature: Signature)] {
        var list: [(index: UInt8, signature: Signature)] = []
        let count = Int(try reader.u8())
        guard count <= keysMax else { throw .tooLong("signatures", count, limit: keysMax) }
        for _ in 0..<count {
            let index = try reader.u8()
            if let last = list.last, last.index >= index { throw .unordered("signatures") }
            list.append((index, try reader.signature()))
        }
        return list
    }

    private static func keys(_ reader: inout WireReader) throws(WireError) -> [Bytes32] {
        let count = Int(try reader.u8())
        guard count <= keysMax else { throw .tooLong("keys", count, limit: keysMax) }
        var list: [Bytes32] = []
        for _ in 0..<count {
            let key: Bytes32 = try reader.bytes32()
            if let last = list.last, last >= key { throw .unordered("keys") }
            list.append(key)
        }
        return list
    }

    /// The document with its signatures, as it is stored and carried.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        writer.medium(body)
        writer.u8(UInt8(signatures.count))
        for (index, signature) in signatures {
            writer.u8(index)
            writer.append(signature.bytes)
        }
        return writer.bytes
    }

    /// Two documents are one if their bytes are.
    package static func == (lhs: RootDocument, rhs: RootDocument) -> Bool {
        lhs.encoded == rhs.encoded
    }

    /// Hashes the mesh's identity.
    package func hash(into hasher: inout Hasher) { hasher.combine(meshID) }
}
