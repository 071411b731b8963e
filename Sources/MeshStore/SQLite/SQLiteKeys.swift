// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshReplication
internal import MeshRules

/// Records by their keys.
extension SQLiteSnapshot {
    func versions(of key: KeyName) throws -> [(held: HeldVersion, position: FeedPosition)] {
        guard let scope = try caches.scopeID(db, key.scope) else { return [] }
        return try records(
            "WHERE scope = ? AND key = ? AND gone IS NULL", .int(scope), .text(key.key.utf8)
        ).map { ($0.held, FeedPosition($0.arrival)) }
    }

    func keys(
        in scope: Scope, from start: [UInt8], including: Bool, limit: Int
    ) throws -> [[UInt8]] {
        guard let id = try caches.scopeID(db, scope) else { return [] }
        let comparison = including ? ">=" : ">"
        return try db.rows(
            """
            SELECT DISTINCT key FROM record WHERE scope = ? AND gone IS NULL AND key \(comparison) ?
            ORDER BY key LIMIT ?
            """, .int(id), .text(start), .int(Int64(limit))
        ) { $0.bytes(0) }
    }

    /// Reads all versions of all keys in one pass over the index.
    func states(
        in scope: Scope, from start: [UInt8], including: Bool, limit: Int
    ) throws -> [(key: [UInt8], versions: [(held: HeldVersion, position: FeedPosition)])] {
        guard let id = try caches.scopeID(db, scope) else { return [] }
        var all: [(key: [UInt8], versions: [(held: HeldVersion, position: FeedPosition)])] = []
        let comparison = including ? ">=" : ">"
        try db.each(
            """
            SELECT \(Self.recordColumns) FROM record WHERE scope = ? AND gone IS NULL
            AND key \(comparison) ? ORDER BY key
            """, list: [.int(id), .text(start)]
        ) { row in
            let key = row.bytes(4)
            if all.last?.key != key {
                if all.count == limit { return false }
                all.append((key, []))
            }
            if let one = try record(row) {
                all[all.count - 1].versions.append((one.held, FeedPosition(one.arrival)))
            }
            return true
        }
        return all
    }
}
