// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust
internal import Synchronization

/// What records of peers superseded here, kept for the day that their author is revoked.
///
/// Without it a stolen box could empty its site: a record that it overwrote and that was superseded
/// everywhere would be gone with what took its place. It is no part of any digest: what comes back
/// is a record like any other, with its commit's proof, and goes to peers as such. Bounded by rows
/// and bytes, apart for what a node superseded of its own, so that a thief's own writes cannot push
/// out what he took from others; the oldest go first (`mesh_undo_dropped_total`).
extension Writer {
    /// The commit whose proof was kept last.
    struct KeptProof {
        let log: LogKey
        let range: ClosedRange<UInt64>
        let proof: CommitProof

        func proves(_ other: LogKey, _ sequence: UInt64) -> Bool {
            log == other && range.contains(sequence)
                && proof.present[Int(sequence - range.lowerBound)]
        }
    }

    private struct UndoRow {
        let number: Int64
        let author: Int64
        let first: UInt64
        let sequence: UInt64
        let bytes: [UInt8]
    }

    /// Keeps a live record that another's record is about to supersede.
    mutating func keepUndo(
        _ db: Database, _ log: LogKey, _ row: LiveRow, by successor: LogKey, _ dot: Dot
    ) throws {
        let gone = row.version.dot.sequence
        guard let first = try keepProof(db, log, gone) else { return }
        let isOwn = row.version.dot.author.node == dot.author.node
        try db.run(
            """
            INSERT INTO undo(scope, author, first, sequence, bytes, by_author, by_sequence, own)
            SELECT scope, author, ?, sequence, bytes, ?, ?, ? FROM record
            WHERE scope = ? AND author = ? AND sequence = ?
            """, .sequence(first), .int(successor.author), .sequence(dot.sequence),
            .int(isOwn ? 1 : 0), .int(log.scope), .int(log.author), .sequence(gone))
        undoCount += 1
        if undoCount % StoreLimits.undoPerTrim == 0 { try trimUndo(db) }
    }

    /// Keeps what proves the records of a commit that live now, once for all of them.
    ///
    /// - Returns: the commit's first sequence; nil if nothing would prove the record.
    private mutating func keepProof(
        _ db: Database, _ log: LogKey, _ sequence: UInt64
    ) throws -> UInt64? {
        if let lastUndo, lastUndo.proves(log, sequence) { return lastUndo.range.lowerBound }
        guard let batch = try Queries.batch(db, log.scope, log.author, holding: sequence),
            var ids = try identities(db, log, batch)
        else { return nil }
        let header = batch.header
        var proof = batch.proof
        if let kept = try keptProof(db, log, header.first), kept.batch.header == header,
            let merged = kept.batch.proof.merging(proof)
        {
            ids.merge(kept.ids) { new, _ in new }
            proof = merged
        }
        let all = proof.presentOffsets.compactMap { ids[$0] }
        guard all.count == proof.presentCount else { return nil }
        try db.run(
            "INSERT OR REPLACE INTO undo_commit VALUES(?, ?, ?, ?, ?, ?, ?)", .int(log.scope),
            .int(log.author), .sequence(header.first), .bytes(header.encoded),
            .bytes(batch.signature.bytes), .bytes(proof.encoded), .bytes(all.flatMap(\.array)))
        lastUndo = KeptProof(log: log, range: header.first...header.last, proof: proof)
        return header.first
    }

    /// A kept proof with the identities that it counts as present, by place; nil where none is
    /// kept, or it has rotted.
    private func keptProof(
        _ db: Database, _ log: LogKey, _ first: UInt64
    ) throws -> (batch: Queries.Batch, ids: [Int: Digest])? {
        let kept = try db.first(
            """
            SELECT header, signature, proof, ids FROM undo_commit
            WHERE scope = ? AND author = ? AND first = ?
            """, .int(log.scope), .int(log.author), .sequence(first)
        ) { (try? Queries.batch($0), $0.bytes(3)) }
        guard let (found, bytes) = kept, let batch = found else { return nil }
        let offsets = batch.proof.presentOffsets
        guard bytes.count == 32 * offsets.count, batch.header.first == first else { return nil }
        var ids: [Int: Digest] = [:]
        for (place, offset) in offsets.enumerated() {
            ids[offset] = Bytes32(Array(bytes[(32 * place)..<(32 * place + 32)]))
        }
        return (batch, ids)
    }

    /// The identities of the records that a stored proof counts as present, by place, those among
    /// them that this transaction has superseded already; nil if one is missing.
    private func identities(
        _ db: Database, _ log: LogKey, _ batch: Queries.Batch
    ) throws -> [Int: Digest]? {
        var known = dropped[log] ?? [:]
        try db.each(
            """
            SELECT sequence, id FROM record WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ?
            """, .int(log.scope), .int(log.author), .sequence(batch.header.first),
            .sequence(batch.header.last)
        ) { row in
            known[row.sequence(0)] = row.digest(1)
            return true
        }
        var ids: [Int: Digest] = [:]
        for offset in batch.proof.presentOffsets {
            guard let id = known[batch.header.first + UInt64(offset)] else { return nil }
            ids[offset] = id
        }
        return ids
    }

    // MARK: Bringing back

