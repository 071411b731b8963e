// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshReplication
internal import MeshRules

/// Names and what was looked up by them: the writer's live as long as nothing is rolled back, a
/// reader's as long as its snapshot.
final class SQLiteCaches {
    private var scopes: [Scope: Int64] = [:]
    private var scopeNames: [Int64: Scope] = [:]
    private var authors: [Author: Int64] = [:]
    private var authorNames: [Int64: Author] = [:]
    var families: [FamilyName: Family] = [:]
    /// How much is kept of each share of superseded records; nil as long as nobody has asked.
    var undoShares: [UndoShare: UndoUsage]?

    /// Forgets everything that a rollback may have undone.
    func forget() {
        scopes = [:]
        scopeNames = [:]
        authors = [:]
        authorNames = [:]
        families = [:]
        undoShares = nil
    }

    /// Keeps to the limits.
    func trim() {
        if authors.count > StoreLimits.cached { (authors, authorNames) = ([:], [:]) }
        if families.count > StoreLimits.cached { families = [:] }
    }

    func scopeID(_ db: Database, _ scope: Scope) throws -> Int64? {
        if let id = scopes[scope] { return id }
        let id = try db.first(
            "SELECT id FROM scope WHERE name = ?", .text(scope.description)
        ) { $0.int(0) }
        if let id {
            scopes[scope] = id
            scopeNames[id] = scope
        }
        return id
    }

    func scope(_ db: Database, _ id: Int64) throws -> Scope? {
        if let scope = scopeNames[id] { return scope }
        let scope = try db.first("SELECT name FROM scope WHERE id = ?", .int(id)) { $0.text(0) }
            .flatMap { Scope($0) }
        if let scope { scopeNames[id] = scope }
        return scope
    }

    func authorID(_ db: Database, _ author: Author) throws -> Int64? {
        if let id = authors[author] { return id }
        let id = try db.first(
            "SELECT id FROM author WHERE node = ? AND life = ?", .fixed(author.node),
            .bits(author.life.value)
        ) { $0.int(0) }
        if let id {
            authors[author] = id
            authorNames[id] = author
        }
        return id
    }

    func author(_ db: Database, _ id: Int64) throws -> Author? {
        if let author = authorNames[id] { return author }
        let author = try db.first("SELECT node, life FROM author WHERE id = ?", .int(id)) { row in
            row.fixed(0).map { Author(node: $0, life: Life(row.bits(1))) }
        }.flatMap(\.self)
        if let author { authorNames[id] = author }
        return author
    }

    func key(_ db: Database, _ log: LogName) throws -> LogKey? {
        guard let scope = try scopeID(db, log.scope), let author = try authorID(db, log.author)
        else { return nil }
        return LogKey(scope: scope, author: author)
    }

    // MARK: For the writer

    func makeScope(_ db: Database, _ scope: Scope) throws -> Int64 {
        if let id = try scopeID(db, scope) { return id }
        let name = Array(scope.description.utf8)
        let id = try nextID(db, "scope")
        try db.run(
            "INSERT INTO scope VALUES(?, ?, ?)", .int(id), .text(name),
            .bits(Sums.name(id, name)))
        scopes[scope] = id
        scopeNames[id] = scope
        return id
    }

    func makeAuthor(_ db: Database, _ author: Author) throws -> Int64 {
        if let id = try authorID(db, author) { return id }
        let id = try nextID(db, "author")
        try db.run(
            "INSERT INTO author VALUES(?, ?, ?, ?)", .int(id), .fixed(author.node),
            .bits(author.life.value), .bits(Self.sum(id, author)))
        authors[author] = id
        authorNames[id] = author
        return id
    }

    static func sum(_ id: Int64, _ author: Author) -> UInt64 {
        var sum = RowSum()
        sum.add(UInt64(bitPattern: id))
        sum.add(author.node)
        sum.add(author.life.value)
        return sum.value
    }

    private func nextID(_ db: Database, _ table: String) throws -> Int64 {
        (try db.first("SELECT max(id) FROM \(table)") { $0.int(0) } ?? 0) + 1
    }

    func makeKey(_ db: Database, _ log: LogName) throws -> LogKey {
        LogKey(scope: try makeScope(db, log.scope), author: try makeAuthor(db, log.author))
    }
}
