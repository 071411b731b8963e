// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshTrust

/// Answers what the rules ask, with prepared statements: SQLite is in the same process, so a trip
/// costs nothing and a set is a loop.
struct SQLiteFacts {
    private let snapshot: SQLiteSnapshot
    private var db: Database { snapshot.db }

    init(_ snapshot: SQLiteSnapshot) { self.snapshot = snapshot }

    func facts(_ needs: Needs) throws -> Facts {
        var facts = Facts()
        facts.revoked = try snapshot.trust.revokedLogs(db)
        try addKeys(needs, &facts)
        for name in needs.families where facts.families[name] == nil {
            facts.families[name] = try snapshot.family(name)
        }
        try addCommits(needs, &facts)
        for node in needs.certificates {
            facts.certificates[node] = try snapshot.trust.certificates(of: node, db)
        }
        for node in needs.logsOf { facts.logsOf[node] = try logs(of: node) }
        for (log, range) in needs.undo { facts.undo[log] = try undone(by: log, range) }
        for name in needs.kept { facts.kept[name] = try kept(of: name) }
        if needs.undoShares { facts.undoShares = try undoShares() }
        for (share, count) in needs.oldest.sorted(by: { $0.key.number < $1.key.number }) {
            facts.oldest += try oldest(share, count)
        }
        for name in needs.idempotency { facts.idempotency[name] = try answer(name) }
        for name in needs.losers {
            let loser = try SQLiteChanges.loser(name, snapshot.seal, db)
            if loser.isKnown { facts.losers[name] = loser.message?.presentOffsets ?? [] }
        }
        facts.damage = snapshot.damage
        return facts
    }

    private func addKeys(_ needs: Needs, _ facts: inout Facts) throws {
        facts.keys.reserveCapacity(needs.keys.count)
        for name in needs.keys {
            let versions = try snapshot.versions(of: name).map(\.held)
            facts.keys[name] = versions
            for version in versions {
                try addFamily(name.scope, version.dot.author.node, &facts)
                for dot in version.record.context.dots {
                    try addFamily(name.scope, dot.author.node, &facts)
                }
            }
        }
    }

    private func addFamily(_ scope: Scope, _ node: NodeID, _ facts: inout Facts) throws {
        let name = FamilyName(scope: scope, node: node)
        if facts.families[name] == nil { facts.families[name] = try snapshot.family(name) }
    }

    private func addCommits(_ needs: Needs, _ facts: inout Facts) throws {
        for (log, ranges) in needs.commits {
            facts.commits[log] = try commits(of: log, ranges, withRows: true)
        }
        for (log, ranges) in needs.proofs {
            facts.commits[log] = try commits(of: log, ranges, withRows: false)
        }
        for log in needs.lastCommits {
            facts.lastCommits[log] = try snapshot.lastCommit(of: log)
            facts.ends[log] = try snapshot.end(of: log).map { ($0.header, $0.signature) }
        }
        for (log, ranges) in needs.records {
            var all: [(held: HeldVersion, isLive: Bool)] = []
            let headers =
                (facts.commits[log] ?? []).map(\.header)
                + [facts.ends[log]?.header].compactMap(\.self)
            for range in Self.joined(ranges, headers) {
                all += try snapshot.records(of: log, in: range).map { ($0.held, $0.isLive) }
            }
            facts.records[log] = all
        }
        for (log, places) in needs.gaps {
            facts.gaps[log] = try places.sorted().map { place in
                CommitGap(
                    before: try snapshot.nearest(to: place, of: log, isBefore: true),
                    after: try snapshot.nearest(to: place, of: log, isBefore: false))
            }
        }
    }

