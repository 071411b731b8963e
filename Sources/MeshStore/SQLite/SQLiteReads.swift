// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshTrust

/// What readers ask of a snapshot besides records and commits.
extension SQLiteSnapshot {
    /// Where a row stands, under a name that is given.
    static func place(_ row: SQLRow, id: Digest) -> RecordPlace {
        let log = LogKey(scope: row.int(1), author: row.int(2))
        var place = RecordPlace(
            log: log, sequence: row.sequence(3), id: id,
            merge: UInt8(truncatingIfNeeded: row.int(7)), gone: nil)
        if !row.isNull(8) {
            place.gone = (
                row.sequence(8), UndoShare(number: row.int(9)),
                LogKey(scope: log.scope, author: row.int(10)), row.sequence(11)
            )
        }
        return place
    }

    /// Whether a commit proves that a record stands at a place, where the sum of its row does not.
    func isProven(_ hash: Digest, _ place: RecordPlace) throws -> Bool {
        guard let scope = try caches.scope(db, place.log.scope),
            let author = try caches.author(db, place.log.author),
            (1...Dot.sequenceMax).contains(place.sequence)
        else { return false }
        let log = LogName(scope: scope, author: author)
        let range = place.sequence...place.sequence
        guard let commit = try commits(of: log, place.log, overlapping: range).first else {
            return false
        }
        let (first, rows) = (commit.header.first, try withRows(commit, place.log).rows)
        let ids = commit.proof.presentOffsets.compactMap { rows[first + UInt64($0)]?.id }
        return rows[place.sequence]?.id == hash && ids.count == commit.proof.presentCount
            && commit.proof.root(present: ids) == commit.header.root
    }

    func feed(after position: FeedPosition, limit: Int) throws -> [FeedEntry] {
        let rows = try db.rows(
            """
            SELECT \(Self.recordColumns) FROM record WHERE arrival > ? AND gone IS NULL
            ORDER BY arrival LIMIT ?
            """, .sequence(position.number), .int(Int64(limit))
        ) { try record($0) }.compactMap(\.self)
        let notices = try db.rows(
            """
            SELECT scope.name, key, arrival FROM notice JOIN scope ON scope.id = notice.scope
            WHERE arrival > ? ORDER BY arrival LIMIT ?
            """, .sequence(position.number), .int(Int64(limit))
        ) { row -> FeedEntry? in
            guard let scope = Scope(row.text(0)), let key = try? RecordKey(validating: row.bytes(1))
            else { return nil }
            return .went(KeyName(scope: scope, key: key), at: FeedPosition(row.sequence(2)))
        }.compactMap(\.self)
        let came = rows.map {
            FeedEntry.came($0.log.scope, $0.held, at: FeedPosition($0.arrival))
        }
        return Array((came + notices).sorted { $0.position < $1.position }.prefix(limit))
    }

    func resume(_ position: FeedPosition, of epoch: [UInt8]) throws -> FeedPosition? {
        let epochs = try db.rows("SELECT name, start FROM epoch ORDER BY start") {
            (name: $0.bytes(0), start: $0.sequence(1))
        }
        guard let index = epochs.firstIndex(where: { $0.name == epoch }) else { return nil }
        // Whoever was told of what was lost with an epoch's end must look at everything anew.
        let end = try epochs[(index + 1)...].first?.start ?? StoredCounters.read(db).arrival
        guard position.number <= end else { return nil }
        let isBound = position.number == end || epochs.contains { $0.start == position.number }
        return try isBound || isTrace(position) ? position : nil
    }

    /// Whether something stands at a position. Where nothing does it may be of a history that a
    /// machine has lost which was put back to an earlier moment.
    private func isTrace(_ position: FeedPosition) throws -> Bool {
        let number = SQLValue.sequence(position.number)
        return try db.first(
            """
            SELECT 1 WHERE ?1 = 0 OR EXISTS(SELECT 1 FROM record WHERE arrival = ?1)
            OR EXISTS(SELECT 1 FROM record WHERE undo IN (0, 1, 2) AND gone = ?1)
            OR EXISTS(SELECT 1 FROM notice WHERE arrival = ?1)
            """, number
        ) { _ in true } ?? false
    }

    func liveCount(in scope: Scope) throws -> Int {
        guard let id = try caches.scopeID(db, scope) else { return 0 }
        return try Tally.live(in: id, db)
    }

    func holeCount(in scope: Scope?) throws -> Int {
        guard let scope else {
            return try db.first("SELECT count(*) FROM damage") { Int($0.int(0)) } ?? 0
        }
        guard let id = try caches.scopeID(db, scope) else { return 0 }
        return try db.first("SELECT count(*) FROM damage WHERE scope = ?", .int(id)) {
            Int($0.int(0))
        } ?? 0
    }

    func logsWithEvidence(in scope: Scope?) throws -> [LogName] {
        let id = try scope.map { try caches.scopeID(db, $0) ?? 0 }
        return try db.rows(
            "SELECT DISTINCT scope, author FROM evidence WHERE ?1 IS NULL OR scope = ?1",
            id.map { .int($0) } ?? .null
        ) { (scope: $0.int(0), author: $0.int(1)) }.compactMap { row in
            guard let scope = try caches.scope(db, row.scope),
                let author = try caches.author(db, row.author)
            else { return nil }
            return LogName(scope: scope, author: author)
        }
    }

