// SPDX-License-Identifier: Apache-2.0

/// Where a server is reached: a host and a port.
///
/// Written as people write it: `till-1.example:7374`, `10.0.0.5:7374`, `[fe80::1%eth0]:7374`. A
/// peer or a person may have written it, so it is taken apart once, where it comes in.
public struct Address: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Longest written form, in bytes.
    public static let byteCountMax = 255
    /// A name, or an IP address; one of IPv6 in brackets.
    public let host: String
    /// 1…65535.
    public let port: UInt16

    /// Joins the two; nil unless `host` can be one: visible ASCII, colons only within brackets.
    public init?(host: String, port: UInt16) {
        let inner = Self.withoutBrackets(host)
        guard port > 0, !inner.isEmpty, host.utf8.count <= Self.byteCountMax - 6,
            host.utf8.allSatisfy({ (0x21...0x7e).contains($0) }),
            inner.utf8.count < host.utf8.count || !host.contains(":"),
            !inner.contains("["), !inner.contains("]")
        else { return nil }
        self.host = host
        self.port = port
    }

    /// Takes `host:port` apart; nil if it is none.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let digits = text[text.index(after: colon)...]
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits)
        else { return nil }
        self.init(host: String(text[..<colon]), port: port)
    }

    private static func withoutBrackets(_ host: String) -> Substring {
        host.hasPrefix("[") && host.hasSuffix("]") ? host.dropFirst().dropLast() : host[...]
    }

    /// The host without brackets, as resolvers take it.
    public var bareHost: String { String(Self.withoutBrackets(host)) }

    /// Whether it holds on one network segment only: an address of IPv6 with its interface.
    public var isOfOneSegment: Bool { host.contains("%") }

    /// `host:port`.
    public var description: String { "\(host):\(port)" }

    /// In the order of the written forms.
    public static func < (lhs: Address, rhs: Address) -> Bool {
        lhs.description < rhs.description
    }
}
