// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Room behind the last field of a header or a record for what later versions add.
///
/// A field with a tag below 128 changes what is valid: whoever does not know it must wait until its
/// program is newer. One from 128 on may be passed over, and is kept and sent on as it came.
/// Version 1 knows none; the articles say which tags are spoken for.
package struct Extensions: Hashable, Sendable {
    /// Most fields.
    package static let countMax = 16
    /// Longest field, in bytes.
    package static let fieldBytesMax = 1024

    /// One field.
    package struct Field: Hashable, Sendable {
        /// What it is.
        package let tag: UInt8
        /// Its bytes.
        package let bytes: [UInt8]

        /// Names a field.
        package init(tag: UInt8, bytes: [UInt8]) {
            self.tag = tag
            self.bytes = bytes
        }
    }

    /// The fields, ascending by tag.
    package let fields: [Field]

    /// No fields.
    package static let none = Extensions([])

    /// Takes fields that ascend by tag.
    package init(_ fields: [Field]) { self.fields = fields }

    /// The first field that nobody may pass over; nil if there is none.
    package var critical: UInt8? { fields.first.flatMap { $0.tag < 128 ? $0.tag : nil } }

    func encode(to writer: inout WireWriter) {
        writer.u8(UInt8(fields.count))
        for field in fields {
            writer.u8(field.tag)
            writer.medium(field.bytes)
        }
    }

    init(from reader: inout WireReader) throws(WireError) {
        let count = Int(try reader.u8())
        guard count <= Self.countMax else {
            throw .tooLong("extensions", count, limit: Self.countMax)
        }
        var fields: [Field] = []
        for _ in 0..<count {
            let field = Field(
                tag: try reader.u8(),
                bytes: try reader.medium("extension", limit: Self.fieldBytesMax))
            if let last = fields.last, last.tag >= field.tag { throw .unordered("extensions") }
            fields.append(field)
        }
        self.fields = fields
    }
}
