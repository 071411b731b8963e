// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOHTTP1
internal import NIOHTTPTypes

/// Turns connections away before descriptors run out, and those that bring no request.
///
/// Without a descriptor the server could not accept anything any more, links of neighbours and the
/// files of its database among it.
final class ConnectionGuard: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart

    private let connections: Allowance
    private var owner: String?
    private var timer: Scheduled<Void>?

    init(connections: Allowance) { self.connections = connections }

    func channelActive(context: ChannelHandlerContext) {
        // A host has many addresses of IPv6, all in one network of 64 bits.
        let address = context.channel.remoteAddress?.ipAddress ?? ""
        let host =
            address.contains(":")
            ? address.split(separator: ":", omittingEmptySubsequences: false).prefix(4)
                .joined(separator: ":") : address
        guard connections.take(1, for: host) else { return refuse(context) }
        owner = host
        let channel = context.channel
        timer = context.eventLoop.scheduleTask(in: .seconds(APILimits.firstHeadSeconds)) {
            channel.close(promise: nil)
        }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        if let owner { connections.give(1, of: owner) }
        owner = nil
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard owner != nil else { return }
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
