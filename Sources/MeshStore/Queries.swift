// SPDX-License-Identifier: Apache-2.0

internal import GRDB
package import MeshCore
internal import MeshCrypto
internal import MeshReplication

/// Reads that serve both the writer and the readers.
enum Queries {
    /// A commit as it is stored: what was signed, and the proof for the records that live.
    struct Batch {
        let header: CommitHeader
        let signature: Signature
        let proof: CommitProof
    }

    static func author(_ db: Database, _ id: Int64) throws -> Author {
        let found = try db.first("SELECT node, incarnation FROM author WHERE id = ?", .int(id)) {
            Author(
                node: $0.digest(0) ?? .zero,
                incarnation: Incarnation(UInt64(bitPattern: $0.int(1))))
        }
        guard let found else {
            throw StoreError.database(code: 11, message: "author \(id) is missing")
        }
        return found
    }

    static func authorID(_ db: Database, _ author: Author) throws -> Int64? {
        try db.first(
            "SELECT id FROM author WHERE node = ? AND incarnation = ?", .digest(author.node),
            .int(Int64(bitPattern: author.incarnation.value))
        ) { $0.int(0) }
    }

    static func scopeID(_ db: Database, _ scope: Scope) throws -> Int64? {
        try db.first("SELECT id FROM scope WHERE name = ?", .text(scope.description)) { $0.int(0) }
    }

    static func batch(_ row: SQLRow) throws -> Batch {
        let header = try CommitHeader(decoding: row.bytes(0))
        guard let signature = Signature(row.bytes(1)) else {
            throw StoreError.database(code: 11, message: "a commit's signature is damaged")
        }
        var reader = WireReader(row.bytes(2))
        return Batch(
            header: header, signature: signature,
            proof: try CommitProof(from: &reader, count: header.count))
    }

    /// The commits that overlap a range of one log, ascending.
    static func batches(
        _ db: Database, _ scope: Int64, _ author: Int64, _ range: ClosedRange<UInt64>
    ) throws -> [Batch] {
        // A commit has at most 1,024 records, so nothing that begins earlier can reach the range.
        let earliest = range.lowerBound - min(range.lowerBound, UInt64(CommitHeader.recordsMax))
        return try db.rows(
            """
            SELECT header, signature, proof FROM batch WHERE scope = ? AND author = ?
            AND first BETWEEN ? AND ? AND last >= ? ORDER BY first
            """, .int(scope), .int(author), .sequence(earliest), .sequence(range.upperBound),
            .sequence(range.lowerBound), map: batch)
    }

    static func batch(
        _ db: Database, _ scope: Int64, _ author: Int64, holding sequence: UInt64
    ) throws -> Batch? {
        try batches(db, scope, author, sequence...sequence).first
    }

    static func versions(
        _ db: Database, of key: RecordKey, in scope: Int64
    ) throws -> [StoredVersion] {
        let rows = try db.rows(
            """
            SELECT author, sequence, bytes, arrival FROM record WHERE scope = ? AND key = ?
            """, .int(scope), .text(key.utf8)
        ) { ($0.int(0), $0.sequence(1), $0.bytes(2), $0.sequence(3)) }
        return try rows.map { authorID, sequence, bytes, arrival in
            let dot = Dot(author: try author(db, authorID), sequence: sequence)
            return StoredVersion(dot: dot, record: try Record(decoding: bytes), arrival: arrival)
        }
    }

    static func state(
        _ db: Database, of key: RecordKey, in scope: Scope, merge: MergeKind
    ) throws -> KeyState? {
        guard let id = try scopeID(db, scope) else { return nil }
        return try state(db, of: key, in: id, merge: merge)
    }

    static func state(
        _ db: Database, of key: RecordKey, in scope: Int64, merge: MergeKind
    ) throws -> KeyState? {
        let versions = try versions(db, of: key, in: scope)
        if versions.isEmpty { return nil }
        let ranked = merge.ranked(versions.map(\.version))
        let byDot = Dictionary(
            versions.map { ($0.dot, $0) }, uniquingKeysWith: { first, _ in first })
        return KeyState(key: key, versions: ranked.compactMap { byDot[$0.dot] })
    }
}

