// SPDX-License-Identifier: Apache-2.0

/// One life of a node's logs.
///
/// A node that cannot prove that the tail of its own logs is whole begins a new life, so that a
/// sequence is never used twice. The number is drawn by chance and only has to be new: no rule
/// compares the numbers of two lives, so no clock decides which of them counts. What a life knew of
/// the node's earlier ones stands in its first commit of each scope (`Inheritance`).
public struct Life: Hashable, Comparable, Sendable {
    /// The number.
    public let value: UInt64

    /// Takes the number as it stands in a file or a message.
    public init(_ value: UInt64) { self.value = value }

    /// An order for lists that have one encoding; it says nothing about time.
    public static func < (lhs: Life, rhs: Life) -> Bool { lhs.value < rhs.value }
}

extension Life: CustomStringConvertible {
    /// Hexadecimal.
    public var description: String { String(value, radix: 16) }
}

/// A node in one life: the writer of one log in each scope.
public struct Author: Hashable, Comparable, Sendable {
    /// Bytes of an author on the wire: the node's key, then the life.
    public static let byteCount = 40

    /// The node that signs.
    public let node: NodeID
    /// Which life of it.
    public let life: Life

    /// Names an author.
    public init(node: NodeID, life: Life) {
        self.node = node
        self.life = life
    }

    /// Orders by node, then by the life's number.
    public static func < (lhs: Author, rhs: Author) -> Bool {
        lhs.node != rhs.node ? lhs.node < rhs.node : lhs.life < rhs.life
    }
}

extension Author: CustomStringConvertible {
    /// Short form for logs: eight digits of the node, then the life in hexadecimal.
    public var description: String { "\(node.description.prefix(8)).\(life)" }
}

/// One author's log in one scope.
public struct LogName: Hashable, Comparable, Sendable {
    /// Where.
    public let scope: Scope
    /// Whose.
    public let author: Author

    /// Names a log.
    public init(scope: Scope, author: Author) {
        self.scope = scope
        self.author = author
    }

    /// Orders by scope, then by author.
    public static func < (lhs: LogName, rhs: LogName) -> Bool {
        lhs.scope != rhs.scope ? lhs.scope < rhs.scope : lhs.author < rhs.author
    }
}

extension LogName: CustomStringConvertible {
    /// `orders@site/s12 of 1f2e3d4c.7`.
    public var description: String { "\(scope) of \(author)" }
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
