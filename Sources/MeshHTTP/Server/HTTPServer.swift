// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Synchronization

/// Tells the connections of a server that it ends.
struct ServerEnds: Sendable {}

/// Where a server is reached.
enum Endpoint: Sendable {
    case tcp(host: String, port: Int)
    case unix(path: String)
}

/// Accepts connections, and ends them.
struct HTTPServer: Sendable {
    /// Seconds that connections have to end with the server.
    private static let secondsToEnd: Int64 = 2

    /// Most bytes of a connection that the parser has not taken.
    private static let undecodedBytesMax = 1 << 18

    let service: Service
    let endpoint: Endpoint

    /// Serves until the task is cancelled.
    ///
    /// - Parameter ready: called once connections are accepted.
    func run(ready: @escaping @Sendable () async -> Void) async throws {
        let open = OpenConnections()
        let listener = try await bind(open)
        await ready()
        await withTaskCancellationHandler {
            try? await listener.closeFuture.get()
        } onCancel: {
            listener.close(promise: nil)
        }
        let left = open.end()
        for channel in left {
            channel.pipeline.fireUserInboundEventTriggered(ServerEnds())
            channel.eventLoop.scheduleTask(in: .seconds(Self.secondsToEnd)) {
                channel.close(promise: nil)
            }
        }
        for channel in left { try? await channel.closeFuture.get() }
    }

    private func bind(_ open: OpenConnections) async throws -> any Channel {
        let service = service
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 512)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    open.add(channel)
                    try Self.prepare(channel, service)
                }
            }
        switch endpoint {
        case .tcp(let host, let port):
            return
                try await bootstrap
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .bind(host: host, port: port).get()
        case .unix(let path):
            return try await bootstrap.bind(unixDomainSocketPath: path).get()
        }
    }

    private static func prepare(_ channel: any Channel, _ service: Service) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = 8 * 1024
        limits.maxHeaderListSize = Service.headBytesMax
        limits.maxHeaderFieldCount = 64
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandlers([
            HTTPResponseEncoder(),
            ByteToMessageHandler(
                HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes, limitConfiguration: limits),
                maximumBufferSize: undecodedBytesMax),
        ])
        // The operator's socket is the operator's alone.
        if service.face != .operators {
            try pipeline.addHandler(ConnectionGuard(connections: service.limits.connections))
        }
        try pipeline.addHandler(HTTPConnection(service: service))
    }
}

/// The connections of a server, to end them with it.
private final class OpenConnections: Sendable {
    private struct State {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var hasEnded = false
    }

    private let state = Mutex(State())

    func add(_ channel: any Channel) {
        let id = ObjectIdentifier(channel)
        let hasEnded = state.withLock { state in
            state.channels[id] = channel
            return state.hasEnded
        }
        channel.closeFuture.whenComplete { _ in
            self.state.withLock { $0.channels[id] = nil }
        }
        if hasEnded { channel.close(promise: nil) }
    }

    /// - Returns: those that are open; whoever comes now is turned away.
    func end() -> [any Channel] {
        state.withLock { state in
            state.hasEnded = true
            return Array(state.channels.values)
        }
    }
}
