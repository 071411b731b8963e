// SPDX-License-Identifier: Apache-2.0

internal import Mesh
internal import MeshAPI
internal import MeshStore
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// One connection of a client: takes one request after the other, and sends its answer.
///
/// Whatever can be answered at once is, on the connection's own loop: for a read or a write of a
/// till each hand-over to another thread would cost more than the work itself. Requests that come
/// while another is answered wait (pipelining, RFC 9112, §9.3.2), and nothing more is read then.
final class HTTPConnection: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = Never
    typealias OutboundOut = HTTPServerResponsePart

    /// Seconds after which a connection on which nothing is asked is closed.
    private static let idleSeconds: Int64 = 120
    /// Most bytes of a body that are thrown away after its request was refused.
    private static let discardedBytesMax = 8 << 20

    /// Seconds for which a client that was refused may go on sending.
    private static let lingeringSeconds: Int64 = 2

    private enum Phase {
        /// The next request may come.
        case idle
        /// The body comes.
        case reading(Reading)
        /// The request was answered before its body was here, of which so much may still come.
        case discarding(left: Int)
        /// The whole request is here.
        case answering(Request)
    }

    private struct Reading {
        var request: Request
        let admission: Service.Admission
        let declared: Int?
    }

    private let service: Service
    private var phase = Phase.idle
    private var isSending = false
    private var ends = false
    private var lastActive = NIODeadline.now()
    private var idleTimer: Scheduled<Void>?
    private var bodyTimer: Scheduled<Void>?
    private var stream: Task<Void, Never>?
    /// Parts of requests that came while another was answered: what one read brought.
    private var waiting = CircularBuffer<HTTPServerRequestPart>()
    private var parserError: HTTPParserError?
    private var isTaking = false
    private var isClosing = false
    private var isReadHeld = false

    init(service: Service) { self.service = service }

    // MARK: The connection

    func channelActive(context: ChannelHandlerContext) {
        watchIdleness(context, after: .seconds(Self.idleSeconds))
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        idleTimer?.cancel()
        bodyTimer?.cancel()
        stream?.cancel()
        phase = .idle
        context.fireChannelInactive()
    }

    private func watchIdleness(_ context: ChannelHandlerContext, after time: TimeAmount) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        idleTimer = context.eventLoop.scheduleTask(in: time) {
            let (connection, context) = bound.value
            let rest = connection.lastActive + .seconds(Self.idleSeconds) - .now()
            if case .idle = connection.phase, !connection.isSending, rest <= .nanoseconds(0) {
                return context.close(promise: nil)
            }
            connection.watchIdleness(context, after: max(rest, .seconds(1)))
        }
    }

    /// The server ends: what is being answered is, and nothing more is taken.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is ServerEnds else { return context.fireUserInboundEventTriggered(event) }
        ends = true
        stream?.cancel()
        if case .answering = phase { return }
        if !isSending { context.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let parserError = error as? HTTPParserError else {
            return context.close(promise: nil)
        }
        self.parserError = parserError
        takeWaiting(context)
    }

    private func refuse(_ parserError: HTTPParserError, _ context: ChannelHandlerContext) {
        guard case .idle = phase else { return context.close(promise: nil) }
        let isTooLarge = parserError == .headerOverflow
        let problem =
            isTooLarge
            ? Problem(
                code: "head_too_large", title: "Head too large", status: 431,
                detail: "a head has at most \(Service.headBytesMax) bytes")
            : Problem.bad("bad_request", "the request is not HTTP/1.1: \(parserError)")
        ends = true
        phase = .discarding(left: 0)
        send(Routes.answer(problem), .broken, context)
    }

    // MARK: The request

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isClosing { return }
        waiting.append(unwrapInboundIn(data))
        takeWaiting(context)
    }

    /// Whether another request has to wait.
    private var isAnswering: Bool {
        switch phase {
        case .answering: true
        case .idle: isSending
        case .reading, .discarding: false
        }
    }

    private func takeWaiting(_ context: ChannelHandlerContext) {
        if isTaking || isClosing { return }
        isTaking = true
        while !isAnswering, !isClosing, let part = waiting.popFirst() {
            switch part {
            case .head(let head): begin(head, context)
            case .body(var buffer): take(&buffer, context)
            case .end: finish(context)
            }
        }
        isTaking = false
        if isAnswering || isClosing { return }
        if let parserError {
            self.parserError = nil
            return refuse(parserError, context)
        }
        if isReadHeld {
            isReadHeld = false
            context.read()
        }
    }

    func read(context: ChannelHandlerContext) {
        isReadHeld = !waiting.isEmpty
        if !isReadHeld { context.read() }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if case .reading(let reading) = phase, bodyTimer == nil {
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            let seconds = reading.admission.bodySeconds
            bodyTimer = context.eventLoop.scheduleTask(in: .seconds(seconds)) {
                let (connection, context) = bound.value
                guard case .reading(let reading) = connection.phase else { return }
                connection.refuse(Problem.tooSlow(seconds), reading.request, context)
            }
        }
        context.fireChannelReadComplete()
    }

    private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        lastActive = .now()
        let channel = context.channel
        let framing = Framing(head)
        do {
            let request = try Request(
                head, from: channel.remoteAddress, on: ObjectIdentifier(channel))
            switch try service.begin(request) {
            case .answered(let response):
                phase = .discarding(left: Self.discardedBytesMax)
                send(service.complete(response, request), framing, context)
            case .admitted(let admission):
                let declared = try admission.bodyLength(of: request)
                if request.headers[.expect]?.lowercased() == "100-continue", declared != 0 {
                    let head = HTTPResponseHead(version: .http1_1, status: .continue)
                    context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
                }
                phase = .reading(
                    Reading(request: request, admission: admission, declared: declared))
            }
        } catch {
            phase = .discarding(left: Self.discardedBytesMax)
            // A head that is refused says nothing that one could build on.
            send(Routes.answer(error), framing, context)
        }
    }

    private func take(_ buffer: inout ByteBuffer, _ context: ChannelHandlerContext) {
        let count = buffer.readableBytes
        switch phase {
        case .reading(var reading):
            // Taken out, so that appending does not copy what is there.
            phase = .idle
            let held = reading.request.body.count
            guard count <= reading.admission.bodyBytesMax - held else {
                let problem = Problem.tooLarge("the body has more", reading.admission.bodyBytesMax)
                return refuse(problem, reading.request, context)
            }
            guard reading.admission.bodies.take(count) else {
                return refuse(.tooManyBodies, reading.request, context)
            }
            if held == 0, let declared = reading.declared {
                reading.request.body.reserveCapacity(declared)
            }
            reading.request.body += buffer.readableBytesView
            phase = .reading(reading)
        case .discarding(let left):
            guard count <= left else { return context.close(promise: nil) }
            phase = .discarding(left: left - count)
        case .idle, .answering: break
        }
    }

    /// Answers before the whole request is here.
    private func refuse(
        _ problem: Problem, _ request: Request, _ context: ChannelHandlerContext
    ) {
        phase = .discarding(left: Self.discardedBytesMax)
        bodyTimer?.cancel()
        bodyTimer = nil
        // Whoever was too slow, or sends what has no end, is not waited for.
        var framing = Framing(request)
        framing.isKeptAlive = false
        send(service.complete(Routes.answer(problem), request), framing, context)
    }

    private func finish(_ context: ChannelHandlerContext) {
        bodyTimer?.cancel()
        bodyTimer = nil
        switch phase {
        case .reading(let reading):
            phase = .answering(reading.request)
            answer(reading, context)
        case .discarding:
            phase = .idle
        case .idle, .answering: break
        }
    }

    // MARK: The answer

    private func answer(_ reading: Reading, _ context: ChannelHandlerContext) {
        let request = reading.request
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let service = service
        let admission = reading.admission
        // Answers are put together here, not on the thread that has other writes to do.
        let reply: @Sendable (@escaping @Sendable () throws -> Response) -> Void = { make in
            loop.execute {
                admission.bodies.release()
                bound.value.0.reply(Result { try make() }.answer, bound.value.1)
            }
        }
        do {
            switch try service.answer(request, admission) {
            case .now(let response):
                admission.bodies.release()
                self.reply(response, context)
            case .read(let make):
                service.readers.submit { state in
                    let result = Result { state == .active ? try make() : try Service.ending() }
                    reply { try result.get() }
                }
            case .later(let make):
                Task {
                    do {
                        let response = try await make()
                        reply { response }
                    } catch {
                        reply { throw error }
                    }
                }
            case .written(let write, let make):
                service.node.store.write(write) { result in
                    reply { try make(try result.get()) }
                }
            }
        } catch {
            admission.bodies.release()
            self.reply(Routes.answer(error), context)
        }
    }

    private func reply(_ response: Response, _ context: ChannelHandlerContext) {
        // The client may have gone meanwhile.
        guard case .answering(let request) = phase else { return response.body.close() }
        send(service.complete(response, request), Framing(request), context)
    }

    private func send(
        _ response: Response, _ framing: Framing, _ context: ChannelHandlerContext
    ) {
        isSending = true
        let keepsAlive = framing.keepsAlive(response.body) && !ends
        let head = framing.head(of: response, keepsAlive: keepsAlive)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if framing.isForHead {
            response.body.close()
            return end(keepsAlive, context)
        }
        switch response.body {
        case .bytes(let buffer):
            if buffer.readableBytes > 0 {
                context.write(wrapOutboundOut(.body(.byteBuffer(buffer))), promise: nil)
            }
            end(keepsAlive, context)
        case .file(let handle, let range):
            let region = FileRegion(
                fileHandle: handle, readerIndex: range.lowerBound, endIndex: range.upperBound)
            let sent = context.eventLoop.makePromise(of: Void.self)
            sent.futureResult.whenComplete { _ in try? handle.close() }
            context.writeAndFlush(wrapOutboundOut(.body(.fileRegion(region))), promise: sent)
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            sent.futureResult.whenComplete { _ in bound.value.0.end(keepsAlive, bound.value.1) }
        case .stream(let produce): start(produce, keepsAlive, context)
        }
    }

    private func start(
        _ produce: @escaping @Sendable (ResponseWriter) async throws -> Void, _ keepsAlive: Bool,
        _ context: ChannelHandlerContext
    ) {
        context.flush()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let (loop, writer) = (context.eventLoop, ResponseWriter(channel: context.channel))
        stream = Task {
            let isWhole: Bool
            do {
                try await produce(writer)
                isWhole = true
            } catch {
                isWhole = false
            }
            loop.execute {
                let (connection, context) = bound.value
                connection.stream = nil
                // An answer that was cut short must not look like a whole one.
                guard isWhole else { return context.close(promise: nil) }
                connection.end(keepsAlive, context)
            }
        }
    }

    private func end(_ keepsAlive: Bool, _ context: ChannelHandlerContext) {
        lastActive = .now()
        isSending = false
        if case .answering = phase { phase = .idle }
        if keepsAlive, !ends {
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
            return takeWaiting(context)
        }
        isClosing = true
        waiting.removeAll()
        let sent = context.eventLoop.makePromise(of: Void.self)
        let (channel, loop) = (context.channel, context.eventLoop)
        var isWhole = true
        if case .discarding = phase { isWhole = false }
        sent.futureResult.whenComplete { [isWhole] _ in
            if isWhole { return channel.close(promise: nil) }
            // Closed at once, a client that still sends would not get to read its answer.
            channel.close(mode: .output, promise: nil)
            loop.scheduleTask(in: .seconds(Self.lingeringSeconds)) { channel.close(promise: nil) }
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: sent)
    }
}
