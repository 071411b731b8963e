// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import GRDBSQLite
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication

/// Makes anew what a rotten place of the file has broken beside the rows: the order of a table, its
/// indexes, the digest trees, the tables of names.
enum SQLiteMending {
    /// Everything but records, commits and digest nodes: small enough to look at before each start.
    private static let smallTables = [
        "meta", "epoch", "scope", "author", "log", "beginning", "root", "notice", "dirty", "damage",
        "evidence",
        "loser", "certificate", "revocation", "idempotency",
    ]

    private static let largeTables = ["record", "batch"]

    /// Looks at the small tables, and at all where the last process met with something broken.
    static func start(_ db: Database, _ seal: RowSeal) throws {
        for table in smallTables where try !isInOrder(table, db) { try rebuild(table, seal, db) }
        try mendNames(db)
        if try !Tally.isKept(db) { try Tally.recount(db) }
        guard try Meta.get(db, "suspect") != nil else { return }
        for table in largeTables { try rebuild(table, seal, db) }
        try forgetDigests(db)
        // A key may show what was hidden from those who follow.
        try db.run("DELETE FROM epoch")
        try Meta.remove(db, "suspect")
    }

    /// Looks at every table, and writes anew what SQLite would not find its way in.
    ///
    /// - Returns: whether records may show now that were hidden.
    static func lookAtAll(_ db: Database, _ seal: RowSeal) throws -> Bool {
        for table in smallTables where try !isInOrder(table, db) { try rebuild(table, seal, db) }
        try mendNames(db)
        let broken = try largeTables.filter { try !isInOrder($0, db) }
        for table in broken { try rebuild(table, seal, db) }
        if try !broken.isEmpty || !isInOrder("node", db) { try forgetDigests(db) }
        return !broken.isEmpty
    }

    /// Looks at what is of no table: the first page, and the list of pages that are free. What is
    /// out of order there is made anew with the whole file.
    static func lookAtFile(_ db: Database) throws {
        try SchemaText.right(db)
        if try PageLayer.hasRoom(db.sqliteConnection) && isInOrder("sqlite_master", db) { return }
        try db.execute(sql: "VACUUM")
        guard try PageLayer.hasRoom(db.sqliteConnection) && isInOrder("sqlite_master", db) else {
            throw StoreError.database(
                code: SQLITE_CORRUPT, message: "the first page of the database is damaged")
        }
    }

    /// Whether a table and its indexes are in order and agree.
    static func isInOrder(_ table: String, _ db: Database) throws -> Bool {
        try db.first("PRAGMA integrity_check('\(table)')") { $0.text(0) } == "ok"
    }

    /// Writes a table and its indexes anew, from all rows that can be read.
    static func rebuild(_ table: String, _ seal: RowSeal, _ db: Database) throws {
        let made = try db.rows(
            "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type DESC",
            .text(Array(table.utf8))
        ) { $0.text(0) }
        guard let create = made.first else { return }
        try db.execute(sql: "ALTER TABLE \(table) RENAME TO salvage")
        try db.execute(sql: create)
        do {
            // Without a condition SQLite copies the old indexes with the rows.
            try db.execute(
                sql: "INSERT OR IGNORE INTO \(table) SELECT * FROM salvage NOT INDEXED WHERE 1")
        } catch let error as DatabaseError
            where table == "record" && error.resultCode == .SQLITE_CORRUPT
        {
            try SQLiteRighting(db, seal).copyEach()
        }
        if table == "record" { try SQLiteRighting(db, seal).right() }
        try db.execute(sql: "DROP TABLE salvage")
        for index in made.dropFirst() { try db.execute(sql: index) }
        if table == "record" { try Tally.recount(db) }
    }

    /// Looks through the whole table for a record that its place does not lead to.
    ///
    /// Taken for lost, it would lose its commit, or come again beside itself.
    ///
    /// - Returns: whether it was there, so that places lead to records again.
    static func mendPlaces(
        _ missed: (log: LogKey, sequence: UInt64), _ db: Database
    ) throws -> Bool {
        let isThere = try db.first(
            """
            SELECT 1 FROM record NOT INDEXED WHERE scope = ? AND author = ? AND sequence = ?
            LIMIT 1
            """, .int(missed.log.scope), .int(missed.log.author), .sequence(missed.sequence)
        ) { _ in true }
        guard isThere != nil else { return false }
        do { try db.execute(sql: "REINDEX record_dot") } catch let error as DatabaseError
            where error.resultCode == .SQLITE_CONSTRAINT
        {
            // Another record is there twice: the scrub finds it, and writes the table anew.
            return false
        }
        try forgetDigests(db)
        return true
    }

    /// Computes every digest tree from the records when digests are asked for next.
    static func forgetDigests(_ db: Database) throws {
        try db.run("DELETE FROM node")
        try db.run(
            """
            INSERT OR IGNORE INTO dirty SELECT DISTINCT scope, author, (sequence - 1) / ?
            FROM record WHERE sequence > 0
            """, .sequence(DigestTree.leafSpan))
        try db.run("INSERT OR IGNORE INTO dirty SELECT scope, author, 0 FROM log")
    }

