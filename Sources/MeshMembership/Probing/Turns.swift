// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Whose turn it is to be asked: all members of the site, in a new random order each time (SWIM,
/// §4.3).
struct Turns: Sendable {
    private var left: [NodeID] = []

    /// The next member; nil after the last of them.
    mutating func next() -> NodeID? { left.popLast() }

    /// All members have their turn again.
    ///
    /// - Parameter members: those of the site, in a fixed order.
    mutating func begin(_ members: [NodeID], _ entropy: inout SeededGenerator) {
        left = members
        left.shuffle(using: &entropy)
    }
}
