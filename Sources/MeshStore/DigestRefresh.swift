// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshReplication

/// Computes the digest nodes above leaves that changed.
///
/// A write only marks its leaf; the hashes are computed when a comparison asks, for all the writes
/// since together. The writer stores the result, a reader lays it over the stored trees.
struct DigestRefresh {
    struct Place: Hashable {
        let log: Writer.LogKey
        let level: Int
        let index: UInt64
    }

    private(set) var hashes: [Place: Digest] = [:]
    private(set) var roots: [Writer.LogKey: Digest] = [:]

    /// Computes every changed node of the snapshot.
    init(_ db: Database) throws {
        var leaves: [Writer.LogKey: [UInt64]] = [:]
        try db.each("SELECT scope, author, leaf FROM dirty ORDER BY scope, author, leaf") { row in
            let log = Writer.LogKey(scope: row.int(0), author: row.int(1))
            leaves[log, default: []].append(row.sequence(2))
            return true
        }
        for (log, indices) in leaves { try refresh(db, log, indices) }
    }

    /// Stores the computed nodes and forgets what was marked.
    static func persist(_ db: Database) throws {
        let refresh = try DigestRefresh(db)
        for (place, hash) in refresh.hashes {
            let key: [SQLValue] = [
                .int(place.log.scope), .int(place.log.author), .int(Int64(place.level)),
                .sequence(place.index),
            ]
            if hash == .zero {
                try db.run(
                    "DELETE FROM node WHERE scope = ? AND author = ? AND level = ? AND place = ?",
                    key[0], key[1], key[2], key[3])
            } else {
                try db.run(
                    "INSERT OR REPLACE INTO node VALUES(?, ?, ?, ?, ?)", key[0], key[1], key[2],
                    key[3], .digest(hash))
            }
        }
        for (log, root) in refresh.roots {
            try db.run(
                "UPDATE log SET root = ? WHERE scope = ? AND author = ?", .digest(root),
                .int(log.scope), .int(log.author))
        }
        try db.run("DELETE FROM dirty")
    }

    private mutating func refresh(
        _ db: Database, _ log: Writer.LogKey, _ leaves: [UInt64]
    ) throws {
        for leaf in leaves {
            hashes[Place(log: log, level: 0, index: leaf)] = try Self.leafHash(db, log, leaf)
        }
        let frontier = try db.first(
            "SELECT frontier FROM log WHERE scope = ? AND author = ?", .int(log.scope),
            .int(log.author)
        ) { $0.sequence(0) }
        // What lies beyond a gap is in leaves above the frontier: the nodes over them are computed
        // now, since nothing marks them when the frontier arrives there.
        let height = DigestTree.height(of: frontier ?? 0)
        let last = leaves.last ?? 0
        let highest = DigestTree.height(of: max(frontier ?? 0, (last + 1) * DigestTree.leafSpan))
        var changed = leaves
        for level in stride(from: 1, through: highest, by: 1) {
            // The leftmost node of each level too: a lower tree did not need it.
            var parents: [UInt64] = [0]
            for index in changed where parents.last != index / DigestTree.fanOut {
                parents.append(index / DigestTree.fanOut)
            }
            for parent in parents {
                let children = try children(db, log, level: level, index: parent)
                hashes[Place(log: log, level: level, index: parent)] =
                    DigestTree.hash(index: parent, children: children)
            }
            changed = parents
        }
        let top = Place(log: log, level: height, index: 0)
        roots[log] = try hashes[top] ?? Self.stored(db, top) ?? .zero
    }

    static func leafHash(_ db: Database, _ log: Writer.LogKey, _ leaf: UInt64) throws -> Digest {
        let first = leaf * DigestTree.leafSpan + 1
        let records = try db.rows(
            """
            SELECT sequence, id FROM record WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ? ORDER BY sequence
            """, .int(log.scope), .int(log.author), .sequence(first),
            .sequence(first + DigestTree.leafSpan - 1)
        ) { (offset: UInt8($0.sequence(0) - first), id: $0.digest(1) ?? .zero) }
        return DigestTree.hash(leaf: leaf, records: records)
    }

