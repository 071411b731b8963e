// SPDX-License-Identifier: Apache-2.0

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

/// A token as it is known: its name, its secret's hash, and what it allows.
package struct AppToken: Sendable, Equatable {
    package let name: String
    fileprivate let hash: [UInt8]
    package let grants: [AppGrant]

    /// Reads a note: the hash, then the grants as text.
    fileprivate init?(_ note: (name: [UInt8], value: [UInt8])) {
        guard note.value.count >= 32 else { return nil }
        name = String(decoding: note.name, as: UTF8.self)
        hash = Array(note.value.prefix(32))
        grants = String(decoding: note.value.dropFirst(32), as: UTF8.self).split(separator: " ")
            .compactMap { AppGrant($0) }
    }
}

/// The tokens of local apps; only their hashes are kept.
package final class AppTokens: Sendable {
    private let notes: Notes
    /// What was read; nil before, and after a change.
    private let cache = Mutex<[AppToken]?>(nil)

    /// The tokens that lie in a room.
    package init(_ notes: Notes) { self.notes = notes }

    /// Makes a token.
    ///
    /// - Returns: the secret, once.
    package func make(_ name: String, _ grants: [AppGrant]) throws -> String {
        let secret = Base32.encode(Sodium.random(32))
        guard try !known().contains(where: { $0.name == name }) else {
            throw StoreError.limit("a token '\(name)' exists already")
        }
        let allow = grants.map(\.text).joined(separator: " ")
        try notes.keep(
            .token, Array(name.utf8),
            Blake2b.hash(Array(secret.utf8)).array + Array(allow.utf8))
        cache.withLock { $0 = nil }
        return secret
    }

    /// The tokens' names with what they allow.
    package func list() throws -> [(name: String, grants: [AppGrant])] {
        try known().map { ($0.name, $0.grants) }
    }

    /// Takes a token back.
    ///
    /// - Returns: whether there was one of that name.
    package func revoke(_ name: String) throws -> Bool {
        let wasThere = try known().contains { $0.name == name }
        try notes.keep(.token, Array(name.utf8), nil)
        cache.withLock { $0 = nil }
        return wasThere
    }

    /// The token of a secret; nil for one that is not known. All hashes are compared, each in
    /// constant time; asked for with every request, so they are read once and kept in memory.
    package func find(_ secret: String) throws -> AppToken? {
        let hash = Blake2b.hash(Array(secret.utf8)).array
        var found: AppToken?
        for token in try known() where Sodium.equal(token.hash, hash) { found = token }
        return found
    }

    /// Whether a token that was found still stands; not if it was taken back, even where another
    /// has its name now.
    package func stands(_ token: AppToken) throws -> Bool { try known().contains(token) }

    private func known() throws -> [AppToken] {
        // Read under the lock, so that what was read before a change is not kept after it.
        try cache.withLock { cache in
            if let cache { return cache }
            let tokens = try notes.all(.token).compactMap { AppToken($0) }
            cache = tokens
            return tokens
        }
    }
}
