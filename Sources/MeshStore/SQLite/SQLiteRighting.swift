// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import GRDBSQLite
internal import MeshCore
internal import MeshReplication

/// Puts rows of records right, between the copy of their table and the making of its indexes.
///
/// An index that is made from a rotten row would hide the record as a rotten index does. But the
/// old indexes, those of the table `salvage`, say once more where each row stands. A row that
/// does not match its sum stands where they say; what else is wrong with it is found there.
struct SQLiteRighting {
    private let db: Database
    private let seal: RowSeal

    init(_ db: Database, _ seal: RowSeal) { (self.db, self.seal) = (db, seal) }

    /// Copies row by row what the indexes lead to, past pages of the table that cannot be read.
    func copyEach() throws {
        var numbers: Set<Int64> = []
        for (index, condition) in [
            ("record_dot", ""), ("record_key", "WHERE gone IS NULL"),
            ("record_gone", "WHERE gone IS NOT NULL"),
        ] {
            try passingOver {
                try db.each("SELECT arrival FROM salvage INDEXED BY \(index) \(condition)") {
                    numbers.insert($0.int(0))
                    return true
                }
            }
        }
        for number in numbers.sorted() {
            try passingOver {
                try db.run(
                    "INSERT OR IGNORE INTO record SELECT * FROM salvage WHERE arrival = ?",
                    .int(number))
            }
        }
    }

    /// What SQLite cannot read says nothing.
    private func passingOver(_ body: () throws -> Void) throws {
        do { try body() } catch let error as StoreError {
            guard case .database(let code, _) = error, code & 0xff == SQLITE_CORRUPT else {
                throw error
            }
        }
    }

    func right() throws {
        try number()
        let rotten = try rottenRows()
        if !rotten.isEmpty { try move(rotten) }
        for twin in try twins() {
            try db.run("DELETE FROM record WHERE arrival = ?", .int(twin))
        }
    }

    /// Gives rows the numbers that the old index of places has for them.
    ///
    /// A row's number is its position in the feed and in no sum. One that has rotted upwards would
    /// carry followers past all that comes after it, and one that has rotted downwards would not
    /// be told. Of the two numbers the index's is taken if a row was ever given it; if both may be,
    /// the higher: told twice is told.
    private func number() throws {
        let last = Int64(clamping: try StoredCounters.last(db))
        var numbers: [(row: Int64, index: Int64)] = []
        try passingOver {
            try db.each(
                """
                SELECT record.arrival, salvage.arrival FROM record NOT INDEXED
                JOIN salvage INDEXED BY record_dot ON salvage.scope = record.scope
                AND salvage.author = record.author AND salvage.sequence = record.sequence
                WHERE salvage.arrival <> record.arrival
                """
            ) {
                numbers.append(($0.int(0), $0.int(1)))
                return true
            }
        }
        for (row, index) in numbers
        where (1...last).contains(index) && (index > row || !(1...last).contains(row)) {
            try db.run(
                "UPDATE OR IGNORE record SET arrival = ? WHERE arrival = ?", .int(index),
                .int(row))
        }
    }

    /// Rows that do not match their sums, or whose key is not the one in their bytes.
    private func rottenRows() throws -> Set<Int64> {
        var rotten: Set<Int64> = []
        try db.each("SELECT \(SQLiteSnapshot.recordColumns) FROM record") { row in
            let place = SQLiteSnapshot.place(row, id: row.fixed(5) ?? .zero)
            let key = (try? Record(decoding: seal.opened(row.bytes(6))))?.key.utf8
            if place.sum != row.bits(12) || key != row.bytes(4) { rotten.insert(row.int(0)) }
            return true
        }
        return rotten
    }

    private func move(_ rotten: Set<Int64>) throws {
        func entries(of index: String, _ columns: String, _ rest: String, _ sql: String) throws {
            var found: [[SQLValue]] = []
            try passingOver {
                try db.each(
                    "SELECT arrival, \(columns) FROM salvage INDEXED BY \(index) \(rest)"
                ) { row in
                    if rotten.contains(row.int(0)) {
                        found.append((1...row.count - 1).map(row.value) + [.int(row.int(0))])
                    }
                    return true
                }
            }
            for values in found {
                try db.each(
                    "UPDATE OR IGNORE record SET \(sql) WHERE arrival = ?", list: values
                ) { _ in true }
            }
        }
        try entries(
            of: "record_dot", "scope, author, sequence", "",
            "scope = ?, author = ?, sequence = ?")
        try entries(
            of: "record_key", "scope, key", "WHERE gone IS NULL",
            "scope = ?, key = ?, gone = NULL, undo = NULL, by_author = NULL, by_sequence = NULL")
        try entries(
            of: "record_by", "by_author, scope, by_sequence", "WHERE gone IS NOT NULL",
            "by_author = ?, scope = ?, by_sequence = ?")
        try entries(
            of: "record_gone", "undo, gone", "WHERE gone IS NOT NULL", "undo = ?, gone = ?")
    }

    /// While the entry of an index was lost its record may have come again: of two rows the one
    /// that is whole stays, and of two such the later.
    ///
    /// - Returns: the numbers of the others.
    private func twins() throws -> [Int64] {
        struct Place: Hashable {
            let log: LogKey
            let sequence: UInt64
        }
        let rows = try db.rows(
            """
            SELECT \(SQLiteSnapshot.recordColumns) FROM record
            WHERE (scope, author, sequence) IN (
                SELECT scope, author, sequence FROM record
                GROUP BY scope, author, sequence HAVING count(*) > 1)
            ORDER BY +arrival
            """
        ) { row in
            let place = SQLiteSnapshot.place(row, id: row.fixed(5) ?? .zero)
            return (
                number: row.int(0), place: Place(log: place.log, sequence: place.sequence),
                isWhole: place.sum == row.bits(12)
            )
        }
        var kept: [Place: (number: Int64, isWhole: Bool)] = [:]
        var losers: [Int64] = []
        for row in rows {
            if let old = kept[row.place] {
                let isOldBetter = old.isWhole && !row.isWhole
                losers.append(isOldBetter ? row.number : old.number)
                if isOldBetter { continue }
            }
            kept[row.place] = (row.number, row.isWhole)
        }
        return losers
    }
}
