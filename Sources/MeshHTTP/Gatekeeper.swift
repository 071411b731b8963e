// SPDX-License-Identifier: Apache-2.0

internal import MeshAPI
internal import MeshStore
internal import NIOCore
internal import NIOHTTP1

/// Decides who a request is from, and turns away what a browser was tricked into sending.
struct Gatekeeper: Sendable {
    let store: Store
    let isAdminSocket: Bool
    let configuration: APIConfiguration

    func access(
        _ request: Request, isForDisplay: Bool = false
    ) throws -> Access {
        if isAdminSocket { return .admin }
        try checkHost(request)
        if !isForDisplay { try checkSite(request) }
        if let header = request.headers[.authorization] {
            guard header.lowercased().hasPrefix("bearer "),
                let token = try store.tokens.find(String(header.dropFirst(7)))
            else { throw Problem.unauthorised }
            return .token(token)
        }
        guard !configuration.loopbackNeedsToken,
            Self.isLoopback(request.remoteAddress?.ipAddress ?? ""),
            !Self.isForwarded(request)
        else { throw Problem.unauthorised }
        return .local
    }

    /// Whether an address is this host's own: also one of IPv4 on a socket of IPv6, which is what
    /// the system's resolver makes of 127.0.0.1 on a host that has no IPv4 yet.
    static func isLoopback(_ address: String) -> Bool {
        address == "::1" || address.hasPrefix("127.") || address.hasPrefix("::ffff:127.")
    }

    /// Whether a proxy says that it passes on what another host asked. To this server it comes from
    /// loopback, but it has to bring a token like the host that it comes from.
    static func isForwarded(_ request: Request) -> Bool {
        FieldName.ofProxies.contains { request.headers[$0] != nil }
    }

    /// A name that a foreign page resolves to this host (DNS rebinding) is not one of ours; a page
    /// of another origin (CSRF) says so in `Origin`.
    func checkHost(_ request: Request) throws {
        let authority = request.authority
        let host = Self.host(of: authority)
        let isAddress =
            (try? SocketAddress(ipAddress: host, port: 0)) != nil || host == "localhost"
        guard isAddress || configuration.hosts.contains(host) else {
            throw Problem(
                .hostRefused, "'\(host)' is not a name of this server (set http.hosts to add one)")
        }
        guard let origin = request.headers[.origin], allowedOrigin(request) == nil else { return }
        let stripped = origin.split(separator: "/", omittingEmptySubsequences: true).last ?? ""
        guard origin != "null", stripped == authority else { throw Problem.originRefused }
    }

    /// A browser does not name the origin of a page that only shows something of ours, as an image,
    /// a script or a frame. It says where the page is from all the same (Fetch Metadata, W3C).
    private func checkSite(_ request: Request) throws {
        guard let site = request.headers[.secFetchSite], allowedOrigin(request) == nil else {
            return
        }
        guard ["same-origin", "none"].contains(site) else { throw Problem.originRefused }
    }

    private static func host(of authority: String) -> String {
        if authority.hasPrefix("["), let end = authority.firstIndex(of: "]") {
            return String(authority[authority.index(after: authority.startIndex)..<end])
        }
        return String(authority.split(separator: ":").first ?? "").lowercased()
    }

    // MARK: Other origins

    /// The origin of the page that asks, where the operator lets its pages use this server.
    private func allowedOrigin(_ request: Request) -> String? {
        request.headers[.origin].flatMap { configuration.origins.contains($0) ? $0 : nil }
    }

    /// What tells a browser that a page of another origin may read the answer (CORS).
    func crossOriginFields(_ request: Request) -> Fields {
        guard !configuration.origins.isEmpty else { return [:] }
        guard let origin = allowedOrigin(request) else { return [.vary: "Origin"] }
        return [
            .vary: "Origin", .accessControlAllowOrigin: origin,
            .accessControlExposeHeaders: "ETag, Mesh-Siblings, Mesh-Author, Retry-After",
        ]
    }

    /// What a browser is told that asks before it sends what a page wants; nil for other requests.
    func preflight(_ request: Request) throws -> Fields? {
        guard !isAdminSocket, request.method == .OPTIONS,
            request.headers[.accessControlRequestMethod] != nil
        else { return nil }
        try checkHost(request)
        return [
            .accessControlAllowMethods: "GET, HEAD, PUT, POST, DELETE",
            .accessControlAllowHeaders: """
            Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID
            """,
            .accessControlMaxAge: "600",
        ]
    }

    /// What keeps an answer from running as a page of this server, or from being shown in one of
    /// another: an app stores what it likes, and a value of type `text/html` is still only a value.
    static let answerFields: Fields = [
        .contentSecurityPolicy: "default-src 'none'; frame-ancestors 'none'; sandbox",
        .crossOriginResourcePolicy: "same-origin",
        .xContentTypeOptions: "nosniff",
    ]
}
