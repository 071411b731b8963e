// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules

/// Looks whether what the database derives from its records still agrees with them: its indexes,
/// its digest trees, the commits beside the rows.
///
/// Rot in one of these changes no row, so no sum shows it. A rotten entry of an index hides a
/// record; a rotten place of a digest node makes two equal servers differ for ever.
struct SQLiteInspection {
    /// Entries of an index are missing, or lead elsewhere.
    private(set) var areIndexesWrong = false
    /// The table of commits is out of order, so that some are not found.
    private(set) var areCommitsWrong = false
    /// A digest tree is not the one of its records.
    private(set) var areDigestsWrong = false
    /// Beginnings and ends of logs whose commits are lost.
    private(set) var lostCommits: [LostCommit] = []
    /// What only a peer can mend: records that no commit holds, ends of logs that are lost.
    private(set) var damage: Set<Damage> = []

    /// A commit whose own row is lost, with what the records that are here prove of it.
    struct LostCommit {
        let key: LogKey
        let header: CommitHeader
        let signature: Signature
        let proof: CommitProof
    }

    private struct Part {
        let key: LogKey
        let commit: HeldCommit

        var range: ClosedRange<UInt64> { commit.header.range }
        var place: [SQLValue] { [.int(key.scope), .int(key.author)] }
        var bounds: [SQLValue] {
            place + [.sequence(range.lowerBound), .sequence(range.upperBound)]
        }
    }

    /// Looks at the commits that a scrub walks next.
    init(_ snapshot: SQLiteSnapshot, after place: ScrubPlace, limit: Int) throws {
        let db = snapshot.db
        if place == .beginning {
            try findLogsWithoutCommits(snapshot)
            try lookAtBeginnings(snapshot)
            try lookAtEnds(snapshot)
        }
        let commits = try snapshot.commits(afterScrub: place, limit: limit).commits
        if !snapshot.damage.isEmpty {
            areCommitsWrong = try !SQLiteMending.isInOrder("batch", db)
        }
        for commit in commits {
            guard let key = try snapshot.caches.key(db, commit.header.log) else { continue }
            let part = Part(key: key, commit: commit)
            if try !Self.isIndexed(part, db) { areIndexesWrong = true }
            try findStrays(around: part, db)
            if try !Self.isDigested(part, db) { areDigestsWrong = true }
            let hasEnd = try db.first(
                "SELECT 1 FROM log WHERE scope = ? AND author = ?", part.place[0], part.place[1]
            ) { _ in true }
            if hasEnd == nil { damage.insert(.head(commit.header.log)) }
        }
    }

    // MARK: Indexes

    /// Whether each record of a commit is found in every index that it should be in.
    private static func isIndexed(_ part: Part, _ db: Database) throws -> Bool {
        var found: Set<UInt64> = []
        // What an index holds SQLite reads from there: the row itself may say something else.
        let whole = """
            SELECT r.sequence FROM record AS r INDEXED BY record_dot
            JOIN record AS t NOT INDEXED ON t.arrival = r.arrival
            WHERE r.scope = ? AND r.author = ? AND r.sequence BETWEEN ? AND ?
            AND t.scope = r.scope AND t.author = r.author AND t.sequence = r.sequence
            """
        let lost = """
            SELECT sequence FROM damage WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ?
            """
        for query in [whole, lost] {
            try db.each(query, list: part.bounds) { row in
                found.insert(row.sequence(0))
                return true
            }
        }
        let first = part.range.lowerBound
        let isWhole = part.commit.proof.presentOffsets.allSatisfy {
            found.contains(first + UInt64($0))
        }
        guard isWhole else { return false }
        // While an entry by place was lost, its record came again: the old row shows beside it.
        var isFound = true
        try db.each(
            """
            SELECT 1 FROM record AS r INDEXED BY record_dot WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ? AND (CASE WHEN gone IS NULL THEN NOT EXISTS(
                SELECT 1 FROM record AS k INDEXED BY record_key WHERE k.scope = r.scope
                AND k.key = r.key AND k.gone IS NULL AND k.arrival = r.arrival)
            ELSE NOT EXISTS(
                SELECT 1 FROM record AS k INDEXED BY record_by WHERE k.by_author IS r.by_author
                AND k.scope = r.scope AND k.by_sequence IS r.by_sequence AND k.gone IS NOT NULL
                AND k.arrival = r.arrival)
            OR NOT EXISTS(
                SELECT 1 FROM record AS k INDEXED BY record_gone WHERE k.undo IS r.undo
                AND k.gone = r.gone AND k.gone IS NOT NULL AND k.arrival = r.arrival)
            END OR EXISTS(
                SELECT 1 FROM record AS k INDEXED BY record_key WHERE k.scope = r.scope
                AND k.key = r.key AND k.gone IS NULL AND NOT EXISTS(
                    SELECT 1 FROM record AS d INDEXED BY record_dot WHERE d.scope = k.scope
                    AND d.author = k.author AND d.sequence = k.sequence
                    AND d.arrival = k.arrival))) LIMIT 1
            """, list: part.bounds
        ) { _ in
            isFound = false
            return false
        }
        return isFound
    }

