// SPDX-License-Identifier: Apache-2.0

internal import MeshAPI
internal import MeshCore
internal import NIOCore
internal import NIOHTTP1

/// A request, with its whole body once that is here.
struct Request: Sendable {
    let method: HTTPMethod
    /// What was asked for, percent-encoded, without the query.
    let path: String
    let query: Substring
    let headers: Fields
    /// The host that the request names: of its target, or of its field `Host` (RFC 9112, §3.2).
    let authority: String
    let remoteAddress: SocketAddress?
    let connection: Connections.ID
    /// Whether the connection stays for another request.
    let isKeptAlive: Bool
    let version: HTTPVersion
    var body: [UInt8] = []

    /// Longest target that is taken, in bytes.
    static let targetBytesMax = 7 * 1024

    /// - Throws: a problem, for a head that two readers could take for two different things.
    init(
        _ head: HTTPRequestHead, from remoteAddress: SocketAddress?, on connection: Connections.ID
    ) throws {
        guard head.uri.utf8.count <= Self.targetBytesMax else {
            throw Problem(
                .targetTooLong,
                "the target has \(head.uri.utf8.count) bytes; at most \(Self.targetBytesMax)")
        }
        method = head.method
        headers = Fields(head.headers)
        self.remoteAddress = remoteAddress
        self.connection = connection
        isKeptAlive = Framing.keepsAlive(head)
        version = head.version
        let hosts = headers.count(of: .host)
        guard hosts == 1 || (hosts == 0 && head.version != .http1_1) else {
            throw Problem(.badHost, "a request has one field 'Host', not \(hosts)")
        }
        var target = head.uri[...]
        var authority = headers[.host] ?? ""
        if !target.hasPrefix("/"),
            let end = Self.schemes.lazy.compactMap({
                target.hasPrefix($0) ? target.index(target.startIndex, offsetBy: $0.count) : nil
            }).first
        {
            let rest = target[end...]
            let slash = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
            authority = String(rest[..<slash])
            target = rest[slash...]
        }
        self.authority = authority
        let mark = target.firstIndex(of: "?") ?? target.endIndex
        path = mark == target.startIndex ? "/" : String(target[..<mark])
        query = target[mark...].dropFirst()
    }

    private static let schemes = ["http://", "https://"]

    /// The parameters of the query, percent-decoded, in their order.
    ///
    /// - Throws: for one that nobody can read.
    func parameters() throws -> [(name: String, value: String)] {
        try query.split(separator: "&").map { part in
            let mark = part.firstIndex(of: "=") ?? part.endIndex
            let texts = [part[..<mark], part[mark...].dropFirst()].map { text in
                PercentEncoding.decode(text).flatMap { String(validating: $0, as: UTF8.self) }
            }
            guard let name = texts[0], let value = texts[1] else {
                throw Problem(
                    .badQuery, "'\(part)' is not a parameter in percent-encoded UTF-8")
            }
            return (name, value)
        }
    }

    /// A parameter of the query, percent-decoded; nil where it is not there.
    func parameter(_ name: String) -> String? {
        if query.isEmpty { return nil }
        for part in query.split(separator: "&") {
            let mark = part.firstIndex(of: "=") ?? part.endIndex
            guard PercentEncoding.decode(part[..<mark]) == Array(name.utf8) else { continue }
            let value = part[mark...].dropFirst()
            return PercentEncoding.decode(value).map { String(decoding: $0, as: UTF8.self) }
        }
        return nil
    }
}

/// Percent-encoded octets (RFC 3986, §2.1).
enum PercentEncoding {
    /// - Returns: nil for a malformed escape.
    static func decode(_ text: some StringProtocol) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        var rest = text.utf8.makeIterator()
        while let byte = rest.next() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.next().flatMap(Hex.value),
                let low = rest.next().flatMap(Hex.value)
            else {
                return nil
            }
            bytes.append(high << 4 | low)
        }
        return bytes
    }
}
