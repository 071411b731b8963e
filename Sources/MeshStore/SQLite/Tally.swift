// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore

/// How many records live in each scope, kept with the records themselves: whoever asks for the
/// state of a server with millions of them must not make it count.
///
/// The numbers lie among the single values, whose page each transaction writes anyway. Where one is
/// missing or has rotted readers count, and the next change of the scope writes it anew.
enum Tally {
    /// Changes of a transaction by scope; zero for a scope in which as many came as went.
    struct Delta {
        private var live: [Int64: Int64] = [:]

        /// One record more lives in a scope.
        mutating func add(_ scope: Int64) { live[scope, default: 0] &+= 1 }

        /// One record less lives in a scope.
        mutating func remove(_ scope: Int64) { live[scope, default: 0] &-= 1 }

        /// Writes what changed, after the records were.
        mutating func save(_ db: Database) throws {
            for (scope, change) in live where change != 0 {
                if let known = try Tally.stored(scope, db) {
                    try Tally.write(scope, max(0, known &+ change), db)
                } else {
                    try Tally.write(scope, try Tally.counted(scope, db), db)
                }
            }
            live = [:]
        }
    }

    /// How many records live in a scope.
    static func live(in scope: Int64, _ db: Database) throws -> Int {
        Int(clamping: try stored(scope, db) ?? counted(scope, db))
    }

    /// Whether any scope was counted.
    static func isKept(_ db: Database) throws -> Bool {
        try db.first("SELECT 1 FROM meta WHERE name LIKE 'live %' LIMIT 1") { _ in true } ?? false
    }

    /// Counts every scope anew: after records were written anew, or were found where nobody had
    /// seen them.
    static func recount(_ db: Database) throws {
        let counts = try db.rows(
            "SELECT scope, count(*) FROM record WHERE gone IS NULL GROUP BY scope"
        ) { (scope: $0.int(0), live: $0.int(1)) }
        try db.run("DELETE FROM meta WHERE name LIKE 'live %'")
        for one in counts { try write(one.scope, one.live, db) }
    }

    private static func stored(_ scope: Int64, _ db: Database) throws -> Int64? {
        guard let bytes = try Meta.get(db, name(scope)) else { return nil }
        var reader = WireReader(bytes)
        return (try? reader.u64()).map { Int64(clamping: $0) }
    }

    private static func counted(_ scope: Int64, _ db: Database) throws -> Int64 {
        try db.first(
            "SELECT count(*) FROM record WHERE scope = ? AND gone IS NULL", .int(scope)
        ) { $0.int(0) } ?? 0
    }

    private static func write(_ scope: Int64, _ live: Int64, _ db: Database) throws {
        var writer = WireWriter()
        writer.u64(UInt64(clamping: live))
        try Meta.set(db, name(scope), writer.bytes)
    }

    private static func name(_ scope: Int64) -> String { "live \(scope)" }
}
