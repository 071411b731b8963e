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
    /// Serves other addresses than loopback without TLS.
    public var allowPlaintext = false

    /// Serves content to everybody who reaches the port, without a token.
    public var contentOpen = false

    /// The defaults.
    public init(adminSocket: String) { self.adminSocket = adminSocket }

    /// Why the configuration is refused; nil if it is not.
    public var refusal: String? {
        guard let listen else { return nil }
        guard let host = Address(listen)?.bareHost else {
            return "http.listen: '\(listen)' is not HOST:PORT"
        }
        if host == "localhost" || host == "::1" || host.hasPrefix("127.") || allowPlaintext {
            return nil
        }
        return """
            http.listen: \(host) is not loopback, and tokens would cross the network in the clear \
            (set http.plaintext: true to accept that)
            """
    }
}

/// Serves a node's records, status and changes over HTTP: one port for apps, one socket for the
/// operator.
public struct APIServer: Sendable {
    private let node: MeshNode
    private let configuration: APIConfiguration
    private let logger: Logger

    /// Makes a server for a node.
    public init(node: MeshNode, configuration: APIConfiguration, logger: Logger) {
        self.node = node
        self.configuration = configuration
        self.logger = logger
    }

    /// Serves until the task is cancelled.
    ///
    /// - Parameter ready: called for each endpoint once it is open.
    public func run(ready: @escaping @Sendable () async -> Void) async throws {
        if let refusal = configuration.refusal { throw APIError(reason: refusal) }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await serveSocket(ready: ready) }
            if let address = configuration.listen.flatMap({ Address($0) }) {
                let (host, port) = (address.bareHost, Int(address.port))
                // A host that has no IPv4 yet knows the name by IPv6 alone.
                let known = host == "localhost" ? "127.0.0.1" : host
                tasks.addTask {
                    try await serve(.hostname(known, port: port), isAdmin: false, ready: ready)
                }
            } else {
                await ready()
            }
            try await tasks.waitForAll()
        }
    }

    private func serveSocket(ready: @escaping @Sendable () async -> Void) async throws {
        let path = configuration.adminSocket
        unlink(path)
        // The socket is made under this mask, so that it is never open to others, not for a moment.
        let mask = umask(0o177)
        try await serve(.unixDomainSocket(path: path), isAdmin: true) {
            umask(mask)
            chmod(path, 0o600)
            await ready()
        }
    }

    private func serve(
        _ address: BindAddress, isAdmin: Bool, ready: @escaping @Sendable () async -> Void
    ) async throws {
        let gate = Gatekeeper(store: node.store, isAdminSocket: isAdmin, hosts: configuration.hosts)
        let routes = Routes(node: node)
        let responder = CallbackResponder<MeshRequestContext> { request, context in
            do {
                if request.uri.path == "/healthz" { return Routes.plain("ok\n") }
                let access = try gate.access(request.head, from: context.remoteAddress)
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
            } catch let error as HTTPError where error.status == .contentTooLarge {
                return Routes.answer(
                    Problem(
                        code: "too_large", title: "Too large", status: 413,
                        detail: "the body is over its limit"))
            }
        }
        var limits = HTTP1Channel.Configuration.DecoderConfiguration()
        limits.maxHeaderFieldSize = 8 * 1024
        limits.maxHeaderListSize = 32 * 1024
        limits.maxHeaderFieldCount = 64
        let (content, isOpen) = (node.content, configuration.contentOpen)
        let channel = HTTP1Channel.Configuration(
            additionalChannelHandlers: [
                ContentHandler(content: content, gate: gate, isOpen: isOpen)
            ],
            idleTimeout: .seconds(120), httpDecoderConfiguration: limits)
        let application = Application(
            responder: responder, server: .http1(configuration: channel),
            configuration: ApplicationConfiguration(address: address, serverName: "meshd"),
            onServerRunning: { _ in await ready() }, logger: quiet)
        try await application.run()
    }

    private var quiet: Logger {
        var logger = logger
        logger.logLevel = .error
        return logger
    }
}

/// Why the API cannot be served.
public struct APIError: Error, CustomStringConvertible {
    let reason: String
    /// The reason, for a person.
    public var description: String { reason }
}
