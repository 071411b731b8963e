// SPDX-License-Identifier: Apache-2.0

/// One process of a node, as its neighbours tell it from earlier ones.
///
/// Membership and beacons take the higher one for the newer, as SWIM does. The high half counts
/// starts, the low half is random, so that two copies of one disk that both start do not collide.
/// Logs have a `Life` instead, which nobody compares.
public struct Incarnation: Hashable, Comparable, Sendable {
    /// `start counter << 32 | random`.
    public let value: UInt64

    /// Takes the number as it stands in a file or a message.
    public init(_ value: UInt64) { self.value = value }

    /// Joins a start counter and 32 random bits.
    public init(start: UInt32, random: UInt32) { value = UInt64(start) << 32 | UInt64(random) }

    /// How many times the node has begun anew.
    public var start: UInt32 { UInt32(truncatingIfNeeded: value >> 32) }

    /// Orders by start counter, then by chance.
    public static func < (lhs: Incarnation, rhs: Incarnation) -> Bool { lhs.value < rhs.value }
}
