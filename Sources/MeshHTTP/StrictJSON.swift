// SPDX-License-Identifier: Apache-2.0

/// Reads JSON from outside, or checks it before Foundation decodes it.
///
/// Foundation takes the last of two equal keys, any depth, and rounds what no number can hold; two
/// parsers that disagree about one text have let people in before (CVE-2017-12635). Grammar: RFC
/// 8259.
struct StrictJSON {
    /// Deepest nesting.
    static let depthMax = 32
    /// Most writes of a batch; they are counted before anything is made of them.
    static let elementsMax = 1000

    /// Why a text was refused.
    struct Failure: Error, Equatable {
        let reason: String
        let offset: Int
    }

    private let bytes: [UInt8]
    private var offset = 0
    private var depth = 0

    /// Refuses anything but one JSON value with distinct keys, shallow, with numbers that fit a
    /// double.
    static func check(_ bytes: [UInt8]) throws(Failure) {
        var scanner = try StrictJSON(bytes)
        try scanner.skipValue()
        try scanner.end()
    }

    init(_ bytes: [UInt8]) throws(Failure) {
        guard bytes.withUnsafeBufferPointer({ Self.isUTF8($0) }) else {
            throw Failure(reason: "not valid UTF-8", offset: 0)
        }
        self.bytes = bytes
    }

    private static func isUTF8(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        // ASCII, as most of it is, eight bytes at a time.
        let raw = UnsafeRawBufferPointer(bytes)
        var index = 0
        while index + 8 <= raw.count {
            if raw.loadUnaligned(fromByteOffset: index, as: UInt64.self) & 0x8080_8080_8080_8080
                != 0
            {
                return String(validating: bytes, as: UTF8.self) != nil
            }
            index += 8
        }
        while index < raw.count {
            if raw[index] >= 0x80 { return String(validating: bytes, as: UTF8.self) != nil }
            index += 1
        }
        return true
    }

    func failure(_ reason: String) -> Failure { Failure(reason: reason, offset: offset) }

