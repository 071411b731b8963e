// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// The Merkle tree over the live records of one author in one scope.
///
/// Ordered by sequence, not by key: two sides that were apart differ in the tails, whatever keys
/// were written. The shape depends on the set alone, so equal sets have equal roots. Real hashes
/// with distinct prefixes, never XOR or a sum, which a writer who picks records can cancel. See
/// `Digests`.
package enum DigestTree {
    /// Sequences of one leaf.
    package static let leafSpan: UInt64 = 64
    /// Children of one inner node.
    package static let fanOut: UInt64 = 16
    /// Levels above the leaves that a sequence up to `Dot.sequenceMax` can need.
    package static let levelMax = 14

    /// The leaf that holds a sequence.
    package static func leaf(of sequence: UInt64) -> UInt64 { (sequence - 1) / leafSpan }

    /// The lowest level at which one node spans all sequences up to `frontier`.
    package static func height(of frontier: UInt64) -> Int {
        var level = 0
        var nodes = frontier == 0 ? 1 : leaf(of: frontier) + 1
        while nodes > 1 {
            nodes = (nodes + fanOut - 1) / fanOut
            level += 1
        }
        return level
    }

    /// The index of the last node of a level that a log up to `frontier` can have.
    package static func last(at level: Int, of frontier: UInt64) -> UInt64 {
        frontier == 0 ? 0 : leaf(of: frontier) >> UInt64(4 * level)
    }

    /// The hash of a leaf: its index, then the offset and identity of each live record, ascending.
    ///
    /// - Returns: zero for a leaf without live records.
    package static func hash(leaf: UInt64, records: [(offset: UInt8, id: Digest)]) -> Digest {
        if records.isEmpty { return .zero }
        var writer = WireWriter(reserving: 9 + 33 * records.count)
        writer.u8(0)
        writer.u64(leaf)
        for record in records {
            writer.u8(record.offset)
            writer.append(record.id)
        }
        return Blake2b.hash(writer.bytes)
    }

    /// The hash of an inner node from its sixteen children.
    ///
    /// A node at index 0 whose other children are empty is its first child: so a root does not
    /// change when the tree grows a level without a live record in it.
    package static func hash(index: UInt64, children: [Digest]) -> Digest {
        let isLeaning = index == 0 && children.dropFirst().allSatisfy { $0 == .zero }
        if isLeaning { return children.first ?? .zero }
        if children.allSatisfy({ $0 == .zero }) { return .zero }
        var writer = WireWriter(reserving: 1 + 32 * children.count)
        writer.u8(1)
        for child in children { writer.append(child) }
        return Blake2b.hash(writer.bytes)
    }
}

/// What a holder knows of one author's log in one scope.
package struct LogState: Hashable, Sendable {
    /// Whose log.
    package let author: Author
    /// Every sequence up to this one is known: live here, or superseded.
    package let frontier: UInt64
    /// The root of the author's digest tree.
    package let root: Digest

    /// Names a state.
    package init(author: Author, frontier: UInt64, root: Digest) {
        self.author = author
        self.frontier = frontier
        self.root = root
    }

    /// The hash by which two holders compare what they know of the log.
    package var hash: Digest {
        var writer = WireWriter(reserving: 81)
        writer.u8(2)
        writer.author(author)
        writer.u64(frontier)
        writer.append(root)
        return Blake2b.hash(writer.bytes)
    }
}