    // MARK: Commits

    /// Records between a commit and the one before it, and after the last.
    private mutating func findStrays(around part: Part, _ db: Database) throws {
        let log = part.commit.header.log
        let before =
            try db.first(
                "SELECT max(last) FROM batch WHERE scope = ? AND author = ? AND first < ?",
                part.place[0], part.place[1], .sequence(part.range.lowerBound)
            ) { $0.sequence(0) } ?? 0
        if part.range.lowerBound > before + 1 {
            try addStrays(of: log, part.key, in: before + 1...part.range.lowerBound - 1, db)
        }
        let isLast =
            try db.first(
                "SELECT 1 FROM batch WHERE scope = ? AND author = ? AND first > ? LIMIT 1",
                part.place[0], part.place[1], .sequence(part.range.lowerBound)
            ) { _ in true } == nil
        guard isLast, part.range.upperBound < Dot.sequenceMax else { return }
        try addStrays(of: log, part.key, in: part.range.upperBound + 1...Dot.sequenceMax, db)
    }

    private mutating func findLogsWithoutCommits(_ snapshot: SQLiteSnapshot) throws {
        let db = snapshot.db
        let keys = try db.rows(
            """
            SELECT scope, author FROM log WHERE NOT EXISTS(
                SELECT 1 FROM batch WHERE batch.scope = log.scope AND batch.author = log.author)
            """
        ) { LogKey(scope: $0.int(0), author: $0.int(1)) }
        for key in keys {
            guard let scope = try snapshot.caches.scope(db, key.scope),
                let author = try snapshot.caches.author(db, key.author)
            else { continue }
            let log = LogName(scope: scope, author: author)
            try addStrays(of: log, key, in: 1...Dot.sequenceMax, db)
        }
    }

    /// Ends of logs that have rotted, and ends whose commits are lost.
    ///
    /// The last commit of a log stands in two tables. Where one has lost it, and no peer has it,
    /// nobody else could bring it back.
    private mutating func lookAtEnds(_ snapshot: SQLiteSnapshot) throws {
        let db = snapshot.db
        var rotten: [LogKey] = []
        var ends: [(key: LogKey, header: CommitHeader, signature: Signature)] = []
        try db.each("SELECT scope, author, frontier, header, signature, head, sum FROM log") {
            row in
            let key = LogKey(scope: row.int(0), author: row.int(1))
            if Sums.isLog(key, row, from: 2),
                let header = try? CommitHeader(decoding: row.bytes(3)),
                let signature = Signature(row.bytes(4))
            {
                ends.append((key, header, signature))
            } else {
                rotten.append(key)
            }
            return true
        }
        for key in rotten {
            guard let scope = try snapshot.caches.scope(db, key.scope),
                let author = try snapshot.caches.author(db, key.author)
            else { continue }
            damage.insert(.head(LogName(scope: scope, author: author)))
        }
        for (key, header, signature) in ends {
            let lost = try lost(key, header, signature, snapshot)
            // What was superseded and dropped went with its commit.
            if let lost, !lost.proof.isEmpty { lostCommits.append(lost) }
        }
    }