    private var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d {
            offset += 1
        }
    }

    private mutating func expect(_ byte: UInt8) throws(Failure) {
        guard next == byte else {
            throw failure("'\(Character(UnicodeScalar(byte)))' is missing")
        }
        offset += 1
    }

    private mutating func descend() throws(Failure) {
        depth += 1
        guard depth <= Self.depthMax else {
            throw failure("nested deeper than \(Self.depthMax)")
        }
    }

    /// Nothing may follow the value.
    mutating func end() throws(Failure) {
        skipSpace()
        guard offset == bytes.count else { throw failure("bytes after the value") }
    }

    // MARK: Objects and arrays

    /// The names of an object's members so far.
    struct Members {
        fileprivate var names: [[UInt8]] = []
        fileprivate var many: Set<[UInt8]> = []

        fileprivate mutating func insert(_ name: [UInt8]) -> Bool {
            // A set costs more than a look at a few.
            if names.count < 8 {
                if names.contains(name) { return false }
                names.append(name)
                return true
            }
            if many.isEmpty { many = Set(names) }
            return many.insert(name).inserted
        }
    }

    mutating func beginObject() throws(Failure) -> Members {
        try descend()
        skipSpace()
        try expect(UInt8(ascii: "{"))
        return Members()
    }

    /// The name of the next member, before its value; nil at the object's end.
    mutating func nextMember(_ members: inout Members) throws(Failure) -> String? {
        skipSpace()
        if next == UInt8(ascii: "}"), members.names.isEmpty { return closed() }
        if !members.names.isEmpty {
            if next == UInt8(ascii: "}") { return closed() }
            try expect(UInt8(ascii: ","))
            skipSpace()
        }
        let name = try string()
        guard members.insert(name) else { throw failure("a key stands twice") }
        skipSpace()
        try expect(UInt8(ascii: ":"))
        skipSpace()
        return String(decoding: name, as: UTF8.self)
    }

    private mutating func closed() -> String? {
        offset += 1
        depth -= 1
        return nil
    }

    /// How many elements an array had so far.
    struct Elements { fileprivate var count = 0 }

    mutating func beginArray() throws(Failure) -> Elements {
        try descend()
        skipSpace()
        try expect(UInt8(ascii: "["))
        return Elements()
    }

    /// Whether another element follows.
    mutating func nextElement(
        _ elements: inout Elements, atMost most: Int = .max
    ) throws(Failure) -> Bool {
        skipSpace()
        if next == UInt8(ascii: "]") {
            offset += 1
            depth -= 1
            return false
        }
        if elements.count > 0 { try expect(UInt8(ascii: ",")) }
        elements.count += 1
        guard elements.count <= most else {
            throw failure("an array of more than \(most) elements")
        }
        skipSpace()
        if elements.count > 1, next == UInt8(ascii: "]") { throw failure("not a value") }
        return true
    }

    // MARK: Values

    /// Whether the value is null, which is passed over then.
    mutating func isNull() throws(Failure) -> Bool {
        skipSpace()
        guard next == UInt8(ascii: "n") else { return false }
        try word("null")
        return true
    }

    mutating func bool() throws(Failure) -> Bool {
        skipSpace()
        let isTrue = next == UInt8(ascii: "t")
        try word(isTrue ? "true" : "false")
        return isTrue
    }

    mutating func text() throws(Failure) -> String {
        String(decoding: try string(), as: UTF8.self)
    }

    /// The bytes of a value as they stand, checked.
    mutating func raw() throws(Failure) -> [UInt8] {
        skipSpace()
        let start = offset
        try skipValue()
        return Array(bytes[start..<offset])
    }

    mutating func skipValue() throws(Failure) {
        skipSpace()
        switch next {
        case UInt8(ascii: "{"):
            var members = try beginObject()
            while try nextMember(&members) != nil { try skipValue() }
        case UInt8(ascii: "["):
            var elements = try beginArray()
            while try nextElement(&elements) { try skipValue() }
        case UInt8(ascii: "\""): _ = try string()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        default: try number()
        }
    }

    private mutating func word(_ text: StaticString) throws(Failure) {
        for index in 0..<text.utf8CodeUnitCount { try expect(text.utf8Start[index]) }
    }

    /// Reads a string; escapes are resolved, so that two spellings of one key are one key.
    mutating func string() throws(Failure) -> [UInt8] {
        try expect(UInt8(ascii: "\""))
        var text: [UInt8] = []
        var start = offset
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                let last = bytes[start..<offset]
                offset += 1
                if text.isEmpty { return Array(last) }
                return text + last
            case UInt8(ascii: "\\"):
                text += bytes[start..<offset]
                offset += 1
                try escape(&text)
                start = offset
            case 0..<0x20: throw failure("a control character in a string")
            default: offset += 1
            }
        }
        throw failure("a string without end")
    }

    private mutating func escape(_ text: inout [UInt8]) throws(Failure) {
        guard let byte = next else { throw failure("a string without end") }
        offset += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return text.append(byte)
        case UInt8(ascii: "b"): return text.append(8)
        case UInt8(ascii: "f"): return text.append(12)
        case UInt8(ascii: "n"): return text.append(10)
        case UInt8(ascii: "r"): return text.append(13)
        case UInt8(ascii: "t"): return text.append(9)
        case UInt8(ascii: "u"): break
        default: throw failure("an unknown escape")
        }
        var scalar = UInt32(try hex4())
        if (0xd800..<0xdc00).contains(scalar) {
            guard next == UInt8(ascii: "\\") else { throw failure("a lone surrogate") }
            offset += 1
            try expect(UInt8(ascii: "u"))
            let low = UInt32(try hex4())
            guard (0xdc00..<0xe000).contains(low) else { throw failure("a lone surrogate") }
            scalar = 0x10000 + (scalar - 0xd800) << 10 + (low - 0xdc00)
        }
        guard let unicode = UnicodeScalar(scalar) else { throw failure("a lone surrogate") }
        text += Array(String(Character(unicode)).utf8)
    }

    private mutating func hex4() throws(Failure) -> UInt16 {
        guard offset + 4 <= bytes.count,
            let value = UInt16(
                String(decoding: bytes[offset..<offset + 4], as: UTF8.self), radix: 16),
            bytes[offset] != UInt8(ascii: "+"), bytes[offset] != UInt8(ascii: "-")
        else { throw failure("a malformed escape") }
        offset += 4
        return value
    }

    private mutating func number() throws(Failure) {
        let start = offset
        if next == UInt8(ascii: "-") { offset += 1 }
        let whole = digits()
        guard whole > 0, whole == 1 || bytes[offset - whole] != UInt8(ascii: "0") else {
            throw failure("not a value")
        }
        if next == UInt8(ascii: ".") {
            offset += 1
            guard digits() > 0 else { throw failure("a malformed number") }
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            offset += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { offset += 1 }
            guard digits() > 0 else { throw failure("a malformed number") }
        }
        let text = String(decoding: bytes[start..<offset], as: UTF8.self)
        guard let value = Double(text), value.isFinite else {
            throw failure("a number beyond what can be held")
        }
    }

    private mutating func digits() -> Int {
        let start = offset
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
            offset += 1
        }
        return offset - start
    }
}
