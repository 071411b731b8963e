// SPDX-License-Identifier: Apache-2.0

/// Writes JSON straight into bytes, for the answers that are given thousands of times a second.
///
/// What it writes is what `MeshJSON.encode` writes of the same value: members in the order of their
/// names, snake case, slashes as they are.
public struct JSONWriter: Sendable {
    /// What was written so far, in UTF-8.
    public private(set) var bytes: [UInt8] = []
    private var isFirst = true

    /// Nothing was written yet.
    public init() {}

    /// Ends a line of NDJSON.
    public mutating func endLine() {
        bytes.append(UInt8(ascii: "\n"))
        isFirst = true
    }

    mutating func object(_ members: (inout JSONWriter) -> Void) {
        bytes.append(UInt8(ascii: "{"))
        isFirst = true
        members(&self)
        bytes.append(UInt8(ascii: "}"))
        isFirst = false
    }

    mutating func array<T>(
        _ name: StaticString, _ items: [T], _ item: (inout JSONWriter, T) -> Void
    ) {
        begin(name)
        bytes.append(UInt8(ascii: "["))
        isFirst = true
        for value in items {
            separate()
            item(&self, value)
        }
        bytes.append(UInt8(ascii: "]"))
        isFirst = false
    }

    mutating func member(_ name: StaticString, _ value: String?) {
        guard let value else { return }
        begin(name)
        string(value)
    }

    mutating func member(_ name: StaticString, _ value: (some BinaryInteger)?) {
        guard let value else { return }
        begin(name)
        number(value)
    }

    mutating func member(_ name: StaticString, _ value: Bool?) {
        guard let value else { return }
        begin(name)
        bytes += Array((value ? "true" : "false").utf8)
    }

    mutating func number(_ value: some BinaryInteger) { bytes += Array(String(value).utf8) }

    mutating func string(_ value: String) {
        var value = value
        value.withUTF8 { JSONText.append($0, to: &bytes) }
    }

    private mutating func begin(_ name: StaticString) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        name.withUTF8Buffer { bytes += $0 }
        bytes.append(UInt8(ascii: "\""))
        bytes.append(UInt8(ascii: ":"))
    }

    private mutating func separate() {
        if !isFirst { bytes.append(UInt8(ascii: ",")) }
        isFirst = false
    }
}

extension RecordView {
    /// Writes it as `MeshJSON.encode` does.
    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("author", author)
            writer.member("base64", base64)
            writer.member("content_type", contentType)
            writer.member("cursor", cursor)
            writer.member("deleted", deleted)
            writer.member("etag", etag)
            writer.member("key", key)
            writer.member("scope", scope)
            writer.member("sequence", sequence)
            writer.member("siblings", siblings)
            writer.member("text", text)
            writer.member("twin", twin)
            writer.member("written_ms", writtenMs)
        }
    }
}

extension RecordsView {
    /// Writes it as `MeshJSON.encode` does.
    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("next", next)
            writer.array("records", records) { $1.write(to: &$0) }
            writer.member("v", v)
        }
    }
}

extension WriteView {
    /// Writes it as `MeshJSON.encode` does.
    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("ack", ack)
            writer.member("ask", ask)
            writer.array("durable_on", durableOn) { $0.string($1) }
            writer.array("etags", etags) { $0.string($1) }
            writer.member("reached", reached)
            writer.array("sequences", sequences) { $0.number($1) }
            writer.member("v", v)
        }
    }
}