extension KeyState {
    static func etag(_ dots: [Dot]) -> String {
        var writer = WireWriter()
        for dot in dots.sorted() {
            writer.author(dot.author)
            writer.u64(dot.sequence)
        }
        return Hex.encode(Blake2b.hash(writer.bytes).array.prefix(12))
    }
}

/// One change of the feed: a version that came to live here.
package struct StoredChange: Hashable, Sendable {
    /// The scope.
    package let scope: Scope
    /// The version.
    package let version: StoredVersion
}

extension Store {
    /// The state of a key; nil if nothing is known of it.
    package func get(_ key: RecordKey, in scope: Scope) throws -> KeyState? {
        try read { db in
            let merge = try directoryCache.policy(of: scope.namespace, db)?.merge ?? .register
            return try Queries.state(db, of: key, in: scope, merge: merge)
        }
    }

    /// Keys that hold values, in key order, after `after`.
    package func list(
        _ scope: Scope, prefix: [UInt8], after: RecordKey?, limit: Int
    ) throws -> [KeyState] {
        try read { db in
            guard let id = try Queries.scopeID(db, scope) else { return [] }
            let merge = try directoryCache.policy(of: scope.namespace, db)?.merge ?? .register
            var states: [KeyState] = []
            var last = after?.utf8 ?? []
            let start = prefix.lexicographicallyPrecedes(last) ? last : prefix
            var isFirst = last.isEmpty || prefix.elementsEqual(start)
            last = start
            while states.count < limit {
                let keys = try db.rows(
                    isFirst
                        ? "SELECT DISTINCT key FROM record WHERE scope = ? AND key >= ? ORDER BY key LIMIT 256"
                        : "SELECT DISTINCT key FROM record WHERE scope = ? AND key > ? ORDER BY key LIMIT 256",
                    .int(id), .text(last)
                ) { $0.bytes(0) }
                isFirst = false
                for key in keys where states.count < limit {
                    guard key.starts(with: prefix) else { return states }
                    last = key
                    if let after, key == after.utf8 { continue }
                    let key = try RecordKey(validating: key)
                    if let state = try Queries.state(db, of: key, in: id, merge: merge),
                        state.value != nil
                    {
                        states.append(state)
                    }
                }
                if keys.count < 256 { break }
            }
            return states
        }
    }

    /// Versions that came to live after a position of the feed, in order.
    package func changes(
        after position: UInt64, scopes: [Scope]?, limit: Int
    ) throws -> (changes: [StoredChange], position: UInt64) {
        try read { db in
            var changes: [StoredChange] = []
            var reached = position
            let rows = try db.rows(
                """
                SELECT arrival, scope.name, author, sequence, bytes FROM record
                JOIN scope ON scope.id = record.scope WHERE arrival > ? ORDER BY arrival LIMIT ?
                """, .sequence(position), .int(Int64(limit))
            ) { ($0.sequence(0), $0.text(1), $0.int(2), $0.sequence(3), $0.bytes(4)) }
            for (arrival, name, authorID, sequence, bytes) in rows {
                reached = arrival
                guard let scope = Scope(name), scopes?.contains(scope) ?? true else { continue }
                let dot = Dot(author: try Queries.author(db, authorID), sequence: sequence)
                let version = StoredVersion(
                    dot: dot, record: try Record(decoding: bytes), arrival: arrival)
                changes.append(StoredChange(scope: scope, version: version))
            }
            return (changes, reached)
        }
    }

    /// The scopes that hold anything here.
    package func scopes() throws -> [Scope] { try read { try SnapshotIndex($0).scopes() } }

    /// How many records live in a scope, deletions among them.
    package func liveCount(in scope: Scope) throws -> Int {
        try read { db in
            guard let id = try Queries.scopeID(db, scope) else { return 0 }
            return try db.first("SELECT count(*) FROM record WHERE scope = ?", .int(id)) {
                Int($0.int(0))
            } ?? 0
        }
    }

    /// Bytes of the database, its log of recent changes included.
    package func diskBytes() throws -> Int {
        try read { db in
            try db.first(
                "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
            ) { Int($0.int(0)) } ?? 0
        }
    }

    /// Logs whose author was seen to write two things in one place, with how many proofs are kept.
    package func forkedAuthors() throws -> [Author] {
        try read { db in
            try db.rows("SELECT DISTINCT author FROM evidence") { $0.int(0) }
                .map { try Queries.author(db, $0) }
        }
    }
}
