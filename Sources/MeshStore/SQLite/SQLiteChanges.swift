// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import GRDBSQLite
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshTrust

/// Applies changes of the rules, and what follows from them mechanically: positions of the feed,
/// marks of changed digest leaves, sums over rows, counts of what is kept.
final class SQLiteChanges {
    let caches = SQLiteCaches()
    let trust: TrustDirectory
    let seal: RowSeal
    /// What is saved with each change.
    private(set) var counters = StoredCounters()
    /// The least position that a change of this transaction gets.
    private var floor: UInt64 = 0
    private(set) var dirty: DirtyLeaves
    /// What came to live and what went, of this transaction.
    private var tally = Tally.Delta()
    /// Records that cuts took away, since it was asked.
    private var cutCount = 0

    init(_ counters: StoredCounters, dirty: Int, trust: TrustDirectory, seal: RowSeal) {
        self.counters = counters
        self.seal = seal
        self.trust = trust
        self.dirty = DirtyLeaves(count: dirty)
    }

    /// Forgets what a rollback has undone, or what was mended beside it.
    func forget(_ counters: StoredCounters) {
        caches.forget()
        trust.forgetRevocations()
        self.counters = counters
        dirty.forget()
    }

    /// The digests are up to date.
    func forgetDirty() { dirty.clear() }

    /// Keeps what is remembered between transactions within its limits.
    func trim() {
        caches.trim()
        dirty.trim()
    }

    func apply(_ changes: [Change], _ db: Database) throws {
        for change in changes { try apply(change, db) }
    }

    /// Writes what a transaction has counted.
    func save(_ db: Database) throws {
        try tally.save(db)
        try counters.save(db)
    }

    func note(stamp: HybridTime) { counters.stamp = stamp }

    /// Positions follow the clock, 1,024 a millisecond: a machine that was put back does not give
    /// those again that a follower has gone past.
    func begin(wall: UInt64) {
        floor = min(wall, 1 << 52) << 10
        tally = Tally.Delta()
    }

    private func apply(_ change: Change, _ db: Database) throws {
        switch change {
        case .insert(let record): try insert(record, db)
        case .supersede(let log, let sequence, let by, let undo),
            .rekey(let log, let sequence, let by, let undo):
            try supersede(log, sequence, by, undo, db)
        case .revive(let log, let sequence): try revive(log, sequence, db)
        case .remove(let log, let sequence):
            try remove(log, "sequence = ?", .sequence(sequence), db)
        case .removePast(let log, let first): try removePast(log, first, db)
        case .commit(let header, let signature, let proof):
            try keep(header, signature, proof, db)
        case .removeCommit(let log, let first):
            let key = try caches.makeKey(db, log)
            try db.run(
                "DELETE FROM batch WHERE scope = ? AND author = ? AND first = ?", .int(key.scope),
                .int(key.author), .sequence(first))
            if first == 1 { forgetFamily(log) }
        case .head(let log, let head, let header, let signature):
            try set(log, head, header, signature, db)
        case .removeLog(let log):
            let key = try caches.makeKey(db, log)
            for table in ["log", "beginning", "evidence"] {
                try db.run(
                    "DELETE FROM \(table) WHERE scope = ? AND author = ?", .int(key.scope),
                    .int(key.author))
            }
            try dirty.mark(key, 1, db)
            forgetFamily(log)
        case .mend(let log, let sequence, let id): try mend(log, sequence, id, db)
        case .hole(let log, _), .doubt(let log, _), .filled(let log, _):
            try note(change, db)
            forgetFamily(log)
        case .discard(let number): try discard(number, db)
        case .notice(let name):
            try tell(try caches.makeScope(db, name.scope), name.key.utf8, db)
        case .evidence(let log, let headers): try keepEvidence(log, headers, db)
        case .forgetEvidence(let log): try forgetEvidence(log, db)
        case .loser(let name, let node, let message): try keepLoser(name, of: node, message, db)
        case .revocation(let revocation):
            try db.run(
                "INSERT OR REPLACE INTO revocation VALUES(?, ?)",
                .fixed(Blake2b.hash(revocation.encoded)), .bytes(revocation.encoded))
            trust.forgetRevocations()
        case .answer(let name, let answer): try remember(name, answer, db)
        case .life(let life):
            var writer = WireWriter()
            writer.u64(life.value)
            try Meta.set(db, "life", writer.bytes)
        case .epoch(let name):
            try db.run("DELETE FROM epoch")
            try db.run(
                "INSERT INTO epoch VALUES(?, ?)", .bytes(name), .sequence(counters.arrival))
            try Meta.set(db, "epoch", name)
        }
    }

