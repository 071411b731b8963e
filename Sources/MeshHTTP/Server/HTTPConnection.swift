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

    /// Seconds within which the rest of a refused request has to come.
    private static let discardingSeconds: Int64 = 10
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
    /// Whether parts of one read are coming in.
    private var isInRead = false
    private var isInputClosed = false
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
            guard case .idle = connection.phase, !connection.isSending else {
                return connection.watchIdleness(context, after: .seconds(Self.idleSeconds))
            }
            if rest <= .nanoseconds(0) { return context.close(promise: nil) }
            connection.watchIdleness(context, after: rest)
        }
    }

    /// The server ends: what is being answered is, and nothing more is taken.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed? = event as? ChannelEvent {
            isInputClosed = true
            // A body that has not come never will; what is asked already is answered.
            return takeWaiting(context)
        }
        guard event is ServerEnds else { return context.fireUserInboundEventTriggered(event) }
        ends = true
        stream?.cancel()
        if case .answering = phase { return }
        if !isSending { context.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let parserError = error as? HTTPParserError else {
            // What comes after something that was no HTTP is none either.
            let isKnown = isClosing || isAnswering || self.parserError != nil
            if error is ByteToMessageDecoderError, isKnown { return }
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
                .headTooLarge, "a head has at most \(Service.headBytesMax) bytes")
            : Problem(.badRequest, "the request is not HTTP/1.1: \(parserError)")
        ends = true
        phase = .discarding(left: 0)
        send(Routes.answer(problem), .broken, context)
    }

    // MARK: The request

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isClosing { return }
        isInRead = true
        waiting.append(unwrapInboundIn(data))
        takeWaiting(context)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        takeWaiting(context)
        context.fireChannelWritabilityChanged()
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
        while !isAnswering, !isClosing, context.channel.isWritable, let part = waiting.popFirst() {
            switch part {
            case .head(let head): begin(head, context)
            case .body(var buffer): take(&buffer, context)
            case .end: finish(context)
            }
        }
        isTaking = false
        if !isInRead { watchBody(context) }
        if isAnswering || isClosing || !context.channel.isWritable { return }
        if isInputClosed, waiting.isEmpty, !isSending { return context.close(promise: nil) }
        if let parserError {
            self.parserError = nil
            return refuse(parserError, context)
        }
        if isReadHeld {
            isReadHeld = false
            context.read()
        }
    }

    /// Nothing is read while answers wait for a client that does not take them.
    func read(context: ChannelHandlerContext) {
        isReadHeld = !waiting.isEmpty || !context.channel.isWritable
        if !isReadHeld { context.read() }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isInRead = false
        watchBody(context)
        context.fireChannelReadComplete()
    }

    /// Gives the rest of a body its time.
    private func watchBody(_ context: ChannelHandlerContext) {
        let seconds: Int64
        switch phase {
        case .reading(let reading): seconds = reading.admission.bodySeconds
        case .discarding: seconds = Self.discardingSeconds
        case .idle, .answering: return
        }
        guard bodyTimer == nil, !isClosing else { return }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        bodyTimer = context.eventLoop.scheduleTask(in: .seconds(seconds)) {
            let (connection, context) = bound.value
            switch connection.phase {
            case .reading(let reading):
                connection.refuse(Problem.tooSlow(seconds), reading.request, context)
            case .discarding: context.close(promise: nil)
            case .idle, .answering: break
            }
        }
    }

    private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        lastActive = .now()
        var framing = Framing(head)
        let request: Request
        do {
            let channel = context.channel
            request = try Request(
                head, from: channel.remoteAddress, on: ObjectIdentifier(channel))
        } catch {
            // Of a head that is refused nothing can be relied on.
            framing.isKeptAlive = false
            phase = .discarding(left: Self.discardedBytesMax)
            return send(Routes.answer(error), framing, context)
        }
        let expects = request.headers[.expect]?.lowercased() == "100-continue"
        do {
            switch try service.begin(request) {
            case .answered(let response):
                if expects { framing.isKeptAlive = false }
                phase = .discarding(left: Self.discardedBytesMax)
                send(service.complete(response, request), framing, context)
            case .admitted(let admission):
                if try admission.bodyLength(of: request) != 0, expects {
                    let head = HTTPResponseHead(version: .http1_1, status: .continue)
                    context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
                }
                phase = .reading(Reading(request: request, admission: admission))
            }
        } catch {
            // Whoever waits to be asked for a body may send it, or another request.
            if expects { framing.isKeptAlive = false }
            phase = .discarding(left: Self.discardedBytesMax)
            send(service.complete(Routes.answer(error), request), framing, context)
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
        let admission = reading.admission
        // Answers are put together here, not on the thread that has other writes to do.
        let response = service.carryOut(request, admission) { make in
            loop.execute {
                admission.bodies.release()
                bound.value.0.reply(Result { try make() }.answer, bound.value.1)
            }
        }
        guard let response else { return }
        admission.bodies.release()
        reply(response, context)
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
        let isLast = ends || (isInputClosed && waiting.isEmpty)
        let keepsAlive = framing.keepsAlive(response.body) && !isLast
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
