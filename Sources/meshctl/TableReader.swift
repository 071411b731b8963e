// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto

/// A row of a table on its way into a batch: its key, and the value as JSON.
struct TableRow {
    var key: [UInt8] = []
    var value: [UInt8] = []
    /// The line on which it began.
    var line = 0
}

/// The bytes of a file as they come, a part at a time.
struct FileBytes {
    private static let partBytes = 1 << 18

    private let file: FileHandle
    private var part: [UInt8] = []
    private var offset = 0
    /// How many bytes were taken.
    private(set) var taken = 0

    init(_ path: String) throws {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw Failure("\(path) cannot be read")
        }
        self.file = file
    }

    /// Names what a file holds, by a chain of hashes over its parts.
    static func name(of path: String) throws -> String {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw Failure("\(path) cannot be read")
        }
        defer { try? file.close() }
        var name = Digest.zero
        while let part = try file.read(upToCount: partBytes), !part.isEmpty {
            name = Blake2b.hash(name.array + part)
        }
        return "\(name)"
    }

    /// The next byte, which stays; nil at the end.
    mutating func peek() throws -> UInt8? {
        if offset == part.count {
            part = try file.read(upToCount: Self.partBytes).map { [UInt8]($0) } ?? []
            offset = 0
        }
        return offset < part.count ? part[offset] : nil
    }

    mutating func next() throws -> UInt8? {
        guard let byte = try peek() else { return nil }
        offset += 1
        taken += 1
        return byte
    }

    /// Takes the bytes up to one for which `stops` says yes, or to the end of what is here.
    mutating func run(into text: inout [UInt8], until stops: (UInt8) -> Bool) throws {
        guard try peek() != nil else { return }
        let start = offset
        while offset < part.count, !stops(part[offset]) { offset += 1 }
        text += part[start..<offset]
        taken += offset - start
    }
}

/// How the bytes of a text are to be read.
enum TextEncoding: String, CaseIterable {
    case utf8, latin1

    /// A text as UTF-8; nil where it is none.
    func decoded(_ bytes: [UInt8]) -> [UInt8]? {
        switch self {
        case .utf8: return String(validating: bytes, as: UTF8.self) == nil ? nil : bytes
        case .latin1:
            guard bytes.contains(where: { $0 >= 0x80 }) else { return bytes }
            return bytes.flatMap { $0 < 0x80 ? [$0] : [0xc0 | $0 >> 6, 0x80 | $0 & 0x3f] }
        }
    }
}

/// Separated values, row by row (RFC 4180; with a mark of UTF-8 before them, and ends of lines of
/// either kind).
struct CSVReader {
    private var bytes: FileBytes
    private let separator: UInt8
    private let encoding: TextEncoding
    private let name: String
    private var nextLine = 1
    private var fields: [[UInt8]] = []
    /// The line on which the last row began.
    private(set) var line = 0

    var taken: Int { bytes.taken }

    init(_ path: String, separator: UInt8, encoding: TextEncoding) throws {
        bytes = try FileBytes(path)
        name = path
        self.separator = separator
        self.encoding = encoding
        if encoding == .utf8, try bytes.peek() == 0xef {
            for expected: UInt8 in [0xef, 0xbb, 0xbf] where try bytes.next() != expected {
                throw Failure("\(path):1: not valid UTF-8 (see --encoding)")
            }
        }
    }

    /// The next row's fields; nil at the end. Lines that are empty are none.
    mutating func next() throws -> [[UInt8]]? {
        while try bytes.peek() == 10 || bytes.peek() == 13 {
            if try bytes.next() == 10 { nextLine += 1 }
        }
        guard try bytes.peek() != nil else { return nil }
        line = nextLine
        fields.removeAll(keepingCapacity: true)
        while true {
            let (field, isLast) = try self.field()
            guard let text = encoding.decoded(field) else {
                throw Failure("\(name):\(line): not valid UTF-8 (see --encoding)")
            }
            fields.append(text)
            if isLast { return fields }
        }
    }

    private mutating func field() throws -> (text: [UInt8], isLast: Bool) {
        var text: [UInt8] = []
        if try bytes.peek() == UInt8(ascii: "\"") {
            _ = try bytes.next()
            try quoted(&text)
        }
        let separator = separator
        while true {
            try bytes.run(into: &text) { $0 == separator || $0 == 10 || $0 == 13 }
            guard let byte = try bytes.peek() else { return (text, true) }
            // What stopped it may also be the end of a part.
            guard byte == separator || byte == 10 || byte == 13 else { continue }
            _ = try bytes.next()
            switch byte {
            case separator: return (text, false)
            case 13 where try bytes.peek() != 10: text.append(byte)
            case 13: continue
            default:
                nextLine += 1
                return (text, true)
            }
        }
    }

    private mutating func quoted(_ text: inout [UInt8]) throws {
        while true {
            try bytes.run(into: &text) { $0 == UInt8(ascii: "\"") || $0 == 10 }
            guard let byte = try bytes.next() else {
                throw Failure("\(name):\(line): a quoted field without end")
            }
            switch byte {
            case UInt8(ascii: "\""):
                guard try bytes.peek() == UInt8(ascii: "\"") else { return }
                _ = try bytes.next()
                text.append(byte)
            case 10:
                nextLine += 1
                text.append(byte)
            default: text.append(byte)
            }
        }
    }
}
