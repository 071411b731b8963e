// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshReplication

/// The leaves of digest trees that changed since the trees were computed: in the table `dirty`, and
/// in memory so that most writes, which fall in a leaf that is marked already, cost no statement.
struct DirtyLeaves {
    private struct Leaf: Hashable {
        let log: LogKey
        let leaf: UInt64
    }

    private var marked: Set<Leaf> = []
    private var last: Leaf?
    /// Changed leaves since digests were brought up to date.
    private(set) var count: Int

    /// Begins with what the table holds.
    init(count: Int) { self.count = count }

    /// The digests are up to date.
    mutating func clear() { self = DirtyLeaves(count: 0) }

    /// Forgets what a rollback has undone, or what was mended beside it.
    mutating func forget() { self = DirtyLeaves(count: max(count, 1)) }

    /// Keeps what is remembered between transactions within its limit.
    mutating func trim() {
        if marked.count > 16 * StoreLimits.cached { self = DirtyLeaves(count: count) }
    }

    mutating func mark(_ log: LogKey, _ range: ClosedRange<UInt64>, _ db: Database) throws {
        // The numbers of a rotten row may be any.
        let first = DigestTree.leaf(of: max(range.lowerBound, 1))
        for leaf in first...DigestTree.leaf(of: max(range.upperBound, 1)) {
            try mark(log, leaf * DigestTree.leafSpan + 1, db)
        }
    }

    mutating func mark(_ log: LogKey, _ sequence: UInt64, _ db: Database) throws {
        let leaf = Leaf(log: log, leaf: DigestTree.leaf(of: max(sequence, 1)))
        // Most writes follow each other, and fall in the leaf of the one before.
        if leaf == last { return }
        last = leaf
        guard marked.insert(leaf).inserted else { return }
        count += 1
        try db.run(
            "INSERT OR IGNORE INTO dirty VALUES(?, ?, ?)", .int(log.scope), .int(log.author),
            .sequence(leaf.leaf))
    }
}