    func forgetFamily(_ log: LogName) {
        caches.families[FamilyName(scope: log.scope, node: log.author.node)] = nil
    }

    // MARK: Records

    private func insert(_ record: NewRecord, _ db: Database) throws {
        let log = try caches.makeKey(db, record.log)
        counters.advance(to: floor)
        var place = RecordPlace(
            log: log, sequence: record.sequence, id: record.id, merge: record.merge.rawValue,
            gone: nil)
        let bytes = seal.stored(record.bytes)
        if let (by, undo) = record.superseded {
            place.gone = (
                counters.arrival, undo, try key(of: by, in: record.log.scope, db),
                by.sequence
            )
            count(undo, rows: 1, bytes: bytes.count)
        }
        let arrival = counters.arrival
        func write() throws -> Bool {
            try db.run(
                "INSERT OR IGNORE INTO record VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                .sequence(arrival), .int(log.scope), .int(log.author),
                .sequence(record.sequence), .text(record.key.utf8), .fixed(record.id),
                .bytes(bytes), .int(Int64(place.merge)),
                place.gone.map { .sequence($0.number) } ?? .null,
                place.gone.map { .int($0.undo.number) } ?? .null,
                place.gone.map { .int($0.by.author) } ?? .null,
                place.gone.map { .sequence($0.sequence) } ?? .null, .bits(place.sum))
            return db.changesCount > 0
        }
        if try !write() {
            // A row that has rotted claims the place, or the number.
            try remove(record.log, "sequence = ?", .sequence(record.sequence), db)
            try discard(arrival, db)
            guard try write() else {
                throw StoreError.database(
                    code: SQLITE_CORRUPT, message: "a record has no place that is free")
            }
        }
        if place.gone == nil {
            tally.add(log.scope)
            try dirty.mark(log, record.sequence, db)
        }
    }

    private func key(of dot: Dot, in scope: Scope, _ db: Database) throws -> LogKey {
        try caches.makeKey(db, LogName(scope: scope, author: dot.author))
    }

    private func count(_ share: UndoShare, rows: Int, bytes: Int) {
        counters.add(rows: rows, bytes: bytes, to: share.undo)
        caches.undoShares?[share, default: UndoUsage()].rows += rows
        caches.undoShares?[share, default: UndoUsage()].bytes += bytes
    }

    private struct Row {
        let arrival: UInt64
        let sequence: UInt64
        let key: [UInt8]
        let byteCount: Int
        let undo: UndoShare?
        let id: Digest
        let merge: UInt8
        let scope: Int64
        let author: Int64
    }

    private func rows(_ condition: String, _ values: [SQLValue], _ db: Database) throws -> [Row] {
        var all: [Row] = []
        try db.each(
            """
            SELECT arrival, sequence, key, length(bytes), gone, undo, id, merge, scope, author
            FROM record WHERE \(condition)
            """, list: values
        ) { row in
            all.append(
                Row(
                    arrival: row.sequence(0), sequence: row.sequence(1), key: row.bytes(2),
                    byteCount: Int(row.int(3)),
                    undo: row.isNull(4)
                        ? nil : UndoShare(number: row.int(5)),
                    id: row.fixed(6) ?? .zero, merge: UInt8(truncatingIfNeeded: row.int(7)),
                    scope: row.int(8), author: row.int(9)))
            return true
        }
        return all
    }