    /// First commits of logs that have rotted: without one, nobody takes the rest of its log.
    private mutating func lookAtBeginnings(_ snapshot: SQLiteSnapshot) throws {
        let rows = try snapshot.db.rows(
            """
            SELECT b.scope, b.author, b.header, b.signature FROM beginning AS b
            JOIN log USING(scope, author)
            """
        ) { row in
            (
                key: LogKey(scope: row.int(0), author: row.int(1)),
                header: try? CommitHeader(decoding: row.bytes(2)),
                signature: Signature(row.bytes(3))
            )
        }
        for (key, header, signature) in rows {
            guard let header, let signature, header.first == 1 else { continue }
            if let lost = try lost(key, header, signature, snapshot) { lostCommits.append(lost) }
        }
    }

    /// - Returns: nil where a commit is held there, or its author has not signed this one.
    private func lost(
        _ key: LogKey, _ header: CommitHeader, _ signature: Signature, _ snapshot: SQLiteSnapshot
    ) throws -> LostCommit? {
        guard try snapshot.caches.key(snapshot.db, header.log) == key,
            try snapshot.commits(of: header.log, key, overlapping: header.range).isEmpty,
            header.isSigned(signature, in: snapshot.mesh)
        else { return nil }
        let ids = try snapshot.rows(of: header.log, in: header.range).map(\.id)
        let isWhole = ids.count == header.count && CommitProof.root(of: ids) == header.root
        return LostCommit(
            key: key, header: header, signature: signature,
            proof: isWhole
                ? CommitProof(allPresent: header.count) : CommitProof(noneOf: header))
    }

    private mutating func addStrays(
        of log: LogName, _ key: LogKey, in range: ClosedRange<UInt64>, _ db: Database
    ) throws {
        let places = try db.rows(
            """
            SELECT sequence FROM record AS r WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ? AND NOT EXISTS(
                SELECT 1 FROM damage AS d WHERE d.scope = r.scope AND d.author = r.author
                AND d.sequence = r.sequence)
            ORDER BY sequence LIMIT ?
            """, .int(key.scope), .int(key.author), .sequence(range.lowerBound),
            .sequence(range.upperBound), .int(Int64(CommitHeader.recordsMax))
        ) { $0.sequence(0) }
        for place in places { damage.insert(.commit(log, place...place)) }
    }

    // MARK: Digests

    /// Whether the leaves of a commit's records, and the nodes above them, are what the records
    /// and the levels below lead to.
    private static func isDigested(_ part: Part, _ db: Database) throws -> Bool {
        let log = part.key
        let isDirty = try db.first(
            "SELECT 1 FROM dirty WHERE scope = ? AND author = ? LIMIT 1", part.place[0],
            part.place[1]
        ) { _ in true }
        // What changed is computed anew anyway.
        guard isDirty == nil else { return true }
        let leaves =
            DigestTree.leaf(of: part.range.lowerBound)...DigestTree.leaf(of: part.range.upperBound)
        for leaf in leaves
        where try node(log, 0, leaf, db) != DigestRefresh.leafHash(db, log, leaf) {
            return false
        }
        let frontier = try db.first(
            "SELECT frontier FROM log WHERE scope = ? AND author = ?", part.place[0],
            part.place[1]
        ) { $0.sequence(0) }
        var indices = leaves
        for level in stride(
            from: 1, through: DigestTree.height(of: min(frontier ?? 0, Dot.sequenceMax)), by: 1)
        {
            indices =
                indices.lowerBound / DigestTree.fanOut...indices.upperBound / DigestTree.fanOut
            for index in indices {
                let children = try DigestRefresh().children(db, log, level: level, index: index)
                let hash = DigestTree.hash(index: index, children: children)
                if try node(log, level, index, db) != hash { return false }
            }
        }
        return true
    }

    /// A stored node; nil if it has rotted.
    private static func node(
        _ log: LogKey, _ level: Int, _ index: UInt64, _ db: Database
    ) throws -> Digest? {
        let row = try db.first(
            "SELECT hash, sum FROM node WHERE scope = ? AND author = ? AND level = ? AND place = ?",
            .int(log.scope), .int(log.author), .int(Int64(level)), .sequence(index)
        ) { (hash: $0.fixed(0) ?? Digest.zero, sum: $0.bits(1)) }
        guard let row else { return .zero }
        return Sums.node(log, level, index, row.hash) == row.sum ? row.hash : nil
    }
}
