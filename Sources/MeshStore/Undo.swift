// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust
internal import Synchronization

/// What other authors' records superseded here, kept for the day that one of those is revoked.
///
/// Without it a stolen box could empty its site: a record that it overwrote and that was superseded
/// everywhere would be gone with what took its place. It is no part of any digest: what comes back
/// is a record like any other, with its commit's proof, and goes to peers as such. Bounded by rows
/// and bytes; the oldest go first (`mesh_undo_dropped_total`).
extension Writer {
    /// Keeps a live record that another's record is about to supersede.
    mutating func keepUndo(
        _ db: Database, _ log: LogKey, _ row: LiveRow, by successor: LogKey, _ sequence: UInt64
    ) throws {
        let gone = row.version.dot.sequence
        guard let first = try keepProof(db, log, gone) else { return }
        try db.run(
            """
            INSERT INTO undo(scope, author, first, sequence, bytes, by_author, by_sequence)
            SELECT scope, author, ?, sequence, bytes, ?, ? FROM record
            WHERE scope = ? AND author = ? AND sequence = ?
            """, .sequence(first), .int(successor.author), .sequence(sequence), .int(log.scope),
            .int(log.author), .sequence(gone))
        undoCount += 1
        if undoCount % StoreLimits.undoPerTrim == 0 { try trimUndo(db) }
    }

    /// Keeps what proves the records of a commit that live now, once for all of them.
    ///
    /// - Returns: the commit's first sequence; nil if nothing would prove the record.
    private mutating func keepProof(
        _ db: Database, _ log: LogKey, _ sequence: UInt64
    ) throws -> UInt64? {
        if let last = lastUndo, last.log == log, last.range.contains(sequence) {
            return last.range.lowerBound
        }
        guard let batch = try Queries.batch(db, log.scope, log.author, holding: sequence) else {
            return nil
        }
        let header = batch.header
        let key: [SQLValue] = [.int(log.scope), .int(log.author), .sequence(header.first)]
        let isKept = try db.first(
            "SELECT 1 FROM undo_commit WHERE scope = ? AND author = ? AND first = ?", key[0],
            key[1], key[2]
        ) { _ in true }
        if isKept == nil {
            guard let ids = try identities(db, log, batch) else { return nil }
            try db.run(
                "INSERT INTO undo_commit VALUES(?, ?, ?, ?, ?, ?, ?)", key[0], key[1], key[2],
                .bytes(header.encoded), .bytes(batch.signature.bytes),
                .bytes(batch.proof.encoded), .bytes(ids.flatMap(\.array)))
        }
        lastUndo = (log, header.first...header.last)
        return header.first
    }

    /// The identities of the records that a stored proof counts as present, those among them that
    /// this transaction has superseded already; nil if one is missing.
    private func identities(
        _ db: Database, _ log: LogKey, _ batch: Queries.Batch
    ) throws -> [Digest]? {
        var ids = dropped[log] ?? [:]
        try db.each(
            """
            SELECT sequence, id FROM record WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ?
            """, .int(log.scope), .int(log.author), .sequence(batch.header.first),
            .sequence(batch.header.last)
        ) { row in
            ids[row.sequence(0)] = row.digest(1)
            return true
        }
        let present = batch.proof.presentOffsets
        let all = present.compactMap { ids[batch.header.first + UInt64($0)] }
        return all.count == present.count ? all : nil
    }

    /// Brings back what a log's records past its cut had superseded in its scope.
    mutating func restore(_ db: Database, _ cut: LogKey, after end: UInt64) throws {
        let key: [SQLValue] = [.int(cut.author), .int(cut.scope), .sequence(end)]
        let rows = try db.rows(
            """
            SELECT author, first, sequence, bytes FROM undo
            WHERE by_author = ? AND scope = ? AND by_sequence > ? ORDER BY author, first, sequence
            """, key[0], key[1], key[2]
        ) { row in
            (author: row.int(0), first: row.sequence(1), sequence: row.sequence(2), row.bytes(3))
        }
        var rest = rows[...]
        while let head = rest.first {
            let commit = rest.prefix { $0.author == head.author && $0.first == head.first }
            rest = rest.dropFirst(commit.count)
            let log = LogKey(scope: cut.scope, author: head.author)
            let records = Dictionary(
                commit.map { ($0.sequence, $0.3) }, uniquingKeysWith: { first, _ in first })
            try restore(db, log, first: head.first, records, isCut: log == cut)
        }
        try db.run(
            "DELETE FROM undo WHERE by_author = ? AND scope = ? AND by_sequence > ?", key[0],
            key[1], key[2])
    }

    private mutating func restore(
        _ db: Database, _ log: LogKey, first: UInt64, _ records: [UInt64: [UInt8]], isCut: Bool
    ) throws {
        let kept = try db.first(
            """
            SELECT header, signature, proof, ids FROM undo_commit
            WHERE scope = ? AND author = ? AND first = ?
            """, .int(log.scope), .int(log.author), .sequence(first)
        ) { (try Queries.batch($0), $0.bytes(3)) }
        guard let (batch, bytes) = kept else { return }
        let header = batch.header
        var ids: [Int: Digest] = [:]
        for (place, offset) in batch.proof.presentOffsets.enumerated() {
            ids[offset] = Bytes32(Array(bytes.dropFirst(32 * place).prefix(32)))
        }
        let wanted = batch.proof.presentOffsets.filter { records[first + UInt64($0)] != nil }
        let commit = Commit(
            header: header, signature: batch.signature,
            proof: batch.proof.dropping(ids.filter { !wanted.contains($0.key) }),
            records: wanted.compactMap { records[first + UInt64($0)] })
        // What the author's own revocation ends stays gone, and nothing stands past a log's end.
        let end = try revoked(db).end(of: header.author, in: header.scope) ?? .max
        guard header.last <= end, try isCut || header.last <= head(db, log).frontier,
            let policy = try directory.policy(of: header.scope.namespace, db)
        else { return }
        // Verified like what comes from a peer: rows can rot.
        guard let verified = try? verify(commit, policy.merge) else { return }
        var outcome = IngestOutcome()
        _ = try store(db, log, commit, verified.1, policy.merge, isFill: true, &outcome)
        statistics.recordsRestored.add(outcome.stored, ordering: .relaxed)
    }

    /// Keeps the newest rows within the limits, and the proofs that they need.
    private mutating func trimUndo(_ db: Database) throws {
        var (rows, bytes) = (0, 0)
        var oldest: Int64?
        try db.each("SELECT number, length(bytes) FROM undo ORDER BY number DESC") { row in
            rows += 1
            bytes += Int(row.int(1))
            guard rows <= StoreLimits.undoRows, bytes <= StoreLimits.undoBytes else { return false }
            oldest = row.int(0)
            return true
        }
        guard let oldest, rows > StoreLimits.undoRows || bytes > StoreLimits.undoBytes else {
            return
        }
        let count = try db.first("SELECT count(*) FROM undo WHERE number < ?", .int(oldest)) {
            Int($0.int(0))
        }
        try db.run("DELETE FROM undo WHERE number < ?", .int(oldest))
        try db.run(
            """
            DELETE FROM undo_commit WHERE NOT EXISTS (SELECT 1 FROM undo
            WHERE undo.scope = undo_commit.scope AND undo.author = undo_commit.author
            AND undo.first = undo_commit.first)
            """)
        lastUndo = nil
        statistics.undoDropped.add(count ?? 0, ordering: .relaxed)
    }
}
