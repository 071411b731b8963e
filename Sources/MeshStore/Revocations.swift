// SPDX-License-Identifier: Apache-2.0

internal import GRDB
package import MeshCore
internal import MeshCrypto
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
    ///
    /// It is kept beside the records too: those can go, by rot or by a fork of who brought them.
    mutating func heed(_ db: Database, _ record: Record) throws {
        guard let revocation = try? Revocation(decoding: record.body, root: identity.root) else {
            return
        }
        try db.run(
            "INSERT OR IGNORE INTO revocation VALUES(?, ?)",
            .digest(Blake2b.hash(revocation.encoded)), .bytes(revocation.encoded))
        var logs = try revoked(db)
        logs.add(revocation)
        revokedLogs = logs
        newlyRevoked.append(revocation)
    }

    /// Makes the cuts of this transaction's revocations: first all that does not stand goes, then
    /// what that had superseded comes back, so the order of nodes and logs does not matter.
    mutating func makeCuts(_ db: Database) throws {
        if newlyRevoked.isEmpty { return }
        // From here on the proofs say what is here.
        try prune(db)
        lastUndo = nil
        var cuts: [LogKey: UInt64] = [:]
        for node in Set(newlyRevoked.map(\.node)).sorted() {
            for (log, end) in try logsPastCut(db, node) {
                cuts[log] = try removePast(db, log, end)
            }
        }
        let order = cuts.keys.sorted { ($0.scope, $0.author) < ($1.scope, $1.author) }
        var restored: Set<LogKey> = []
        for log in order { restored.formUnion(try restore(db, log, from: cuts[log] ?? 1)) }
        for log in order { try settleEnd(db, log, isCut: true) }
        for log in restored.subtracting(order) { try settleEnd(db, log, isCut: false) }
        if let policies = try Queries.scopeID(db, NamespacePolicy.scope),
            order.contains(where: { $0.scope == policies })
        {
            forgetPolicies()
        }
    }

    private mutating func logsPastCut(
        _ db: Database, _ node: NodeID
    ) throws -> [(log: LogKey, end: UInt64)] {
        let revoked = try revoked(db)
        return try Queries.logs(db, of: node).compactMap { log in
            let author = Author(node: node, incarnation: log.incarnation)
            guard let end = revoked.end(of: author, in: log.scope), log.frontier > end else {
                return nil
            }
            return (log.key, end)
        }
    }

    /// Takes away the commits of a log that end past `end`.
    ///
    /// - Returns: the first sequence that is gone.
    private mutating func removePast(
        _ db: Database, _ log: LogKey, _ end: UInt64
    ) throws -> UInt64 {
        let straddling = try Queries.batches(
            db, log.scope, log.author, (end + 1)...(end + 1)
        ).first
        let first = min(end + 1, straddling?.header.first ?? .max)
        let key: [SQLValue] = [.int(log.scope), .int(log.author), .sequence(first)]
        // Only leaves that hold something change: how far a log goes is its author's word alone.
        let leaves = try db.rows(
            """
            SELECT DISTINCT (sequence - 1) / ? FROM record
            WHERE scope = ? AND author = ? AND sequence >= ?
            """, .sequence(DigestTree.leafSpan), key[0], key[1], key[2]
        ) { $0.sequence(0) }
        for leaf in leaves { try markDirty(db, log, leaf * DigestTree.leafSpan + 1) }
        let count = try db.first(
            "SELECT count(*) FROM record WHERE scope = ? AND author = ? AND sequence >= ?", key[0],
            key[1], key[2]
        ) { Int($0.int(0)) }
        for table in ["record", "damage"] {
            try db.run(
                "DELETE FROM \(table) WHERE scope = ? AND author = ? AND sequence >= ?", key[0],
                key[1], key[2])
        }
        try db.run(
            "DELETE FROM batch WHERE scope = ? AND author = ? AND first >= ?", key[0], key[1],
            key[2])
        statistics.recordsRevoked.add(count ?? 0, ordering: .relaxed)
        return first
    }

    /// Moves the frontier of a revoked author's log to the last commit that is held.
    ///
    /// - Parameter isCut: whether it may move back.
    private mutating func settleEnd(_ db: Database, _ log: LogKey, isCut: Bool) throws {
        let last = try db.first(
            """
            SELECT header, signature, proof FROM batch WHERE scope = ? AND author = ?
            ORDER BY first DESC LIMIT 1
            """, .int(log.scope), .int(log.author), map: Queries.batch)
        if let last {
            guard try isCut || last.header.last > head(db, log).frontier else { return }
            try advance(
                db, log, to: last.header.last, header: last.header, signature: last.signature)
        } else if isCut {
            try end(db, log)
        }
    }
}

