// SPDX-License-Identifier: Apache-2.0

internal import GRDB
package import MeshCore
internal import MeshReplication
package import MeshTrust
internal import Synchronization

extension Writer {
    /// What stands of the logs of revoked nodes, this transaction's revocations among them.
    mutating func revoked(_ db: Database) throws -> RevokedLogs {
        if let revokedLogs { return revokedLogs }
        var logs = RevokedLogs()
        for revocation in try Queries.revocations(db, identity.root) { logs.add(revocation) }
        revokedLogs = logs
        return logs
    }

    /// Refuses what a revoked author wrote past the end of its log.
    mutating func refuseRevoked(_ db: Database, _ message: CommitsMessage) throws {
        guard !DocumentAdmission.appliesTo(message.scope),
            let end = try revoked(db).end(of: message.author, in: message.scope)
        else { return }
        guard message.through <= end, message.commits.allSatisfy({ $0.header.last <= end }) else {
            throw Refusal.revoked
        }
    }

    /// A revocation came to live: it counts from now on, and its cuts are made before the
    /// transaction ends.
    mutating func heed(_ db: Database, _ record: Record) throws {
        guard let revocation = try? Revocation(decoding: record.body, root: identity.root) else {
            return
        }
        var logs = try revoked(db)
        logs.add(revocation)
        revokedLogs = logs
        newlyRevoked.append(revocation)
    }

    /// Makes the cuts of this transaction's revocations.
    mutating func makeCuts(_ db: Database) throws {
        for node in Set(newlyRevoked.map(\.node)).sorted() { try cut(db, node) }
    }

    private mutating func cut(_ db: Database, _ node: NodeID) throws {
        let logs = try db.rows(
            """
            SELECT log.scope, log.author, scope.name, incarnation, frontier FROM log
            JOIN author ON author.id = log.author JOIN scope ON scope.id = log.scope
            WHERE node = ? ORDER BY log.scope, log.author
            """, .digest(node)
        ) { row in
            (
                log: LogKey(scope: row.int(0), author: row.int(1)), scope: Scope(row.text(2)),
                incarnation: Incarnation(UInt64(bitPattern: row.int(3))), frontier: row.sequence(4)
            )
        }
        for (log, scope, incarnation, frontier) in logs {
            guard let scope, !DocumentAdmission.appliesTo(scope) else { continue }
            let author = Author(node: node, incarnation: incarnation)
            guard let end = try revoked(db).end(of: author, in: scope), frontier > end else {
                continue
            }
            try cut(db, log, after: end, frontier: frontier)
        }
    }

    /// Takes away the commits of a log that end past `end`, and moves its frontier back to the last
    /// commit that is still held and stands.
    private mutating func cut(
        _ db: Database, _ log: LogKey, after end: UInt64, frontier: UInt64
    ) throws {
        let key: [SQLValue] = [.int(log.scope), .int(log.author)]
        let straddling = try Queries.batches(
            db, log.scope, log.author, (end + 1)...(end + 1)
        ).first
        let first = min(end + 1, straddling?.header.first ?? .max)
        let count = try db.first(
            "SELECT count(*) FROM record WHERE scope = ? AND author = ? AND sequence >= ?", key[0],
            key[1], .sequence(first)
        ) { Int($0.int(0)) }
        for table in ["record", "damage"] {
            try db.run(
                "DELETE FROM \(table) WHERE scope = ? AND author = ? AND sequence >= ?", key[0],
                key[1], .sequence(first))
        }
        try db.run(
            "DELETE FROM batch WHERE scope = ? AND author = ? AND first >= ?", key[0], key[1],
            .sequence(first))
        dropped[log] = dropped[log]?.filter { $0.key < first }
        lastUndo = nil
        try restore(db, log, after: first - 1)
        for leaf in DigestTree.leaf(of: first)...DigestTree.leaf(of: frontier) {
            try markDirty(db, log, leaf * DigestTree.leafSpan + 1)
        }
        let last = try db.first(
            """
            SELECT header, signature, proof FROM batch WHERE scope = ? AND author = ?
            ORDER BY first DESC LIMIT 1
            """, key[0], key[1], map: Queries.batch)
        if let last {
            try advance(
                db, log, to: last.header.last, header: last.header, signature: last.signature)
        } else {
            try self.end(db, log)
        }
        statistics.recordsRevoked.add(count ?? 0, ordering: .relaxed)
    }
}

