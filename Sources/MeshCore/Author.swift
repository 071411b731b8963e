// SPDX-License-Identifier: Apache-2.0

/// One life of a node's logs.
///
/// A node that cannot prove that the tail of its own log is whole starts a new incarnation, so that
/// a sequence number is never used twice. The high half counts starts, the low half is random: two
/// copies of one disk that both start again do not collide.
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

/// A node in one incarnation: the writer of one log in each scope.
public struct Author: Hashable, Comparable, Sendable {
    /// Bytes of an author on the wire: the node's key, then the incarnation.
    public static let byteCount = 40

    /// The node that signs.
    public let node: NodeID
    /// Which life of it.
    public let incarnation: Incarnation

    /// Names an author.
    public init(node: NodeID, incarnation: Incarnation) {
        self.node = node
        self.incarnation = incarnation
    }

    /// Orders by node, then by incarnation.
    public static func < (lhs: Author, rhs: Author) -> Bool {
        lhs.node != rhs.node ? lhs.node < rhs.node : lhs.incarnation < rhs.incarnation
    }
}

extension Author: CustomStringConvertible {
    /// Short form for logs: eight digits of the node, then the incarnation in hexadecimal.
    public var description: String {
        "\(node.description.prefix(8)).\(String(incarnation.value, radix: 16))"
    }
}

/// The place of one record in its author's log: no two records of a scope share it.
public struct Dot: Hashable, Comparable, Sendable {
    /// Sequences above this are refused in every encoding, so that arithmetic on them cannot
    /// overflow.
    public static let sequenceMax: UInt64 = 1 << 62

    /// Whose log.
    public let author: Author
    /// The position in it, from 1.
    public let sequence: UInt64

    /// Names a place.
    public init(author: Author, sequence: UInt64) {
        self.author = author
        self.sequence = sequence
    }

    /// Orders by author, then by sequence.
    public static func < (lhs: Dot, rhs: Dot) -> Bool {
        lhs.author != rhs.author ? lhs.author < rhs.author : lhs.sequence < rhs.sequence
    }
}

extension Dot: CustomStringConvertible {
    /// The author and the place, for logs.
    public var description: String { "\(author):\(sequence)" }
}