    /// Writes the row of a commit, with its sum.
    static func write(
        _ header: CommitHeader, _ signature: Signature, _ proof: CommitProof, of key: LogKey,
        _ db: Database
    ) throws {
        let (bytes, proof) = (header.encoded, proof.encoded)
        let sum = Sums.batch(key, header.first, header.last, bytes, signature.bytes, proof)
        try db.run(
            "INSERT OR REPLACE INTO batch VALUES(?, ?, ?, ?, ?, ?, ?, ?)", .int(key.scope),
            .int(key.author), .sequence(header.first), .sequence(header.last), .bytes(bytes),
            .bytes(signature.bytes), .bytes(proof), .bits(sum))
        guard header.first == 1 else { return }
        try db.run(
            "INSERT OR REPLACE INTO beginning VALUES(?, ?, ?, ?)", .int(key.scope),
            .int(key.author), .bytes(bytes), .bytes(signature.bytes))
    }

    /// Writes the row of a commit anew from the beginning or the end of its log. Records that prove
    /// it are whole again; others wait for a peer.
    static func restore(_ lost: SQLiteInspection.LostCommit, _ db: Database) throws {
        let (key, header) = (lost.key, lost.header)
        try write(header, lost.signature, lost.proof, of: key, db)
        if lost.proof.isEmpty {
            try doubt(key, header.range, db)
        } else {
            try fill(key, header.range, db)
        }
        for leaf in DigestTree.leaf(of: header.first)...DigestTree.leaf(of: header.last) {
            try db.run(
                "INSERT OR IGNORE INTO dirty VALUES(?, ?, ?)", .int(key.scope), .int(key.author),
                .sequence(leaf))
        }
    }

    /// Has what lives in a range proven again.
    static func doubt(_ log: LogKey, _ range: ClosedRange<UInt64>, _ db: Database) throws {
        try db.run(
            """
            INSERT OR IGNORE INTO damage SELECT scope, author, sequence FROM record
            WHERE scope = ? AND author = ? AND sequence BETWEEN ? AND ? AND gone IS NULL
            """, .int(log.scope), .int(log.author), .sequence(range.lowerBound),
            .sequence(range.upperBound))
    }

    /// Places are there again.
    static func fill(_ log: LogKey, _ range: ClosedRange<UInt64>, _ db: Database) throws {
        try db.run(
            "DELETE FROM damage WHERE scope = ? AND author = ? AND sequence BETWEEN ? AND ?",
            .int(log.scope), .int(log.author), .sequence(range.lowerBound),
            .sequence(range.upperBound))
    }

    // MARK: Names

    /// Writes the tables of names anew where a name has rotted, from headers that say it, before
    /// anything is looked up by name.
    private static func mendNames(_ db: Database) throws {
        var (authors, scopes): ([Int64: Author], [Int64: Scope]) = ([:], [:])
        var isRotten = false
        try db.each("SELECT id, node, life, sum FROM author NOT INDEXED") { row in
            let author = row.fixed(1).map { Author(node: $0, life: Life(row.bits(2))) }
            if let author, SQLiteCaches.sum(row.int(0), author) == row.bits(3) {
                authors[row.int(0)] = author
            } else {
                isRotten = true
            }
            return true
        }
        try db.each("SELECT id, name, sum FROM scope NOT INDEXED") { row in
            if let scope = Scope(row.text(1)),
                Sums.name(row.int(0), row.bytes(1)) == row.bits(2)
            {
                scopes[row.int(0)] = scope
            } else {
                isRotten = true
            }
            return true
        }
        guard isRotten else { return }
        try db.each("SELECT scope, author, frontier, header, signature, head, sum FROM log") {
            row in
            let key = LogKey(scope: row.int(0), author: row.int(1))
            guard Sums.isLog(key, row, from: 2),
                let header = try? CommitHeader(decoding: row.bytes(3))
            else { return true }
            scopes[key.scope] = header.scope
            authors[key.author] = header.author
            return true
        }
        try write(authors, scopes, db)
    }

    private static func write(
        _ authors: [Int64: Author], _ scopes: [Int64: Scope], _ db: Database
    ) throws {
        try db.run("DELETE FROM author")
        for (id, author) in authors.sorted(by: { $0.key < $1.key }) {
            try db.run(
                "INSERT OR IGNORE INTO author VALUES(?, ?, ?, ?)", .int(id), .fixed(author.node),
                .bits(author.life.value), .bits(SQLiteCaches.sum(id, author)))
        }
        try db.run("DELETE FROM scope")
        for (id, scope) in scopes.sorted(by: { $0.key < $1.key }) {
            let name = Array(scope.description.utf8)
            try db.run(
                "INSERT OR IGNORE INTO scope VALUES(?, ?, ?)", .int(id), .text(name),
                .bits(Sums.name(id, name)))
        }
    }
}
