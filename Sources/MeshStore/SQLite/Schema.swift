// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import GRDB
internal import GRDBSQLite
internal import MeshReplication

/// The tables, and the settings under which SQLite keeps its promises.
///
/// Records lie in the order of arrival, which for each log is its own order. A row with `gone` was
/// superseded by the place in `by_…`, and is kept for the day that this is gone itself; a row
/// without lives. `node` holds the digest trees, `dirty` the leaves that changed since, `damage`
/// the places that are part of no digest until they were fetched again. `beginning` repeats the
/// first commit of each log, without which nobody takes the rest. Everything about one write
/// changes in one transaction. `sum` is over the other columns of its row (`RowSum`).
enum Schema {
    /// Counts changes of the layout; kept in `PRAGMA user_version`.
    static let version = 9

    static let tables = """
        CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
        CREATE TABLE epoch(name BLOB PRIMARY KEY, start INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE scope(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sum INTEGER NOT NULL);
        CREATE TABLE author(id INTEGER PRIMARY KEY, node BLOB NOT NULL, life INTEGER NOT NULL,
            sum INTEGER NOT NULL, UNIQUE(node, life));
        CREATE TABLE log(scope INTEGER, author INTEGER, frontier INTEGER NOT NULL,
            header BLOB NOT NULL, signature BLOB NOT NULL, head BLOB NOT NULL, sum INTEGER NOT NULL,
            PRIMARY KEY(scope, author)) WITHOUT ROWID;
        CREATE TABLE beginning(scope INTEGER, author INTEGER, header BLOB NOT NULL,
            signature BLOB NOT NULL, PRIMARY KEY(scope, author)) WITHOUT ROWID;
        CREATE TABLE root(scope INTEGER, author INTEGER, root BLOB NOT NULL, sum INTEGER NOT NULL,
            PRIMARY KEY(scope, author)) WITHOUT ROWID;
        CREATE TABLE batch(scope INTEGER, author INTEGER, first INTEGER, last INTEGER NOT NULL,
            header BLOB NOT NULL, signature BLOB NOT NULL, proof BLOB NOT NULL,
            sum INTEGER NOT NULL, PRIMARY KEY(scope, author, first)) WITHOUT ROWID;
        CREATE TABLE record(arrival INTEGER PRIMARY KEY, scope INTEGER NOT NULL,
            author INTEGER NOT NULL, sequence INTEGER NOT NULL, key TEXT NOT NULL,
            id BLOB NOT NULL, bytes BLOB NOT NULL, merge INTEGER NOT NULL, gone INTEGER,
            undo INTEGER, by_author INTEGER, by_sequence INTEGER, sum INTEGER NOT NULL);
        CREATE UNIQUE INDEX record_dot ON record(scope, author, sequence);
        CREATE INDEX record_key ON record(scope, key) WHERE gone IS NULL;
        CREATE INDEX record_by ON record(by_author, scope, by_sequence) WHERE gone IS NOT NULL;
        CREATE INDEX record_gone ON record(undo, gone) WHERE gone IS NOT NULL;
        CREATE TABLE notice(scope INTEGER, key TEXT, arrival INTEGER NOT NULL,
            PRIMARY KEY(scope, key)) WITHOUT ROWID;
        CREATE UNIQUE INDEX notice_arrival ON notice(arrival);
        CREATE TABLE node(scope INTEGER, author INTEGER, level INTEGER, place INTEGER,
            hash BLOB NOT NULL, sum INTEGER NOT NULL,
            PRIMARY KEY(scope, author, level, place)) WITHOUT ROWID;
        CREATE TABLE dirty(scope INTEGER, author INTEGER, leaf INTEGER,
            PRIMARY KEY(scope, author, leaf)) WITHOUT ROWID;
        CREATE TABLE damage(scope INTEGER, author INTEGER, sequence INTEGER,
            PRIMARY KEY(scope, author, sequence)) WITHOUT ROWID;
        CREATE TABLE evidence(id INTEGER PRIMARY KEY, scope INTEGER NOT NULL,
            author INTEGER NOT NULL, first INTEGER NOT NULL, header BLOB NOT NULL,
            signature BLOB NOT NULL, UNIQUE(scope, author, header));
        CREATE TABLE loser(number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE,
            node BLOB NOT NULL, bytes BLOB);
        CREATE INDEX loser_node ON loser(node);
        CREATE TABLE certificate(node BLOB, hash BLOB, bytes BLOB NOT NULL,
            PRIMARY KEY(node, hash)) WITHOUT ROWID;
        CREATE TABLE revocation(name BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE idempotency(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
            request BLOB NOT NULL, receipt BLOB NOT NULL);
        """

    /// What every connection is set to before it is used.
    static func configuration() -> Configuration {
        var configuration = Configuration()
        configuration.maximumReaderCount = 8
        configuration.prepareDatabase { db in
            PageLayer.reserve(db.sqliteConnection)
            try db.execute(sql: "PRAGMA page_size = \(PageSum.pageByteCount)")
            // What a transaction changes is to fit, or its pages are written more than once.
            let kibibytes = db.configuration.readonly ? 2048 : 12_288
            try db.execute(sql: "PRAGMA cache_size = -\(kibibytes)")
            try db.execute(sql: "PRAGMA mmap_size = 0")
            if !db.configuration.readonly {
                try db.execute(sql: "PRAGMA auto_vacuum = incremental")
                try SchemaText.right(db)
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
            guard PageLayer.hasRoom(db.sqliteConnection) else {
                throw StoreError.unusable("the first page of the database is damaged")
            }
        }
        guard found < version else { return }
        // Nothing was released under an older number.
        guard found == 0 else { throw StoreError.olderSchema(found: found, known: version) }
        try pool.write { db in
            try db.execute(sql: tables)
            try db.execute(sql: "PRAGMA user_version = \(version)")
        }
    }
}

/// GRDB has a class of this name too.
typealias Record = MeshReplication.Record
