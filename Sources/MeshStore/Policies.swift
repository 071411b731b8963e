// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
package import MeshReplication
internal import MeshRules
internal import MeshTrust
internal import Synchronization

/// Policies as readers need them: the one of each namespace for new writes.
struct PolicyCache {
    private var known: [String: CurrentPolicy] = [:]
    private(set) var generation = 0

    subscript(namespace: String) -> CurrentPolicy? { known[namespace] }

    mutating func forget() {
        known = [:]
        generation += 1
    }

    /// What was read before a change is not remembered after it.
    mutating func note(_ policy: CurrentPolicy, of namespace: String, read generation: Int) {
        guard generation == self.generation else { return }
        if known.count >= StoreLimits.cached { known = [:] }
        known[namespace] = policy
    }
}

/// What new writes of a namespace follow.
package struct CurrentPolicy: Sendable {
    /// The policy.
    package let policy: NamespacePolicy
    /// How durable a write is to be where its app does not say.
    package let acknowledged: AckLevel
}

/// A policy that is known of a namespace.
package struct KnownPolicy: Sendable {
    /// The namespace.
    package let namespace: String
    /// Its name in commits.
    package let id: PolicyID
    /// What an operator has signed.
    package let document: PolicyDocument
    /// Whether it is the one for new writes.
    package let isCurrent: Bool

    /// The policy.
    package var policy: NamespacePolicy { document.policy }
}

extension Store {
    /// The policy of a namespace for new writes, if one is known here.
    package func policy(of namespace: String) throws -> NamespacePolicy? {
        try current(namespace)?.policy
    }

    /// How durable a write of a namespace is to be where its app does not say.
    package func acknowledged(of namespace: String) throws -> AckLevel {
        try current(namespace)?.acknowledged ?? .local
    }

    private func current(_ namespace: String) throws -> CurrentPolicy? {
        if let builtIn = BuiltIn.policy(of: namespace) {
            return CurrentPolicy(policy: builtIn, acknowledged: .local)
        }
        let (known, generation) = policyCache.withLock { ($0[namespace], $0.generation) }
        if let known { return known }
        guard let document = try knownPolicies(of: namespace).first?.document else { return nil }
        let current = CurrentPolicy(
            policy: document.policy, acknowledged: document.acknowledged)
        policyCache.withLock { $0.note(current, of: namespace, read: generation) }
        return current
    }

    /// Every policy that is known of a namespace, the current one first: two sides of a cut may
    /// have made one each, and what was written under either stands.
    package func knownPolicies(of namespace: String) throws -> [KnownPolicy] {
        guard let name = BuiltIn.policyKey(of: namespace),
            let state = try read({ try $0.state(of: name) })
        else { return [] }
        let documents = PolicyDocument.ordered(
            state.versions.map(\.record.body), root: identity.root)
        var seen: Set<PolicyID> = []
        return documents.compactMap { document in
            let id = document.policy.id(for: namespace, in: identity.root.meshID)
            let isFirst = seen.isEmpty
            guard seen.insert(id).inserted else { return nil }
            return KnownPolicy(
                namespace: namespace, id: id, document: document, isCurrent: isFirst)
        }
    }

    /// Every namespace known here with its policies, by name.
    package func policies() throws -> [KnownPolicy] {
        let prefix = Array("namespaces/".utf8)
        return try list(NamespacePolicy.scope, prefix: prefix, after: nil, limit: 10_000)
            .flatMap { state in
                try NamespacePolicy.namespace(of: state.key).map { try knownPolicies(of: $0) } ?? []
            }
    }
}
