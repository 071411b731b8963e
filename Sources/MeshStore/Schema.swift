// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import GRDB
internal import GRDBSQLite
internal import MeshReplication

/// The tables, and the settings under which SQLite keeps its promises.
///
/// Records lie in the order of arrival, which for each log is its own order; `record_dot` finds
/// them by author and sequence, `record_key` by key. `node` holds the digest trees, `dirty` the
/// leaves that changed since. Everything about one write changes in one transaction.
enum Schema {
    /// Counts changes of the layout; kept in `PRAGMA user_version`.
    static let version = 4

    private static let tables = """
        CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
        CREATE TABLE scope(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
        CREATE TABLE author(id INTEGER PRIMARY KEY, node BLOB NOT NULL, incarnation INTEGER NOT NULL,
            UNIQUE(node, incarnation));
        CREATE TABLE log(scope INTEGER, author INTEGER, frontier INTEGER NOT NULL,
            header BLOB, signature BLOB, head BLOB, root BLOB NOT NULL,
            PRIMARY KEY(scope, author)) WITHOUT ROWID;
        CREATE TABLE batch(scope INTEGER, author INTEGER, first INTEGER, last INTEGER NOT NULL,
            header BLOB NOT NULL, signature BLOB NOT NULL, proof BLOB NOT NULL,
            PRIMARY KEY(scope, author, first)) WITHOUT ROWID;
        CREATE TABLE record(arrival INTEGER PRIMARY KEY, scope INTEGER NOT NULL,
            author INTEGER NOT NULL, sequence INTEGER NOT NULL, key TEXT NOT NULL,
            id BLOB NOT NULL, bytes BLOB NOT NULL);
        CREATE UNIQUE INDEX record_dot ON record(scope, author, sequence);
        CREATE INDEX record_key ON record(scope, key);
        CREATE TABLE node(scope INTEGER, author INTEGER, level INTEGER, place INTEGER,
            hash BLOB NOT NULL, PRIMARY KEY(scope, author, level, place)) WITHOUT ROWID;
        CREATE TABLE dirty(scope INTEGER, author INTEGER, leaf INTEGER,
            PRIMARY KEY(scope, author, leaf)) WITHOUT ROWID;
        CREATE TABLE damage(scope INTEGER, author INTEGER, sequence INTEGER,
            PRIMARY KEY(scope, author, sequence)) WITHOUT ROWID;
        CREATE TABLE evidence(id INTEGER PRIMARY KEY, scope INTEGER NOT NULL,
            author INTEGER NOT NULL, header BLOB NOT NULL, signature BLOB NOT NULL,
            UNIQUE(scope, author, header));
        CREATE TABLE certificate(node BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE idempotency(name TEXT PRIMARY KEY, request BLOB NOT NULL,
            receipt BLOB NOT NULL, stamp INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE token(name TEXT PRIMARY KEY, hash BLOB NOT NULL, allow TEXT NOT NULL,
            created INTEGER NOT NULL) WITHOUT ROWID;
        """

    /// Since version 2: where nodes were last met.
    private static let addresses =
        "CREATE TABLE address(node BLOB PRIMARY KEY, address TEXT NOT NULL) WITHOUT ROWID"

    /// Since version 3: the words with which nodes left.
    private static let departures =
        "CREATE TABLE departure(node BLOB PRIMARY KEY, words BLOB NOT NULL) WITHOUT ROWID"

    /// Since version 4: what peers' records superseded, with what proves it; and who was revoked.
    private static let undo = """
        CREATE TABLE undo(number INTEGER PRIMARY KEY, scope INTEGER NOT NULL,
            author INTEGER NOT NULL, first INTEGER NOT NULL, sequence INTEGER NOT NULL,
            bytes BLOB NOT NULL, by_author INTEGER NOT NULL, by_sequence INTEGER NOT NULL,
            own INTEGER NOT NULL);
        CREATE INDEX undo_by ON undo(by_author, scope, by_sequence);
        CREATE INDEX undo_of ON undo(scope, author, first);
        CREATE TABLE undo_commit(scope INTEGER, author INTEGER, first INTEGER, header BLOB NOT NULL,
            signature BLOB NOT NULL, proof BLOB NOT NULL, ids BLOB NOT NULL,
            PRIMARY KEY(scope, author, first)) WITHOUT ROWID;
        CREATE TABLE revocation(name BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
        """

    /// What every connection is set to before it is used.
    static func configuration() -> Configuration {
        var configuration = Configuration()
        configuration.maximumReaderCount = 4
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA cache_size = -4096")
            try db.execute(sql: "PRAGMA mmap_size = 0")
            if !db.configuration.readonly {
                try db.execute(sql: "PRAGMA auto_vacuum = incremental")
            }
        }
        return configuration
    }

    /// Reads the layout's number from the file's header, so that a newer file is not even opened.
    ///
    /// Source: SQLite's file format, §1.3: `user_version` is a big-endian number at offset 60.
    static func refuseNewer(_ path: String) throws {
        guard let file = FileHandle(forReadingAtPath: path) else { return }
        defer { try? file.close() }
        let header = Array(try file.read(upToCount: 64) ?? Data())
        guard header.count == 64 else { return }
        let found = header[60...].reduce(0) { $0 << 8 | Int($1) }
        if found > version { throw StoreError.newerSchema(found: found, known: version) }
    }

    /// Creates the tables in an empty file; refuses a newer layout without touching it.
    static func prepare(_ pool: DatabasePool) throws {
        let found = try pool.read { try Int.fetchOne($0, sql: "PRAGMA user_version") ?? 0 }
        guard found <= version else { throw StoreError.newerSchema(found: found, known: version) }
        // GRDB sets NORMAL after its preparation hook, so FULL is set here and read back.
        try pool.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA synchronous = FULL")
            try db.execute(sql: "PRAGMA wal_autocheckpoint = 4000")
            try db.execute(sql: "PRAGMA journal_size_limit = 67108864")
            guard try Int.fetchOne(db, sql: "PRAGMA synchronous") == 2 else {
                throw StoreError.unusable("SQLite does not keep synchronous=FULL")
            }
        }
        guard found < version else { return }
        try pool.write { db in
            if found < 1 { try db.execute(sql: tables) }
            if found < 2 { try db.execute(sql: addresses) }
            if found < 3 { try db.execute(sql: departures) }
            if found < 4 { try db.execute(sql: undo) }
            try db.execute(sql: "PRAGMA user_version = \(version)")
        }
    }
}

/// GRDB has a class of this name too.
typealias Record = MeshReplication.Record
