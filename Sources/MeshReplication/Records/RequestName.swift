// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto

/// The name that an app gave a request, as its records carry it: a retry at a neighbour that has
/// them finds the first answer, and two records of one write are shown once.
///
/// It decides nothing of what is valid or replaced: whoever does not know it passes over it.
/// Layout: the article `RecordFormat`.
package struct RequestName: Hashable, Sendable {
    /// The tag of the extension.
    package static let tag: UInt8 = 129
    /// Bytes of a name.
    package static let byteCount = 16
    /// Bytes of the extension with its tag and length.
    package static let fieldByteCount = 24
    /// Most writes of one request.
    package static let writesMax = 1024

    /// What an app calls a request, so that no two apps call theirs the same.
    package let name: [UInt8]
    /// Which of the request's writes the record is of, and how many there are.
    package let index: Int
    package let count: Int
    /// Whether the key was new to the server that took it.
    package let isNew: Bool

    /// Names a request's write.
    package init(name: [UInt8], index: Int, count: Int, isNew: Bool) {
        self.name = name
        self.index = index
        self.count = count
        self.isNew = isNew
    }

    /// A name as records carry it.
    package static func name(of text: String) -> [UInt8] {
        Array(Blake2b.hash(Array(text.utf8)).array.prefix(byteCount))
    }

    /// What a record carries; nil for none, or for what this version can't read.
    package init?(_ extensions: Extensions) {
        guard let field = extensions.fields.first(where: { $0.tag == Self.tag }) else {
            return nil
        }
        do throws(WireError) {
            var reader = WireReader(field.bytes)
            name = try reader.take(Self.byteCount)
            index = Int(try reader.u16())
            count = Int(try reader.u16())
            let flags = try reader.u8()
            guard flags <= 1, (1...Self.writesMax).contains(count), index < count else {
                return nil
            }
            isNew = flags == 1
            try reader.finish()
        } catch { return nil }
    }

    /// The extension.
    package var field: Extensions.Field {
        var writer = WireWriter(reserving: 21)
        writer.append(name)
        writer.u16(UInt16(index))
        writer.u16(UInt16(count))
        writer.u8(isNew ? 1 : 0)
        return Extensions.Field(tag: Self.tag, bytes: writer.bytes)
    }
}

/// A write that has a name, whoever took it: two records of one key that are equal in this are of
/// one write that two servers took.
package struct OneWrite: Hashable, Sendable {
    private let name: [UInt8]
    private let index: Int
    private let merge: MergeKind
    private let kind: Record.Kind
    private let part: [UInt8]
    private let contentType: String
    private let body: [UInt8]

    /// The write that a record is of; nil where it has no name.
    package init?(_ record: Record, _ merge: MergeKind) {
        guard !record.extensions.fields.isEmpty, let carried = RequestName(record.extensions)
        else { return nil }
        (name, index) = (carried.name, carried.index)
        (kind, part, self.merge) = (record.kind, record.part, merge)
        (contentType, body) = (record.contentType, record.body)
    }
}
