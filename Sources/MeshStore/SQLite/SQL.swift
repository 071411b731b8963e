// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import GRDBSQLite
internal import MeshCore

/// A value for a statement.
enum SQLValue {
    case int(Int64)
    case bytes([UInt8])
    case bytes32(Bytes32)
    case text([UInt8])
    case null

    /// A number that is below 2^63 wherever it comes from: sequences, places, positions.
    static func sequence(_ value: UInt64) -> SQLValue { .int(Int64(clamping: value)) }
    static func fixed(_ value: some FixedBytes) -> SQLValue { .bytes32(value.bytes) }
    static func bits(_ value: UInt64) -> SQLValue { .int(Int64(bitPattern: value)) }
    static func text(_ value: String) -> SQLValue { .text(Array(value.utf8)) }
}

/// The current row of a statement; valid only inside the closure that gets it.
struct SQLRow {
    fileprivate let statement: OpaquePointer

    func int(_ column: Int32) -> Int64 { sqlite3_column_int64(statement, column) }

    func sequence(_ column: Int32) -> UInt64 { UInt64(clamping: int(column)) }

    func bits(_ column: Int32) -> UInt64 { UInt64(bitPattern: int(column)) }

    func isNull(_ column: Int32) -> Bool {
        sqlite3_column_type(statement, column) == SQLITE_NULL
    }

    func bytes(_ column: Int32) -> [UInt8] {
        let count = Int(sqlite3_column_bytes(statement, column))
        guard count > 0, let base = sqlite3_column_blob(statement, column) else { return [] }
        return Array(UnsafeRawBufferPointer(start: base, count: count))
    }

    func fixed<Value: FixedBytes>(_ column: Int32) -> Value? {
        guard sqlite3_column_bytes(statement, column) == 32,
            let base = sqlite3_column_blob(statement, column)
        else { return nil }
        return Value(UnsafeRawBufferPointer(start: base, count: 32))
    }

    /// How many columns there are.
    var count: Int32 { sqlite3_column_count(statement) }

    /// What stands in a column, whatever it is.
    func value(_ column: Int32) -> SQLValue {
        switch sqlite3_column_type(statement, column) {
        case SQLITE_INTEGER: .int(int(column))
        case SQLITE_TEXT: .text(bytes(column))
        case SQLITE_NULL: .null
        default: .bytes(bytes(column))
        }
    }

    func text(_ column: Int32) -> String { String(decoding: bytes(column), as: UTF8.self) }
}

/// Statements without boxing: the write path runs several for each record.
///
/// GRDB prepares and caches them for the connection; binding and stepping go straight to SQLite.
extension Database {
    /// One transaction. GRDB's own would be prepared anew each time, with a savepoint around it and
    /// settings before and after, which costs more than a short read itself.
    func transaction<T>(_ begin: String, _ body: () throws -> T) throws -> T {
        try run(begin)
        do {
            let result = try body()
            try run("COMMIT")
            return result
        } catch {
            // SQLite ends some transactions by itself.
            if sqlite3_get_autocommit(sqliteConnection) == 0 { try? run("ROLLBACK") }
            throw error
        }
    }

    func run(_ sql: String, _ values: SQLValue...) throws {
        try execute(sql, values) { _ in false }
    }

    func rows<T>(_ sql: String, _ values: SQLValue..., map: (SQLRow) throws -> T) throws -> [T] {
        var all: [T] = []
        try execute(sql, values) {
            all.append(try map($0))
            return true
        }
        return all
    }

    func first<T>(_ sql: String, _ values: SQLValue..., map: (SQLRow) throws -> T) throws -> T? {
        var found: T?
        try execute(sql, values) {
            found = try map($0)
            return false
        }
        return found
    }

    /// Visits rows until the closure says false.
    func each(_ sql: String, list values: [SQLValue] = [], visit: (SQLRow) throws -> Bool) throws {
        try execute(sql, values, visit)
    }

    private func execute(
        _ sql: String, _ values: [SQLValue], _ visit: (SQLRow) throws -> Bool
    ) throws {
        let statement = try cachedStatement(sql: sql).sqliteStatement
        defer {
            sqlite3_reset(statement)
            sqlite3_clear_bindings(statement)
        }
        for (index, value) in values.enumerated() { bind(value, Int32(index + 1), statement) }
        while true {
            let code = sqlite3_step(statement)
            if code == SQLITE_DONE { return }
            guard code == SQLITE_ROW else { throw StoreError(sqlite: code, self) }
            if try !visit(SQLRow(statement: statement)) { return }
        }
    }

    private func bind(_ value: SQLValue, _ index: Int32, _ statement: OpaquePointer) {
        let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        switch value {
        case .int(let number): sqlite3_bind_int64(statement, index, number)
        case .bytes(let bytes):
            if bytes.isEmpty {
                sqlite3_bind_zeroblob(statement, index, 0)
            } else {
                sqlite3_bind_blob(statement, index, bytes, Int32(bytes.count), transient)
            }
        case .bytes32(let value):
            value.withUnsafeBytes {
                _ = sqlite3_bind_blob(statement, index, $0.baseAddress, 32, transient)
            }
        case .text(let bytes):
            bytes.withUnsafeBufferPointer { buffer in
                buffer.withMemoryRebound(to: CChar.self) {
                    _ = sqlite3_bind_text(
                        statement, index, $0.baseAddress, Int32(bytes.count), transient)
                }
            }
        case .null: sqlite3_bind_null(statement, index)
        }
    }
}

extension StoreError {
    fileprivate init(sqlite code: Int32, _ db: Database) {
        let message = db.sqliteConnection.flatMap(sqlite3_errmsg).map(String.init(cString:)) ?? ""
        self = code & 0xff == SQLITE_FULL ? .diskFull : .database(code: code, message: message)
    }

    /// Any error of a transaction as one of ours.
    init(_ error: any Error) {
        switch error {
        case let error as StoreError: self = error
        case let error as DatabaseError where error.resultCode == .SQLITE_FULL: self = .diskFull
        case let error as DatabaseError:
            self = .database(
                code: error.extendedResultCode.rawValue, message: error.message ?? "\(error)")
        default: self = .database(code: SQLITE_ERROR, message: "\(error)")
        }
    }
}

extension DatabasePool {
    /// A read of one state of the database.
    func look<T>(_ body: (Database) throws -> T) throws -> T {
        try unsafeRead { db in try db.transaction("BEGIN DEFERRED") { try body(db) } }
    }

    /// Changes that are made together or not at all.
    func change<T>(_ body: (Database) throws -> T) throws -> T {
        try writeWithoutTransaction { db in
            try db.transaction("BEGIN IMMEDIATE") { try body(db) }
        }
    }
}