extension Queries {
    /// Every revocation that is held; each is verified again, since rows can rot.
    static func revocations(_ db: Database, _ root: RootDocument) throws -> [Revocation] {
        guard let scope = try scopeID(db, Revocation.scope) else { return [] }
        return try db.rows("SELECT bytes FROM record WHERE scope = ? ORDER BY key", .int(scope)) {
            $0.bytes(0)
        }.compactMap { bytes in
            guard let record = try? Record(decoding: bytes) else { return nil }
            return try? Revocation(decoding: record.body, root: root)
        }
    }
}

extension Store {
    /// Every revocation that is known here, in the order of their keys.
    package func revocations() throws -> [Revocation] {
        try read { try Queries.revocations($0, identity.root) }
    }

    /// Whether a node is known to be revoked; cheap enough to ask for each link.
    package func isRevoked(_ node: NodeID) -> Bool { directoryCache.isRevoked(node) }

    /// Brings in a revocation that a peer, a person or a file gave; answers whether it was not
    /// known here.
    package func revoke(
        _ revocation: Revocation, done: @escaping @Sendable (Result<Bool, StoreError>) -> Void
    ) {
        let write = Write(
            .put, revocation.key, contentType: Revocation.contentType, body: revocation.encoded)
        self.write(WriteRequest(scope: Revocation.scope, writes: [write])) { result in
            switch result {
            case .success: done(.success(true))
            case .failure(.exists): done(.success(false))
            case .failure(let error): done(.failure(error))
            }
        }
    }

    /// The logs of a node as far as they are held here, and how far each goes.
    ///
    /// - Parameter since: nothing of a commit with a record that was stamped at this time or
    ///   later, in milliseconds since 1970, nor of what follows it in its log.
    package func logs(
        of node: NodeID, before since: UInt64?
    ) throws -> [(cut: Revocation.Cut, frontier: UInt64)] {
        try read { db in
            let logs = try db.rows(
                """
                SELECT log.scope, log.author, scope.name, incarnation, frontier FROM log
                JOIN author ON author.id = log.author JOIN scope ON scope.id = log.scope
                WHERE node = ? AND frontier > 0
                """, .digest(node)
            ) { row in
                (
                    key: (row.int(0), row.int(1)), scope: Scope(row.text(2)),
                    incarnation: Incarnation(UInt64(bitPattern: row.int(3))),
                    frontier: row.sequence(4)
                )
            }
            return try logs.compactMap { log in
                guard let scope = log.scope, !DocumentAdmission.appliesTo(scope) else { return nil }
                var through = log.frontier
                if let since, let first = try Self.first(db, log.key, since) { through = first - 1 }
                let cut = Revocation.Cut(
                    scope: scope, incarnation: log.incarnation, through: through)
                return (cut, log.frontier)
            }.sorted { $0.cut < $1.cut }
        }
    }

    /// Where the first commit begins that holds a record stamped at `since` or later.
    private static func first(
        _ db: Database, _ log: (scope: Int64, author: Int64), _ since: UInt64
    ) throws -> UInt64? {
        var found: UInt64?
        try db.each(
            "SELECT sequence, bytes FROM record WHERE scope = ? AND author = ? ORDER BY sequence",
            .int(log.scope), .int(log.author)
        ) { row in
            guard let record = try? Record(decoding: row.bytes(1)),
                record.stamp.milliseconds >= since
            else { return true }
            found = row.sequence(0)
            return false
        }
        guard let found else { return nil }
        let batch = try Queries.batch(db, log.scope, log.author, holding: found)
        return batch?.header.first ?? found
    }
}
