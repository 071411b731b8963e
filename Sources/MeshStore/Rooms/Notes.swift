// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import GRDBSQLite
internal import Glibc
package import MeshCore
package import MeshTrust
internal import Synchronization

/// A room of its own for what is kept beside the records: where nodes were last met, the words with
/// which they left, the hashes of apps' tokens.
///
/// None of it is replicated or part of a digest. What cannot be read any more is not there: a hint
/// that is lost is found again, a token that is lost is made anew.
package final class Notes: Sendable {
    /// What a note is about.
    package enum Kind: String, Sendable {
        /// Where a node was last met.
        case address
        /// The words with which a node left.
        case departure
        /// The node that was the first to be seen with a ticket.
        case ticket
        /// An app's token.
        case token
        /// How far the scrub has come.
        case scrub
        /// The key of another server's sealed records, by that server and the key's name.
        case deposit
    }

    /// Nil once the room is closed: GRDB reads through a null pointer then.
    private let queue: Mutex<DatabaseQueue?>

    /// Opens or creates the room; what is there and no database any more is put aside.
    package init(path: String) throws(StoreError) {
        do {
            do { queue = Mutex(try Self.open(path)) } catch {
                guard case .database(let code, _) = StoreError(error),
                    [SQLITE_CORRUPT, SQLITE_NOTADB].contains(code & 0xff)
                else { throw error }
                try Self.putAside(path)
                queue = Mutex(try Self.open(path))
            }
        } catch {
            throw StoreError(error)
        }
    }

    private static func open(_ path: String) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA cache_size = -256")
        }
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        do {
            try queue.write { db in
                try db.execute(
                    sql: """
                        CREATE TABLE IF NOT EXISTS note(kind TEXT, name BLOB, value BLOB NOT NULL,
                        PRIMARY KEY(kind, name)) WITHOUT ROWID
                        """)
            }
        } catch  where StoreError(error) == .diskFull {
            // What is there is read; what is not waits for room.
        }
        return queue
    }

    private static func putAside(_ path: String) throws {
        let moved = path.withCString { old in
            (path + "-damaged").withCString { new in rename(old, new) }
        }
        guard moved == 0 else { throw StoreError.unusable("\(path) is damaged and stays") }
    }

    /// Keeps a note; nil takes it away.
    package func keep(_ kind: Kind, _ name: [UInt8], _ value: [UInt8]?) throws {
        try opened { queue in
            try queue.write { db in
                guard let value else {
                    return try db.run(
                        "DELETE FROM note WHERE kind = ? AND name = ?", .text(kind.rawValue),
                        .bytes(name))
                }
                try db.run(
                    "INSERT OR REPLACE INTO note VALUES(?, ?, ?)", .text(kind.rawValue),
                    .bytes(name), .bytes(value))
            }
        }
    }

    /// Keeps a note where there is none of that name.
    package func keepFirst(_ kind: Kind, _ name: [UInt8], _ value: [UInt8]) throws {
        try opened { queue in
            try queue.write { db in
                try db.run(
                    "INSERT OR IGNORE INTO note VALUES(?, ?, ?)", .text(kind.rawValue),
                    .bytes(name), .bytes(value))
            }
        }
    }

    /// The notes of a kind, by name.
    package func all(_ kind: Kind) throws -> [(name: [UInt8], value: [UInt8])] {
        try opened { queue in
            try queue.read { db in
                guard try db.tableExists("note") else { return [] }
                return try db.rows(
                    "SELECT name, value FROM note WHERE kind = ? ORDER BY name LIMIT ?",
                    .text(kind.rawValue), .int(Int64(StoreLimits.notes))
                ) { ($0.bytes(0), $0.bytes(1)) }
            }
        }
    }

    /// The notes of a kind whose names begin so.
    package func all(
        _ kind: Kind, of prefix: [UInt8]
    ) throws -> [(name: [UInt8], value: [UInt8])] {
        try opened { queue in
            try queue.read { db in
                guard try db.tableExists("note") else { return [] }
                return try db.rows(
                    """
                    SELECT name, value FROM note WHERE kind = ?1 AND name >= ?2
                    AND substr(name, 1, ?3) = ?2 ORDER BY name LIMIT ?4
                    """, .text(kind.rawValue), .bytes(prefix), .int(Int64(prefix.count)),
                    .int(Int64(StoreLimits.notesOfOne))
                ) { ($0.bytes(0), $0.bytes(1)) }
            }
        }
    }

    private func opened<T>(_ body: (DatabaseQueue) throws -> T) throws -> T {
        do {
            return try queue.withLock { queue in
                guard let queue else { throw StoreError.closed }
                return try body(queue)
            }
        } catch { throw StoreError(error) }
    }

    func close() {
        queue.withLock { queue in
            try? queue?.close()
            queue = nil
        }
    }
}

extension Store {
    /// Keeps where a node was last met.
    package func remember(_ node: NodeID, at address: Address) throws {
        try notes.keep(.address, node.array, Array(address.description.utf8))
    }

    /// Where nodes were last met.
    package func addresses() throws -> [NodeID: Address] {
        try named(.address).compactMapValues { Address(String(decoding: $0, as: UTF8.self)) }
    }

    /// Keeps the words with which a node left; nil if it is back.
    package func depart(_ node: NodeID, words: [UInt8]?) throws {
        try notes.keep(.departure, node.array, words)
    }

    /// The words of nodes that left.
    package func departures() throws -> [NodeID: [UInt8]] { try named(.departure) }

    /// Keeps that a node was seen with a ticket, unless another was before.
    package func noteUse(_ card: Certificate) throws {
        try notes.keepFirst(.ticket, card.ticket.serial, card.node.array)
    }

    /// The node that was the first to be seen with each ticket, by serial.
    package func firstUses() throws -> [[UInt8]: NodeID] {
        let notes = try notes.all(.ticket).compactMap { note in
            NodeID(note.value).map { (note.name, $0) }
        }
        return Dictionary(notes, uniquingKeysWith: { first, _ in first })
    }

    private func named(_ kind: Notes.Kind) throws -> [NodeID: [UInt8]] {
        let notes = try notes.all(kind).compactMap { note in
            NodeID(note.name).map { ($0, note.value) }
        }
        return Dictionary(notes, uniquingKeysWith: { first, _ in first })
    }
}
