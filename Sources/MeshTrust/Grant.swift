// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What a grant lets a node do.
package enum Verb: UInt8, CaseIterable, Sendable {
    /// Hold a scope and hand it to apps.
    case read = 1
    /// Write records where the namespace's policy admits the writer.
    case write = 2
    /// Write where the policy says `central`, and define namespaces.
    case govern = 3
}

/// One permission in a ticket: a verb over a namespace and an audience.
///
/// Names are compared whole, never by prefix: a grant for site `1` says nothing about site `10`.
package struct Grant: Hashable, Sendable {
    /// What may be done.
    package let verb: Verb
    /// The namespace, or nil for every one.
    package let namespace: String?
    /// The audience, or nil for every one.
    package let audience: Audience?

    /// Names a permission.
    package init(_ verb: Verb, namespace: String? = nil, audience: Audience? = nil) {
        self.verb = verb
        self.namespace = namespace
        self.audience = audience
    }

    /// Whether the grant allows `verb` in `scope`.
    package func covers(_ verb: Verb, _ scope: Scope) -> Bool {
        self.verb == verb && (namespace ?? scope.namespace) == scope.namespace
            && (audience ?? scope.audience) == scope.audience
    }

    func encode(to writer: inout WireWriter) {
        writer.u8(verb.rawValue)
        writer.short((namespace ?? "*").utf8)
        if let audience { writer.audience(audience) } else { writer.u8(0xff) }
    }

    init(from reader: inout WireReader) throws(WireError) {
        guard let verb = Verb(rawValue: try reader.u8()) else { throw .invalid("verb") }
        let name = String(decoding: try reader.short(), as: UTF8.self)
        guard name == "*" || Name.isValidNamespace(name) else { throw .invalid("namespace") }
        var peek = reader
        let audience: Audience?
        if try peek.u8() == 0xff {
            reader = peek
            audience = nil
        } else {
            audience = try reader.audience()
        }
        self.init(verb, namespace: name == "*" ? nil : name, audience: audience)
    }

    /// What the servers of a site are given: their own site's data, their groups', and what is for
    /// all.
    package static func edge(site: String, groups: [String]) -> [Grant] {
        let audiences = [Audience.all, .site(site)] + groups.sorted().map { .group($0) }
        return audiences.map { Grant(.read, audience: $0) }
            + audiences.dropFirst().map { Grant(.write, audience: $0) }
    }

    /// What a central server is given: everything.
    package static let central = Verb.allCases.map { Grant($0) }
}
