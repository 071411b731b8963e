// SPDX-License-Identifier: Apache-2.0

internal import CNIOLinux
internal import Glibc
internal import MeshCore
internal import NIOCore
internal import NIOHTTP1

/// Turns connections away before descriptors run out, and those that bring no request.
///
/// Without a descriptor the server could not accept anything any more, links of neighbours and the
/// files of its database among it.
final class ConnectionGuard: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart

    private let connections: Connections
    private var isIn = false
    private var timer: Scheduled<Void>?

    init(connections: Connections) { self.connections = connections }

    /// Which host an address is of: one has many of IPv6 in its network of 64 bits, and many on
    /// loopback.
    static func host(_ address: SocketAddress?) -> String {
        guard let text = address?.ipAddress, !Gatekeeper.isLoopback(text) else { return "loopback" }
        guard case .v6(let v6) = address else { return text }
        let bytes = withUnsafeBytes(of: v6.address.sin6_addr) { Array($0) }
        let isMapped = bytes.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        return Hex.encode(isMapped ? bytes.suffix(4) : bytes.prefix(8))
    }

    func handlerAdded(context: ChannelHandlerContext) {
        // A client that stops reading is given up after a minute, by the kernel.
        let option = ChannelOptions.Types.SocketOption(
            level: .tcp, name: .init(rawValue: TCP_USER_TIMEOUT))
        _ = context.channel.setOption(option, value: 60_000)
    }

    func channelActive(context: ChannelHandlerContext) {
        guard let remote = context.channel.remoteAddress else { return context.close(promise: nil) }
        let (loop, channel) = (context.eventLoop, context.channel)
        let bound = NIOLoopBound(context, eventLoop: loop)
        isIn = connections.enter(
            ObjectIdentifier(channel), of: Self.host(remote),
            isKnown: Gatekeeper.isLoopback(remote.ipAddress ?? "")
        ) {
            // At once, and not when what goes out has gone.
            loop.execute { bound.value.close(promise: nil) }
        }
        guard isIn else { return refuse(context) }
        timer = loop.scheduleTask(in: .seconds(APILimits.firstHeadSeconds)) {
            channel.close(promise: nil)
        }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        if isIn { connections.leave(ObjectIdentifier(context.channel)) }
        isIn = false
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard isIn else { return }
        timer?.cancel()
        context.fireChannelRead(data)
    }

    private func refuse(_ context: ChannelHandlerContext) {
        guard
            let encoder = try? context.pipeline.syncOperations.context(
                handlerType: HTTPResponseEncoder.self)
        else { return context.close(promise: nil) }
        let text = """
            HTTP/1.1 503 Service Unavailable\r\nServer: meshd\r\nConnection: close\r
            Retry-After: \(APILimits.retryAfterSeconds)\r\nContent-Length: 0\r\n\r\n
            """
        let channel = context.channel
        let done = context.eventLoop.makePromise(of: Void.self)
        done.futureResult.whenComplete { _ in channel.close(promise: nil) }
        encoder.writeAndFlush(NIOAny(IOData.byteBuffer(ByteBuffer(string: text))), promise: done)
    }
}
