// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// A scope's digest: its logs in a trie by the hash of their authors' names.
///
/// A scope that thirty thousand nodes write to is compared by descent, not by a list of its logs.
/// The trie is kept: a log that changed costs the few nodes above it, and a copy costs nothing,
/// since nodes are never changed.
package struct AuthorTrie: Sendable {
    /// A node with at most this many logs lists them.
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

        fileprivate func holds(_ key: UInt64) -> Bool {
            depth == 0 || (key ^ bits) >> UInt64(64 - 4 * depth) == 0
        }
    }

    fileprivate struct Entry: Sendable {
        let key: UInt64
        let state: LogState
        let hash: Digest

        init(_ state: LogState) {
            key = AuthorTrie.key(of: state.author)
            self.state = state
            hash = state.hash
        }

        func precedes(_ other: Entry) -> Bool {
            key != other.key ? key < other.key : state.author < other.state.author
        }
    }

    /// A node, never changed once it is made.
    private final class Node: Sendable {
        let count: Int
        let hash: Digest
        /// The logs of a bucket, in order; empty in an inner node.
        let entries: [Entry]
        /// The children of an inner node; empty in a bucket.
        let children: [Node?]

        init(bucket entries: [Entry]) {
            count = entries.count
            hash = AuthorTrie.hash(of: entries)
            self.entries = entries
            children = []
        }

        init(inner children: [Node?], count: Int) {
            self.count = count
            entries = []
            self.children = children
            hash = AuthorTrie.hash(of: children.map { $0?.hash ?? .zero })
        }

        var isBucket: Bool { children.isEmpty }

        var all: [Entry] { isBucket ? entries : children.flatMap { $0?.all ?? [] } }
    }

    private var top: Node?

    /// A scope without logs.
    package init() {}

    /// Builds the trie of a scope's logs.
    package init(_ states: [LogState]) {
        top = Self.build(states.map(Entry.init).sorted { $0.precedes($1) }[...], depth: 0)
    }

    private static func build(_ entries: ArraySlice<Entry>, depth: Int) -> Node? {
        if entries.isEmpty { return nil }
        if entries.count <= bucketMax || depth >= depthMax { return Node(bucket: Array(entries)) }
        var children = [Node?](repeating: nil, count: 16)
        var rest = entries
        for nibble in 0..<16 {
            let part = rest.prefix { Self.nibble(of: $0.key, at: depth) == nibble }
            rest = rest.dropFirst(part.count)
            children[nibble] = build(part, depth: depth + 1)
        }
        return Node(inner: children, count: entries.count)
    }

    fileprivate static func key(of author: Author) -> UInt64 {
        var writer = WireWriter(reserving: 41)
        writer.u8(3)
        writer.author(author)
        return Blake2b.hash(writer.bytes).array.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func nibble(of key: UInt64, at depth: Int) -> Int {
        Int(key >> UInt64(60 - 4 * depth) & 0xf)
    }

    // MARK: Changes

    /// How many logs there are.
    package var count: Int { top?.count ?? 0 }

    /// Notes what is known of a log now.
    package mutating func set(_ state: LogState) {
        let entry = Entry(state)
        top = Self.replacing(top, state.author, key: entry.key, by: entry, depth: 0)
    }

    /// Takes a log away.
    package mutating func remove(_ author: Author) {
        top = Self.replacing(top, author, key: Self.key(of: author), by: nil, depth: 0)
    }

    private static func replacing(
        _ node: Node?, _ author: Author, key: UInt64, by entry: Entry?, depth: Int
    ) -> Node? {
        guard let node else { return entry.map { Node(bucket: [$0]) } }
        if node.isBucket {
            var entries = node.entries.filter { $0.state.author != author }
            if let entry {
                let place = entries.firstIndex { entry.precedes($0) } ?? entries.count
                entries.insert(entry, at: place)
            }
            return build(entries[...], depth: depth)
        }
        let nibble = nibble(of: key, at: depth)
        let old = node.children[nibble]
        let new = replacing(old, author, key: key, by: entry, depth: depth + 1)
        var children = node.children
        children[nibble] = new
        let count = node.count - (old?.count ?? 0) + (new?.count ?? 0)
        let changed = Node(inner: children, count: count)
        return count <= bucketMax ? build(changed.all[...], depth: depth) : changed
    }

    // MARK: Reading

    /// What is known of a log; nil if nothing is.
    package func state(of author: Author) -> LogState? {
        let key = Self.key(of: author)
        var node = top
        var depth = 0
        while let inner = node, !inner.isBucket {
            node = inner.children[Self.nibble(of: key, at: depth)]
            depth += 1
        }
        return node?.entries.first { $0.state.author == author }?.state
    }

    /// Every log, in the trie's order.
    package var states: [LogState] { states(under: .root) }

    /// The logs below a node, in the trie's order.
    package func states(under path: Path) -> [LogState] { entries(path).map(\.state) }

    /// Whether a node lists its logs instead of having children.
    package func isBucket(_ path: Path) -> Bool {
        path.depth >= Self.depthMax || place(path).node?.isBucket ?? true
    }

    /// The hash of a node; zero without logs.
    package func hash(_ path: Path) -> Digest {
        let (node, isExact) = place(path)
        guard let node else { return .zero }
        return isExact ? node.hash : Self.hash(of: node.entries.filter { path.holds($0.key) })
    }

    /// The hashes of a node's sixteen children.
    package func children(_ path: Path) -> [Digest] { (0..<16).map { hash(path.child($0)) } }

    /// The digest of the scope: equal on two holders when they know the same of every log.
    package var root: Digest { top?.hash ?? .zero }

    /// The node at a path, or the bucket above it in which its logs stand.
    private func place(_ path: Path) -> (node: Node?, isExact: Bool) {
        var node = top
        for depth in 0..<path.depth {
            guard let inner = node else { return (nil, true) }
            if inner.isBucket { return (inner, false) }
            node = inner.children[Self.nibble(of: path.bits, at: depth)]
        }
        return (node, true)
    }

    private func entries(_ path: Path) -> [Entry] {
        let (node, isExact) = place(path)
        guard let node else { return [] }
        return isExact ? node.all : node.entries.filter { path.holds($0.key) }
    }

    fileprivate static func hash(of entries: [Entry]) -> Digest {
        if entries.isEmpty { return .zero }
        var writer = WireWriter(reserving: 1 + 32 * entries.count)
        writer.u8(4)
        for entry in entries { writer.append(entry.hash) }
        return Blake2b.hash(writer.bytes)
    }

    fileprivate static func hash(of children: [Digest]) -> Digest {
        var writer = WireWriter(reserving: 1 + 32 * children.count)
        writer.u8(5)
        for child in children { writer.append(child) }
        return Blake2b.hash(writer.bytes)
    }
}
