// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshTrust

/// Who may publish to a channel: a set of keys and how many must sign, under the root's threshold.
///
/// A charter of a higher epoch replaces those before, and versions begin anew under it: so a stolen
/// key's huge version is outranked by new keys. It travels with every release that it authorises.
package struct Charter: Hashable, Sendable {
    /// The channel.
    package let channel: String
    /// Counts the channel's sets of keys, from 1.
    package let epoch: UInt32
    /// How many publish keys must sign a release.
    package let threshold: UInt8
    /// The publish keys, ascending.
    package let keys: [Bytes32]
    /// The signed bytes.
    package let body: [UInt8]
    /// One signature of each signing root key, by its index, ascending.
    package let signatures: [IndexedSignature]
    /// Whether it counts; false for one by root keys of an earlier version that no list names.
    package let stands: Bool

    /// Signs a charter with a mesh's root keys; the caller has checked names and counts.
    package init(
        channel: String, epoch: UInt32, threshold: UInt8, keys: [Bytes32], root: RootDocument,
        signers: [SigningKey]
    ) {
        self.channel = channel
        self.epoch = epoch
        self.threshold = threshold
        self.keys = keys.sorted()
        var writer = WireWriter()
        writer.u8(1)
        writer.short(channel.utf8)
        writer.u32(epoch)
        writer.u8(threshold)
        writer.u8(UInt8(keys.count))
        for key in self.keys { writer.append(key) }
        writer.u8(0)
        body = writer.bytes
        signatures = IndexedSignature.sign(
            writer.bytes, .charter, root.meshID, keys: root.current.rootKeys, signers)
        stands = true
    }

    /// Decodes a charter and verifies it against the root document.
    ///
    /// One by root keys of an earlier version is a charter still, since every server must keep the
    /// same records; its releases are served only if it `stands`.
    package init(from reader: inout WireReader, root: RootDocument) throws(ContentRefusal) {
        do throws(WireError) {
            body = try reader.medium("charter", limit: 1024)
            signatures = try IndexedSignature.list(&reader)
            var fields = WireReader(body)
            guard try fields.u8() == 1 else { throw .invalid("charter version") }
            channel = try fields.name("channel")
            epoch = try fields.u32()
            threshold = try fields.u8()
            let count = Int(try fields.u8())
            guard (1...ContentSpecification.publishersMax).contains(count) else {
                throw .invalid("publish keys")
            }
            var keys: [Bytes32] = []
            for _ in 0..<count {
                let key: Bytes32 = try fields.bytes32()
                if let last = keys.last, last >= key { throw .unordered("publish keys") }
                keys.append(key)
            }
            self.keys = keys
            guard try fields.u8() == 0 else { throw .invalid("extension") }
            try fields.finish()
            guard epoch > 0, threshold > 0, Int(threshold) <= count else {
                throw .invalid("threshold")
            }
        } catch {
            throw .malformed("charter", error)
        }
        let (body, signatures) = (body, signatures)
        func verify(_ version: RootDocument.Version) throws(ContentRefusal) {
            try IndexedSignature.verify(
                signatures, body, .charter, root.meshID, keys: version.rootKeys,
                threshold: Int(version.threshold))
        }
        let isListed = root.honours.contains(Honours.name(of: body, for: .charter))
        do throws(ContentRefusal) {
            try verify(root.current)
            stands = true
        } catch {
            guard
                root.versions.contains(where: { version in
                    version.rootKeys != root.current.rootKeys
                        && (try? verify(version)) != nil
                })
            else { throw error }
            stands = isListed
        }
    }

    /// The signed bytes, then the signatures.
    package func encode(to writer: inout WireWriter) {
        writer.medium(body)
        IndexedSignature.encode(signatures, to: &writer)
    }
}

/// A signature with the place of its key in a list.
package struct IndexedSignature: Hashable, Sendable {
    /// The key's place.
    package let index: UInt8
    /// The signature.
    package let signature: Signature

    static func sign(
        _ body: [UInt8], _ context: SigningContext, _ mesh: MeshID, keys: [Bytes32],
        _ signers: [SigningKey]
    ) -> [IndexedSignature] {
        keys.enumerated().compactMap { index, key in
            signers.first { $0.publicKey.id == key }.map {
                IndexedSignature(
                    index: UInt8(index), signature: $0.sign(body, for: context, in: mesh))
            }
        }
    }

    static func list(_ reader: inout WireReader) throws(WireError) -> [IndexedSignature] {
        let count = Int(try reader.u8())
        guard count <= ContentSpecification.publishersMax else {
            throw .tooLong("signatures", count, limit: ContentSpecification.publishersMax)
        }
        var list: [IndexedSignature] = []
        for _ in 0..<count {
            let index = try reader.u8()
            if let last = list.last, last.index >= index { throw .unordered("signatures") }
            list.append(IndexedSignature(index: index, signature: try reader.signature()))
        }
        return list
    }

    static func encode(_ list: [IndexedSignature], to writer: inout WireWriter) {
        writer.u8(UInt8(list.count))
        for one in list {
            writer.u8(one.index)
            writer.append(one.signature.bytes)
        }
    }

    /// Every signature must be good: one that is not is evidence of a forger, not of a majority.
    static func verify(
        _ list: [IndexedSignature], _ body: [UInt8], _ context: SigningContext, _ mesh: MeshID,
        keys: [Bytes32], threshold: Int
    ) throws(ContentRefusal) {
        for one in list {
            guard Int(one.index) < keys.count else { throw .badSignature }
            let key = VerifyingKey(keys[Int(one.index)])
            guard key.isValid, key.verify(one.signature, of: body, for: context, in: mesh) else {
                throw .badSignature
            }
        }
        guard list.count >= threshold else { throw .belowThreshold(list.count, of: threshold) }
    }
}

/// Why a charter, a release, a manifest or a chunk was refused; nothing of it is kept.
package enum ContentRefusal: Error, Hashable {
    /// Not the bytes of what it claims to be.
    case malformed(String, WireError)
    /// A signature that does not verify.
    case badSignature
    /// Too few signatures.
    case belowThreshold(Int, of: Int)
    /// The release is of another channel than its charter, or stands under another key.
    case wrongChannel
    /// The manifest or the chunk has another hash or size.
    case wrongHash
    /// A path that no server may write, with the reason.
    case badPath(String, String)
}

extension ContentRefusal: CustomStringConvertible {
    /// What is wrong, for a person.
    package var description: String {
        switch self {
        case .malformed(let what, let error): "the \(what) is malformed: \(error)"
        case .badSignature: "a signature does not verify"
        case .belowThreshold(let count, let threshold):
            "\(count) keys have signed; \(threshold) must"
        case .wrongChannel: "the release is not for this channel"
        case .wrongHash: "the bytes do not have the promised hash"
        case .badPath(let path, let reason): "'\(path)': \(reason)"
        }
    }
}
