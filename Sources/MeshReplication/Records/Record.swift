// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// One version of one key, as its author wrote it.
///
/// The dot is not in it: the record's place in a signed commit gives that. Layout: `RecordFormat`.
package struct Record: Hashable, Sendable {
    /// Longest body, in bytes.
    package static let bodyBytesMax = 64 * 1024
    /// Longest content type, in bytes.
    package static let contentTypeBytesMax = 127
    /// Longest encoded record: the body, a full context, the extensions and the rest.
    package static let byteCountMax =
        bodyBytesMax + 50 * Context.entriesMax + Extensions.countMax
        * (Extensions.fieldBytesMax + 3) + 2048

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
    /// What it supersedes besides what its own life had behind it.
    package let context: Context
    /// The media type that the writer gave.
    package let contentType: String
    /// The value, opaque.
    package let body: [UInt8]
    /// What later versions add.
    package let extensions: Extensions

    /// Fills in a record; the caller has checked lengths.
    package init(
        kind: Kind, stamp: HybridTime, key: RecordKey, part: [UInt8] = [], context: Context,
        contentType: String, body: [UInt8], extensions: Extensions = .none
    ) {
        self.kind = kind
        self.stamp = stamp
        self.key = key
        self.part = part
        self.context = context
        self.contentType = contentType
        self.body = body
        self.extensions = extensions
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
        extensions.encode(to: &writer)
        return writer.bytes
    }

    /// The encoded length of a record with so many bytes of its parts, and a context of so many
    /// dots, at most.
    package static func size(key: Int, contentType: Int, body: Int, context: Int) -> Int {
        21 + key + contentType + body + 50 * context
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
        extensions = try Extensions(from: &reader)
        try reader.finish()
    }

    /// The name of a record in a mesh: the hash of what would be signed, whoever signs it.
    package static func id(of encoded: [UInt8], in mesh: MeshID) -> Digest {
        Blake2b.hash(SigningContext.record.message(mesh: mesh, body: encoded))
    }
}

// MARK: On the wire

/// The authors that the contexts of a message name, each once, in the order of their first use.
///
/// On the wire a context's entry is a number here and a sequence, three bytes instead of 45. What
/// is hashed, signed and stored names the author itself, so a record proves itself with nothing
/// beside it.
struct AuthorTable {
    private(set) var authors: [Author] = []
    private var places: [Author: Int] = [:]
    /// How many of the authors a reader has met.
    private var used = 0

    mutating func place(of author: Author) -> Int {
        if let place = places[author] { return place }
        places[author] = authors.count
        authors.append(author)
        return authors.count - 1
    }

    func encode(to writer: inout WireWriter) {
        writer.count(authors.count)
        for author in authors { writer.author(author) }
    }

    init() {}

    init(from reader: inout WireReader) throws(WireError) {
        for _ in 0..<(try reader.count("authors", limit: SyncSpecification.authorsMax)) {
            let author = try reader.author()
            guard places[author] == nil else { throw .invalid("an author twice") }
            _ = place(of: author)
        }
    }

    /// The author at a place; new ones are met one after the other.
    mutating func author(at place: UInt64) throws(WireError) -> Author {
        guard place <= UInt64(used), place < UInt64(authors.count) else {
            throw .invalid("author of a context")
        }
        let index = Int(place)
        if index == used { used += 1 }
        return authors[index]
    }

    /// Refuses authors that nothing names: one message has one encoding.
    func finish() throws(WireError) {
        guard used == authors.count else { throw .invalid("an author that nothing names") }
    }
}

extension Record {
    /// The form on the wire of a record that is well formed.
    static func compacted(_ bytes: [UInt8], _ table: inout AuthorTable) throws(WireError) -> [UInt8]
    {
        var reader = WireReader(bytes)
        let front = try skipToContext(&reader)
        let count = try reader.count("context", limit: Context.entriesMax)
        if count == 0 { return bytes }
        var writer = WireWriter(reserving: bytes.count)
        writer.append(bytes[..<front])
        writer.count(count)
        for _ in 0..<count {
            writer.count(table.place(of: try reader.author()))
            writer.varint(try reader.varint())
        }
        writer.append(bytes[reader.offset...])
        return writer.bytes
    }

    /// The record that a form on the wire stands for; nothing but the context is looked at.
    static func expanded(_ bytes: [UInt8], _ table: inout AuthorTable) throws(WireError) -> [UInt8]
    {
        var reader = WireReader(bytes)
        let front = try skipToContext(&reader)
        let count = try reader.count("context", limit: Context.entriesMax)
        if count == 0 { return bytes }
        var writer = WireWriter(reserving: bytes.count + 40 * count)
        writer.append(bytes[..<front])
        writer.count(count)
        for _ in 0..<count {
            writer.author(try table.author(at: try reader.varint()))
            writer.varint(try reader.shortSequence())
        }
        writer.append(bytes[reader.offset...])
        return writer.bytes
    }

    private static func skipToContext(_ reader: inout WireReader) throws(WireError) -> Int {
        _ = try reader.u8()
        _ = try reader.u64()
        _ = try reader.medium("key", limit: RecordKey.byteCountMax)
        _ = try reader.short()
        return reader.offset
    }
}
