// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// How far an earlier log of the same node was known where a life began.
package struct Inheritance: Hashable, Sendable {
    /// The earlier life.
    package let life: Life
    /// The last sequence of it that was known, at least 1.
    package let through: UInt64

    /// Names an inheritance.
    package init(life: Life, through: UInt64) {
        self.life = life
        self.through = through
    }
}

/// The lives of one node in one scope: which of its versions had seen which.
///
/// Lives are a tree, not a line. A life that was lost with a disk and comes back later from a peer
/// is a stranger to the one that began without it: neither covers the other, whatever their numbers
/// are. Each life names every earlier one that it knew, so what it knew does not hang on another
/// life, which a revocation may cut off. See the article `RecordFormat`.
package struct Lives: Hashable, Sendable {
    private var known: [Life: [Life: UInt64]] = [:]
    private var forks: [Life: UInt64] = [:]

    /// No life inherits anything.
    package init() {}

    /// The lives of a node by what the first commit of each says.
    ///
    /// - Parameter forks: from which place on a life is known to have been written twice.
    package init(_ firsts: [Life: [Inheritance]], forks: [Life: UInt64] = [:]) {
        for (life, list) in firsts { add(life, inherits: list) }
        self.forks = forks
    }

    /// Adds what the first commit of a life says.
    package mutating func add(_ life: Life, inherits list: [Inheritance]) {
        if list.isEmpty { return }
        known[life] = Dictionary(
            list.map { ($0.life, $0.through) }, uniquingKeysWith: max)
    }

    /// How far a life knew an earlier one when it began.
    package func through(_ earlier: Life, of life: Life) -> UInt64 {
        known[life]?[earlier] ?? 0
    }

    /// Whether whoever wrote at `later` had the place `earlier` behind it.
    ///
    /// - Returns: also true for a place itself; both are of this node.
    package func reaches(_ later: Dot, _ earlier: Dot) -> Bool {
        if later.author.life == earlier.author.life { return earlier.sequence <= later.sequence }
        return earlier.sequence <= through(earlier.author.life, of: later.author.life)
    }

    /// Whether the writer of `later` is known to have seen `earlier` without saying so.
    ///
    /// Where two machines wrote in one life, a later place may be of the one and an earlier of the
    /// other: neither had seen what the other wrote.
    package func isBehind(_ earlier: Dot, _ later: Dot) -> Bool {
        guard reaches(later, earlier) else { return false }
        return later.author.life != earlier.author.life || later == earlier
            || earlier.sequence < forks[earlier.author.life] ?? .max
    }
}

/// The lives of all nodes that matter to some versions of one scope.
package struct ScopeLives: Hashable, Sendable {
    private var nodes: [NodeID: Lives] = [:]

    /// Every node has had one life.
    package init() {}

    /// The lives of a node.
    package subscript(node node: NodeID) -> Lives {
        get { nodes[node] ?? Lives() }
        set { nodes[node] = newValue }
    }

    /// Whether a place is behind another, or is it: by its author's own word.
    package func reaches(_ later: Dot, _ earlier: Dot) -> Bool {
        guard later.author.node == earlier.author.node else { return false }
        if later.author.life == earlier.author.life { return earlier.sequence <= later.sequence }
        return nodes[later.author.node]?.reaches(later, earlier) ?? false
    }

    /// Whether the writer of `later` is known to have seen `earlier` without saying so.
    package func isBehind(_ earlier: Dot, _ later: Dot) -> Bool {
        guard later.author.node == earlier.author.node else { return false }
        return (nodes[later.author.node] ?? Lives()).isBehind(earlier, later)
    }
}
