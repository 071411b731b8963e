// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshCore
import MeshCrypto

/// Reads a table into a namespace.
struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes the rows of a CSV or NDJSON file as records.",
        discussion: """
            Each row becomes a JSON object under the key that the key columns give, joined by '/'.
            Rows are sent in batches, each of which the node takes once: after an interruption, run the
            same command again; what was taken before is not written twice.
            """)

    @OptionGroup var connection: Connection
    @OptionGroup var place: Place
    @Argument(help: "The namespace.") var namespace: String
    @Argument(help: "The file: .csv, or .ndjson with an object a line.") var file: String
    @Option(help: "The columns that make the key, with commas between.") var key: String
    @Option(help: "Rows of one batch.") var batch = 500

    func validate() throws {
        guard (1...1000).contains(batch) else { throw ValidationError("--batch is 1 to 1000") }
    }

    func run() async throws {
        try Sodium.start()
        guard let data = FileManager.default.contents(atPath: file) else {
            throw Failure("\(file) cannot be read")
        }
        let client = try connection.client()
        let columns = key.split(separator: ",").map(String.init)
        let rows =
            file.hasSuffix(".csv") ? try csv(Array(data), columns) : try ndjson(data, columns)
        let target = "\(namespace) \(place.site ?? "") \(columns.joined(separator: "+"))"
        let fingerprint = Blake2b.hash(Array(target.utf8) + [0] + data).description.prefix(32)
        var done = 0
        for start in stride(from: 0, to: rows.count, by: batch) {
            let part = Array(rows[start..<min(start + batch, rows.count)])
            // The name says which rows of which file go where, so that a second run writes nothing.
            let name = "import-\(fingerprint)-\(start)-\(batch)"
            do {
                _ = try await client.batch(
                    BatchRequest(namespace: namespace, site: place.site, writes: part),
                    idempotencyKey: name)
            } catch let problem as Problem {
                throw Failure(
                    "\(file), rows \(start + 1) to \(start + part.count): \(problem.detail)")
            }
            done += part.count
            progress(done, rows.count)
        }
        if Console.isErrorTerminal { Console.complain("") }
        Console.line("\(done) records")
    }

    private func progress(_ done: Int, _ all: Int) {
        guard Console.isErrorTerminal else { return }
        FileHandle.standardError.write(Data("\r\(done) of \(all) rows".utf8))
    }

    private func csv(_ bytes: [UInt8], _ columns: [String]) throws -> [BatchWrite] {
        var reader = CSVReader(bytes)
        guard let header = try reader.next() else { throw Failure("\(file) is empty") }
        let places = try columns.map { column in
            guard let index = header.firstIndex(of: column) else {
                throw Failure(
                    "\(file) has no column '\(column)'; it has \(header.joined(separator: ", "))")
            }
            return index
        }
        let names = try header.map { String(decoding: try JSONEncoder().encode($0), as: UTF8.self) }
        var writes: [BatchWrite] = []
        while let row = try reader.next() {
            guard row.count == header.count else {
                throw Failure(
                    "\(file):\(reader.line): \(row.count) fields, but \(header.count) columns")
            }
            let fields = try zip(names, row).map { name, value in
                "\(name):" + String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
            }
            let key = try checked(places.map { row[$0] }.joined(separator: "/"), reader.line)
            writes.append(
                BatchWrite(op: "put", key: key, text: "{\(fields.joined(separator: ","))}"))
        }
        return writes
    }

    private func ndjson(_ data: Data, _ columns: [String]) throws -> [BatchWrite] {
        try data.split(separator: 10).enumerated().map { index, line in
            guard let object = try? JSONSerialization.jsonObject(with: line) as? [String: Any]
            else {
                throw Failure("\(file):\(index + 1): not a JSON object")
            }
            let parts = try columns.map { column in
                guard let value = object[column], !(value is NSNull) else {
                    throw Failure("\(file):\(index + 1): no '\(column)'")
                }
                return "\(value)"
            }
            let key = try checked(parts.joined(separator: "/"), index + 1)
            return BatchWrite(op: "put", key: key, text: String(decoding: line, as: UTF8.self))
        }
    }

    private func checked(_ key: String, _ line: Int) throws -> String {
        do throws(KeyError) { _ = try RecordKey(key) } catch {
            throw Failure("\(file):\(line): '\(key)': \(error)")
        }
        return key
    }
}

/// Comma-separated values (RFC 4180), row by row.
struct CSVReader {
    private let bytes: [UInt8]
    private var offset = 0
    /// The line on which the last row began.
    private(set) var line = 0
    private var nextLine = 1

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { offset = 3 }
    }

    /// The next row's fields; nil at the end.
    mutating func next() throws -> [String]? {
        guard offset < bytes.count else { return nil }
        line = nextLine
        var fields: [String] = []
        var field: [UInt8] = []
        var isQuoted = false
        while offset < bytes.count {
            let byte = bytes[offset]
            offset += 1
            if byte == 10 { nextLine += 1 }
            if isQuoted {
                if byte != UInt8(ascii: "\"") {
                    field.append(byte)
                } else if offset < bytes.count, bytes[offset] == UInt8(ascii: "\"") {
                    field.append(byte)
                    offset += 1
                } else {
                    isQuoted = false
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\"") where field.isEmpty: isQuoted = true
            case UInt8(ascii: ","):
                fields.append(String(decoding: field, as: UTF8.self))
                field = []
            case 13 where offset < bytes.count && bytes[offset] == 10: continue
            case 10: return fields + [String(decoding: field, as: UTF8.self)]
            default: field.append(byte)
            }
        }
        guard !isQuoted else { throw Failure("line \(line): a quoted field without end") }
        return fields + [String(decoding: field, as: UTF8.self)]
    }
}
