// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshLink
internal import MeshTrust
package import NIOCore
internal import NIOPosix
internal import Synchronization

/// Listens for links and dials them: connections and bytes, nothing of protocols.
package final class LinkPort: Sendable {
    /// What outsiders may ask of the port.
    package struct Limits: Sendable {
        /// Connections that have not proven who they are, in all.
        package var halfOpen = 64
        /// The same, from one address.
        package var halfOpenPerHost = 4
        /// How long a dial may take.
        package var dial = TimeAmount.seconds(2)
        /// Limits of one connection.
        package var connection = LinkConnection.Limits()

        /// The defaults.
        package init() {}
    }

    private struct State {
        var nextNumber: UInt64 = 1
        var halfOpen: [UInt64: String] = [:]
        var refused: UInt64 = 0
        var epochs = EpochChoice()
    }

    private let group: any EventLoopGroup
    private let identity: LinkIdentity
    private let callbacks: LinkCallbacks
    private let limits: Limits
    private let state = Mutex(State())
    private let waiting = WaitingBytes()
    private let packs: Bool
    /// What packs messages: one for all links of a thread.
    private static let codecs = ThreadSpecificVariable<NIOLoopBoundBox<Zstd>>()

    /// Makes a port; nothing is opened yet.
    ///
    /// - Parameter packs: whether messages between sites are made smaller.
    package init(
        group: any EventLoopGroup, identity: LinkIdentity, callbacks: LinkCallbacks,
        packs: Bool = false, limits: Limits = Limits()
    ) {
        self.packs = packs
        self.group = group
        self.identity = identity
        self.callbacks = callbacks
        self.limits = limits
    }

    /// Connections that were refused because too many had not proven who they are.
    package var refused: UInt64 { state.withLock { $0.refused } }

    /// Opens the listening socket, and one more for IPv6 where the host is every address.
    ///
    /// - Returns: the channels; the local address of the first names the port that was taken.
    package func listen(host: String, port: Int) async throws -> [any Channel] {
        let first = try await bind(host, port)
        guard host == ListenHost.every, let taken = first.localAddress?.port,
            let other = try? await bind("::", taken)
        else { return [first] }
        return [first, other]
    }

    private func bind(_ host: String, _ port: Int) async throws -> any Channel {
        var bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 128)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelInitializer { channel in
                self.prepare(channel, dialled: nil)
            }
        if host.contains(":") {
            bootstrap = bootstrap.serverChannelOption(ListenHost.onlyV6, value: 1)
        }
        return try await bootstrap.bind(to: try ListenHost.address(host, port: port)).get()
    }

    /// Dials an address; a failure is told as a text.
    ///
    /// - Parameter known: the address, where its host is not a name: names are looked up one at a
    ///   time, and one that takes long must not keep the neighbours waiting.
    package func dial(_ address: Address, known: SocketAddress?) async throws {
        let bootstrap = ClientBootstrap(group: group)
            .connectTimeout(limits.dial)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelInitializer { channel in self.prepare(channel, dialled: address) }
        if let known {
            _ = try await bootstrap.connect(to: known).get()
        } else {
            _ = try await bootstrap.connect(host: address.bareHost, port: Int(address.port)).get()
        }
    }

    private func prepare(_ channel: any Channel, dialled: Address?) -> EventLoopFuture<Void> {
        let host = channel.remoteAddress?.ipAddress ?? ""
        let number: UInt64? = state.withLock { state in
            let sameHost = state.halfOpen.values.count { $0 == host }
            if dialled == nil,
                state.halfOpen.count >= limits.halfOpen || sameHost >= limits.halfOpenPerHost
            {
                state.refused += 1
                return nil
            }
            defer { state.nextNumber += 1 }
            if dialled == nil { state.halfOpen[state.nextNumber] = host }
            return state.nextNumber
        }
        guard let number else { return channel.close() }
        channel.closeFuture.whenComplete { _ in
            self.state.withLock { $0.halfOpen[number] = nil }
        }
        let secret = Bytes32(Sodium.random(32)) ?? .zero
        let known = identity.secrets.all.count
        let back =
            dialled.map { address in
                state.withLock { $0.epochs.back(address, of: known) }
            } ?? 0
        return channel.eventLoop.makeCompletedFuture {
            let machine = LinkMachine(
                identity: identity, isInitiator: dialled != nil, expecting: nil,
                ephemeral: AgreementKey(secret: secret), epochsBack: back,
                codec: codec(on: channel.eventLoop))
            let handler = LinkHandler(
                machine: machine, number: number, dialled: dialled, callbacks: tracked(),
                limits: limits.connection, allWaiting: waiting)
            try channel.pipeline.syncOperations.addHandler(handler)
        }
    }

    private func codec(on loop: any EventLoop) -> Zstd? {
        guard packs else { return nil }
        if let codec = Self.codecs.currentValue { return codec.value }
        guard let codec = Zstd() else { return nil }
        Self.codecs.currentValue = NIOLoopBoundBox(codec, eventLoop: loop)
        return codec
    }

    /// The owner's callbacks, with a count kept of those who have not proven who they are.
    private func tracked() -> LinkCallbacks {
        LinkCallbacks(
            established: { connection, peer in
                self.state.withLock { $0.halfOpen[connection.number] = nil }
                self.callbacks.established(connection, peer)
            },
            message: callbacks.message,
            closed: { connection, error, reason in
                if let address = connection.dialled {
                    self.state.withLock { $0.epochs.ended(address, error) }
                }
                self.callbacks.closed(connection, error, reason)
            }, newRoot: callbacks.newRoot)
    }
}
