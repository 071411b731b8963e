// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshReplication

/// Computes the digest nodes above leaves that changed.
///
/// A write only marks its leaf; the hashes are computed when a comparison asks, for all the writes
/// since together. The writer stores the result, a reader lays it over the stored trees.
struct DigestRefresh {
    struct Place: Hashable, Comparable {
        let log: LogKey
        let level: Int
        let index: UInt64

        static func < (lhs: Place, rhs: Place) -> Bool {
            (lhs.log, lhs.level, lhs.index) < (rhs.log, rhs.level, rhs.index)
        }

        func sum(_ hash: Digest) -> UInt64 { Sums.node(log, level, index, hash) }
    }

    /// What a changed log is now; nil for one that is gone.
    struct Log {
        let frontier: UInt64
        let root: Digest
    }

    private(set) var hashes: [Place: Digest] = [:]
    private(set) var logs: [LogKey: Log?] = [:]

    /// Nothing has changed.
    init() {}

    /// Computes every changed node of the snapshot.
    init(_ db: Database) throws {
        var leaves: [LogKey: [UInt64]] = [:]
        try db.each("SELECT scope, author, leaf FROM dirty ORDER BY scope, author, leaf") { row in
            let log = LogKey(scope: row.int(0), author: row.int(1))
            leaves[log, default: []].append(row.sequence(2))
            return true
        }
        for (log, indices) in leaves { try refresh(db, log, indices) }
    }

    /// Stores the computed nodes and forgets what was marked.
    func persist(_ db: Database) throws {
        // In the order of the table: the same pages are written in every run, and each once.
        for (place, hash) in hashes.sorted(by: { $0.key < $1.key }) {
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
                    "INSERT OR REPLACE INTO node VALUES(?, ?, ?, ?, ?, ?)", key[0], key[1], key[2],
                    key[3], .fixed(hash), .bits(place.sum(hash)))
            }
        }
        for (log, state) in logs.sorted(by: { $0.key < $1.key }) {
            guard let state else {
                try db.run(
                    "DELETE FROM root WHERE scope = ? AND author = ?", .int(log.scope),
                    .int(log.author))
                continue
            }
            try db.run(
                "INSERT OR REPLACE INTO root VALUES(?, ?, ?, ?)", .int(log.scope),
                .int(log.author), .fixed(state.root), .bits(Sums.root(log, state.root)))
        }
        try db.run("DELETE FROM dirty")
    }

    private mutating func refresh(
        _ db: Database, _ log: LogKey, _ leaves: [UInt64]
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
        guard let frontier else { return logs[log] = .some(nil) }
        let top = Place(log: log, level: height, index: 0)
        let root = try hashes[top] ?? stored(db, top) ?? .zero
        logs[log] = Log(frontier: frontier, root: root)
    }

    /// The root alone, for a log whose root was lost.
    mutating func recompute(_ log: LogKey, _ frontier: UInt64, _ db: Database) throws {
        let height = DigestTree.height(of: frontier)
        let root =
            height == 0
            ? try Self.leafHash(db, log, 0)
            : DigestTree.hash(
                index: 0, children: try children(db, log, level: height, index: 0))
        logs[log] = Log(frontier: frontier, root: root)
    }

    static func leafHash(_ db: Database, _ log: LogKey, _ leaf: UInt64) throws -> Digest {
        DigestTree.hash(leaf: leaf, records: try live(db, log, leaf))
    }

    /// The live records of a leaf that nothing speaks against.
    static func live(
        _ db: Database, _ log: LogKey, _ leaf: UInt64
    ) throws -> [(offset: UInt8, id: Digest)] {
        let first = leaf * DigestTree.leafSpan + 1
        let range: [SQLValue] = [
            .int(log.scope), .int(log.author), .sequence(first),
            .sequence(first + DigestTree.leafSpan - 1),
        ]
        // A rotten index may lead to rows of another leaf.
        func offset(_ sequence: UInt64) -> UInt8? {
            sequence >= first && sequence - first < DigestTree.leafSpan
                ? UInt8(sequence - first) : nil
        }
        var records: [(offset: UInt8, id: Digest)] = []
        try db.each(
            """
            SELECT sequence, id FROM record WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ? AND gone IS NULL ORDER BY sequence
            """, list: range
        ) { row in
            if let offset = offset(row.sequence(0)) {
                records.append((offset, row.fixed(1) ?? .zero))
            }
            return true
        }
        var doubted: Set<UInt8> = []
        try db.each(
            """
            SELECT sequence FROM damage WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ?
            """, list: range
        ) { row in
            if let offset = offset(row.sequence(0)) { doubted.insert(offset) }
            return true
        }
        return doubted.isEmpty ? records : records.filter { !doubted.contains($0.offset) }
    }

    /// The sixteen children of a node, computed ones before stored ones.
    func children(
        _ db: Database, _ log: LogKey, level: Int, index: UInt64
    ) throws -> [Digest] {
        let first = index * DigestTree.fanOut
        var children = [Digest](repeating: .zero, count: Int(DigestTree.fanOut))
        var rotten: [Place] = []
        try db.each(
            """
            SELECT place, hash, sum FROM node WHERE scope = ? AND author = ? AND level = ?
            AND place BETWEEN ? AND ?
            """,
            list: [
                .int(log.scope), .int(log.author), .int(Int64(level - 1)), .sequence(first),
                .sequence(first + DigestTree.fanOut - 1),
            ]
        ) { row in
            let place = Place(log: log, level: level - 1, index: row.sequence(0))
            let hash = row.fixed(1) ?? Digest.zero
            guard place.index >= first, place.index - first < DigestTree.fanOut else { return true }
            children[Int(place.index - first)] = hash
            if place.sum(hash) != row.bits(2) { rotten.append(place) }
            return true
        }
        for place in rotten { children[Int(place.index - first)] = try computed(db, place) }
        if hashes.isEmpty { return children }
        for offset in children.indices {
            let place = Place(log: log, level: level - 1, index: first + UInt64(offset))
            if let hash = hashes[place] { children[offset] = hash }
        }
        return children
    }

    private func stored(_ db: Database, _ place: Place) throws -> Digest? {
        let row = try db.first(
            "SELECT hash, sum FROM node WHERE scope = ? AND author = ? AND level = ? AND place = ?",
            .int(place.log.scope), .int(place.log.author), .int(Int64(place.level)),
            .sequence(place.index)
        ) { (hash: $0.fixed(0) ?? Digest.zero, sum: $0.bits(1)) }
        guard let row else { return nil }
        return place.sum(row.hash) == row.sum ? row.hash : try computed(db, place)
    }

    /// What a node is by the level below it, where the stored one has rotted.
    private func computed(_ db: Database, _ place: Place) throws -> Digest {
        place.level == 0
            ? try Self.leafHash(db, place.log, place.index)
            : DigestTree.hash(
                index: place.index,
                children: try children(db, place.log, level: place.level, index: place.index))
    }
}

extension DigestRefresh {
    /// Computes the root of a log from the level below it.
    init(rootOf log: LogKey, _ db: Database) throws {
        self.init()
        let frontier = try db.first(
            "SELECT frontier FROM log WHERE scope = ? AND author = ?", .int(log.scope),
            .int(log.author)
        ) { $0.sequence(0) }
        guard let frontier else { return }
        try recompute(log, frontier, db)
    }
}
