// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import HTTPTypes
internal import Mesh
internal import MeshAPI
internal import NIOCore
internal import NIOHTTP1
internal import NIOHTTPTypes

/// Serves `/content/CHANNEL/PATH` from disk by `sendfile`, before the router sees the request.
///
/// A response is written past the HTTP encoder, so that a file's bytes go from the page cache to
/// the socket without passing through this process.
final class ContentHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let content: ContentLane
    private let gate: Gatekeeper
    private let isOpen: Bool
    private let connections: Connections
    private var taken: HTTPRequest?
    /// Requests that the router has not answered yet; ours wait behind them.
    private var unanswered = 0
    private var waiting: [HTTPRequest] = []
    private var sending = 0
    private var closes = false

    init(content: ContentLane, gate: Gatekeeper, isOpen: Bool, connections: Connections) {
        self.content = content
        self.gate = gate
        self.isOpen = isOpen
        self.connections = connections
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            let isOurs = head.path?.hasPrefix("/content/") == true
            if isOurs, head.method == .get || head.method == .head {
                taken = head
            } else {
                unanswered += 1
                context.fireChannelRead(data)
            }
        case .body: if taken == nil { context.fireChannelRead(data) }
        case .end:
            guard let head = taken else { return context.fireChannelRead(data) }
            taken = nil
            if unanswered == 0, sending == 0, waiting.isEmpty {
                answer(head, context)
            } else if waiting.count < 16 {
                waiting.append(head)
            } else {
                context.close(promise: nil)
            }
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data) else {
            return context.write(data, promise: promise)
        }
        context.writeAndFlush(data, promise: promise)
        unanswered -= 1
        goOn(context)
    }

    /// One file at a time: a client that asks for a thousand at once has one open.
    private func goOn(_ context: ChannelHandlerContext) {
        guard unanswered == 0, sending == 0, !waiting.isEmpty else { return }
        answer(waiting.removeFirst(), context)
    }

    /// A connection that seems idle to others may be in the middle of a long file.
    func close(
        context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?
    ) {
        guard sending > 0 else { return context.close(mode: mode, promise: promise) }
        closes = true
        promise?.succeed()
    }

    private func answer(_ head: HTTPRequest, _ context: ChannelHandlerContext) {
        var reply: ContentReply
        do {
            if isOpen {
                try gate.checkHost(head)
            } else {
                // Pages of all origins may show what was published to be shown.
                let access = try gate.access(
                    head, from: context.channel.remoteAddress, isForDisplay: true)
                guard access.mayRead("_content") else {
                    throw Problem.forbidden("the token does not allow _content")
                }
                guard
                    gate.isAdminSocket || connections.greet(ObjectIdentifier(context.channel))
                else { throw Problem.overLimit }
            }
            reply = try ContentReply(to: head, content.served)
        } catch let problem as Problem {
            reply = ContentReply(problem)
        } catch {
            reply = ContentReply(
                Problem(code: "storage", title: "Storage failed", status: 503, detail: "\(error)"))
        }
        for field in gate.crossOriginFields(head) {
            reply.headers.append((field.name.rawName, field.value))
        }
        send(reply, head, context)
    }

    private func send(_ reply: ContentReply, _ head: HTTPRequest, _ context: ChannelHandlerContext)
    {
        guard
            let encoder = try? context.pipeline.syncOperations.context(
                handlerType: HTTPResponseEncoder.self)
        else {
            reply.file?.close()
            return context.close(promise: nil)
        }
        let isLast = head.headerFields[.connection]?.lowercased() == "close"
        var text = "HTTP/1.1 \(reply.status)\r\nServer: meshd\r\n"
        for (name, value) in reply.headers { text += "\(name): \(value)\r\n" }
        text += isLast ? "Connection: close\r\n\r\n" : "\r\n"
        encoder.write(NIOAny(IOData.byteBuffer(ByteBuffer(string: text))), promise: nil)
        let done = context.eventLoop.makePromise(of: Void.self)
        sending += 1
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        done.futureResult.whenComplete { _ in
            reply.file?.close()
            let (handler, context) = bound.value
            handler.sending -= 1
            if isLast || handler.closes { return context.close(promise: nil) }
            handler.goOn(context)
        }
        if let file = reply.file, head.method == .get, file.range.count > 0 {
            let region = FileRegion(
                fileHandle: file.handle, readerIndex: file.range.lowerBound,
                endIndex: file.range.upperBound)
            encoder.writeAndFlush(NIOAny(IOData.fileRegion(region)), promise: done)
        } else {
            let body = head.method == .get ? reply.body : []
            encoder.writeAndFlush(
                NIOAny(IOData.byteBuffer(ByteBuffer(bytes: body))), promise: done)
        }
    }
}
