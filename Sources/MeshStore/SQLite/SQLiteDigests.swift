// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules

/// The digests of all scopes as a comparison reads them: the tries in memory, with what the disk
/// had no room for.
struct SQLiteDigests {
    private(set) var tries: [Int64: AuthorTrie] = [:]
    /// Nodes of trees that could not be stored.
    var unsaved = DigestRefresh()
    private(set) var areBuilt = false

    /// Reads every log, once a process.
    mutating func build(_ db: Database) throws {
        var states: [Int64: [LogState]] = [:]
        var doubtful: [LogKey] = []
        try db.each(
            """
            SELECT log.scope, log.author, node, life, frontier, root, root.sum,
            frontier, header, signature, head, log.sum FROM log
            JOIN author ON author.id = log.author
            LEFT JOIN root ON root.scope = log.scope AND root.author = log.author
            """
        ) { row in
            let key = LogKey(scope: row.int(0), author: row.int(1))
            // What a rotten row says is shown to nobody: the peer tells it again.
            guard let node: NodeID = row.fixed(2), Sums.isLog(key, row, from: 7) else {
                return true
            }
            let root: Digest? = row.fixed(5)
            if root.map({ Sums.root(key, $0) }) != row.bits(6) { doubtful.append(key) }
            let author = Author(node: node, life: Life(row.bits(3)))
            states[key.scope, default: []].append(
                LogState(author: author, frontier: row.sequence(4), root: root ?? .zero))
            return true
        }
        tries = states.mapValues { AuthorTrie($0) }
        areBuilt = true
        // A root that rotted is computed again from the level below it.
        for key in doubtful { try note(try DigestRefresh(rootOf: key, db), db) }
    }

    /// Notes logs that changed.
    mutating func note(_ refresh: DigestRefresh, _ db: Database) throws {
        let caches = SQLiteCaches()
        for (key, log) in refresh.logs {
            guard let author = try caches.author(db, key.author) else { continue }
            if let log {
                tries[key.scope, default: AuthorTrie()].set(
                    LogState(author: author, frontier: log.frontier, root: log.root))
            } else {
                tries[key.scope]?.remove(author)
            }
        }
    }
}
