// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshReplication
internal import MeshRules
package import MeshStore
internal import MeshTrust

/// A node with a valid certificate that signs what it likes.
package struct PeerWriter {
    package let identity: DataDirectory.Identity
    package let author: Author
    /// The policies under which it writes, by namespace.
    package var policies: [String: NamespacePolicy] = [
        "menu": .menu, "orders": .orders, "prices": .prices,
    ]

    package init(_ identity: DataDirectory.Identity, life: UInt64 = 1 << 32) {
        self.identity = identity
        author = Author(node: identity.certificate.node, life: Life(life))
    }

    package func dot(_ sequence: UInt64) -> Dot { Dot(author: author, sequence: sequence) }

    package func record(
        _ key: String, _ text: String = "v", seen: [Dot] = [], stamp: UInt64 = 1,
        kind: Record.Kind = .put
    ) throws -> Record {
        Record(
            kind: kind, stamp: HybridTime(stamp), key: try RecordKey(key), context: Context(seen),
            contentType: kind == .put ? "text/plain" : "",
            body: kind == .put ? Array(text.utf8) : [])
    }

    package func policy(of namespace: String) -> PolicyID {
        policies[namespace]?.id(for: namespace, in: identity.root.meshID) ?? .builtIn
    }

    package func commit(
        _ scope: Scope, _ records: [Record], first: UInt64 = 1, mesh: MeshID? = nil,
        previous: Digest? = nil, key: SigningKey? = nil, inherits: [Inheritance] = []
    ) -> Commit {
        let encoded = records.map(\.encoded)
        let mesh = mesh ?? identity.root.meshID
        return Commit(
            signing: encoded, ids: encoded.map { Record.id(of: $0, in: mesh) }, scope: scope,
            author: author, first: first,
            previous: previous ?? (first == 1 ? .zero : TestMesh.bytes(77, 77)),
            policy: policy(of: scope.namespace), inherits: inherits,
            key: key ?? identity.nodeKey, mesh: mesh)
    }

    package func message(
        _ scope: Scope, _ records: [Record], first: UInt64 = 1, mesh: MeshID? = nil,
        previous: Digest? = nil, key: SigningKey? = nil, inherits: [Inheritance] = []
    ) -> CommitsMessage {
        run([
            commit(
                scope, records, first: first, mesh: mesh, previous: previous, key: key,
                inherits: inherits)
        ])
    }

    /// Commits as a run that follows what is before the first.
    package func run(_ commits: [Commit], after: UInt64? = nil) -> CommitsMessage {
        let (first, last) = (commits[0].header, commits[commits.count - 1].header)
        return CommitsMessage(
            scope: first.scope, author: author, after: after ?? first.first - 1,
            through: last.last, commits: commits)
    }

    /// Commits as places to fill.
    package func fill(_ commits: [Commit]) -> CommitsMessage {
        CommitsMessage(
            scope: commits[0].header.scope, author: author, after: 0, through: 0, commits: commits)
    }
}

extension Store {
    /// Judges one message as it would come over a link.
    package func take(_ message: CommitsMessage) async throws -> IngestOutcome {
        let decoded = try CommitsMessage(decoding: message.encoded)
        guard let outcome = try await ingest([decoded]).first else { throw StoreError.closed }
        return outcome
    }

    /// Every value of a key, the first first.
    package func values(_ scope: Scope, _ key: String) throws -> [String] {
        (try get(RecordKey(key), in: scope)?.versions ?? []).filter { $0.record.kind == .put }
            .map { String(decoding: $0.record.body, as: UTF8.self) }
    }

    /// Deletes a key.
    package func delete(_ scope: Scope, _ key: String) async throws {
        _ = try await write(
            WriteRequest(scope: scope, writes: [Write(.delete, try RecordKey(key))]))
    }

    /// Scrubs everything once.
    package func scrubAll() throws {
        var place = ScrubPlace.beginning
        repeat { place = try scrub(after: place).next } while place != .beginning
        settle()
    }
}
