// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What a comparison of digests reads: implemented by the store inside one read transaction.
package protocol RecordIndex {
    /// The scopes in which anything is known, ascending.
    func scopes() throws -> [Scope]

    /// What is known of the logs of a scope.
    func trie(of scope: Scope) throws -> AuthorTrie

    /// The hashes of the sixteen children of a node of an author's tree; `level` is at least 1.
    func children(of author: Author, in scope: Scope, level: Int, index: UInt64) throws -> [Digest]

    /// The live sequences of a leaf.
    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) throws -> LeafBits
}

/// Records that one end is to send the other.
package enum StreamRequest: Hashable, Sendable {
    /// What lives of a log after a sequence, up to where it is known.
    case tail(Scope, Author, after: UInt64)
    /// Some sequences of a log, by leaf.
    case dots(Scope, Author, [SyncPart.LeafEntry])

    /// The commits that hold some places, also where nothing of them lives: what stands there.
    case commits(Scope, Author, holding: [UInt64], withRecords: Bool)
    /// Headers that show that a log was written twice.
    case evidence(Scope, Author)
    /// Commits of the peer that lost their place.
    case losers(of: NodeID)

    /// The scope whose records are meant; nil for what is the peer's own.
    package var scope: Scope? {
        switch self {
        case .tail(let scope, _, _), .dots(let scope, _, _), .commits(let scope, _, _, _),
            .evidence(let scope, _):
            scope
        case .losers: nil
        }
    }
}