    private func one(_ log: LogKey, _ sequence: UInt64, _ db: Database) throws -> Row? {
        try rows(
            "scope = ? AND author = ? AND sequence = ?",
            [.int(log.scope), .int(log.author), .sequence(sequence)], db
        ).first
    }

    private func supersede(
        _ log: LogName, _ sequence: UInt64, _ by: Dot, _ undo: UndoShare, _ db: Database
    ) throws {
        let key = try caches.makeKey(db, log)
        guard let row = try one(key, sequence, db) else { return }
        let successor = try self.key(of: by, in: log.scope, db)
        counters.advance(to: floor)
        if let old = row.undo { count(old, rows: -1, bytes: -row.byteCount) }
        count(undo, rows: 1, bytes: row.byteCount)
        var place = RecordPlace(
            log: key, sequence: sequence, id: row.id, merge: row.merge, gone: nil)
        place.gone = (counters.arrival, undo, successor, by.sequence)
        try db.run(
            """
            UPDATE record SET gone = ?, undo = ?, by_author = ?, by_sequence = ?, sum = ?
            WHERE arrival = ?
            """, .sequence(counters.arrival), .int(undo.number), .int(successor.author),
            .sequence(by.sequence), .bits(place.sum), .sequence(row.arrival))
        if row.undo == nil {
            tally.remove(row.scope)
            try dirty.mark(key, sequence, db)
        }
    }

    private func revive(_ log: LogName, _ sequence: UInt64, _ db: Database) throws {
        let key = try caches.makeKey(db, log)
        guard let row = try one(key, sequence, db), let undo = row.undo else { return }
        count(undo, rows: -1, bytes: -row.byteCount)
        counters.advance(to: floor)
        let place = RecordPlace(
            log: key, sequence: sequence, id: row.id, merge: row.merge, gone: nil)
        try db.run(
            """
            UPDATE record SET arrival = ?, gone = NULL, undo = NULL, by_author = NULL,
            by_sequence = NULL, sum = ? WHERE arrival = ?
            """, .sequence(counters.arrival), .bits(place.sum), .sequence(row.arrival))
        tally.add(row.scope)
        try dirty.mark(key, sequence, db)
    }

    func takeCutCount() -> Int {
        defer { cutCount = 0 }
        return cutCount
    }

    /// - Returns: how many rows went.
    @discardableResult
    private func remove(
        _ log: LogName, _ condition: String, _ value: SQLValue, _ db: Database
    ) throws -> Int {
        let key = try caches.makeKey(db, log)
        let condition = "scope = ? AND author = ? AND \(condition)"
        let values: [SQLValue] = [.int(key.scope), .int(key.author), value]
        let gone = try rows(condition, values, db)
        for row in gone { try noteGone(row, db) }
        try db.each("DELETE FROM record WHERE \(condition)", list: values) { _ in false }
        return gone.count
    }

    /// Tells followers of the feed that a key changed, and marks the leaf.
    private func noteGone(_ row: Row, _ db: Database) throws {
        if let undo = row.undo { return count(undo, rows: -1, bytes: -row.byteCount) }
        tally.remove(row.scope)
        try tell(row.scope, row.key, db)
        try dirty.mark(LogKey(scope: row.scope, author: row.author), row.sequence, db)
    }

    private func tell(_ scope: Int64, _ key: [UInt8], _ db: Database) throws {
        counters.advance(to: floor)
        try db.run(
            "INSERT OR REPLACE INTO notice VALUES(?, ?, ?)", .int(scope), .text(key),
            .sequence(counters.arrival))
    }

    private func removePast(_ log: LogName, _ first: UInt64, _ db: Database) throws {
        cutCount += try remove(log, "sequence >= ?", .sequence(first), db)
        let key = try caches.makeKey(db, log)
        for (table, column) in [("damage", "sequence"), ("batch", "first")] {
            try db.run(
                "DELETE FROM \(table) WHERE scope = ? AND author = ? AND \(column) >= ?",
                .int(key.scope), .int(key.author), .sequence(first))
        }
        forgetFamily(log)
    }

