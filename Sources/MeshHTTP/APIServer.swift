// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore
public import Logging
public import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshStore
internal import NIOCore

/// Where the HTTP API is served.
public struct APIConfiguration: Sendable {
    /// `host:port` for local apps; nil for none.
    public var listen: String? = "127.0.0.1:7373"
    /// The admin socket's path.
    public var adminSocket: String
    /// Names of this host that requests may use, besides addresses and `localhost`.
    public var hosts: [String] = []
    /// Origins whose pages may use this server, such as `http://menu.example:8080`.
    public var origins: [String] = []
    /// Asks programs on this host for a token too.
    public var loopbackNeedsToken = false
    /// Serves other addresses than loopback without TLS.
    public var allowPlaintext = false

    /// Serves content to everybody who reaches the port, without a token.
    public var contentOpen = false
    /// `host:port` for content alone, which gives its pages an origin of their own; nil serves it
    /// beside the API.
    public var contentListen: String?

    /// The defaults.
    public init(adminSocket: String) { self.adminSocket = adminSocket }

    /// Why the configuration is refused; nil if it is not.
    public var refusal: String? {
        for origin in origins where !Self.isOrigin(origin) {
            return "http.origins: '\(origin)' is not like https://HOST or http://HOST:PORT"
        }
        return Self.refusal(of: listen, "http.listen", isOpen: allowPlaintext)
            ?? Self.refusal(
                of: contentListen, "content.listen", isOpen: allowPlaintext || contentOpen)
    }

    private static func refusal(of listen: String?, _ name: String, isOpen: Bool) -> String? {
        guard let listen else { return nil }
        guard let host = Address(listen)?.bareHost else {
            return "\(name): '\(listen)' is not HOST:PORT"
        }
        if host == "localhost" || host == "::1" || host.hasPrefix("127.") || isOpen { return nil }
        return """
            \(name): \(host) is not loopback, and tokens would cross the network in the clear \
            (set http.plaintext: true to accept that)
            """
    }

    /// Whether a text is an origin as browsers write it: scheme and host, no path.
    private static func isOrigin(_ text: String) -> Bool {
        for scheme in ["http://", "https://"] where text.hasPrefix(scheme) {
            let host = text.dropFirst(scheme.count)
            return !host.isEmpty && !host.contains("/") && host == host.lowercased()
        }
        return false
    }
}

/// Serves a node's records, status and changes over HTTP: one port for apps, one socket for the
/// operator.
public struct APIServer: Sendable {
    private let node: MeshNode
    private let configuration: APIConfiguration
    private let logger: Logger
    private let limits: APILimits

    /// Makes a server for a node.
    public init(node: MeshNode, configuration: APIConfiguration, logger: Logger) {
        self.node = node
        self.configuration = configuration
        self.logger = logger
        limits = APILimits { node.count($0) }
    }

    /// How many endpoints are opened.
    public var endpoints: Int {
        1 + [configuration.listen, configuration.contentListen].count { $0 != nil }
    }

