// SPDX-License-Identifier: Apache-2.0

/// Rules for the short ASCII names that people give: sites, nodes, groups, namespaces.
public enum Name {
    /// Longest name, in bytes.
    public static let byteCountMax = 63

    /// Whether `text` may name a site, node or group: letters, digits, `.`, `_`, `-`, first a
    /// letter or digit.
    public static func isValid(_ text: some StringProtocol) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, bytes.count <= byteCountMax, isAlphanumeric(first) else {
            return false
        }
        return bytes.allSatisfy { isAlphanumeric($0) || "._-".utf8.contains($0) }
    }

    /// Whether `text` may name a namespace: lower case, digits, `_`, `-`; a leading `_` is the
    /// mesh's own.
    public static func isValidNamespace(_ text: some StringProtocol) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, bytes.count <= byteCountMax, first != UInt8(ascii: "-")
        else {
            return false
        }
        return bytes.allSatisfy {
            isAlphanumeric($0) && !(UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
                || "_-".utf8.contains($0)
        }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
}

/// Who holds a scope.
public enum Audience: Hashable, Comparable, Sendable {
    /// Every node of the mesh.
    case all
    /// The nodes of one site, and those granted to read it.
    case site(String)
    /// The nodes of the sites in one group.
    case group(String)

    /// Parses `@all`, `@site/NAME` or `@group/NAME`.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        switch (parts.first, parts.count) {
        case ("@all", 1): self = .all
        case ("@site", 2) where Name.isValid(parts[1]): self = .site(String(parts[1]))
        case ("@group", 2) where Name.isValid(parts[1]): self = .group(String(parts[1]))
        default: return nil
        }
    }
}

extension Audience: CustomStringConvertible {
    /// `@all`, `@site/NAME` or `@group/NAME`.
    public var description: String {
        switch self {
        case .all: "@all"
        case .site(let name): "@site/\(name)"
        case .group(let name): "@group/\(name)"
        }
    }
}

/// A namespace for one audience: the unit that is replicated and digested.
public struct Scope: Hashable, Comparable, Sendable {
    /// The namespace's name.
    public let namespace: String
    /// Who holds this part of it.
    public let audience: Audience

    /// Names a scope; the caller has checked the namespace's name.
    public init(namespace: String, audience: Audience) {
        self.namespace = namespace
        self.audience = audience
    }

    /// Parses `orders@site/s12`; nil if either part is malformed.
    public init?(_ text: some StringProtocol) {
        guard let at = text.firstIndex(of: "@"), Name.isValidNamespace(text[..<at]),
            let audience = Audience(text[at...])
        else { return nil }
        self.init(namespace: String(text[..<at]), audience: audience)
    }

    /// Whether it is the mesh's own, and no app's.
    public var isOfMesh: Bool { namespace.utf8.first == UInt8(ascii: "_") }

    /// Orders by namespace, then audience.
    public static func < (lhs: Scope, rhs: Scope) -> Bool {
        lhs.namespace != rhs.namespace
            ? lhs.namespace < rhs.namespace : lhs.audience < rhs.audience
    }
}

extension Scope: CustomStringConvertible {
    /// `orders@site/s12`.
    public var description: String { "\(namespace)\(audience)" }
}
