// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshLink
package import MeshTrust
package import NIOCore
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#endif

/// What a connection tells its owner; called on the connection's event loop.
package struct LinkCallbacks: Sendable {
    /// The peer has proven who it is.
    package var established: @Sendable (LinkConnection, LinkMachine.Peer) -> Void
    /// The peer said something.
    package var message: @Sendable (LinkConnection, [UInt8]) -> Void
    /// The connection ended; the error is nil where it ended in good order.
    package var closed: @Sendable (LinkConnection, LinkError?, String) -> Void
    /// The peer has sent a root document that goes on where this node's ends.
    package var newRoot: @Sendable (RootDocument) -> Void

    /// Sets all four.
    package init(
        established: @escaping @Sendable (LinkConnection, LinkMachine.Peer) -> Void,
        message: @escaping @Sendable (LinkConnection, [UInt8]) -> Void,
        closed: @escaping @Sendable (LinkConnection, LinkError?, String) -> Void,
        newRoot: @escaping @Sendable (RootDocument) -> Void
    ) {
        self.established = established
        self.message = message
        self.closed = closed
        self.newRoot = newRoot
    }
}

/// One connection, to talk to from any thread.
package final class LinkConnection: Sendable {
    /// Limits of a connection that the peer can feel.
    package struct Limits: Sendable {
        /// How long a peer may take to prove who it is, in all.
        package var handshake = TimeAmount.seconds(5)
        /// How long a root document may take after that.
        package var settling = TimeAmount.seconds(60)
        /// How long bytes may wait for a peer that does not read.
        package var write = TimeAmount.seconds(30)
        /// Bytes that may wait for a peer.
        package var bytesWaiting = 16 << 20
        /// Bytes that may wait for all peers together, beyond which one may have no more than
        /// `bytesLeast`.
        package var bytesOfAll = 256 << 20
        /// See `bytesOfAll`.
        package var bytesLeast = 2 << 20

        /// The defaults.
        package init() {}
    }

    /// The number that the owner gave it.
    package let number: UInt64
    /// The other end, `host:port`.
    package let remote: SocketAddress?
    /// The address that was dialled; nil if the peer dialled.
    package let dialled: Address?
    private let channel: any Channel

    fileprivate init(number: UInt64, channel: any Channel, dialled: Address?) {
        self.number = number
        self.channel = channel
        self.dialled = dialled
        remote = channel.remoteAddress
    }

    /// Seals and sends messages, in order.
    package func send(_ messages: [[UInt8]]) {
        channel.triggerUserOutboundEvent(LinkHandler.Outgoing.messages(messages), promise: nil)
    }

    /// Closes once what was sent has gone out.
    package func close() {
        channel.triggerUserOutboundEvent(LinkHandler.Outgoing.close, promise: nil)
    }

    /// Closes at once; what has not gone out yet never will.
    package func abort() {
        channel.triggerUserOutboundEvent(LinkHandler.Outgoing.abort, promise: nil)
    }
}

/// Bytes that wait for the peers of a port, all together.
final class WaitingBytes: Sendable {
    private let count = Atomic<Int>(0)

    /// - Returns: how many they are with these.
    @discardableResult func add(_ bytes: Int) -> Int {
        count.add(bytes, ordering: .relaxed).newValue
    }
}