    /// The sixteen children of a node, computed ones before stored ones.
    func children(
        _ db: Database, _ log: Writer.LogKey, level: Int, index: UInt64
    ) throws -> [Digest] {
        let first = index * DigestTree.fanOut
        var children = [Digest](repeating: .zero, count: Int(DigestTree.fanOut))
        try db.each(
            """
            SELECT place, hash FROM node WHERE scope = ? AND author = ? AND level = ?
            AND place BETWEEN ? AND ?
            """, .int(log.scope), .int(log.author), .int(Int64(level - 1)), .sequence(first),
            .sequence(first + DigestTree.fanOut - 1)
        ) { row in
            children[Int(row.sequence(0) - first)] = row.digest(1) ?? .zero
            return true
        }
        if hashes.isEmpty { return children }
        for offset in children.indices {
            let place = Place(log: log, level: level - 1, index: first + UInt64(offset))
            if let hash = hashes[place] { children[offset] = hash }
        }
        return children
    }

    private static func stored(_ db: Database, _ place: Place) throws -> Digest? {
        try db.first(
            "SELECT hash FROM node WHERE scope = ? AND author = ? AND level = ? AND place = ?",
            .int(place.log.scope), .int(place.log.author), .int(Int64(place.level)),
            .sequence(place.index)
        ) { $0.digest(0) } ?? nil
    }
}

/// The digests of one read transaction, for a comparison with a peer.
final class SnapshotIndex: RecordIndex {
    private let db: Database
    private let overlay: DigestRefresh
    private var scopeIDs: [Scope: Int64] = [:]
    private var authorIDs: [Author: Int64] = [:]
    private var known: [Scope: [LogState]] = [:]

    init(_ db: Database) throws {
        self.db = db
        overlay = try DigestRefresh(db)
    }

    func scopes() throws -> [Scope] {
        try db.rows(
            "SELECT name FROM scope WHERE EXISTS (SELECT 1 FROM log WHERE log.scope = scope.id)"
        ) { Scope($0.text(0)) }.compactMap { $0 }.sorted()
    }

    func logs(of scope: Scope) throws -> [LogState] {
        if let states = known[scope] { return states }
        guard let id = try scopeID(scope) else { return [] }
        let states = try db.rows(
            """
            SELECT node, incarnation, frontier, root, author.id FROM log
            JOIN author ON author.id = log.author WHERE scope = ?
            """, .int(id)
        ) { row in
            let author = Author(
                node: row.digest(0) ?? .zero,
                incarnation: Incarnation(UInt64(bitPattern: row.int(1))))
            authorIDs[author] = row.int(4)
            let log = Writer.LogKey(scope: id, author: row.int(4))
            return LogState(
                author: author, frontier: row.sequence(2),
                root: overlay.roots[log] ?? row.digest(3) ?? .zero)
        }
        known[scope] = states
        return states
    }

    func children(
        of author: Author, in scope: Scope, level: Int, index: UInt64
    ) throws -> [Digest] {
        guard let log = try log(author, scope) else {
            return [Digest](repeating: .zero, count: Int(DigestTree.fanOut))
        }
        return try overlay.children(db, log, level: level, index: index)
    }

    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) throws -> LeafBits {
        guard let log = try log(author, scope) else { return LeafBits() }
        let first = leaf * DigestTree.leafSpan + 1
        var bits: UInt64 = 0
        try db.each(
            """
            SELECT sequence FROM record WHERE scope = ? AND author = ? AND sequence BETWEEN ? AND ?
            """, .int(log.scope), .int(log.author), .sequence(first),
            .sequence(first + DigestTree.leafSpan - 1)
        ) { row in
            bits |= 1 << (row.sequence(0) - first)
            return true
        }
        return LeafBits(bits)
    }

    private func scopeID(_ scope: Scope) throws -> Int64? {
        if let id = scopeIDs[scope] { return id }
        let id = try Queries.scopeID(db, scope)
        scopeIDs[scope] = id
        return id
    }

    private func log(_ author: Author, _ scope: Scope) throws -> Writer.LogKey? {
        guard let scopeID = try scopeID(scope) else { return nil }
        if let id = authorIDs[author] { return Writer.LogKey(scope: scopeID, author: id) }
        guard let id = try Queries.authorID(db, author) else { return nil }
        authorIDs[author] = id
        return Writer.LogKey(scope: scopeID, author: id)
    }
}
