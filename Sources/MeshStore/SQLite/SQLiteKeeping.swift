// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshTrust

/// What is kept beside records: evidence of forks, answers to requests with a name.
extension SQLiteChanges {
    /// Keeps headers as evidence; the rules say which go for them.
    func keepEvidence(_ log: LogName, _ headers: [SignedHeader], _ db: Database) throws {
        let key = try caches.makeKey(db, log)
        for one in headers {
            try db.run(
                """
                INSERT OR IGNORE INTO evidence(scope, author, first, header, signature)
                VALUES(?, ?, ?, ?, ?)
                """, .int(key.scope), .int(key.author), .sequence(one.header.first),
                .bytes(one.header.encoded), .bytes(one.signature.bytes))
        }
        let all = try db.rows(
            "SELECT id, header FROM evidence WHERE scope = ? AND author = ?", .int(key.scope),
            .int(key.author)
        ) { (number: $0.int(0), header: try? CommitHeader(decoding: $0.bytes(1))) }
        let kept = RecordTransaction.evidence(all.compactMap(\.header), in: trust.root.meshID)
        for one in all where one.header.map({ !kept.contains($0) }) ?? true {
            try db.run("DELETE FROM evidence WHERE id = ?", .int(one.number))
        }
        show(log, LogHead.Shown(kept, in: trust.root.meshID))
    }

    func forgetEvidence(_ log: LogName, _ db: Database) throws {
        guard let key = try caches.key(db, log) else { return }
        try db.run(
            "DELETE FROM evidence WHERE scope = ? AND author = ?", .int(key.scope),
            .int(key.author))
        show(log, nil)
    }

    /// Notes in the cached family what headers show: to read it anew would verify every header of
    /// every life.
    private func show(_ log: LogName, _ shown: LogHead.Shown?) {
        let name = FamilyName(scope: log.scope, node: log.author.node)
        guard var family = caches.families[name] else { return }
        var head = family.heads[log.author.life] ?? .none
        head.shown = shown
        family.set(log.author.life, head)
        caches.families[name] = family
    }

    /// Keeps a commit that lost its place for its author, or what the author has done about it.
    func keepLoser(
        _ name: Digest, of node: NodeID, _ message: CommitsMessage?, _ db: Database
    ) throws {
        let kept = try Self.loser(name, seal, db)
        // What has rotted, or is the author's own note, is as it was.
        if kept.isKnown, message == nil { return }
        let united = message.map { kept.message?.uniting($0) ?? $0 }
        try db.run(
            "INSERT OR REPLACE INTO loser(name, node, bytes) VALUES(?, ?, ?)", .fixed(name),
            .fixed(node), united.map { .bytes(seal.stored($0.encoded)) } ?? .null)
        let most = message == nil ? RuleLimits.savedLosers : RuleLimits.losers
        try db.run(
            """
            DELETE FROM loser WHERE node = ?1 AND number NOT IN
            (SELECT number FROM loser WHERE node = ?1 ORDER BY number DESC LIMIT ?2)
            """, .fixed(node), .int(Int64(most)))
    }

    /// Whether something that lost its place is known, and what is kept of it.
    static func loser(
        _ name: Digest, _ seal: RowSeal, _ db: Database
    ) throws -> (isKnown: Bool, message: CommitsMessage?) {
        let row = try db.first("SELECT bytes FROM loser WHERE name = ?", .fixed(name)) { row in
            row.isNull(0) ? nil : row.bytes(0)
        }
        guard let row else { return (false, nil) }
        return (true, row.flatMap { try? CommitsMessage(decoding: seal.opened($0)) })
    }

    func remember(_ name: String, _ answer: StoredAnswer, _ db: Database) throws {
        // Neighbours' names count down from zero, so that many of them push out none of this
        // server's own. The oldest goes for each new one: no number is given again.
        let isNeighbours = name.hasPrefix(StoredAnswer.neighboursMark)
        try db.run(
            isNeighbours
                ? """
                INSERT OR REPLACE INTO idempotency
                VALUES((SELECT min(0, coalesce(min(number), 0)) FROM idempotency) - 1, ?, ?, ?)
                """
                : """
                INSERT OR REPLACE INTO idempotency
                VALUES((SELECT max(0, coalesce(max(number), 0)) FROM idempotency) + 1, ?, ?, ?)
                """, .text(name), .fixed(answer.request),
            .bytes(StoredReceipts.encode(answer.receipts)))
        try db.run(
            isNeighbours
                ? "DELETE FROM idempotency WHERE number >= (SELECT min(number) FROM idempotency) + ? AND number < 0"
                : "DELETE FROM idempotency WHERE number <= (SELECT max(number) FROM idempotency) - ? AND number > 0",
            .int(Int64(StoreLimits.idempotencyKeys)))
    }
}
