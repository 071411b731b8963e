// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
internal import MeshReplication

/// Who superseded a record, for which the record is kept: each class has room of its own, so that
/// none can push out another.
package enum UndoClass: UInt8, CaseIterable, Sendable {
    /// Another node.
    case others = 0
    /// The record's own node.
    case own = 1
    /// Anybody, in a namespace of the mesh itself.
    case mesh = 2

    /// What is kept of it at most.
    package var room: UndoUsage {
        switch self {
        case .others: UndoUsage(rows: 80_000, bytes: 48 << 20)
        case .own: UndoUsage(rows: 20_000, bytes: 16 << 20)
        case .mesh: UndoUsage(rows: 512, bytes: 4 << 20)
        }
    }
}

/// The share of a class's room that two nodes have: who wrote the records, and who superseded them.
///
/// Where the room is full, whoever has most of it makes way. So two stolen servers that overwrite
/// each other without end push out what they have piled up themselves, and nothing of a pair that
/// has less than its part of the room. Lives do not count: a node can begin as many as it likes.
package struct UndoShare: Hashable, Sendable {
    /// The class.
    package let undo: UndoClass
    /// Names the two, in 60 bits of a hash: nobody makes up a node that shares another's.
    private let pair: UInt64

    /// The share in which a record is kept.
    init(_ scope: Scope, of old: Dot, by new: Dot) {
        let (author, by) = (old.author.node, new.author.node)
        if scope.namespace.hasPrefix("_") {
            undo = .mesh
        } else {
            undo = author == by ? .own : .others
        }
        let hash = Blake2b.hash(author.array + by.array).array
        pair = hash.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } & Self.pairMask
    }

    /// As a number: the class in the bits above the pair's.
    package var number: Int64 { Int64(UInt64(undo.rawValue) << Self.pairBits | pair) }

    /// Reads the number; what has rotted is taken to be of the class that is trimmed first.
    package init(number: Int64) {
        let bits = UInt64(bitPattern: number)
        undo = UndoClass(rawValue: UInt8(truncatingIfNeeded: bits >> Self.pairBits)) ?? .own
        pair = bits & Self.pairMask
    }

    private static let pairBits: UInt64 = 60
    private static let pairMask: UInt64 = (1 << pairBits) - 1
}

/// A superseded record that is kept for the day that what superseded it is gone.
package struct KeptVersion: Sendable {
    /// Where.
    package let scope: Scope
    /// The record.
    package let held: HeldVersion

    /// Describes a record.
    package init(scope: Scope, held: HeldVersion) {
        self.scope = scope
        self.held = held
    }
}

/// A superseded record as trimming sees it.
package struct KeptPlace: Sendable {
    /// Its log.
    package let log: LogName
    /// Its place there.
    package let sequence: UInt64
    /// Its identity.
    package let id: Digest
    /// For whom it is kept.
    package let share: UndoShare
    /// How long it is.
    package let byteCount: Int

    /// Describes a place.
    package init(log: LogName, sequence: UInt64, id: Digest, share: UndoShare, byteCount: Int) {
        self.log = log
        self.sequence = sequence
        self.id = id
        self.share = share
        self.byteCount = byteCount
    }
}

/// How much of one class or share is kept.
package struct UndoUsage: Hashable, Sendable {
    /// Records.
    package var rows: Int
    /// Their bytes.
    package var bytes: Int

    /// Describes what is kept.
    package init(rows: Int = 0, bytes: Int = 0) {
        self.rows = rows
        self.bytes = bytes
    }
}
