// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
internal import MeshTrust
internal import Synchronization

/// How fast apps' writes become durable, beside SQLite alone with the same rows.
enum WriteBench {
    static let runs = 5

    static func run() async throws -> [String: Any] {
        let bed = try Bed()
        defer { bed.remove() }
        let store = try await store(bed, "a")
        let sealed = try await Self.store(bed, "b", seal: StorageSeal(Bed.key().seed))
        let plain = try plainDatabase(bed)
        var figures: [String: [Double]] = [:]
        for run in 0..<runs {
            figures["durable_single_per_s", default: []].append(
                try await perSecond(300) { try await writeEach(bed, store, 300, "s\(run)") })
            figures["durable_64_clients_per_s", default: []].append(
                try await perSecond(64 * 100) { try await writeTogether(bed, store, "c\(run)") })
            var cpu = Measure.cpuSeconds()
            figures["batch_1000_records_per_s", default: []].append(
                try await perSecond(20_000) { try await writeBatches(bed, store, "b\(run)") })
            figures["batch_cpu_us_per_record", default: []].append(
                (Measure.cpuSeconds() - cpu) / 20_000 * 1e6)
            cpu = Measure.cpuSeconds()
            figures["sealed_batch_1000_records_per_s", default: []].append(
                try await perSecond(20_000) { try await writeBatches(bed, sealed, "b\(run)") })
            figures["sealed_batch_cpu_us_per_record", default: []].append(
                (Measure.cpuSeconds() - cpu) / 20_000 * 1e6)
            figures["raw_sqlite_batch_1000_per_s", default: []].append(
                try await perSecond(20_000) { try insertPlain(plain, "b\(run)") })
        }
        store.close()
        sealed.close()
        let medians = figures.mapValues { Measure.rounded(Measure.median($0)) }
        var result: [String: Any] = medians
        let ratios = zip(
            figures["batch_1000_records_per_s"] ?? [], figures["raw_sqlite_batch_1000_per_s"] ?? [])
        let seals = zip(
            figures["sealed_batch_1000_records_per_s"] ?? [],
            figures["batch_1000_records_per_s"] ?? [])
        result["sealed_to_plain_batch_ratio"] = Measure.rounded(
            Measure.median(seals.map { $0 / $1 }))
        result["batch_to_raw_ratio"] = Measure.rounded(Measure.median(ratios.map { $0 / $1 }))
        let gains = zip(
            figures["durable_64_clients_per_s"] ?? [], figures["durable_single_per_s"] ?? [])
        result["clients_to_single_ratio"] = Measure.rounded(Measure.median(gains.map { $0 / $1 }))
        return result
    }

    /// A store that knows the namespace.
    private static func store(
        _ bed: Bed, _ name: String, seal: StorageSeal? = nil
    ) async throws -> Store {
        let store = try bed.store("\(bed.directory)/\(name)", bed.identity(name), seal: seal)
        let key = try NamespacePolicy.key(of: bed.scope.namespace)
        let write = Write(.put, key, body: bed.document(bed.scope.namespace))
        _ = try await store.write(WriteRequest(scope: NamespacePolicy.scope, writes: [write]))
        return store
    }

    private static func perSecond(_ count: Int, _ body: () async throws -> Void) async rethrows
        -> Double
    {
        Double(count) / (try await Measure.seconds(body))
    }

    static let body = [UInt8](repeating: 0x61, count: 300)

    static func key(_ run: String, _ index: Int) -> String {
        "\(run)/\(Blake2b.hash(Array("\(index)".utf8)).description.prefix(16))"
    }

    private static func write(_ run: String, _ index: Int) throws -> Write {
        Write(.put, try RecordKey(key(run, index)), contentType: "text/plain", body: body)
    }

    private static func writeEach(_ bed: Bed, _ store: Store, _ count: Int, _ run: String)
        async throws
    {
        for index in 0..<count {
            _ = try await store.write(
                WriteRequest(scope: bed.scope, writes: [try write(run, index)]))
        }
    }

    private static func writeTogether(_ bed: Bed, _ store: Store, _ run: String) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for client in 0..<64 {
                group.addTask { try await writeEach(bed, store, 100, "\(run)-\(client)") }
            }
            try await group.waitForAll()
        }
    }

    private static func writeBatches(_ bed: Bed, _ store: Store, _ run: String) async throws {
        for start in stride(from: 0, to: 20_000, by: 1000) {
            let writes = try (start..<start + 1000).map { try write(run, $0) }
            _ = try await store.write(WriteRequest(scope: bed.scope, writes: writes))
        }
    }

    private static func plainDatabase(_ bed: Bed) throws -> DatabasePool {
        let pool = try DatabasePool(path: "\(bed.directory)/plain")
        try pool.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA synchronous = FULL")
            try db.execute(sql: "PRAGMA wal_autocheckpoint = 4000")
            try db.execute(sql: "CREATE TABLE plain(key TEXT PRIMARY KEY, type TEXT, value BLOB)")
        }
        return pool
    }

    private static func insertPlain(_ pool: DatabasePool, _ run: String) throws {
        let data = Data(body)
        for start in stride(from: 0, to: 20_000, by: 1000) {
            try pool.write { db in
                let statement = try db.cachedStatement(sql: "INSERT INTO plain VALUES(?, ?, ?)")
                for index in start..<start + 1000 {
                    try statement.execute(arguments: [key(run, index), "text/plain", data])
                }
            }
        }
    }
}

/// How fast a node verifies and stores what a peer sends.
enum ApplyBench {
    static let count = 100_000
    static let runs = 5

    static func run() async throws -> [String: Any] {
        let bed = try Bed()
        defer { bed.remove() }
        let author = bed.identity("w")
        let messages = try bed.log(author, "w", count: count, bytes: 300, perCommit: 256)
            .map { try CommitsMessage(decoding: $0.encoded) }
        var rates: [Double] = []
        var ratios: [Double] = []
        for run in 0..<runs {
            let store = try bed.store("\(bed.directory)/s\(run)", bed.identity("a"))
            try store.keep(author.certificate)
            _ = try await store.ingest([try bed.policy(author)])
            let seconds = try await Measure.seconds {
                for start in stride(from: 0, to: messages.count, by: 8) {
                    let part = Array(messages[start..<min(start + 8, messages.count)])
                    for outcome in try await store.ingest(part) where outcome.refusal != nil {
                        fatalError("refused")
                    }
                }
            }
            guard store.statistics.counts.ingested == count + 1 else {
                fatalError("records are missing")
            }
            store.close()
            let each = await verifyEach(author.nodeKey, bed)
            rates.append(Double(count) / seconds)
            ratios.append(Double(count) / seconds / each)
        }
        return [
            "records_per_s": Measure.rounded(Measure.median(rates)),
            "ratio_to_a_signature_each": Measure.rounded(Measure.median(ratios)),
        ]
    }

    /// Records a second if each had a signature of its own, and nothing had to be stored.
    private static func verifyEach(_ key: SigningKey, _ bed: Bed) async -> Double {
        let body = [UInt8](repeating: 7, count: 360)
        let signature = key.sign(body, for: .record, in: bed.root.meshID)
        let seconds = await Measure.seconds {
            for _ in 0..<5000 {
                guard key.publicKey.verify(signature, of: body, for: .record, in: bed.root.meshID)
                else {
                    fatalError("a good signature must verify")
                }
            }
        }
        return 5000 / seconds
    }
}
