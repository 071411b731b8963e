// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshTrust

/// A policy's name: the hash of its namespace and its content.
///
/// Every commit names the policy under which it was written, so it is judged by that one for ever,
/// also where another policy of the same namespace was made on the other side of a cut.
package struct PolicyID: Hashable, Comparable, Sendable {
    /// The hash; zero for namespaces of the mesh itself, whose policies are built in.
    package let hash: Digest

    /// The policy of a namespace of the mesh itself.
    package static let builtIn = PolicyID(.zero)

    /// Takes a hash.
    package init(_ hash: Digest) { self.hash = hash }

    /// Orders by hash.
    package static func < (lhs: PolicyID, rhs: PolicyID) -> Bool { lhs.hash < rhs.hash }
}

extension PolicyID: CustomStringConvertible {
    /// Eight hexadecimal digits.
    package var description: String { String(hash.description.prefix(8)) }
}

/// The rules of one namespace; `PolicyDocument` is what an operator signs.
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

        /// The name in commands and JSON.
        package var name: String {
            switch self {
            case .all: "all"
            case .site: "site"
            case .group(let group): "group:\(group)"
            case .each: "each"
            }
        }

        /// Finds a rule by its name.
        package init?(name: String) {
            let parts = name.split(separator: ":", omittingEmptySubsequences: false)
            switch parts.count {
            case 1 where name == "all": self = .all
            case 1 where name == "site": self = .site
            case 2 where parts[0] == "group" && Name.isValid(parts[1]):
                self = .group(String(parts[1]))
            default: return nil
            }
        }
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

    /// The bytes that its name is a hash of, and that a document carries.
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

    /// Decodes a policy.
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

    /// The policy's name in a mesh, as the policy of a namespace.
    package func id(for namespace: String, in mesh: MeshID) -> PolicyID {
        var writer = WireWriter()
        writer.short(namespace.utf8)
        writer.append(encoded)
        return PolicyID(
            Blake2b.hash(SigningContext.policy.message(mesh: mesh, body: writer.bytes)))
    }

    /// Whether a node may write to a scope of this namespace: its certificates add up.
    package func admits(_ certificates: [Certificate], to scope: Scope) -> Bool {
        certificates.contains { admits($0, to: scope) }
    }

    private func admits(_ certificate: Certificate, to scope: Scope) -> Bool {
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
