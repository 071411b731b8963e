// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshClient
import MeshCore
import MeshCrypto

/// Rows that are sent together.
struct RowBatch {
    /// Bytes that the records of a batch may have; a node takes 960 KiB.
    private static let byteCountMax = 800 << 10
    /// Most that a record has besides its key and its value, but for a context of many writers.
    private static let overhead = 256

    private(set) var json: [UInt8] = []
    private(set) var keys: Set<[UInt8]> = []
    private(set) var count = 0
    /// The lines of its rows.
    private(set) var lines = 0...0
    private var byteCount = 0
    /// How many rows there were, these among them.
    private(set) var last = 0

    init() {}

    /// An empty one that goes on where another ended.
    init(after other: RowBatch) { last = other.last }

    func hasRoom(for row: TableRow) -> Bool {
        count == 0
            || byteCount + row.key.count + row.value.count + Self.overhead <= Self.byteCountMax
    }

    mutating func append(_ row: TableRow) {
        byteCount += row.key.count + row.value.count + Self.overhead
        if count > 0 { json.append(UInt8(ascii: ",")) }
        json += Array("{\"op\":\"put\",\"key\":".utf8)
        JSONText.append(row.key, to: &json)
        json += Array(",\"value\":".utf8)
        json += row.value
        json.append(UInt8(ascii: "}"))
        keys.insert(row.key)
        lines = count == 0 ? row.line...row.line : lines.lowerBound...row.line
        count += 1
        last += 1
    }
}

/// Sends batches, several at a time; two that hold the same key go one after the other, so that the
/// later one counts.
final class BatchSender {
    private static let atOnce = 3

    private let client: NodeClient
    private let file: String
    private let head: [UInt8]
    private let target: String
    private var waiting: [(keys: Set<[UInt8]>, task: Task<Void, any Error>)] = []

    init(client: NodeClient, file: String, head: [UInt8], target: String) {
        self.client = client
        self.file = file
        self.head = head
        self.target = target
    }

    func send(_ batch: RowBatch) async throws {
        while waiting.count >= Self.atOnce
            || waiting.contains(where: { !$0.keys.isDisjoint(with: batch.keys) })
        {
            try await waiting.removeFirst().task.value
        }
        let body = head + batch.json + Array("]}".utf8)
        // The name says which rows of which file go where: a second run of it writes nothing.
        let named = "\(target) \(batch.last - batch.count) \(batch.count)"
        let name = "import-\(Blake2b.hash(Array(named.utf8)).description.prefix(32))"
        let (client, file, lines) = (client, file, batch.lines)
        let task = Task {
            do { try await client.batch(json: body, idempotencyKey: name) } catch let problem
                as Problem
            {
                throw Failure(
                    "\(file), lines \(lines.lowerBound) to \(lines.upperBound): \(problem.detail)")
            }
        }
        waiting.append((batch.keys, task))
    }

    /// Waits for what is on its way.
    func finish() async throws {
        while !waiting.isEmpty { try await waiting.removeFirst().task.value }
    }
}

/// How far an import has come, on a terminal.
struct ImportProgress {
    private let size: Int
    private let began = Date()
    private var shown = Date.distantPast

    init(size: Int) { self.size = size }

    mutating func show(rows: Int, bytes: Int) {
        let now = Date()
        guard Console.isErrorTerminal, now.timeIntervalSince(shown) > 0.2 else { return }
        shown = now
        let seconds = max(0.001, now.timeIntervalSince(began))
        let left = bytes > 0 ? seconds / Double(bytes) * Double(max(0, size - bytes)) : 0
        let percent = size > 0 ? min(100, 100 * bytes / size) : 100
        let text =
            "\r\(rows) rows, \(percent) %, \(Int(Double(rows) / seconds))/s, \(Int(left)) s left "
        FileHandle.standardError.write(Data(text.utf8))
    }

    func end() {
        if Console.isErrorTerminal { Console.complain("") }
    }
}

/// How many records an export has printed, on a terminal, where they go elsewhere.
struct ExportProgress {
    private let began = Date()
    private var shown = Date.distantPast
    private var count = 0
    private let isShown = Console.isErrorTerminal && !Console.isTerminal

    mutating func show(more records: Int) {
        count += records
        let now = Date()
        guard isShown, now.timeIntervalSince(shown) > 0.2 else { return }
        shown = now
        let rate = Double(count) / max(0.001, now.timeIntervalSince(began))
        FileHandle.standardError.write(Data("\r\(count) records, \(Int(rate))/s ".utf8))
    }

    func end() {
        if isShown { Console.complain("") }
    }
}