    func evidence(of log: LogName) throws -> [(header: CommitHeader, signature: Signature)] {
        guard let key = try caches.key(db, log) else { return [] }
        return try db.rows(
            "SELECT header, signature FROM evidence WHERE scope = ? AND author = ? ORDER BY first",
            .int(key.scope), .int(key.author)
        ) { row -> (header: CommitHeader, signature: Signature)? in
            guard let header = try? CommitHeader(decoding: row.bytes(0)), header.log == log,
                let signature = Signature(row.bytes(1)), header.isSigned(signature, in: mesh)
            else { return nil }
            return (header, signature)
        }.compactMap(\.self)
    }

    func nodesWithLosers() throws -> [NodeID] {
        try db.rows("SELECT DISTINCT node FROM loser WHERE bytes IS NOT NULL") { $0.fixed(0) }
            .compactMap(\.self)
    }

    func losers(of node: NodeID) throws -> [CommitsMessage] {
        try db.rows(
            "SELECT bytes FROM loser WHERE node = ? AND bytes IS NOT NULL ORDER BY number",
            .fixed(node)
        ) { try? CommitsMessage(decoding: seal.opened($0.bytes(0))) }.compactMap(\.self)
    }

    func certificates() throws -> [Certificate] {
        try db.rows("SELECT bytes FROM certificate") { $0.bytes(0) }
            .compactMap { trust.verified($0) }
    }

    func revocations() throws -> [Revocation] { try trust.revocations(db) }

    func retired() throws -> [NodeID] { try trust.retired(db) }

    func retiredCertificates() throws -> [Certificate] { try trust.retiredCertificates(db) }

    func byteCount() throws -> Int {
        try db.first(
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        ) { Int($0.int(0)) } ?? 0
    }
}

extension FeedEntry {
    /// Where the feed tells of it.
    package var position: FeedPosition {
        switch self {
        case .came(_, _, let position), .went(_, let position): position
        }
    }
}

/// What the database counts, saved with each change.
struct StoredCounters {
    /// The last position of the feed.
    var arrival: UInt64 = 0
    /// The last stamp that was given.
    var stamp = HybridTime(0)
    /// What is kept of superseded records.
    var undo: [UndoClass: UndoUsage] = [:]

    static func read(_ db: Database) throws -> StoredCounters {
        var counters = StoredCounters()
        if let bytes = try Meta.get(db, "counters") { counters.fill(bytes) }
        // Whatever rotted: no position is given twice.
        let highest = try db.first(
            """
            SELECT max(coalesce((SELECT max(arrival) FROM record), 0),
            coalesce((SELECT max(arrival) FROM notice), 0))
            """
        ) { $0.sequence(0) }
        counters.arrival = max(counters.arrival, highest ?? 0)
        return counters
    }

    /// The last position that was given, as it was noted; nothing is asked of the tables.
    static func last(_ db: Database) throws -> UInt64 {
        var counters = StoredCounters()
        if let bytes = try Meta.get(db, "counters") { counters.fill(bytes) }
        return max(1, counters.arrival)
    }

    mutating func add(rows: Int, bytes: Int, to undo: UndoClass) {
        self.undo[undo, default: UndoUsage()].rows += rows
        self.undo[undo, default: UndoUsage()].bytes += bytes
    }

    /// One more position, not below a floor.
    mutating func advance(to floor: UInt64) { arrival = max(arrival + 1, floor) }

    private mutating func fill(_ bytes: [UInt8]) {
        var reader = WireReader(bytes)
        guard let arrival = try? reader.u64(), let stamp = try? reader.u64() else { return }
        self.arrival = arrival
        self.stamp = HybridTime(stamp)
        for undo in UndoClass.allCases {
            guard let rows = try? reader.u64(), let bytes = try? reader.u64() else { return }
            self.undo[undo] = UndoUsage(rows: Int(clamping: rows), bytes: Int(clamping: bytes))
        }
    }

    func save(_ db: Database) throws {
        var writer = WireWriter(reserving: 64)
        writer.u64(arrival)
        writer.u64(stamp.value)
        for undo in UndoClass.allCases {
            writer.u64(UInt64(clamping: self.undo[undo]?.rows ?? 0))
            writer.u64(UInt64(clamping: self.undo[undo]?.bytes ?? 0))
        }
        try Meta.set(db, "counters", writer.bytes)
    }
}

/// Single values by name, each with a sum; one that has rotted is not there.
enum Meta {
    static func get(_ db: Database, _ name: String) throws -> [UInt8]? {
        guard
            let stored = try db.first(
                "SELECT value FROM meta WHERE name = ?", .text(name), map: { $0.bytes(0) }),
            stored.count >= 8
        else { return nil }
        let value = Array(stored.dropLast(8))
        return Array(stored.suffix(8)) == sum(name, value) ? value : nil
    }

    static func set(_ db: Database, _ name: String, _ value: [UInt8]) throws {
        try db.run(
            "INSERT OR REPLACE INTO meta VALUES(?, ?)", .text(name),
            .bytes(value + sum(name, value)))
    }

    static func remove(_ db: Database, _ name: String) throws {
        try db.run("DELETE FROM meta WHERE name = ?", .text(name))
    }

    private static func sum(_ name: String, _ value: [UInt8]) -> [UInt8] {
        var sum = RowSum()
        sum.add(Array(name.utf8))
        sum.add(value)
        var writer = WireWriter()
        writer.u64(sum.value)
        return writer.bytes
    }
}
