// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import Synchronization

/// What an app's token allows in one namespace.
package struct AppGrant: Hashable, Sendable {
    /// The namespace, or `*`.
    package let namespace: String
    /// Whether the app may write.
    package let mayWrite: Bool

    /// Parses `NAMESPACE`, `NAMESPACE:r` or `NAMESPACE:w`.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard let name = parts.first, name == "*" || Name.isValidNamespace(name), parts.count <= 2
        else { return nil }
        let rights = parts.count == 2 ? parts[1] : "r"
        guard ["r", "w", "rw"].contains(rights) else { return nil }
        namespace = String(name)
        mayWrite = rights != "r"
    }

    /// Whether the grant speaks of a namespace; the mesh's own is never an app's.
    package func covers(_ name: String) -> Bool {
        namespace == name || (namespace == "*" && !name.hasPrefix("_"))
    }

    /// The grant as it is written.
    package var text: String { "\(namespace):\(mayWrite ? "w" : "r")" }
}

/// A token as it is looked for: its hash, and what it allows.
struct KnownToken: Sendable {
    let hash: [UInt8]
    let grants: [AppGrant]
}

extension Store {
    /// Makes a token; only its hash is kept.
    ///
    /// - Returns: the secret, once.
    package func makeToken(_ name: String, _ grants: [AppGrant], now: UInt64) throws -> String {
        let secret = Base32.encode(Sodium.random(32))
        let allow = grants.map(\.text).joined(separator: " ")
        try change { db in
            let taken = try db.first("SELECT 1 FROM token WHERE name = ?", .text(name)) { _ in true
            }
            guard taken == nil else { throw StoreError.limit("a token '\(name)' exists already") }
            try db.run(
                "INSERT INTO token VALUES(?, ?, ?, ?)", .text(name),
                .digest(Blake2b.hash(Array(secret.utf8))), .text(allow), .sequence(now))
        }
        tokenCache.withLock { $0 = nil }
        return secret
    }

    /// The tokens' names with what they allow.
    package func tokens() throws -> [(name: String, grants: [AppGrant])] {
        try read { db in
            try db.rows("SELECT name, allow FROM token ORDER BY name") { ($0.text(0), $0.text(1)) }
        }.map { ($0, $1.split(separator: " ").compactMap { AppGrant($0) }) }
    }

    /// Takes a token back.
    ///
    /// - Returns: whether there was one of that name.
    package func revokeToken(_ name: String) throws -> Bool {
        let wasThere = try tokens().contains { $0.name == name }
        try change { try $0.run("DELETE FROM token WHERE name = ?", .text(name)) }
        tokenCache.withLock { $0 = nil }
        return wasThere
    }

    /// What a token allows; nil for one that is not known. All hashes are compared, each in
    /// constant time; asked for with every request, so they are read once and kept in memory.
    package func grants(ofToken secret: String) throws -> [AppGrant]? {
        let hash = Blake2b.hash(Array(secret.utf8)).array
        // Read under the lock, so that what was read before a change is not kept after it.
        let tokens = try tokenCache.withLock { cache in
            if let cache { return cache }
            let rows = try read { db in
                try db.rows("SELECT hash, allow FROM token") { row in
                    KnownToken(
                        hash: row.bytes(0),
                        grants: row.text(1).split(separator: " ").compactMap { AppGrant($0) })
                }
            }
            cache = rows
            return rows
        }
        var found: [AppGrant]?
        for token in tokens where Sodium.equal(token.hash, hash) { found = token.grants }
        return found
    }
}