    /// Brings back what a log's records from `first` on had superseded in its scope.
    ///
    /// - Returns: logs of revoked authors in which something lives again.
    mutating func restore(
        _ db: Database, _ cut: LogKey, from first: UInt64
    ) throws -> Set<LogKey> {
        let rows = try db.rows(
            """
            SELECT number, author, first, sequence, bytes FROM undo
            WHERE by_author = ? AND scope = ? AND by_sequence >= ? ORDER BY author, first, sequence
            """, .int(cut.author), .int(cut.scope), .sequence(first)
        ) { row in
            UndoRow(
                number: row.int(0), author: row.int(1), first: row.sequence(2),
                sequence: row.sequence(3), bytes: row.bytes(4))
        }
        var touched: Set<LogKey> = []
        var rest = rows[...]
        while let head = rest.first {
            let commit = rest.prefix { $0.author == head.author && $0.first == head.first }
            rest = rest.dropFirst(commit.count)
            let log = LogKey(scope: cut.scope, author: head.author)
            if try restore(db, log, Array(commit)) { touched.insert(log) }
            for row in commit { try forgetOrRekey(db, log, row) }
        }
        return touched
    }

    /// - Returns: whether something of a revoked author's log was stored.
    private mutating func restore(
        _ db: Database, _ log: LogKey, _ rows: [UndoRow]
    ) throws -> Bool {
        guard let first = rows.first?.first, let kept = try keptProof(db, log, first) else {
            return false
        }
        let header = kept.batch.header
        var records: [Int: [UInt8]] = [:]
        for row in rows where header.first <= row.sequence && row.sequence <= header.last {
            records[Int(row.sequence - first)] = row.bytes
        }
        let wanted = kept.batch.proof.presentOffsets.filter { records[$0] != nil }
        let commit = Commit(
            header: header, signature: kept.batch.signature,
            proof: kept.batch.proof.dropping(kept.ids.filter { !wanted.contains($0.key) }),
            records: wanted.compactMap { records[$0] })
        // What the author's own revocation ends stays gone, and nothing stands past a log's end;
        // of a revoked author's log the end is settled afterwards.
        let end = try revoked(db).end(of: header.author, in: header.scope)
        guard try header.last <= end ?? head(db, log).frontier,
            let policy = try directory.policy(of: header.scope.namespace, db)
        else { return false }
        // Verified like what comes from a peer: rows can rot.
        guard let verified = try? verify(commit, policy.merge) else { return false }
        var outcome = IngestOutcome()
        _ = try store(db, log, commit, verified.1, policy.merge, isFill: true, &outcome)
        statistics.recordsRestored.add(outcome.stored, ordering: .relaxed)
        return end != nil && outcome.stored > 0
    }

    /// What something else supersedes too stays kept, for the day that this goes as well.
    private mutating func forgetOrRekey(_ db: Database, _ log: LogKey, _ row: UndoRow) throws {
        let author = try author(db, log.author)
        let dot = Dot(author: author, sequence: row.sequence)
        if let record = try? Record(decoding: row.bytes) {
            let versions = try live(db, log.scope, record.key)
            if !versions.contains(where: { $0.version.dot == dot }),
                let winner = versions.first(where: { $0.version.supersedes(dot) })
            {
                let isOwn = winner.version.dot.author.node == author.node
                return try db.run(
                    "UPDATE undo SET by_author = ?, by_sequence = ?, own = ? WHERE number = ?",
                    .int(winner.authorID), .sequence(winner.version.dot.sequence),
                    .int(isOwn ? 1 : 0), .int(row.number))
            }
        }
        try db.run("DELETE FROM undo WHERE number = ?", .int(row.number))
    }

    // MARK: Limits

    /// Keeps the newest rows within the limits, and the proofs that they need.
    private mutating func trimUndo(_ db: Database) throws {
        let others = try trimUndo(
            db, own: 0, rows: StoreLimits.undoRows, bytes: StoreLimits.undoBytes)
        let own = try trimUndo(
            db, own: 1, rows: StoreLimits.undoOwnRows, bytes: StoreLimits.undoOwnBytes)
        guard others + own > 0 else { return }
        try db.run(
            """
            DELETE FROM undo_commit WHERE NOT EXISTS (SELECT 1 FROM undo
            WHERE undo.scope = undo_commit.scope AND undo.author = undo_commit.author
            AND undo.first = undo_commit.first)
            """)
        lastUndo = nil
        statistics.undoDropped.add(others + own, ordering: .relaxed)
    }

    /// - Returns: how many rows went.
    private func trimUndo(
        _ db: Database, own: Int64, rows mostRows: Int, bytes mostBytes: Int
    ) throws -> Int {
        var (rows, bytes) = (0, 0)
        var firstOver: Int64?
        try db.each(
            "SELECT number, length(bytes) FROM undo WHERE own = ? ORDER BY number DESC", .int(own)
        ) { row in
            rows += 1
            bytes += Int(row.int(1))
            if rows > mostRows || bytes > mostBytes { firstOver = row.int(0) }
            return firstOver == nil
        }
        guard let firstOver else { return 0 }
        let count = try db.first(
            "SELECT count(*) FROM undo WHERE own = ? AND number <= ?", .int(own), .int(firstOver)
        ) { Int($0.int(0)) }
        try db.run("DELETE FROM undo WHERE own = ? AND number <= ?", .int(own), .int(firstOver))
        return count ?? 0
    }
}
