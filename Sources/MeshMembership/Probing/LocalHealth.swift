// SPDX-License-Identifier: Apache-2.0

/// How far this node trusts itself: one that is slow must not find fault with others.
///
/// Source: Lifeguard, §IV-A.
struct LocalHealth: Sendable {
    /// Zero where this node is well; each point makes it more patient with others.
    private(set) var score = 0
    private let most: Int

    init(most: Int) { self.most = most }

    /// Good signs take points away, bad ones add some.
    mutating func adjust(by points: Int) { score = min(max(0, score + points), most) }

    /// This node has missed much, by its own fault.
    mutating func doubt() { score = most }

    /// How long this node waits where one that is well waits for `pause`.
    func patient(_ pause: Duration) -> Duration { pause * (1 + score) }
}
