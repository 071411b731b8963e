// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshReplication
internal import MeshRules

/// How a process takes the database over.
enum SQLiteStart {
    static func judge(
        _ db: Database, _ start: (StoredStart?) -> StartDecision
    ) throws -> WriterLease {
        let number = try Meta.get(db, "lease").map(number) ?? 0
        return WriterLease(
            number: number &+ 1, start: start(try stored(db)),
            feed: FeedPosition(try StoredCounters.read(db).arrival))
    }

    private static func number(_ bytes: [UInt8]) -> UInt64 {
        var reader = WireReader(bytes)
        return (try? reader.u64()) ?? 0
    }

    private static func stored(_ db: Database) throws -> StoredStart? {
        guard let node = try Meta.get(db, "node").flatMap({ NodeID($0) }) else { return nil }
        return StoredStart(
            node: node, life: Life(try Meta.get(db, "life").map(number) ?? 0),
            incarnation: Incarnation(try Meta.get(db, "incarnation").map(number) ?? 0),
            epoch: try Meta.get(db, "epoch") ?? [])
    }

    static func save(_ lease: WriterLease, _ db: Database) throws {
        if let owner = try Meta.get(db, "node"), owner != lease.start.node.array {
            throw StoreError.otherNode
        }
        try Meta.set(db, "node", lease.start.node.array)
        for (name, value) in [
            ("lease", lease.number), ("life", lease.start.life.value),
            ("incarnation", lease.start.incarnation.value),
        ] {
            var writer = WireWriter()
            writer.u64(value)
            try Meta.set(db, name, writer.bytes)
        }
        try Meta.set(db, "epoch", lease.start.epoch)
        try db.run(
            "INSERT OR IGNORE INTO epoch VALUES(?, ?)", .bytes(lease.start.epoch),
            .sequence(lease.feed.number))
    }

    static func holds(_ lease: WriterLease, _ db: Database) throws -> Bool {
        try Meta.get(db, "lease").map(number) == lease.number
    }
}
