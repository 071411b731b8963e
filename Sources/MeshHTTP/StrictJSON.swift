// SPDX-License-Identifier: Apache-2.0

/// Checks JSON from outside before Foundation decodes it.
///
/// Foundation takes the last of two equal keys, any depth, and rounds what no number can hold; two
/// parsers that disagree about one text have let people in before (CVE-2017-12635). Grammar: RFC
/// 8259.
struct StrictJSON {
    /// Deepest nesting.
    static let depthMax = 32
    /// Most elements of an array: as many as a batch has writes. They are counted before anything
    /// is made of them.
    static let elementsMax = 1000

    /// Why a text was refused.
    struct Failure: Error, Equatable {
        let reason: String
        let offset: Int
    }

    private let bytes: [UInt8]
    private var offset = 0

    /// Refuses anything but one JSON value with distinct keys, shallow, with numbers that fit a
    /// double.
    static func check(_ bytes: [UInt8]) throws(Failure) {
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw Failure(reason: "not valid UTF-8", offset: 0)
        }
        var scanner = StrictJSON(bytes: bytes)
        try scanner.value(depth: 0)
        scanner.skipSpace()
        guard scanner.offset == bytes.count else { throw scanner.failure("bytes after the value") }
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private func failure(_ reason: String) -> Failure { Failure(reason: reason, offset: offset) }

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

    private mutating func value(depth: Int) throws(Failure) {
        guard depth <= Self.depthMax else { throw failure("nested deeper than \(Self.depthMax)") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): try object(depth)
        case UInt8(ascii: "["): try array(depth)
        case UInt8(ascii: "\""): _ = try string()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        default: try number()
        }
    }

    private mutating func object(_ depth: Int) throws(Failure) {
        try expect(UInt8(ascii: "{"))
        var keys: Set<[UInt8]> = []
        skipSpace()
        if next == UInt8(ascii: "}") { return offset += 1 }
        while true {
            skipSpace()
            let key = try string()
            guard keys.insert(key).inserted else { throw failure("a key stands twice") }
            skipSpace()
            try expect(UInt8(ascii: ":"))
            try value(depth: depth + 1)
            skipSpace()
            if next == UInt8(ascii: "}") { return offset += 1 }
            try expect(UInt8(ascii: ","))
        }
    }

    private mutating func array(_ depth: Int) throws(Failure) {
        try expect(UInt8(ascii: "["))
        skipSpace()
        if next == UInt8(ascii: "]") { return offset += 1 }
        var count = 0
        while true {
            count += 1
            guard count <= Self.elementsMax else {
                throw failure("an array of more than \(Self.elementsMax) elements")
            }
            try value(depth: depth + 1)
            skipSpace()
            if next == UInt8(ascii: "]") { return offset += 1 }
            try expect(UInt8(ascii: ","))
        }
    }

    private mutating func word(_ text: StaticString) throws(Failure) {
        for index in 0..<text.utf8CodeUnitCount { try expect(text.utf8Start[index]) }
    }

    /// Reads a string; escapes are resolved, so that two spellings of one key are one key.
    private mutating func string() throws(Failure) -> [UInt8] {
        try expect(UInt8(ascii: "\""))
        var text: [UInt8] = []
        while let byte = next {
            offset += 1
            switch byte {
            case UInt8(ascii: "\""): return text
            case UInt8(ascii: "\\"): try escape(&text)
            case 0..<0x20: throw failure("a control character in a string")
            default: text.append(byte)
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
