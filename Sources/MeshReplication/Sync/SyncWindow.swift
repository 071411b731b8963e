// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// Which of the shared scopes a comparison is about.
///
/// A site compares all of them at once. Two centres share the scopes of every site: they go through
/// them window by window, so that no list is longer than a message.
package struct SyncWindow: Hashable, Sendable {
    /// Most windows.
    package static let countMax = 4096
    /// Scopes that one window is to hold, about.
    package static let scopes = SyncSpecification.scopesMax / 2
    /// The one window that holds every scope.
    package static let all = SyncWindow(index: 0, count: 1)

    /// Which window, from 0.
    package let index: Int
    /// Of how many.
    package let count: Int

    private init(index: Int, count: Int) {
        self.index = index
        self.count = count
    }

    /// The window for the `round`th comparison of so many scopes.
    init(round: Int, scopes: Int) {
        count = min(max(1, (scopes + Self.scopes - 1) / Self.scopes), Self.countMax)
        index = round % count
    }

    /// Whether a scope is in the window: by its name's hash, so both ends agree.
    package func holds(_ scope: Scope) -> Bool {
        if count == 1 { return true }
        let hash = Blake2b.hash(Array(scope.description.utf8)).array.prefix(8)
        return hash.reduce(0) { $0 << 8 | UInt64($1) } % UInt64(count) == UInt64(index)
    }

    func encode(to writer: inout WireWriter) {
        writer.varint(UInt64(index))
        writer.varint(UInt64(count))
    }

    init(from reader: inout WireReader) throws(WireError) {
        index = try reader.count("window", limit: Self.countMax)
        count = try reader.count("windows", limit: Self.countMax)
        guard index < count else { throw .invalid("window") }
    }
}
