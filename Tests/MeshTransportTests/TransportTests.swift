// SPDX-License-Identifier: Apache-2.0

import Foundation
@testable import Mesh
import MeshCore
import MeshCrypto
import MeshLink
internal import MeshStore
import MeshTesting
@testable import MeshTransport
import NIOCore
import NIOPosix
import Synchronization
import Testing

extension DataDirectory.Identity {
    fileprivate var link: LinkIdentity {
        LinkIdentity(
            certificate: certificate, key: linkKey, root: root, secrets: secrets, version: "9")
    }
}

/// What a port told its owner.
private final class Told: Sendable {
    let connection = Mutex<LinkConnection?>(nil)
    let reason = Mutex<String?>(nil)

    var callbacks: LinkCallbacks {
        LinkCallbacks(
            established: { connection, _ in self.connection.withLock { $0 = connection } },
            message: { _, _ in },
            closed: { _, _, reason in self.reason.withLock { $0 = reason } },
            newRoot: { _ in })
    }
}

/// A peer with a valid certificate that proves who it is, and from then on reads nothing.
private final class DeafPeer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private var machine: LinkMachine

    init(_ identity: LinkIdentity) {
        machine = LinkMachine(
            identity: identity, isInitiator: true, expecting: nil,
            ephemeral: AgreementKey(secret: TestMesh.bytes(3, 3)))
    }

    func channelActive(context: ChannelHandlerContext) {
        let bytes = machine.opening()
        context.writeAndFlush(NIOAny(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = Array(unwrapInboundIn(data).readableBytesView)
        for event in (try? machine.receive(bytes)) ?? [] {
            switch event {
            case .send(let bytes):
                context.writeAndFlush(
                    NIOAny(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
            case .established:
                _ = context.channel.setOption(.autoRead, value: false)
            case .message, .settling, .newRoot, .ended: break
            }
        }
    }
}

@Suite struct `A peer` {
    @Test func `that never reads is closed when its share of memory is used`() async throws {
        let mesh = try TestMesh()
        let told = Told()
        let group = MultiThreadedEventLoopGroup.singleton
        var limits = LinkPort.Limits()
        limits.connection.bytesWaiting = 1 << 20
        let port = LinkPort(
            group: group, identity: mesh.identity("a").link, callbacks: told.callbacks,
            limits: limits)
        let listeners = try await port.listen(host: "127.0.0.1", port: 0)
        let identity = mesh.identity("b", site: "s2").link
        let peer = try await ClientBootstrap(group: group).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(DeafPeer(identity))
            }
        }.connect(host: "127.0.0.1", port: try #require(listeners.first?.localAddress?.port)).get()

        while told.connection.withLock({ $0 }) == nil {
            try await Task.sleep(for: .milliseconds(5))
        }
        let connection = try #require(told.connection.withLock { $0 })
        let message = LinkMessage.commits([UInt8](repeating: 7, count: 60_000)).encoded
        var sent = 0
        while told.reason.withLock({ $0 }) == nil, sent < 4_000 {
            connection.send([message])
            sent += 1
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(told.reason.withLock { $0 } == "the peer does not read")
        try await peer.close().get()
        for listener in listeners { try await listener.close().get() }
    }
}

@Suite struct `A port for datagrams` {
    @Test(.timeLimit(.minutes(1)))
    func `goes on sending after a datagram that the system refuses`() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let (heard, told) = AsyncStream.makeStream(of: [UInt8].self)
        let sender = try await DatagramPort.open(group: group, host: "127.0.0.1", port: 0) { _, _ in
        }
        let receiver = try await DatagramBootstrap(group: group).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                let handler = DatagramHandler { told.yield(Array($0.data.readableBytesView)) }
                try channel.pipeline.syncOperations.addHandler(handler)
            }
        }.bind(host: "127.0.0.1", port: 0).get()
        let other = try #require(receiver.localAddress?.port)
        // Broadcast wants a permission of its own; a network that is gone fails in the same way.
        sender.send([1], to: try SocketAddress(ipAddress: "255.255.255.255", port: other))
        sender.send([2], to: try SocketAddress(ipAddress: "::1", port: other))
        #expect(sender.unsent == 2)
        sender.send([3], to: try SocketAddress(ipAddress: "127.0.0.1", port: other))
        #expect(await heard.first { _ in true } == [3])
        #expect(sender.unsent == 2)
        await sender.close()
        try await receiver.close().get()
        try await group.shutdownGracefully()
    }
}

@Suite struct `A beacon's source` {
    @Test(arguments: ["224.0.0.1", "239.255.73.74", "255.255.255.255", "0.0.0.0", "ff02::1"])
    func `that no host can have is never dialled`(source: String) throws {
        let address = try SocketAddress(ipAddress: source, port: 7375)
        #expect(HostPort.dialable(address, port: 7374) == nil)
    }

    @Test func `is local only where an interface of the mesh has its network`() throws {
        // No host has an address of the network for documentation (RFC 5737).
        let places = ["203.0.113.7", "2001:db8::7", "fe80::1", "127.0.0.1"].map { text in
            (try? SocketAddress(ipAddress: text, port: 1)).flatMap(BeaconPort.interface)
        }
        // A local address of IPv6 says nothing without its interface.
        #expect(places == [nil, nil, nil, "lo"])
    }

    @Test func `is dialled at the port that the beacon tells`() throws {
        let address = try SocketAddress(ipAddress: "192.0.2.7", port: 7375)
        #expect(HostPort.dialable(address, port: 9) == "192.0.2.7:9")
    }
}

@Suite struct `What discovery refused` {
    @Test func `is shown for ten minutes after the last time`() {
        var log = DiscoveryLog()
        let begin = Instant(nanoseconds: 0)
        log.refuse("10.0.0.1", "wrong_mesh", "another secret", at: begin)
        log.refuse(
            "10.0.0.1", "wrong_mesh", "another secret", at: begin.advanced(by: .seconds(500)))
        log.forget(at: begin.advanced(by: .seconds(1_100)))
        #expect(log.strangers.map(\.count) == [2])
        log.forget(at: begin.advanced(by: .seconds(1_101)))
        #expect(log.strangers.isEmpty)
    }

    @Test func `keeps what happened often when it is full of what happened once`() {
        var log = DiscoveryLog()
        let now = Instant(nanoseconds: 0)
        for _ in 0..<2 { log.refuse("often", "wrong_mesh", "another secret", at: now) }
        for host in 0..<100 { log.refuse("h\(host)", "wrong_mesh", "another secret", at: now) }
        #expect(log.strangers.count == DiscoveryLog.strangersMax)
        #expect(log.strangers.contains { $0.host == "often" && $0.count == 2 })
        #expect(log.overflow == 101 - UInt64(DiscoveryLog.strangersMax))
    }
}

@Suite struct `A flood of beacons` {
    @Test func `costs arithmetic for 500 of them in a second`() {
        var budget = Budget(perSecond: 500)
        let begin = ContinuousClock.now
        var taken = 0
        for index in 0..<100_000 where budget.take(at: begin + .microseconds(100 * index)) {
            taken += 1
        }
        // Ten seconds of 10,000 each: the first second's store, and what came in since.
        #expect((5_000...5_510).contains(taken))
    }
}
