// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules

/// What is kept beside records: evidence of forks, answers to requests with a name.
extension SQLiteChanges {
    func keepEvidence(
        _ header: CommitHeader, _ signature: Signature, _ db: Database
    ) throws {
        let key = try caches.makeKey(db, header.log)
        let kept = try db.first(
            "SELECT count(*) FROM evidence WHERE scope = ? AND author = ?", .int(key.scope),
            .int(key.author)
        ) { $0.int(0) }
        guard (kept ?? 0) < RuleLimits.evidence else { return }
        try db.run(
            "INSERT OR IGNORE INTO evidence(scope, author, header, signature) VALUES(?, ?, ?, ?)",
            .int(key.scope), .int(key.author), .bytes(header.encoded), .bytes(signature.bytes))
    }

    func remember(_ name: String, _ answer: StoredAnswer, _ db: Database) throws {
        try db.run(
            "INSERT OR REPLACE INTO idempotency(name, request, receipt) VALUES(?, ?, ?)",
            .text(name), .digest(answer.request), .bytes(SQLiteFacts.encode(answer.receipts)))
        // The oldest goes for each new one: numbers count up and are never given again.
        try db.run(
            "DELETE FROM idempotency WHERE number <= (SELECT max(number) FROM idempotency) - ?",
            .int(Int64(StoreLimits.idempotencyKeys)))
    }
}