extension Queries {
    /// A log that a cut can end.
    struct CuttableLog {
        let key: Writer.LogKey
        let scope: Scope
        let incarnation: Incarnation
        let frontier: UInt64
    }

    /// The logs of a node that hold anything, but for those whose records prove themselves.
    static func logs(_ db: Database, of node: NodeID) throws -> [CuttableLog] {
        try db.rows(
            """
            SELECT log.scope, log.author, scope.name, incarnation, frontier FROM log
            JOIN author ON author.id = log.author JOIN scope ON scope.id = log.scope
            WHERE node = ? AND frontier > 0 ORDER BY log.scope, log.author
            """, .digest(node)
        ) { row in
            Scope(row.text(2)).map {
                CuttableLog(
                    key: Writer.LogKey(scope: row.int(0), author: row.int(1)), scope: $0,
                    incarnation: Incarnation(UInt64(bitPattern: row.int(3))),
                    frontier: row.sequence(4))
            }
        }.compactMap(\.self).filter { !DocumentAdmission.appliesTo($0.scope) }
    }

    /// Every revocation that was ever taken here; each is verified again, since rows can rot.
    static func revocations(_ db: Database, _ root: RootDocument) throws -> [Revocation] {
        try db.rows("SELECT bytes FROM revocation ORDER BY name") { $0.bytes(0) }
            .compactMap { try? Revocation(decoding: $0, root: root) }
    }
}

extension Store {
    /// Every revocation that is known here, in the order of their hashes.
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

    /// Writes anew what is known of revocations and is no live record any more, so that it goes on
    /// to others.
    package func bringBackRevocations() {
        for revocation in (try? revocations()) ?? [] {
            let isLive = (try? get(revocation.key, in: Revocation.scope)) ?? nil
            if isLive == nil { revoke(revocation) { _ in } }
        }
    }

    /// The logs of a node as far as they are held here, and how far each goes.
    ///
    /// - Parameter since: nothing of a commit with a record that was stamped at this time or
    ///   later, in milliseconds since 1970, nor of what follows it in its log.
    /// - Returns: what would stand of each; logs of which nothing lives are left out, since a cut
    ///   to nothing takes nothing from them.
    package func logs(
        of node: NodeID, before since: UInt64?
    ) throws -> [(cut: Revocation.Cut, frontier: UInt64)] {
        try read { db in
            try Queries.logs(db, of: node).compactMap { log in
                var through = log.frontier
                if let since, let first = try Self.first(db, log.key, since) { through = first - 1 }
                guard try through < log.frontier || Self.hasLive(db, log.key) else { return nil }
                let cut = Revocation.Cut(
                    scope: log.scope, incarnation: log.incarnation, through: through)
                return (cut, log.frontier)
            }.sorted { $0.cut < $1.cut }
        }
    }

    private static func hasLive(
        _ db: Database, _ log: Writer.LogKey
    ) throws -> Bool {
        try db.first(
            "SELECT 1 FROM record WHERE scope = ? AND author = ? LIMIT 1", .int(log.scope),
            .int(log.author)
        ) { _ in true } ?? false
    }

    /// Where the first commit begins that holds a record stamped at `since` or later.
    private static func first(
        _ db: Database, _ log: Writer.LogKey, _ since: UInt64
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
