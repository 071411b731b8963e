// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore

/// Bytes and round trips to find what differs between two stores of a million records of eight authors.
///
/// Both stores are real and on disk; the turns are encoded and decoded as on a link (its frames and
/// seals are not counted, as they are not in the figures of others). Scattered differences are records
/// that one side has lost, half of them on each; tails are writes of both sides after a cut.
enum ReconcileBench {
    static let authors = 8
    static let perAuthor = 125_000
    static let runs = 5

    static func run() async throws -> [String: Any] {
        let bed = try Bed()
        defer { bed.remove() }
        Measure.say("making two stores of \(authors * perAuthor) records")
        let sides = (bed.identity("a"), bed.identity("b"))
        let paths = ("\(bed.directory)/a", "\(bed.directory)/b")
        try await fill(bed, sides, paths)
        var rows: [[String: Any]] = []
        for (kind, count) in [
            ("tails", 0), ("tails", 20_000), ("scattered", 1), ("scattered", 10),
            ("scattered", 100), ("scattered", 1_000), ("scattered", 10_000),
        ] {
            var bytes: [Double] = []
            var trips: [Double] = []
            for run in 0..<runs {
                let copies = (paths.0 + "-copy", paths.1 + "-copy")
                try copy(paths.0, copies.0)
                try copy(paths.1, copies.1)
                let stores = (try bed.store(copies.0, sides.0), try bed.store(copies.1, sides.1))
                if kind == "tails" {
                    try await writeTail(bed, stores.0, count / 2, "a")
                    try await writeTail(bed, stores.1, count / 2, "b")
                } else {
                    try damage(bed, stores, copies, count, seed: UInt64(run + 1))
                }
                let (moved, turns) = try compare(stores.0, stores.1, expecting: count, kind)
                bytes.append(Double(moved))
                trips.append(Double(turns))
                stores.0.close()
                stores.1.close()
            }
            rows.append([
                "n": authors * perAuthor, "kind": kind, "d": count,
                "bytes": Int(Measure.median(bytes)), "round_trips": Int(Measure.median(trips)),
            ])
            Measure.say(
                "\(kind) \(count): \(Int(Measure.median(bytes))) B, \(Int(Measure.median(trips))) round trips"
            )
        }
        return ["rows": rows]
    }

    private static func fill(
        _ bed: Bed, _ sides: (DataDirectory.Identity, DataDirectory.Identity),
        _ paths: (String, String)
    ) async throws {
        let stores = (try bed.store(paths.0, sides.0), try bed.store(paths.1, sides.1))
        for author in 0..<authors {
            let identity = bed.identity("w\(author)")
            var messages = try bed.log(
                identity, "w\(author)", count: perAuthor, bytes: 16, perCommit: 1000)
            if author == 0 { messages.insert(try bed.policy(identity), at: 0) }
            for store in [stores.0, stores.1] {
                try store.keep(identity.certificate)
                for start in stride(from: 0, to: messages.count, by: 16) {
                    let part = Array(messages[start..<min(start + 16, messages.count)])
                    for outcome in try await store.ingest(part) where outcome.refusal != nil {
                        fatalError("refused: \(String(describing: outcome.refusal))")
                    }
                }
            }
        }
        for store in [stores.0, stores.1] {
            try store.keep(sides.0.certificate)
            try store.keep(sides.1.certificate)
            try store.consult { _ in }
            store.close()
        }
    }

    private static func copy(_ from: String, _ to: String) throws {
        for suffix in ["", "-wal", "-shm"] {
            try? FileManager.default.removeItem(atPath: to + suffix)
        }
        try FileManager.default.copyItem(atPath: from, toPath: to)
    }

    /// New keys and overwritten old ones in equal parts.
    private static func writeTail(_ bed: Bed, _ store: Store, _ count: Int, _ side: String)
        async throws
    {
        for start in stride(from: 0, to: count, by: 1000) {
            let writes = try (start..<min(start + 1000, count)).map { index in
                let key =
                    index % 2 == 0
                    ? "w\(index % 8)/\(index * 11 + (side == "a" ? 0 : 5))" : "new/\(side)/\(index)"
                return Write(
                    .put, try RecordKey(key), contentType: "text/plain", body: Array(side.utf8))
            }
            _ = try await store.write(WriteRequest(scope: bed.scope, writes: writes))
        }
    }

    private static func damage(
        _ bed: Bed, _ stores: (Store, Store), _ paths: (String, String), _ count: Int, seed: UInt64
    ) throws {
        var generator = SeededGenerator(seed: seed)
        let logs = try stores.0.consult { try $0.trie(of: bed.scope).states }.sorted {
            $0.author < $1.author
        }
        var chosen: Set<Dot> = []
        while chosen.count < count {
            let log = logs[Int(generator.next() % UInt64(logs.count))]
            chosen.insert(Dot(author: log.author, sequence: generator.next() % log.frontier + 1))
        }
        let dots = chosen.sorted { ($0.sequence, $0.author) < ($1.sequence, $1.author) }
        for (side, store, path) in [(0, stores.0, paths.0), (1, stores.1, paths.1)] {
            let part = dots.indices.filter { $0 % 2 == side }.map { dots[$0] }
            try rot(part, path)
            // The scrub finds them, and has them taken out.
            var place = ScrubPlace.beginning
            repeat { place = try store.scrub(after: place).next } while place != .beginning
            store.settle()
            guard try store.damageCount() == part.count else { fatalError("damage was missed") }
        }
    }

    /// Spoils records on disk, under the store's nose.
    private static func rot(_ dots: [Dot], _ path: String) throws {
        let database = try DatabaseQueue(path: path)
        try database.write { db in
            for dot in dots {
                try db.execute(
                    sql: """
                        UPDATE record SET bytes = x'00' WHERE sequence = ? AND author =
                        (SELECT id FROM author WHERE node = ? AND life = ?)
                        """,
                    arguments: [
                        Int64(dot.sequence), Data(dot.author.node.array),
                        Int64(bitPattern: dot.author.life.value),
                    ])
            }
        }
        try database.close()
    }

    /// Runs one session to its end and checks that exactly the differences were found.
    private static func compare(
        _ first: Store, _ second: Store, expecting count: Int, _ kind: String
    ) throws -> (bytes: Int, trips: Int) {
        let salt = Salt(Sodium.random(32))
        var asking = SyncSession(role: .initiator, salt: salt) { _ in true }
        var answering = SyncSession(role: .responder, salt: salt) { _ in true }
        var bytes = 0
        var trips = 0
        var found = 0
        var turn = try first.consult { try asking.begin($0) }
        while true {
            let question = turn.encoded
            bytes += question.count
            trips += 1
            let answer = try second.consult {
                try answering.answer(try SyncTurn(decoding: question), $0)
            }
            found += size(answer.streams)
            let reply = answer.reply.encoded
            bytes += reply.count
            let outcome = try first.consult { try asking.answer(try SyncTurn(decoding: reply), $0) }
            found += size(outcome.streams)
            if outcome.isInStep || outcome.reply.parts.isEmpty { break }
            turn = outcome.reply
        }
        let wanted = kind == "tails" && count > 0 ? 2 : count
        guard found == wanted else { fatalError("found \(found) differences of \(wanted)") }
        return (bytes, trips)
    }

    /// Differences that a session's streams name: a tail is one, a dot is one.
    private static func size(_ streams: [StreamRequest]) -> Int {
        streams.reduce(0) { sum, stream in
            guard case .dots(_, _, let entries) = stream else { return sum + 1 }
            return sum + entries.reduce(0) { $0 + $1.bits.bits.nonzeroBitCount }
        }
    }
}
