// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What the last process of a node left in its store.
package struct StoredStart: Sendable {
    /// Whose store it is.
    package let node: NodeID
    /// The life in which it wrote.
    package let life: Life
    /// The number that its neighbours knew it by.
    package let incarnation: Incarnation
    /// The epoch of its feed.
    package let epoch: [UInt8]
    /// The token of a clean stop; nil after any other end.
    package let token: [UInt8]?

    /// Describes what was left.
    package init(
        node: NodeID, life: Life, incarnation: Incarnation, epoch: [UInt8], token: [UInt8]?
    ) {
        self.node = node
        self.life = life
        self.incarnation = incarnation
        self.epoch = epoch
        self.token = token
    }
}

/// How a new process goes on.
package struct StartDecision: Hashable, Sendable {
    /// Whose store it is.
    package let node: NodeID
    /// The life in which it writes.
    package let life: Life
    /// The number that its neighbours know it by.
    package let incarnation: Incarnation
    /// The epoch of its feed.
    package let epoch: [UInt8]
    /// Whether the tail of its logs is proven whole.
    package let isProven: Bool

    /// Judges what was left.
    ///
    /// The tail is proven whole only by a clean stop whose token still lies outside the data
    /// directory, in memory: it goes with a reboot, and is taken away before the first write. Any
    /// other start, a restored image or a copy among them, begins a new life and a new epoch of the
    /// feed, so that no place and no position means two things.
    ///
    /// - Parameters:
    ///   - stored: nil for an empty store.
    ///   - token: what lay outside.
    ///   - random: 24 bytes by chance.
    ///   - wall: milliseconds since 1970.
    package init(
        _ stored: StoredStart?, node: NodeID, token: [UInt8]?, random: [UInt8], wall: UInt64
    ) {
        var reader = WireReader(random)
        let newLife = Life((try? reader.u64()) ?? 0)
        let newEpoch = (try? reader.take(8)) ?? []
        let chance = (try? reader.u32()) ?? 0
        self.node = node
        isProven = token != nil && stored?.token == token
        if isProven, let stored {
            life = stored.life
            incarnation = stored.incarnation
            epoch = stored.epoch
        } else {
            life = newLife
            incarnation = Self.following(stored?.incarnation, wall: wall, chance: chance)
            epoch = newEpoch
        }
    }

    /// A node that lost its store does not know how often it started. The clock's seconds are
    /// higher than any count of starts; where the clock is wrong, peers tell of the higher
    /// number.
    private static func following(
        _ last: Incarnation?, wall: UInt64, chance: UInt32
    ) -> Incarnation {
        let next = last.map { $0.start == .max ? .max : $0.start + 1 } ?? 1
        return Incarnation(start: max(next, UInt32(clamping: wall / 1000)), random: chance)
    }
}
