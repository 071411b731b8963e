// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import Logging
public import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshStore
internal import NIOCore
internal import NIOPosix

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
    private let dates = HTTPDates()
    /// Reads that take long wait for the disk here, and nobody else waits for them.
    private let readers = NIOThreadPool(numberOfThreads: 4)

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
        readers.start()
        defer { readers.shutdownGracefully { _ in } }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await serveSocket(ready: ready) }
            for (listen, face) in [
                (configuration.listen, Service.Face.apps), (configuration.contentListen, .content),
            ] {
                guard let address = listen.flatMap({ Address($0) }) else { continue }
                let (host, port) = (address.bareHost, Int(address.port))
                // A host that has no IPv4 yet knows the name by IPv6 alone.
                let known = host == "localhost" ? "127.0.0.1" : host
                tasks.addTask { try await serve(.tcp(host: known, port: port), face, ready: ready) }
            }
            try await tasks.waitForAll()
        }
    }

    private func serveSocket(ready: @escaping @Sendable () async -> Void) async throws {
        let path = configuration.adminSocket
        unlink(path)
        // The socket is made under this mask, so that it is never open to others, not for a moment.
        let mask = umask(0o177)
        try await serve(.unix(path: path), .operators) {
            umask(mask)
            chmod(path, 0o600)
            await ready()
        }
    }

    /// What an operator changes where the endpoint cannot be opened.
    private func setting(_ face: Service.Face) -> String {
        switch face {
        case .operators: "the admin socket \(configuration.adminSocket)"
        case .apps: "http.listen: \(configuration.listen ?? "-")"
        case .content: "content.listen: \(configuration.contentListen ?? "-")"
        }
    }

    private func serve(
        _ endpoint: Endpoint, _ face: Service.Face, ready: @escaping @Sendable () async -> Void
    ) async throws {
        let service = Service(
            node: node,
            gate: Gatekeeper(
                store: node.store, isAdminSocket: face == .operators, configuration: configuration),
            face: face, configuration: configuration, limits: limits, readers: readers,
            dates: dates)
        do {
            try await HTTPServer(service: service, endpoint: endpoint).run(ready: ready)
        } catch let error as IOError {
            let why = String(cString: strerror(error.errnoCode))
            throw APIError(reason: "\(setting(face)): \(why)")
        }
    }
}

/// Why the API cannot be served.
public struct APIError: Error, CustomStringConvertible {
    let reason: String
    /// The reason, for a person.
    public var description: String { reason }
}
