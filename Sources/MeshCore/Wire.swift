// SPDX-License-Identifier: Apache-2.0

/// Why bytes from outside were refused; nothing was changed.
public enum WireError: Error, Hashable {
    /// A field asks for more bytes than there are.
    case truncated(wanted: Int, left: Int)
    /// Bytes follow the last field.
    case trailing(Int)
    /// A length or count above its limit, found before anything was allocated.
    case tooLong(String, Int, limit: Int)
    /// A field with a value that its type does not have.
    case invalid(String)
    /// A list that must ascend does not.
    case unordered(String)
}

/// Reads fields from bytes that came from outside: every step is checked, none can trap.
public struct WireReader {
    private let bytes: [UInt8]
    /// Where the next field begins.
    public private(set) var offset: Int
    private let end: Int

    /// Reads all of `bytes`.
    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
        offset = 0
        end = bytes.count
    }

    /// How many bytes are left.
    public var left: Int { end - offset }

    /// Refuses bytes after the last field: one value has one encoding.
    public func finish() throws(WireError) {
        if left != 0 { throw .trailing(left) }
    }

    /// Takes `count` bytes.
    public mutating func take(_ count: Int) throws(WireError) -> [UInt8] {
        guard count >= 0, count <= left else { throw .truncated(wanted: count, left: left) }
        defer { offset += count }
        return Array(bytes[offset..<offset + count])
    }

    /// One byte.
    public mutating func u8() throws(WireError) -> UInt8 {
        guard left >= 1 else { throw .truncated(wanted: 1, left: left) }
        defer { offset += 1 }
        return bytes[offset]
    }

    /// Two bytes, little endian.
    public mutating func u16() throws(WireError) -> UInt16 { UInt16(try little(2)) }

    /// Four bytes, little endian.
    public mutating func u32() throws(WireError) -> UInt32 { UInt32(try little(4)) }

    /// Eight bytes, little endian.
    public mutating func u64() throws(WireError) -> UInt64 { try little(8) }

    private mutating func little(_ count: Int) throws(WireError) -> UInt64 {
        guard count <= left else { throw .truncated(wanted: count, left: left) }
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(bytes[offset + index]) << (8 * UInt64(index)) }
        offset += count
        return value
    }

    /// An unsigned LEB128 number in its shortest form.
    public mutating func varint() throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<10 {
            let byte = try u8()
            if index == 9, byte > 1 { throw .invalid("varint") }
            value |= UInt64(byte & 0x7f) << (7 * UInt64(index))
            if byte & 0x80 == 0 {
                if byte == 0, index > 0 { throw .invalid("varint") }
                return value
            }
        }
        throw .invalid("varint")
    }

    /// A varint that counts something, checked against `limit` before anything is allocated.
    public mutating func count(_ field: String, limit: Int) throws(WireError) -> Int {
        let value = try varint()
        guard value <= UInt64(limit) else {
            throw .tooLong(field, Int(clamping: value), limit: limit)
        }
        return Int(value)
    }

    /// 32 bytes, of the meaning that is wanted.
    public mutating func bytes32<Value: FixedBytes>() throws(WireError) -> Value {
        guard let value = Value(try take(32)) else { throw .invalid("32 bytes") }
        return value
    }

    /// A one-byte length and that many bytes.
    public mutating func short() throws(WireError) -> [UInt8] { try take(Int(try u8())) }

    /// A two-byte length and that many bytes.
    public mutating func medium(_ field: String, limit: Int) throws(WireError) -> [UInt8] {
        let count = Int(try u16())
        guard count <= limit else { throw .tooLong(field, count, limit: limit) }
        return try take(count)
    }

    /// A four-byte length and that many bytes.
    public mutating func long(_ field: String, limit: Int) throws(WireError) -> [UInt8] {
        let count = Int(try u32())
        guard count <= limit else { throw .tooLong(field, count, limit: limit) }
        return try take(count)
    }

    /// A short string that is a valid name.
    public mutating func name(_ field: String) throws(WireError) -> String {
        let text = String(decoding: try short(), as: UTF8.self)
        guard Name.isValid(text) else { throw .invalid(field) }
        return text
    }

    /// An author: node key, then life.
    public mutating func author() throws(WireError) -> Author {
        Author(node: try bytes32(), life: Life(try u64()))
    }

    /// A sequence from 1 to `Dot.sequenceMax`; 0 too where `orZero`.
    public mutating func sequence(orZero: Bool = false) throws(WireError) -> UInt64 {
        let value = try u64()
        guard value <= Dot.sequenceMax, orZero || value > 0 else { throw .invalid("sequence") }
        return value
    }

    /// An audience: kind 0 all, 1 site, 2 group, then the name for the last two.
    public mutating func audience() throws(WireError) -> Audience {
        switch try u8() {
        case 0: return .all
        case 1: return .site(try name("site"))
        case 2: return .group(try name("group"))
        default: throw .invalid("audience")
        }
    }

    /// A scope: namespace, then audience.
    public mutating func scope() throws(WireError) -> Scope {
        let namespace = String(decoding: try short(), as: UTF8.self)
        guard Name.isValidNamespace(namespace) else { throw .invalid("namespace") }
        return Scope(namespace: namespace, audience: try audience())
    }
}

/// Writes fields in the one form that `WireReader` accepts.
///
/// Lengths are the caller's to keep within their limits: a value beyond one is our own bug.
public struct WireWriter {
    /// What has been written.
    public private(set) var bytes: [UInt8] = []

    /// Begins with nothing.
    public init(reserving capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    /// Appends bytes as they are.
    public mutating func append(_ more: some Collection<UInt8>) { bytes.append(contentsOf: more) }

    /// Appends 32 bytes.
    public mutating func append(_ value: some FixedBytes) {
        value.bytes.withUnsafeBytes { bytes.append(contentsOf: $0) }
    }

    /// One byte.
    public mutating func u8(_ value: UInt8) { bytes.append(value) }

    /// Two bytes, little endian.
    public mutating func u16(_ value: UInt16) { little(UInt64(value), 2) }

    /// Four bytes, little endian.
    public mutating func u32(_ value: UInt32) { little(UInt64(value), 4) }

    /// Eight bytes, little endian.
    public mutating func u64(_ value: UInt64) { little(value, 8) }

    private mutating func little(_ value: UInt64, _ count: Int) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0.prefix(count)) }
    }

    /// An unsigned LEB128 number in its shortest form.
    public mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    /// A varint that counts something.
    public mutating func count(_ value: Int) { varint(UInt64(value)) }

    /// A one-byte length and the bytes.
    public mutating func short(_ value: some Collection<UInt8>) {
        u8(UInt8(value.count))
        append(value)
    }

    /// A two-byte length and the bytes.
    public mutating func medium(_ value: [UInt8]) {
        u16(UInt16(value.count))
        append(value)
    }

    /// A four-byte length and the bytes.
    public mutating func long(_ value: [UInt8]) {
        u32(UInt32(value.count))
        append(value)
    }

    /// An author: node key, then life.
    public mutating func author(_ value: Author) {
        append(value.node)
        u64(value.life.value)
    }

    /// An audience: kind, then name.
    public mutating func audience(_ value: Audience) {
        switch value {
        case .all: u8(0)
        case .site(let name):
            u8(1)
            short(name.utf8)
        case .group(let name):
            u8(2)
            short(name.utf8)
        }
    }

    /// A scope: namespace, then audience.
    public mutating func scope(_ value: Scope) {
        short(value.namespace.utf8)
        audience(value.audience)
    }
}