    private func mend(_ log: LogName, _ sequence: UInt64, _ id: Digest, _ db: Database) throws {
        let key = try caches.makeKey(db, log)
        let found = try db.first(
            """
            SELECT \(SQLiteSnapshot.recordColumns) FROM record
            WHERE scope = ? AND author = ? AND sequence = ?
            """, .int(key.scope), .int(key.author), .sequence(sequence)
        ) { row -> (sum: UInt64, key: RecordKey)? in
            guard let record = try? Record(decoding: seal.opened(row.bytes(6))) else { return nil }
            return (SQLiteSnapshot.place(row, id: id).sum, record.key)
        }
        guard let (sum, name) = found.flatMap(\.self) else { return }
        // Whoever follows may have looked while its key did not show it.
        counters.advance(to: floor)
        try db.run(
            """
            UPDATE record SET id = ?, key = ?, sum = ?, arrival = CASE WHEN gone IS NULL THEN ?
            ELSE arrival END WHERE scope = ? AND author = ? AND sequence = ?
            """, .fixed(id), .text(name.utf8), .bits(sum), .sequence(counters.arrival),
            .int(key.scope), .int(key.author), .sequence(sequence))
        try dirty.mark(key, sequence, db)
    }

    private func discard(_ number: UInt64, _ db: Database) throws {
        for row in try rows("arrival = ?", [.sequence(number)], db) { try noteGone(row, db) }
        try db.run("DELETE FROM record WHERE arrival = ?", .sequence(number))
    }

    // MARK: Commits and logs

    private func keep(
        _ header: CommitHeader, _ signature: Signature, _ proof: CommitProof, _ db: Database
    ) throws {
        let key = try caches.makeKey(db, header.log)
        try SQLiteMending.write(header, signature, proof, of: key, db)
        if header.first == 1, !header.inherits.isEmpty { forgetFamily(header.log) }
    }

    private func set(
        _ log: LogName, _ head: LogHead, _ header: CommitHeader, _ signature: Signature,
        _ db: Database
    ) throws {
        let key = try caches.makeKey(db, log)
        let bytes = header.encoded
        let sum = Sums.log(key, head.frontier, bytes, signature.bytes, head.id)
        try db.run(
            "INSERT OR REPLACE INTO log VALUES(?, ?, ?, ?, ?, ?, ?)", .int(key.scope),
            .int(key.author), .sequence(head.frontier), .bytes(bytes), .bytes(signature.bytes),
            .fixed(head.id), .bits(sum))
        let name = FamilyName(scope: log.scope, node: log.author.node)
        // The one log that moved, as most do, costs no look at the others.
        if var family = caches.families[name], family.heads[log.author.life] != nil {
            family.set(log.author.life, head)
            caches.families[name] = family
        } else {
            caches.families[name] = nil
        }
        // The root at a new height must be computed even where no leaf changed.
        try dirty.mark(key, head.frontier, db)
    }

    private func note(_ change: Change, _ db: Database) throws {
        switch change {
        case .hole(let log, let sequence):
            let key = try caches.makeKey(db, log)
            try db.run(
                "INSERT OR IGNORE INTO damage VALUES(?, ?, ?)", .int(key.scope), .int(key.author),
                .sequence(sequence))
            try dirty.mark(key, sequence, db)
        case .doubt(let log, let range):
            let key = try caches.makeKey(db, log)
            try SQLiteMending.doubt(key, range, db)
            try dirty.mark(key, range, db)
        case .filled(let log, let range):
            let key = try caches.makeKey(db, log)
            try SQLiteMending.fill(key, range, db)
            try dirty.mark(key, range, db)
        default: preconditionFailure("only what concerns holes comes here")
        }
    }
}
