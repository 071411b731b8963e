// SPDX-License-Identifier: Apache-2.0

/// Strings of JSON, as bytes (RFC 8259, §7).
public enum JSONText {
    private static let digits = Array("0123456789abcdef".utf8)

    /// Appends a text in UTF-8 as a string, with its quotes.
    public static func append(_ text: [UInt8], to json: inout [UInt8]) {
        text.withUnsafeBufferPointer { append($0, to: &json) }
    }

    static func append(_ text: UnsafeBufferPointer<UInt8>, to json: inout [UInt8]) {
        json.append(UInt8(ascii: "\""))
        var clean = 0
        for index in text.indices where isEscaped(text[index]) {
            json += text[clean..<index]
            escape(text[index], to: &json)
            clean = index + 1
        }
        json += text[clean...]
        json.append(UInt8(ascii: "\""))
    }

    private static func isEscaped(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
    }

    private static func escape(_ byte: UInt8, to json: inout [UInt8]) {
        json.append(UInt8(ascii: "\\"))
        switch byte {
        case 0x08: json.append(UInt8(ascii: "b"))
        case 0x09: json.append(UInt8(ascii: "t"))
        case 0x0a: json.append(UInt8(ascii: "n"))
        case 0x0c: json.append(UInt8(ascii: "f"))
        case 0x0d: json.append(UInt8(ascii: "r"))
        case 0..<0x20:
            json += [UInt8(ascii: "u"), UInt8(ascii: "0"), UInt8(ascii: "0")]
            json += [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        default: json.append(byte)
        }
    }
}