    /// Serves until the task is cancelled.
    ///
    /// - Parameter ready: called for each endpoint once it is open.
    public func run(ready: @escaping @Sendable () async -> Void) async throws {
        if let refusal = configuration.refusal { throw APIError(reason: refusal) }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await serveSocket(ready: ready) }
            for (listen, face) in [
                (configuration.listen, Face.apps), (configuration.contentListen, .content),
            ] {
                guard let address = listen.flatMap({ Address($0) }) else { continue }
                let (host, port) = (address.bareHost, Int(address.port))
                // A host that has no IPv4 yet knows the name by IPv6 alone.
                let known = host == "localhost" ? "127.0.0.1" : host
                tasks.addTask { try await serve(.hostname(known, port: port), face, ready: ready) }
            }
            try await tasks.waitForAll()
        }
    }

    private func serveSocket(ready: @escaping @Sendable () async -> Void) async throws {
        let path = configuration.adminSocket
        unlink(path)
        // The socket is made under this mask, so that it is never open to others, not for a moment.
        let mask = umask(0o177)
        try await serve(.unixDomainSocket(path: path), .operators) {
            umask(mask)
            chmod(path, 0o600)
            await ready()
        }
    }

    /// Whom an endpoint serves.
    private enum Face {
        case operators, apps, content

        /// What an operator changes where the endpoint cannot be opened.
        func setting(_ configuration: APIConfiguration) -> String {
            switch self {
            case .operators: "the admin socket \(configuration.adminSocket)"
            case .apps: "http.listen: \(configuration.listen ?? "-")"
            case .content: "content.listen: \(configuration.contentListen ?? "-")"
            }
        }
    }

    private func serve(
        _ address: BindAddress, _ face: Face, ready: @escaping @Sendable () async -> Void
    ) async throws {
        let gate = Gatekeeper(
            store: node.store, isAdminSocket: face == .operators, configuration: configuration)
        let responder = CallbackResponder<MeshRequestContext> { request, context in
            var response = try await answer(request, context, gate, face)
            for field in Gatekeeper.answerFields { response.headers[field.name] = field.value }
            for field in gate.crossOriginFields(request.head) {
                response.headers[field.name] = field.value
            }
            return response
        }
        var decoding = HTTP1Channel.Configuration.DecoderConfiguration()
        decoding.maxHeaderFieldSize = 8 * 1024
        decoding.maxHeaderListSize = 32 * 1024
        decoding.maxHeaderFieldCount = 64
        let (content, isOpen) = (node.content, configuration.contentOpen)
        let servesContent = face != .apps || configuration.contentListen == nil
        let connections = limits.connections
        let handlers: @Sendable () -> [any RemovableChannelHandler] = {
            // The operator's socket is the operator's alone.
            (face == .operators ? [] : [ConnectionGuard(connections: connections)])
                + (servesContent
                    ? [
                        ContentHandler(
                            content: content, gate: gate, isOpen: isOpen, connections: connections)
                    ] : [])
        }
        let channel = HTTP1Channel.Configuration(
            additionalChannelHandlers: handlers(),
            idleTimeout: .seconds(120), httpDecoderConfiguration: decoding)
        let application = Application(
            responder: responder, server: .http1(configuration: channel),
            configuration: ApplicationConfiguration(address: address, serverName: "meshd"),
            onServerRunning: { _ in await ready() }, logger: quiet)
        do { try await application.run() } catch let error as IOError {
            let why = String(cString: strerror(error.errnoCode))
            throw APIError(reason: "\(face.setting(configuration)): \(why)")
        }
    }

    private func answer(
        _ request: Request, _ context: MeshRequestContext, _ gate: Gatekeeper, _ face: Face
    ) async throws -> Response {
        do {
            if request.uri.path == "/healthz" { return Routes.plain("ok\n") }
            if let fields = try gate.preflight(request.head) {
                return Response(status: .noContent, headers: fields)
            }
            let access = try gate.access(request.head, from: context.remoteAddress)
            // The operator's socket is no place that anybody takes.
            guard face == .operators || limits.connections.greet(context.connection) else {
                throw Problem.overLimit
            }
            let bodies = Claim(on: limits.bodies, for: access.owner)
            defer { bodies.release() }
            let routes = Routes(node: node, bodies: bodies, feeds: limits.feeds)
            if face == .content {
                throw Problem.notFound("there is only /content here; the API is on http.listen")
            }
            if request.uri.path == "/metrics", request.method == .get {
                try access.demandMesh()
                return Routes.plain(
                    try await routes.metrics(), type: "text/plain; version=0.0.4")
            }
            return try await routes.respond(request, access)
        } catch let problem as Problem {
            return Routes.answer(problem)
        } catch let error as StoreError {
            return Routes.answer(Problem(error))
        }
    }

    private var quiet: Logger {
        var logger = logger
        // What ends a server is thrown, and said once by whoever runs it.
        logger.logLevel = .critical
        return logger
    }
}

/// Why the API cannot be served.
public struct APIError: Error, CustomStringConvertible {
    let reason: String
    /// The reason, for a person.
    public var description: String { reason }
}