/// Runs one `LinkMachine` on a TCP connection: a channel handler, since async channels cost six
/// times more.
final class LinkHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = Never
    typealias OutboundOut = ByteBuffer

    enum Outgoing: Sendable {
        case messages([[UInt8]])
        case close
        case abort
    }

    private var machine: LinkMachine
    private let callbacks: LinkCallbacks
    private let limits: LinkConnection.Limits
    private let number: UInt64
    private let dialled: Address?
    private var connection: LinkConnection?
    private var deadline: Scheduled<Void>?
    private var failure: LinkError?
    private var reason = "the connection was closed"
    private var isLate = false
    private var bytesWaiting = 0
    private let allWaiting: WaitingBytes
    private var lastDrain = NIODeadline.now()

    init(
        machine: consuming LinkMachine, number: UInt64, dialled: Address?,
        callbacks: LinkCallbacks, limits: LinkConnection.Limits, allWaiting: WaitingBytes
    ) {
        self.allWaiting = allWaiting
        self.machine = machine
        self.number = number
        self.dialled = dialled
        self.callbacks = callbacks
        self.limits = limits
    }

    func channelActive(context: ChannelHandlerContext) {
        connection = LinkConnection(number: number, channel: context.channel, dialled: dialled)
        expect(within: limits.handshake, context)
        write(machine.opening(), context)
    }

    /// The connection ends where the peer is not done by then.
    private func expect(within time: TimeAmount, _ context: ChannelHandlerContext) {
        deadline?.cancel()
        let loopBound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        deadline = context.eventLoop.scheduleTask(in: time) {
            let (handler, context) = loopBound.value
            handler.reason = "the handshake took too long"
            handler.isLate = true
            context.close(promise: nil)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        do throws(LinkError) {
            for event in try machine.receive(Array(buffer.readableBytesView)) {
                handle(event, context)
            }
        } catch {
            fail(error, context)
        }
    }

    private func handle(_ event: LinkMachine.Event, _ context: ChannelHandlerContext) {
        guard let connection else { return }
        switch event {
        case .send(let bytes): write(bytes, context)
        case .established(let peer):
            deadline?.cancel()
            deadline = nil
            callbacks.established(connection, peer)
        case .message(let bytes): callbacks.message(connection, bytes)
        case .settling: expect(within: limits.settling, context)
        case .newRoot(let root): callbacks.newRoot(root)
        case .ended(let error):
            failure = error
            reason = "\(error)"
            close(context)
        }
    }

    private func fail(_ error: LinkError, _ context: ChannelHandlerContext) {
        failure = error
        reason = "\(error)"
        context.close(promise: nil)
    }

    func triggerUserOutboundEvent(
        context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?
    ) {
        guard let outgoing = event as? Outgoing else {
            return context.triggerUserOutboundEvent(event, promise: promise)
        }
        switch outgoing {
        case .messages(let messages):
            do throws(LinkError) {
                var bytes: [UInt8] = []
                for message in messages { bytes += try machine.seal(message) }
                write(bytes, context)
            } catch {
                fail(error, context)
            }
        case .close: close(context)
        case .abort: abort(context)
        }
        promise?.succeed()
    }

    /// Closes behind everything that was written before.
    private func close(_ context: ChannelHandlerContext) {
        let loopBound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
            loopBound.value.close(promise: nil)
        }
    }

    private func abort(_ context: ChannelHandlerContext) {
        guard let channel = context.channel as? any SocketOptionProvider else {
            return context.close(promise: nil)
        }
        let loopBound = NIOLoopBound(context, eventLoop: context.eventLoop)
        channel.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in
            loopBound.value.close(promise: nil)
        }
    }

    private func write(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
        if bytes.isEmpty { return }
        if bytesWaiting == 0 { lastDrain = .now() }
        bytesWaiting += bytes.count
        let isCrowded = allWaiting.add(bytes.count) > limits.bytesOfAll
        let most = isCrowded ? limits.bytesLeast : limits.bytesWaiting
        // A peer that does not read is cut off by bytes and by time.
        guard bytesWaiting <= most, .now() - lastDrain <= limits.write else {
            allWaiting.add(-bytes.count)
            reason = "the peer does not read"
            return context.close(promise: nil)
        }
        let count = bytes.count
        let loopBound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let buffer = context.channel.allocator.buffer(bytes: bytes)
        context.writeAndFlush(wrapOutboundOut(buffer)).whenComplete { _ in
            loopBound.value.bytesWaiting -= count
            loopBound.value.allWaiting.add(-count)
            loopBound.value.lastDrain = .now()
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        // A responder that cannot open the first message says nothing: it does not know to whom.
        if deadline != nil, dialled != nil, failure == nil, !isLate {
            failure = .turnedAway
            reason = "\(LinkError.turnedAway)"
        }
        deadline?.cancel()
        if let connection { callbacks.closed(connection, failure, reason) }
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        reason = "\(error)"
        context.close(promise: nil)
    }
}
