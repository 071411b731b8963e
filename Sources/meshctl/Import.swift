// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshCore
import MeshCrypto

extension TextEncoding: ExpressibleByArgument {}

/// Reads a table into a namespace.
struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes the rows of a CSV or NDJSON file as records.",
        discussion: """
            Each row becomes a JSON object under the key that the key columns give, joined by '/'.
            Rows are sent in batches, each of which the node takes once: after an interruption, run the
            same command again; what was taken before is not written twice. Of rows with one key the
            last one counts. Rows before one that is refused are written.
            """)

    @OptionGroup var connection: Connection
    @OptionGroup var place: Place
    @Argument(help: "The namespace.") var namespace: String
    @Argument(help: "The file: .csv or .tsv, or .ndjson with an object a line.") var file: String
    @Option(help: "The columns that make the key, with commas between.") var key: String
    @Option(help: "Rows of one batch.") var batch = 500
    @Option(help: "What stands between fields: a character, or 'tab'.") var separator: String?
    @Option(help: "utf8 or latin1.") var encoding = TextEncoding.utf8

    func validate() throws {
        guard (1...1000).contains(batch) else { throw ValidationError("--batch is 1 to 1000") }
        _ = try separatorByte()
    }

    private func separatorByte() throws -> UInt8 {
        guard let separator else { return UInt8(ascii: file.hasSuffix(".tsv") ? "\t" : ",") }
        if separator == "tab" || separator == "\\t" { return 9 }
        guard separator.utf8.count == 1, let byte = separator.utf8.first,
            byte != 10, byte != 13, byte != UInt8(ascii: "\"")
        else { throw ValidationError("--separator is one character, or 'tab'") }
        return byte
    }

    func run() async throws {
        try Sodium.start()
        let size = try FileManager.default.attributesOfItem(atPath: file)[.size] as? Int ?? 0
        let columns = key.split(separator: ",").map(String.init)
        var rows: any TableRows =
            file.hasSuffix(".ndjson") || file.hasSuffix(".jsonl")
            ? try ObjectRows(file, columns)
            : try SeparatedRows(
                file, columns, separator: try separatorByte(), encoding: encoding)
        let sender = BatchSender(
            client: try connection.client(), file: file, head: batchHead,
            target:
                "\(namespace) \(place.site ?? "") \(columns.joined(separator: "+")) \(try FileBytes.name(of: file))"
        )
        var progress = ImportProgress(size: size)
        var known = KeyCount()
        var part = RowBatch()
        do {
            while let row = try rows.next() {
                known.add(row.key)
                if part.count == batch || !part.hasRoom(for: row) {
                    progress.show(rows: part.last, bytes: rows.taken)
                    try await sender.send(part)
                    part = RowBatch(after: part)
                }
                part.append(row)
            }
            if part.count > 0 { try await sender.send(part) }
            try await sender.finish()
        } catch let problem as Problem {
            throw Failure("\(file): \(problem.detail)")
        }
        progress.end()
        Console.line("\(part.last) records")
        switch known.twice() {
        case 0: break
        case let twice?:
            Console.complain("\(twice) stood more than once: the last row counts")
        case nil:
            Console.complain(
                "keys that stand more than once were not counted: \(known.failure.map { "\($0)" } ?? "")"
            )
        }
    }

    private var batchHead: [UInt8] {
        var json = Array("{\"namespace\":".utf8)
        JSONText.append(Array(namespace.utf8), to: &json)
        if let site = place.site {
            json += Array(",\"site\":".utf8)
            JSONText.append(Array(site.utf8), to: &json)
        }
        return json + Array(",\"writes\":[".utf8)
    }
}

/// The rows of a file, one after the other.
protocol TableRows {
    /// The next row; nil at the end.
    mutating func next() throws -> TableRow?
    /// Bytes of the file that were read.
    var taken: Int { get }
}

/// A key that names its line where it is none.
private func checked(_ key: [UInt8], _ file: String, _ line: Int) throws -> [UInt8] {
    do throws(KeyError) { _ = try RecordKey(validating: key) } catch {
        throw Failure("\(file):\(line): '\(String(decoding: key, as: UTF8.self))': \(error)")
    }
    return key
}

/// Rows of separated values, under the columns of the first line.
struct SeparatedRows: TableRows {
    private var reader: CSVReader
    private let file: String
    private let places: [Int]
    /// The columns' names as JSON, each with its colon.
    private let names: [[UInt8]]

    var taken: Int { reader.taken }

    init(
        _ file: String, _ columns: [String], separator: UInt8, encoding: TextEncoding
    ) throws {
        self.file = file
        reader = try CSVReader(file, separator: separator, encoding: encoding)
        guard let header = try reader.next() else { throw Failure("\(file) is empty") }
        let titles = header.map { String(decoding: $0, as: UTF8.self) }
        places = try columns.map { column in
            guard let index = titles.firstIndex(of: column) else {
                throw Failure(
                    "\(file):1: no column '\(column)'; there are \(titles.joined(separator: ", "))")
            }
            return index
        }
        if let twice = titles.first(where: { title in titles.count { $0 == title } > 1 }) {
            throw Failure("\(file):1: two columns are called '\(twice)'")
        }
        names = header.map { name in
            var json: [UInt8] = []
            JSONText.append(name, to: &json)
            return json + [UInt8(ascii: ":")]
        }
    }

    mutating func next() throws -> TableRow? {
        guard let fields = try reader.next() else { return nil }
        guard fields.count == names.count else {
            throw Failure(
                "\(file):\(reader.line): \(fields.count) fields, but \(names.count) columns")
        }
        var row = TableRow()
        row.line = reader.line
        row.key =
            places.count == 1
            ? fields[places[0]] : Array(places.map { fields[$0] }.joined(separator: [0x2f]))
        row.key = try checked(row.key, file, row.line)
        row.value.reserveCapacity(fields.reduce(2) { $0 + $1.count + 24 })
        row.value.append(UInt8(ascii: "{"))
        for index in fields.indices {
            if index > 0 { row.value.append(UInt8(ascii: ",")) }
            row.value += names[index]
            JSONText.append(fields[index], to: &row.value)
        }
        row.value.append(UInt8(ascii: "}"))
        return row
    }
}

/// Objects of JSON, one a line.
struct ObjectRows: TableRows {
    private var bytes: FileBytes
    private let file: String
    private let columns: [String]
    private var line = 0

    var taken: Int { bytes.taken }

    init(_ file: String, _ columns: [String]) throws {
        bytes = try FileBytes(file)
        self.file = file
        self.columns = columns
    }

    mutating func next() throws -> TableRow? {
        while try bytes.peek() != nil {
            var text: [UInt8] = []
            while let byte = try bytes.peek(), byte != 10 {
                try bytes.run(into: &text) { $0 == 10 }
            }
            _ = try bytes.next()
            line += 1
            if text.last == 13 { text.removeLast() }
            if !text.isEmpty { return try row(text) }
        }
        return nil
    }

    private func row(_ text: [UInt8]) throws -> TableRow {
        guard String(validating: text, as: UTF8.self) != nil else {
            throw Failure("\(file):\(line): not valid UTF-8")
        }
        guard let object = try? JSONSerialization.jsonObject(with: Data(text)) as? [String: Any]
        else { throw Failure("\(file):\(line): not a JSON object") }
        let parts = try columns.map { column in
            guard let value = object[column], !(value is NSNull) else {
                throw Failure("\(file):\(line): no '\(column)'")
            }
            return "\(value)"
        }
        let key = try checked(Array(parts.joined(separator: "/").utf8), file, line)
        return TableRow(key: key, value: text, line: line)
    }
}
