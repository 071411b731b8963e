// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshContent
package import MeshCore
package import MeshReplication
package import MeshTrust
internal import Synchronization

/// Certificates and policies that were verified once, kept in memory beside the database.
package final class TrustDirectory: Sendable {
    private struct Known {
        var certificates: [NodeID: Certificate] = [:]
        var policies: [String: NamespacePolicy] = [:]
        var generation = 0
        var revoked: Set<NodeID> = []
    }

    /// The mesh's root document.
    package let root: RootDocument
    private let known = Mutex(Known())

    init(root: RootDocument) { self.root = root }

    func certificate(of node: NodeID, _ db: Database) throws -> Certificate? {
        if let certificate = known.withLock({ $0.certificates[node] }) { return certificate }
        let bytes = try db.first("SELECT bytes FROM certificate WHERE node = ?", .digest(node)) {
            $0.bytes(0)
        }
        guard let bytes else { return nil }
        let certificate = try Certificate(decoding: bytes, root: root)
        remember(certificate)
        return certificate
    }

    func remember(_ certificate: Certificate) {
        known.withLock {
            if $0.certificates.count >= StoreLimits.cached { $0.certificates.removeAll() }
            $0.certificates[certificate.node] = certificate
        }
    }

    /// The policy of a namespace: its earliest record, since policies are write-once.
    func policy(of namespace: String, _ db: Database) throws -> NamespacePolicy? {
        switch namespace {
        case NamespacePolicy.meshNamespace: return .mesh
        case ContentSpecification.namespace: return .content
        case Revocation.namespace: return .revocations
        case ContentSpecification.statusNamespace: return .status
        case ContentSpecification.freshNamespace: return .fresh
        default: break
        }
        let (remembered, generation) = known.withLock { ($0.policies[namespace], $0.generation) }
        if let remembered { return remembered }
        guard let key = try? NamespacePolicy.key(of: namespace),
            let state = try Queries.state(db, of: key, in: NamespacePolicy.scope, merge: .log),
            let record = state.value?.record,
            let policy = try? NamespacePolicy(decoding: record.body)
        else { return nil }
        known.withLock {
            // What was read before a change is not remembered after it.
            guard $0.generation == generation else { return }
            if $0.policies.count >= StoreLimits.cached { $0.policies.removeAll() }
            $0.policies[namespace] = policy
        }
        return policy
    }

    func revoke(_ revocations: [Revocation]) {
        if revocations.isEmpty { return }
        known.withLock { $0.revoked.formUnion(revocations.map(\.node)) }
    }

    func isRevoked(_ node: NodeID) -> Bool { known.withLock { $0.revoked.contains(node) } }

    func forgetPolicies() {
        known.withLock {
            $0.policies.removeAll()
            $0.generation += 1
        }
    }
}

extension Store {
    /// The certificate of a node, if it was ever shown here.
    package func certificate(of node: NodeID) throws -> Certificate? {
        try read { try directoryCache.certificate(of: node, $0) }
    }

    /// Keeps a certificate that was verified.
    package func keep(_ certificate: Certificate) throws {
        if try self.certificate(of: certificate.node) == certificate { return }
        try change { db in
            try db.run(
                "INSERT OR REPLACE INTO certificate VALUES(?, ?)", .digest(certificate.node),
                .bytes(certificate.encoded))
        }
        directoryCache.remember(certificate)
    }

    /// Keeps where a node was last met.
    package func remember(_ node: NodeID, at address: String) throws {
        try change { db in
            try db.run(
                "INSERT OR REPLACE INTO address VALUES(?, ?)", .digest(node),
                .text(Array(address.utf8)))
        }
    }

    /// Keeps the words with which a node left; nil if it is back.
    package func depart(_ node: NodeID, words: [UInt8]?) throws {
        try change { db in
            guard let words else {
                return try db.run("DELETE FROM departure WHERE node = ?", .digest(node))
            }
            try db.run(
                "INSERT OR REPLACE INTO departure VALUES(?, ?)", .digest(node), .bytes(words))
        }
    }

    /// The words of nodes that left.
    package func departures() throws -> [NodeID: [UInt8]] {
        let rows = try read { db in
            try db.rows("SELECT node, words FROM departure") { ($0.digest(0), $0.bytes(1)) }
        }
        return Dictionary(
            rows.compactMap { node, words in node.map { ($0, words) } },
            uniquingKeysWith: { first, _ in first })
    }

    /// Where nodes were last met.
    package func addresses() throws -> [NodeID: String] {
        let rows = try read { db in
            try db.rows("SELECT node, address FROM address") { ($0.digest(0), $0.text(1)) }
        }
        return Dictionary(
            rows.compactMap { node, text in node.map { ($0, text) } },
            uniquingKeysWith: { first, _ in first })
    }

    /// Every certificate known here, by node name.
    package func certificates() throws -> [Certificate] {
        try read { db in
            try db.rows("SELECT bytes FROM certificate") { $0.bytes(0) }
                .compactMap { try? Certificate(decoding: $0, root: identity.root) }
        }.sorted {
            ($0.ticket.site, $0.ticket.node, $0.node) < ($1.ticket.site, $1.ticket.node, $1.node)
        }
    }

    /// The policy of a namespace, if known here.
    package func policy(of namespace: String) throws -> NamespacePolicy? {
        try read { try directoryCache.policy(of: namespace, $0) }
    }

    /// Every namespace known here with its policy, by name.
    package func policies() throws -> [(name: String, policy: NamespacePolicy)] {
        let scope = NamespacePolicy.scope
        let page = try list(scope, prefix: Array("namespaces/".utf8), after: nil, limit: 10_000)
        return try page.compactMap { state in
            guard let name = NamespacePolicy.namespace(of: state.key),
                let policy = try policy(of: name)
            else { return nil }
            return (name, policy)
        }
    }
}