    /// Ranges with the commits that reach beyond them, without overlaps.
    private static func joined(
        _ ranges: [ClosedRange<UInt64>], _ commits: [CommitHeader]
    ) -> [ClosedRange<UInt64>] {
        var all: [ClosedRange<UInt64>] = []
        let reaching = commits.map(\.range).filter { one in ranges.contains { $0.overlaps(one) } }
        for range in (ranges + reaching).sorted(by: {
            $0.lowerBound < $1.lowerBound
        }) {
            if let last = all.last, last.upperBound >= range.lowerBound {
                all[all.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                all.append(range)
            }
        }
        return all
    }

    private func commits(
        of log: LogName, _ ranges: [ClosedRange<UInt64>], withRows: Bool
    ) throws -> [HeldCommit] {
        guard let key = try snapshot.caches.key(db, log) else { return [] }
        var all: [UInt64: HeldCommit] = [:]
        for range in ranges {
            for commit in try snapshot.commits(of: log, key, overlapping: range)
            where all[commit.header.first] == nil {
                all[commit.header.first] =
                    withRows ? try snapshot.withRows(commit, key) : commit
            }
        }
        return all.values.sorted { $0.header.first < $1.header.first }
    }

    func logs(of node: NodeID) throws -> [LogName: UInt64] {
        let rows = try db.rows(
            """
            SELECT scope.name, life, frontier FROM log
            JOIN author ON author.id = log.author JOIN scope ON scope.id = log.scope
            WHERE node = ? AND frontier > 0
            """, .fixed(node)
        ) { row in
            Scope(row.text(0)).map {
                (
                    LogName(scope: $0, author: Author(node: node, life: Life(row.bits(1)))),
                    row.sequence(2)
                )
            }
        }
        return Dictionary(rows.compactMap(\.self), uniquingKeysWith: max)
    }

    private func undone(by log: LogName, _ range: ClosedRange<UInt64>) throws -> [KeptVersion] {
        guard let key = try snapshot.caches.key(db, log) else { return [] }
        return try snapshot.records(
            """
            WHERE by_author = ? AND scope = ? AND by_sequence BETWEEN ? AND ? AND gone IS NOT NULL
            """, .int(key.author), .int(key.scope), .sequence(range.lowerBound),
            .sequence(range.upperBound)
        ).map { KeptVersion(scope: $0.log.scope, held: $0.held) }
    }

    private func kept(of name: FamilyName) throws -> [KeptVersion] {
        var all: [KeptVersion] = []
        for life in try snapshot.family(name).heads.keys.sorted() {
            let log = LogName(scope: name.scope, author: Author(node: name.node, life: life))
            guard let key = try snapshot.caches.key(db, log) else { continue }
            all += try snapshot.records(
                "WHERE scope = ? AND author = ? AND gone IS NOT NULL", .int(key.scope),
                .int(key.author)
            ).map { KeptVersion(scope: $0.log.scope, held: $0.held) }
        }
        return all
    }

    /// Read once from all that is kept, and counted from then on.
    private func undoShares() throws -> [UndoShare: UndoUsage] {
        if let known = snapshot.caches.undoShares { return known }
        var shares: [UndoShare: UndoUsage] = [:]
        try db.each(
            """
            SELECT undo, count(*), sum(length(bytes)) FROM record WHERE gone IS NOT NULL
            GROUP BY undo
            """, list: []
        ) { row in
            let share = UndoShare(number: row.int(0))
            shares[share, default: UndoUsage()].rows += Int(clamping: row.int(1))
            shares[share, default: UndoUsage()].bytes += Int(clamping: row.int(2))
            return true
        }
        snapshot.caches.undoShares = shares
        return shares
    }

    private func oldest(_ share: UndoShare, _ count: Int) throws -> [KeptPlace] {
        var all: [KeptPlace] = []
        try db.each(
            """
            SELECT \(SQLiteSnapshot.recordColumns) FROM record WHERE undo = ? AND gone IS NOT NULL
            ORDER BY gone LIMIT ?
            """, list: [.int(share.number), .int(Int64(count))]
        ) { row in
            if let one = try snapshot.record(row) {
                all.append(
                    KeptPlace(
                        log: one.log, sequence: one.held.dot.sequence, id: one.held.id,
                        share: share, byteCount: snapshot.seal.storedByteCount(one.bytes.count)))
            }
            return true
        }
        return all
    }

    /// An answer that cannot be read any more is none.
    private func answer(_ name: String) throws -> StoredAnswer? {
        let row = try db.first(
            "SELECT request, receipt FROM idempotency WHERE name = ?", .text(name)
        ) { (Digest($0.bytes(0)), $0.bytes(1)) }
        guard let (request, bytes) = row, let request else { return nil }
        return (try? StoredReceipts.decode(bytes)).map {
            StoredAnswer(request: request, receipts: $0)
        }
    }
}
