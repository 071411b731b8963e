// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// What a record supersedes: for each node that wrote the key, the highest dot that its writer had
/// seen.
///
/// An entry covers every dot of its node up to it, earlier incarnations included, so a context
/// grows with the number of writers of a key and not with their restarts.
package struct Context: Hashable, Sendable {
    /// Most entries of one context, and so most nodes that may write one key.
    package static let entriesMax = 200

    /// The highest dots, one a node, ascending.
    package private(set) var dots: [Dot]

    /// Covers nothing.
    package static let empty = Context(dots: [])

    private init(dots: [Dot]) { self.dots = dots }

    /// Whether a version at `dot` is superseded.
    package func covers(_ dot: Dot) -> Bool {
        guard let entry = dots.first(where: { $0.author.node == dot.author.node }) else {
            return false
        }
        return dot <= entry
    }

    /// Adds a dot that was seen; lower ones of the same node are covered with it.
    package mutating func insert(_ dot: Dot) {
        guard let index = dots.firstIndex(where: { $0.author.node >= dot.author.node }) else {
            return dots.append(dot)
        }
        if dots[index].author.node == dot.author.node {
            dots[index] = max(dots[index], dot)
        } else {
            dots.insert(dot, at: index)
        }
    }

    func encode(to writer: inout WireWriter) {
        writer.u8(UInt8(dots.count))
        for dot in dots {
            writer.author(dot.author)
            writer.u64(dot.sequence)
        }
    }

    init(from reader: inout WireReader) throws(WireError) {
        let count = Int(try reader.u8())
        guard count <= Self.entriesMax else {
            throw .tooLong("context", count, limit: Self.entriesMax)
        }
        dots = []
        for _ in 0..<count {
            let dot = Dot(author: try reader.author(), sequence: try reader.sequence())
            if let last = dots.last, last.author.node >= dot.author.node {
                throw .unordered("context")
            }
            dots.append(dot)
        }
    }
}

/// One version of one key, as its author wrote it.
///
/// The dot is not in it: the record's place in a signed commit gives that. Layout: `RecordFormat`.
package struct Record: Hashable, Sendable {
    /// Longest body, in bytes.
    package static let bodyBytesMax = 64 * 1024
    /// Longest content type, in bytes.
    package static let contentTypeBytesMax = 127
    /// Longest encoded record: the body, a full context, and the rest.
    package static let byteCountMax = bodyBytesMax + 48 * Context.entriesMax + 2048

    /// Whether the version holds a value.
    package enum Kind: UInt8, Sendable {
        /// A value.
        case put = 1
        /// The key was deleted; the record stays as evidence.
        case delete = 2
    }

    /// Value or deletion.
    package let kind: Kind
    /// When the writer's clock said it was; breaks ties only.
    package let stamp: HybridTime
    /// The key.
    package let key: RecordKey
    /// The part of the key that this version is of; empty for `register` and `log`.
    package let part: [UInt8]
    /// What it supersedes besides its own node's earlier versions.
    package let context: Context
    /// The media type that the writer gave.
    package let contentType: String
    /// The value, opaque.
    package let body: [UInt8]

    /// Fills in a record; the caller has checked lengths.
    package init(
        kind: Kind, stamp: HybridTime, key: RecordKey, part: [UInt8] = [], context: Context,
        contentType: String, body: [UInt8]
    ) {
        self.kind = kind
        self.stamp = stamp
        self.key = key
        self.part = part
        self.context = context
        self.contentType = contentType
        self.body = body
    }

    /// The canonical bytes.
    package var encoded: [UInt8] {
        var writer = WireWriter(
            reserving: 32 + key.utf8.count + body.count + 48 * context.dots.count)
        writer.u8(kind.rawValue)
        writer.u64(stamp.value)
        writer.medium(key.utf8)
        writer.short(part)
        context.encode(to: &writer)
        writer.short(contentType.utf8)
        writer.long(body)
        writer.u8(0)
        return writer.bytes
    }

    /// The encoded length of a record with so many bytes of its parts, and a context of so many
    /// dots.
    package static func size(key: Int, contentType: Int, body: Int, context: Int) -> Int {
        19 + key + contentType + body + 48 * context
    }

    /// Decodes exactly one record.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        guard let kind = Kind(rawValue: try reader.u8()) else { throw .invalid("record kind") }
        self.kind = kind
        stamp = HybridTime(try reader.u64())
        let keyBytes = try reader.medium("key", limit: RecordKey.byteCountMax)
        do { key = try RecordKey(validating: keyBytes) } catch { throw .invalid("key") }
        part = try reader.short()
        context = try Context(from: &reader)
        let type = try reader.short()
        guard type.count <= Self.contentTypeBytesMax,
            type.allSatisfy({ (0x20...0x7e).contains($0) })
        else { throw .invalid("content type") }
        contentType = String(decoding: type, as: UTF8.self)
        body = try reader.long("body", limit: Self.bodyBytesMax)
        if kind == .delete, !body.isEmpty { throw .invalid("body of a deletion") }
        guard try reader.u8() == 0 else { throw .invalid("extension") }
        try reader.finish()
    }

    /// The name of a record in a mesh: the hash of what would be signed, whoever signs it.
    package static func id(of encoded: [UInt8], in mesh: MeshID) -> Digest {
        Blake2b.hash(SigningContext.record.message(mesh: mesh, body: encoded))
    }
}
