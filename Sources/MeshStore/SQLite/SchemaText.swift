// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import GRDBSQLite

/// The words by which SQLite knows the tables: they lie in the file too, and rot like all else.
///
/// One bit makes `PRIMARY KEY` a word of the column's type, and rows have no numbers any more;
/// SQLite finds nothing wrong with that. So the words are compared with those that made the file.
enum SchemaText {
    private struct Entry: Equatable {
        let name: String
        let table: String
        let sql: String
    }

    /// Puts right what has rotted in the words of a file of the present layout.
    ///
    /// - Returns: whether anything had.
    @discardableResult
    static func right(_ db: Database) throws -> Bool {
        // While this is on SQLite reads on past words that it does not understand.
        try db.execute(sql: "PRAGMA writable_schema = ON")
        defer { try? db.execute(sql: "PRAGMA writable_schema = OFF") }
        guard try db.first("PRAGMA user_version", map: { Int($0.int(0)) }) == Schema.version else {
            return false
        }
        let found = try entries(db)
        let wrong = try made().filter { !found.contains($0) }
        if wrong.isEmpty { return false }
        for entry in wrong {
            // Either of the two has rotted, not both at once.
            try db.run(
                """
                UPDATE sqlite_master SET name = ?1, tbl_name = ?2, sql = ?3
                WHERE sql IS NOT NULL AND (name = ?1 OR sql = ?3)
                """, .text(entry.name), .text(entry.table), .text(entry.sql))
        }
        // Every connection reads them anew.
        let version = try db.first("PRAGMA schema_version") { $0.int(0) } ?? 0
        try db.execute(sql: "PRAGMA schema_version = \((version + 1) & 0x7fff_ffff)")
        try db.execute(sql: "PRAGMA writable_schema = RESET")
        return true
    }

    /// Opens a file, and where SQLite does not understand its words at all writes them anew first.
    static func opening<T>(_ path: String, _ open: () throws -> T) throws -> T {
        do { return try open() } catch let error as DatabaseError
            where error.resultCode == .SQLITE_CORRUPT
        {
            try writeAnew(path)
            return try open()
        }
    }

    /// Past GRDB, which reads the words before it gives a connection.
    private static func writeAnew(_ path: String) throws {
        var connection: OpaquePointer?
        defer { sqlite3_close_v2(connection) }
        func quoted(_ text: String) -> String { "'\(text.replacing("'", with: "''"))'" }
        let updates = try made().map { entry in
            let (name, sql) = (quoted(entry.name), quoted(entry.sql))
            return """
                UPDATE sqlite_master SET name = \(name), tbl_name = \(quoted(entry.table)),
                sql = \(sql) WHERE sql IS NOT NULL AND (name = \(name) OR sql = \(sql));
                """
        }
        let all = ["PRAGMA writable_schema = ON;", "BEGIN IMMEDIATE;"] + updates + ["COMMIT;"]
        var code = sqlite3_open_v2(path, &connection, SQLITE_OPEN_READWRITE, nil)
        for sql in all where code == SQLITE_OK {
            code = sqlite3_exec(connection, sql, nil, nil, nil)
        }
        guard code == SQLITE_OK else { throw DatabaseError(resultCode: ResultCode(rawValue: code)) }
    }

    private static func entries(_ db: Database) throws -> [Entry] {
        try db.rows("SELECT name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL") {
            Entry(name: $0.text(0), table: $0.text(1), sql: $0.text(2))
        }
    }

    /// The words as SQLite writes them into a new file.
    private static func made() throws -> [Entry] {
        try DatabaseQueue().write { db in
            try db.execute(sql: Schema.tables)
            return try entries(db)
        }
    }
}
