// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshTrust

/// The rules of one namespace: itself a signed, write-once record of the mesh.
package struct NamespacePolicy: Hashable, Sendable {
    /// The media type of a policy's record.
    package static let contentType = "application/vnd.mesh.policy"
    /// The namespace that policies and other things of the mesh itself live in.
    package static let meshNamespace = "_mesh"
    /// Where policies are: for every node, in the mesh's own namespace.
    package static let scope = Scope(namespace: meshNamespace, audience: .all)

    /// For whom the namespace's scopes are.
    package enum AudienceRule: Hashable, Sendable {
        /// One scope, held by every node.
        case all
        /// A scope for each site.
        case site
        /// One scope, for one group.
        case group(String)
        /// A scope for each audience there is: for the mesh's own namespaces alone, never written
        /// down.
        case each
    }

    /// Who may write.
    package enum Writers: UInt8, CaseIterable, Sendable {
        /// Nodes granted to govern the scope.
        case central = 1
        /// Nodes granted to write this very scope.
        case site = 2
        /// Nodes granted to write anything in the namespace.
        case any = 3

        /// The name in commands and JSON.
        package var name: String {
            switch self {
            case .central: "central"
            case .site: "site"
            case .any: "any"
            }
        }

        /// Finds a rule by its name.
        package init?(name: String) {
            guard let rule = Self.allCases.first(where: { $0.name == name }) else { return nil }
            self = rule
        }
    }

    /// For whom.
    package let audience: AudienceRule
    /// By whom.
    package let writers: Writers
    /// Merged how.
    package let merge: MergeKind

    /// Names a policy.
    package init(audience: AudienceRule, writers: Writers, merge: MergeKind) {
        self.audience = audience
        self.writers = writers
        self.merge = merge
    }

    /// The policy of the mesh's own namespace, which no record can change.
    package static let mesh = NamespacePolicy(audience: .all, writers: .central, merge: .log)

    /// The namespace of signed releases: anybody may bring one, since it proves itself.
    package static let content = NamespacePolicy(audience: .each, writers: .any, merge: .log)

    /// The namespace of revocations: anybody may bring one, since it proves itself.
    package static let revocations = NamespacePolicy(audience: .all, writers: .any, merge: .log)

    /// The namespace in which the servers of a site say how far they are.
    package static let status = NamespacePolicy(audience: .site, writers: .site, merge: .register)

    /// The namespace in which the centre says, now and then, that it is there.
    package static let fresh = NamespacePolicy(audience: .all, writers: .central, merge: .register)

    /// The key under which a namespace's policy is written.
    package static func key(of namespace: String) throws(KeyError) -> RecordKey {
        try RecordKey("namespaces/\(namespace)")
    }

    /// The namespace whose policy lives under `key`; nil for another kind of record.
    package static func namespace(of key: RecordKey) -> String? {
        let parts = key.description.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0] == "namespaces", Name.isValidNamespace(parts[1]) else {
            return nil
        }
        return String(parts[1])
    }

    /// The record body.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        switch audience {
        case .all: writer.u8(0)
        case .site: writer.u8(1)
        case .group(let name):
            writer.u8(2)
            writer.short(name.utf8)
        case .each: preconditionFailure("no record has this rule")
        }
        writer.u8(writers.rawValue)
        writer.u8(merge.rawValue)
        writer.u8(0)
        return writer.bytes
    }

    /// Decodes a record body.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        switch try reader.u8() {
        case 0: audience = .all
        case 1: audience = .site
        case 2: audience = .group(try reader.name("group"))
        default: throw .invalid("audience rule")
        }
        guard let writers = Writers(rawValue: try reader.u8()) else { throw .invalid("writers") }
        guard let merge = MergeKind(rawValue: try reader.u8()) else { throw .invalid("merge") }
        self.writers = writers
        self.merge = merge
        guard try reader.u8() == 0 else { throw .invalid("extension") }
        try reader.finish()
    }

    /// The scope of this namespace for a node's request: its own site's unless another is named.
    package func scope(of namespace: String, site: String) -> Scope {
        switch audience {
        case .all, .each: Scope(namespace: namespace, audience: .all)
        case .site: Scope(namespace: namespace, audience: .site(site))
        case .group(let name): Scope(namespace: namespace, audience: .group(name))
        }
    }

    /// Whether the namespace has such a scope.
    package func has(_ scope: Scope) -> Bool {
        switch (audience, scope.audience) {
        case (.all, .all), (.site, .site), (.each, _): true
        case (.group(let name), .group(let other)): name == other
        default: false
        }
    }

    /// Whether a node may write to a scope of this namespace.
    package func admits(_ certificate: Certificate, to scope: Scope) -> Bool {
        switch writers {
        case .central: certificate.allows(.govern, scope)
        case .site: certificate.allows(.write, scope)
        case .any:
            certificate.ticket.grants.contains {
                $0.verb == .write && ($0.namespace ?? scope.namespace) == scope.namespace
            }
        }
    }
}

/// Why a commit or a record from a peer was refused; each is a counter.
package enum Refusal: String, Error, CaseIterable, Sendable {
    /// Not the bytes of what it claims to be.
    case malformed
    /// The signature or the Merkle proof does not verify.
    case badSignature = "bad_signature"
    /// The author's certificate is not known here yet.
    case authorUnknown = "author_unknown"
    /// The namespace's policy is not known here yet.
    case policyUnknown = "policy_unknown"
    /// The author has no grant for the scope.
    case notGranted = "not_granted"
    /// The namespace has no such scope, or this node does not hold it.
    case wrongAudience = "wrong_audience"
    /// The release in it is not signed as its channel's charter asks, or stands under another key.
    case badRelease = "bad_release"
    /// The revocation in it is not signed by a revoke key, or stands under another key.
    case badRevocation = "bad_revocation"
    /// The author was revoked, and its log ends before this.
    case revoked
    /// The record breaks its namespace's merge kind.
    case wrongMerge = "wrong_merge"
    /// The record names a dot of its own node that is not before it.
    case badContext = "bad_context"
    /// The store could not take it now: the disk is full, or too much waits.
    case unavailable
}

/// The one place that decides whether a commit may be stored.
package enum Admission {
    /// Judges a commit's header by its author's grants and its namespace's policy.
    package static func judge(
        _ header: CommitHeader, certificate: Certificate, policy: NamespacePolicy?
    ) throws(Refusal) {
        guard let policy else { throw .policyUnknown }
        guard policy.has(header.scope) else { throw .wrongAudience }
        guard policy.admits(certificate, to: header.scope) else { throw .notGranted }
    }

    /// Judges a record of an admitted commit by the merge kind.
    package static func judge(
        _ record: Record, at dot: Dot, merge: MergeKind
    ) throws(Refusal) {
        guard record.part.isEmpty else { throw .wrongMerge }
        if merge == .log, record.kind == .delete || !record.context.dots.isEmpty {
            throw .wrongMerge
        }
        // A context may name an earlier dot of the writer's node, never its own future.
        for seen in record.context.dots where seen.author.node == dot.author.node && seen >= dot {
            throw .badContext
        }
    }
}
