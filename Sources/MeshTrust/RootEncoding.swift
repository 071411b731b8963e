// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto

/// The bytes of a root document's versions, and whether their signatures are good.
extension RootDocument {
    /// The extension that ties a version to the one before.
    static let linkTag: UInt8 = 1

    struct Fields {
        var number: UInt32
        var name: String
        var created: UInt64
        var threshold: UInt8
        var roots: [Bytes32]
        var enrol: [Bytes32]
        var revoke: [Bytes32]
        var link: Link?

        var body: [UInt8] {
            var writer = WireWriter()
            writer.u32(number)
            writer.short(name.utf8)
            writer.u64(created)
            writer.u8(threshold)
            for keys in [roots, enrol, revoke] {
                writer.u8(UInt8(clamping: keys.count))
                for key in keys { writer.append(key) }
            }
            writer.u8(link == nil ? 0 : 1)
            if let link {
                writer.u8(RootDocument.linkTag)
                writer.append(link.previous)
                writer.append(link.honours)
            }
            return writer.bytes
        }
    }

    static func hash(_ version: Version, in mesh: MeshID) -> Digest {
        let isFirst = version.link == nil
        return Blake2b.hash(
            SigningContext.root.message(mesh: isFirst ? .zero : mesh, body: version.body))
    }

    static func sign(
        _ message: [UInt8], _ keys: [Bytes32], _ signers: [SigningKey]
    ) -> [(index: UInt8, signature: Signature)] {
        keys.enumerated().compactMap { index, key in
            signers.first { $0.publicKey.id == key }.map {
                (UInt8(clamping: index), $0.sign(message))
            }
        }
    }

    static func version(
        _ reader: inout WireReader, isFirst: Bool
    ) throws(TrustError) -> Version {
        let version: Version
        do throws(WireError) {
            let body = try reader.medium("root document", limit: byteCountMax)
            let own = try signatures(&reader)
            version = Version(
                try Fields(body, isFirst: isFirst), body, own,
                earlier: isFirst ? [] : try signatures(&reader))
        } catch {
            throw .malformed("root document", error)
        }
        guard isFirst ? version.number == 1 : version.number > 1 else {
            throw .unsupportedVersion(version.number)
        }
        guard version.threshold >= 1, Int(version.threshold) <= version.rootKeys.count else {
            throw .badThreshold
        }
        return version
    }

    static func verify(
        _ signatures: [(index: UInt8, signature: Signature)], _ message: [UInt8],
        _ version: Version
    ) throws(TrustError) {
        for (index, signature) in signatures {
            guard Int(index) < version.rootKeys.count else { throw .badSignature("root document") }
            let key = VerifyingKey(version.rootKeys[Int(index)])
            guard key.isValid, key.verify(signature, over: message) else {
                throw .badSignature("root document")
            }
        }
        guard signatures.count >= Int(version.threshold) else { throw .badThreshold }
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

    static func encode(_ version: Version, to writer: inout WireWriter) {
        writer.medium(version.body)
        for list in [version.signatures] + (version.link == nil ? [] : [version.earlierSignatures])
        {
            writer.u8(UInt8(clamping: list.count))
            for (index, signature) in list {
                writer.u8(index)
                writer.append(signature.bytes)
            }
        }
    }
}

extension RootDocument.Version {
    init(
        _ fields: RootDocument.Fields, _ body: [UInt8],
        _ signatures: [(index: UInt8, signature: Signature)],
        earlier: [(index: UInt8, signature: Signature)]
    ) {
        number = fields.number
        name = fields.name
        created = fields.created
        threshold = fields.threshold
        rootKeys = fields.roots
        enrolKeys = fields.enrol
        revokeKeys = fields.revoke
        link = fields.link
        self.body = body
        self.signatures = signatures
        earlierSignatures = earlier
    }
}

extension RootDocument.Fields {
    init(_ body: [UInt8], isFirst: Bool) throws(WireError) {
        var reader = WireReader(body)
        number = try reader.u32()
        name = try reader.name("mesh name")
        created = try reader.u64()
        threshold = try reader.u8()
        roots = try Self.keys(&reader)
        enrol = try Self.keys(&reader)
        revoke = try Self.keys(&reader)
        guard try reader.u8() == (isFirst ? 0 : 1) else { throw .invalid("extensions") }
        link = nil
        if !isFirst {
            guard try reader.u8() == 1 else { throw .invalid("extension") }
            link = RootDocument.Link(
                previous: try reader.bytes32(), honours: try reader.bytes32())
        }
        try reader.finish()
    }

    private static func keys(_ reader: inout WireReader) throws(WireError) -> [Bytes32] {
        let count = Int(try reader.u8())
        guard count <= RootDocument.keysMax else {
            throw .tooLong("keys", count, limit: RootDocument.keysMax)
        }
        var list: [Bytes32] = []
        for _ in 0..<count {
            let key: Bytes32 = try reader.bytes32()
            if let last = list.last, last >= key { throw .unordered("keys") }
            list.append(key)
        }
        return list
    }
}
