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

/// A scope's digest: the authors of a scope in a trie by the hash of their names.
///
/// A scope that thirty thousand nodes write to is compared by descent, not by a list of its
/// authors.
package struct AuthorTrie: Sendable {
    /// A node with at most this many authors lists them.
    package static let bucketMax = 32
    /// Deepest node; two authors share this many nibbles of a hash only by chance of 2^-64.
    package static let depthMax = 16

    /// The path to a node: nibbles from the root.
    package struct Path: Hashable, Sendable {
        /// How many nibbles.
        package let depth: Int
        /// The nibbles, from the highest bits on.
        package let bits: UInt64

        /// The root's path.
        package static let root = Path(depth: 0, bits: 0)

        /// Names a path; the bits below `depth` nibbles are zero.
        package init(depth: Int, bits: UInt64) {
            self.depth = depth
            self.bits = bits
        }

        /// The path of a child.
        package func child(_ nibble: Int) -> Path {
            Path(depth: depth + 1, bits: bits | UInt64(nibble) << UInt64(60 - 4 * depth))
        }

        var range: ClosedRange<UInt64> {
            let free = depth == 0 ? UInt64.max : (UInt64(1) << UInt64(64 - 4 * depth)) - 1
            return depth >= 16 ? bits...bits : bits...(bits | free)
        }
    }

    private let entries: [(key: UInt64, state: LogState)]

    /// Builds the trie of a scope's logs.
    package init(_ states: [LogState]) {
        entries = states.map { (Self.key(of: $0.author), $0) }
            .sorted { ($0.key, $0.state.author) < ($1.key, $1.state.author) }
    }

    private static func key(of author: Author) -> UInt64 {
        var writer = WireWriter(reserving: 41)
        writer.u8(3)
        writer.author(author)
        return Blake2b.hash(writer.bytes).array.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The logs below a node, in the trie's order.
    package func states(under path: Path) -> [LogState] { slice(path).map(\.state) }

    private func slice(_ path: Path) -> ArraySlice<(key: UInt64, state: LogState)> {
        let range = path.range
        let low = entries.partitionPoint { $0.key >= range.lowerBound }
        let high = entries.partitionPoint { $0.key > range.upperBound }
        return entries[low..<high]
    }

    /// Whether a node lists its authors instead of having children.
    package func isBucket(_ path: Path) -> Bool {
        path.depth >= Self.depthMax || slice(path).count <= Self.bucketMax
    }

    /// The hash of a node; zero without authors.
    package func hash(_ path: Path) -> Digest {
        let below = slice(path)
        if below.isEmpty { return .zero }
        var writer = WireWriter()
        if isBucket(path) {
            writer.u8(4)
            for entry in below { writer.append(entry.state.hash) }
        } else {
            writer.u8(5)
            for child in children(path) { writer.append(child) }
        }
        return Blake2b.hash(writer.bytes)
    }

    /// The hashes of a node's sixteen children.
    package func children(_ path: Path) -> [Digest] { (0..<16).map { hash(path.child($0)) } }

    /// The digest of the scope: equal on two holders when they know the same of every log.
    package var root: Digest { hash(.root) }
}

extension Array {
    /// The first index whose element satisfies a predicate that never turns false again.
    fileprivate func partitionPoint(_ predicate: (Element) -> Bool) -> Int {
        var low = startIndex
        var high = endIndex
        while low < high {
            let middle = low + (high - low) / 2
            if predicate(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
