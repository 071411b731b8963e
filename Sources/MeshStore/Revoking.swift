// SPDX-License-Identifier: Apache-2.0

internal import MeshContent
package import MeshCore
internal import MeshReplication
internal import MeshRules
package import MeshTrust
internal import Synchronization

extension Store {
    /// Every revocation that is known here, in the order of their hashes.
    package func revocations() throws -> [Revocation] { try read { try $0.revocations() } }

    /// Brings in a revocation that a peer, a person or a file gave; answers whether it was not
    /// known here.
    package func revoke(
        _ revocation: Revocation, done: @escaping @Sendable (Result<Bool, StoreError>) -> Void
    ) {
        let write = Write(
            .put, revocation.key, contentType: Revocation.contentType, body: revocation.encoded)
        self.write(WriteRequest(scope: Revocation.scope, writes: [write])) { result in
            switch result {
            case .success: done(.success(true))
            case .failure(.exists): done(.success(false))
            case .failure(let error): done(.failure(error))
            }
        }
    }

    /// Writes anew what is known of revocations and is no live record any more, so that it goes on
    /// to others.
    package func bringBackRevocations() {
        for revocation in (try? revocations()) ?? [] {
            let isLive = (try? get(revocation.key, in: Revocation.scope)) ?? nil
            if isLive == nil { revoke(revocation) { _ in } }
        }
    }

    /// Whether a node is known to be revoked by its identity.
    package func isRevoked(_ node: NodeID) -> Bool {
        present.withLock { $0.revoked.contains(node) }
    }

    /// Whether a node, or its ticket, is known to be revoked; cheap enough to ask for each link.
    package func isRevoked(_ card: Certificate) -> Bool {
        present.withLock {
            $0.revoked.contains(card.node) || $0.revokedTickets.contains(card.ticket.serial)
        }
    }

    /// Judges by the root document what was judged by an earlier one; asked for at each start, as
    /// one may have come since the last.
    ///
    /// What nodes wrote goes whose enrol keys were retired; what stands by its own signatures is
    /// brought anew. Revocations that are held and count, cut. This node's own records stay: where
    /// it is out itself it takes no more writes, and an operator may let it stand after all.
    package func judgeAnew() {
        guard identity.root.version > 1, identity.root.isWhole else { return }
        let nodes = (try? read { try $0.retired() }) ?? []
        let retired = Set(nodes).subtracting([identity.certificate.node])
        let revocations = documents(in: Revocation.scope).compactMap { record in
            try? Revocation(decoding: record.record.body, root: identity.root)
        }.filter(\.stands)
        let releases = ((try? scopes()) ?? []).filter {
            $0.namespace == ContentSpecification.namespace
        }.flatMap { scope in
            documents(in: scope).filter { retired.contains($0.dot.author.node) }.map {
                (scope, $0.record)
            }
        }
        submit(.judgeAnew(retired: retired, revocations: revocations))
        settle()
        bringBackRevocations()
        for (scope, record) in releases {
            let write = Write(
                .put, record.key, contentType: record.contentType, body: record.body)
            self.write(WriteRequest(scope: scope, writes: [write])) { _ in }
        }
    }

    private func documents(in scope: Scope) -> [StoredVersion] {
        let states = (try? list(scope, prefix: [], after: nil, limit: 10_000)) ?? []
        return states.flatMap(\.versions)
    }

    /// The logs of a node as far as they are held here, and how far each goes.
    ///
    /// - Parameter since: nothing of a commit with a record that was stamped at this time or
    ///   later, in milliseconds since 1970, nor of what follows it in its log.
    /// - Returns: what would stand of each; logs of which nothing lives are left out, since a cut
    ///   to nothing takes nothing from them.
    package func logs(
        of node: NodeID, before since: UInt64?
    ) throws -> [(cut: Revocation.Cut, frontier: UInt64)] {
        try read { snapshot in
            var needs = Needs()
            needs.logsOf = [node]
            let logs = try snapshot.facts(needs).logsOf[node] ?? [:]
            return try logs.compactMap {
                log, frontier -> (cut: Revocation.Cut, frontier: UInt64)? in
                if DocumentAdmission.appliesTo(log.scope) { return nil }
                let (first, isLive) = try Self.first(snapshot, log, frontier, since)
                let through = first.map { $0 - 1 } ?? frontier
                guard through < frontier || isLive else { return nil }
                let cut = Revocation.Cut(
                    scope: log.scope, life: log.author.life, through: through)
                return (cut, frontier)
            }.sorted { $0.cut < $1.cut }
        }
    }

    /// Where the first commit begins that holds a record stamped at `since` or later, and whether
    /// anything of the log lives.
    private static func first(
        _ snapshot: any RecordSnapshot, _ log: LogName, _ frontier: UInt64, _ since: UInt64?
    ) throws -> (first: UInt64?, isLive: Bool) {
        var after: UInt64 = 0
        var isLive = false
        while true {
            let commits = try snapshot.commits(of: log, after: after, limit: 64)
            for commit in commits {
                let rows = try snapshot.rows(of: log, in: commit.header.range)
                isLive = isLive || rows.contains(where: \.isLive)
                guard let since else {
                    if isLive { return (nil, true) }
                    continue
                }
                let isLate = rows.contains { row in
                    guard let record = try? Record(decoding: row.bytes) else { return false }
                    return record.stamp.milliseconds >= since
                }
                if isLate { return (commit.header.first, isLive) }
            }
            guard commits.count == 64, let last = commits.last else { return (nil, isLive) }
            after = last.header.last
        }
    }
}
