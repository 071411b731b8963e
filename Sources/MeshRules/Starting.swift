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

    /// Describes what was left.
    package init(node: NodeID, life: Life, incarnation: Incarnation, epoch: [UInt8]) {
        self.node = node
        self.life = life
        self.incarnation = incarnation
        self.epoch = epoch
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

    /// Judges what was left.
    ///
    /// Each process writes in a life of its own and begins an epoch of the feed, so no place and no
    /// position means two things, whatever was copied, put back or lost while it was away. Nothing
    /// that a process could leave behind would prove that its tail is whole: what a clean stop
    /// leaves, on disk or in memory, comes back with the machine that is put back.
    ///
    /// - Parameters:
    ///   - stored: nil for an empty store.
    ///   - random: 24 bytes by chance.
    ///   - wall: milliseconds since 1970.
    ///   - memory: what a process remembers that was put back with the memory of its machine, and
    ///     so does not start at all; nil for every real start.
    package init(
        _ stored: StoredStart?, node: NodeID, random: [UInt8], wall: UInt64,
        memory: StoredStart? = nil
    ) {
        self.node = node
        if let memory {
            (life, incarnation, epoch) = (memory.life, memory.incarnation, memory.epoch)
            return
        }
        var reader = WireReader(random)
        life = Life((try? reader.u64()) ?? 0)
        epoch = (try? reader.take(8)) ?? []
        let chance = (try? reader.u32()) ?? 0
        incarnation = Self.following(stored?.incarnation, wall: wall, chance: chance)
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
