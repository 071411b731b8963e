// SPDX-License-Identifier: Apache-2.0

internal import CNIOLinux
package import NIOCore
internal import NIOPosix
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#endif

/// Multicast datagrams on every interface that is up, IPv4 and IPv6: bytes and addresses only.
///
/// One socket a family receives; one socket for each interface sends, since the outgoing interface
/// is a setting of the socket. Groups are joined by interface name, and again at each `refresh`,
/// because addresses change and switches forget.
package final class BeaconPort: Sendable {
    /// Beacons that are read of one socket within a tenth of a second.
    private static let readAtOnce = 50
    private let paused = Atomic<Int>(0)
    /// How often a socket was left alone because too much came.
    package var pauses: Int { paused.load(ordering: .relaxed) }

    /// Where beacons go.
    package struct Group: Sendable {
        /// The IPv4 group.
        package var v4 = "239.255.73.74"
        /// The IPv6 group.
        package var v6 = "ff15::7374"
        /// The UDP port.
        package var port = 7375
        /// How many routers a beacon may cross, plus one.
        package var ttl = 1
        /// Interfaces by name; nil for all that are up.
        package var interfaces: [String]?

        /// The defaults.
        package init() {}
    }

    /// A datagram and where it came from.
    package struct Arrival: Sendable {
        /// The bytes, at most one more than a beacon may have.
        package let bytes: [UInt8]
        /// The sender's address.
        package let source: SocketAddress
        /// The local interface whose network the source is in; nil if it is in none.
        package let interface: String?
    }

    /// What was sent on one interface.
    package struct Traffic: Sendable {
        /// The interface.
        package let name: String
        /// The address that beacons come from.
        package let address: String
        /// Beacons sent.
        package var sent: UInt64 = 0
        /// Beacons that could not be sent.
        package var lost: UInt64 = 0
        /// Why the last of those could not.
        package var error: String?
    }

    private struct Sender: Sendable {
        let name: String
        let address: SocketAddress
        let channel: any Channel
        let destination: SocketAddress
        var traffic: Traffic
    }

    private struct State {
        var receivers: [any Channel] = []
        var senders: [Sender] = []
        var joined: Set<String> = []
        var devices: [NIONetworkDevice] = []
    }

    private let group: any EventLoopGroup
    private let settings: Group
    private let heard: @Sendable (Arrival) -> Void
    private let state = Mutex(State())

    /// Makes a port; `refresh` opens it.
    package init(
        group: any EventLoopGroup, settings: Group, heard: @escaping @Sendable (Arrival) -> Void
    ) {
        self.group = group
        self.settings = settings
        self.heard = heard
    }

    /// The interfaces on which beacons are sent now, with what was sent.
    package var traffic: [Traffic] { state.withLock { $0.senders.map(\.traffic) } }

    /// Opens what is not open, joins what is not joined, and drops what is gone.
    package func refresh() async {
        let devices = ((try? System.enumerateDevices()) ?? []).filter { device in
            device.multicastSupported && (settings.interfaces?.contains(device.name) ?? true)
                && (device.name != "lo" || settings.interfaces?.contains("lo") == true)
        }
        if state.withLock({ $0.receivers.isEmpty }) { await openReceivers() }
        for receiver in state.withLock({ $0.receivers }) { await join(receiver, devices) }
        let current = Set(devices.compactMap { Self.key($0) })
        let stale = state.withLock { state in
            state.devices = devices
            let gone = state.senders.filter { !current.contains(Self.key($0)) }
            state.senders.removeAll { !current.contains(Self.key($0)) }
            return gone
        }
        for sender in stale { sender.channel.close(promise: nil) }
        let known = Set(state.withLock { $0.senders.map(Self.key) })
        for device in devices {
            guard let key = Self.key(device), !known.contains(key) else { continue }
            if let sender = await open(device) { state.withLock { $0.senders.append(sender) } }
        }
    }

    private static func key(_ device: NIONetworkDevice) -> String? {
        device.address.flatMap { address in address.ipAddress.map { "\(device.name) \($0)" } }
    }

    private static func key(_ sender: Sender) -> String {
        "\(sender.name) \(sender.address.ipAddress ?? "")"
    }

    private func bootstrap() -> DatagramBootstrap {
        let reusePort = ChannelOptions.Types.SocketOption(
            level: .socket, name: NIOBSDSocket.Option(rawValue: CInt(SO_REUSEPORT)))
        return DatagramBootstrap(group: group)
            .channelOption(.socketOption(.so_reuseaddr), value: 1)
            .channelOption(reusePort, value: 1)
            .channelOption(
                .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 257))
    }

    private func openReceivers() async {
        for host in [settings.v4, settings.v6] {
            let receiver = try? await bootstrap().channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = DatagramHandler(
                        atMost: Self.readAtOnce,
                        paused: { self.paused.add(1, ordering: .relaxed) },
                        heard: { self.receive($0) })
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }.bind(host: host, port: settings.port).get()
            if let receiver { state.withLock { $0.receivers.append(receiver) } }
        }
    }

    /// Joins the group on every interface of the receiver's family, leaving first what was joined.
    private func join(_ receiver: any Channel, _ devices: [NIONetworkDevice]) async {
        guard let channel = receiver as? any MulticastChannel, let local = receiver.localAddress
        else { return }
        let text = local.protocol == .inet ? settings.v4 : settings.v6
        guard let target = try? SocketAddress(ipAddress: text, port: settings.port) else { return }
        var names: Set<String> = []
        for device in devices where device.address?.protocol == local.protocol {
            guard names.insert(device.name).inserted else { continue }
            let key = "\(device.name) \(local.protocol)"
            if state.withLock({ !$0.joined.insert(key).inserted }) {
                try? await channel.leaveGroup(target, device: device).get()
            }
            try? await channel.joinGroup(target, device: device).get()
        }
    }

    private func open(_ device: NIONetworkDevice) async -> Sender? {
        guard let address = device.address, let host = address.ipAddress else { return nil }
        let isV4 = address.protocol == .inet
        // One address of IPv6 an interface is enough, and only the link-local one is always there.
        if !isV4, !host.lowercased().hasPrefix("fe80") { return nil }
        let text = isV4 ? settings.v4 : settings.v6
        guard let destination = try? SocketAddress(ipAddress: text, port: settings.port),
            let channel = try? await bootstrap().bind(host: isV4 ? "0.0.0.0" : "::", port: 0).get(),
            let options = channel as? any SocketOptionProvider
        else { return nil }
        let ttl = CInt(clamping: settings.ttl)
        do {
            if isV4, case .v4(let v4) = address {
                try await options.setIPMulticastIF(v4.address.sin_addr).get()
                try await options.setIPMulticastTTL(UInt8(clamping: settings.ttl)).get()
                try await options.setIPMulticastLoop(1).get()
            } else {
                try await options.setIPv6MulticastIF(CUnsignedInt(device.interfaceIndex)).get()
                try await options.setIPv6MulticastHops(ttl).get()
                try await options.setIPv6MulticastLoop(1).get()
            }
        } catch {
            channel.close(promise: nil)
            return nil
        }
        return Sender(
            name: device.name, address: address, channel: channel, destination: destination,
            traffic: Traffic(name: device.name, address: host))
    }

    private func receive(_ envelope: AddressedEnvelope<ByteBuffer>) {
        let bytes = Array(envelope.data.readableBytesView)
        let source = envelope.remoteAddress
        heard(
            Arrival(
                bytes: bytes, source: source,
                interface: Self.interface(of: source, state.withLock { $0.devices })))
    }

    private static func interface(
        of source: SocketAddress, _ devices: [NIONetworkDevice]
    ) -> String? {
        guard let text = source.ipAddress, let from = source.networkBytes else { return nil }
        if text.lowercased().hasPrefix("fe80"), case .v6(let v6) = source {
            let index = Int(v6.address.sin6_scope_id)
            return devices.first { $0.interfaceIndex == index }?.name
        }
        return devices.first { device in
            guard let own = device.address?.networkBytes,
                let mask = device.netmask?.networkBytes, own.count == from.count,
                mask.count == from.count
            else { return false }
            return zip(zip(own, from), mask).allSatisfy { $0.0 & $1 == $0.1 & $1 }
        }?.name
    }

    /// The interface of this host in whose network an address is; nil if it is in none.
    package static func interface(of address: SocketAddress) -> String? {
        interface(of: address, (try? System.enumerateDevices()) ?? [])
    }

    /// Sends one datagram on every interface.
    package func send(_ bytes: [UInt8]) {
        for sender in state.withLock({ $0.senders }) {
            let buffer = sender.channel.allocator.buffer(bytes: bytes)
            let envelope = AddressedEnvelope(remoteAddress: sender.destination, data: buffer)
            sender.channel.writeAndFlush(envelope).whenComplete { self.note($0, sender) }
        }
    }

    private func note(_ result: Result<Void, any Error>, _ sender: Sender) {
        state.withLock { state in
            let key = Self.key(sender)
            guard let index = state.senders.firstIndex(where: { Self.key($0) == key }) else {
                return
            }
            switch result {
            case .success: state.senders[index].traffic.sent += 1
            case .failure(let error):
                state.senders[index].traffic.lost += 1
                state.senders[index].traffic.error = "\(error)"
            }
        }
    }

    /// Closes every socket.
    package func close() async {
        let channels = state.withLock { state in
            let all = state.receivers + state.senders.map(\.channel)
            state = State()
            return all
        }
        for channel in channels { try? await channel.close().get() }
    }
}

extension SocketAddress {
    /// The address bytes in network order; nil for a Unix socket.
    package var networkBytes: [UInt8]? {
        switch self {
        case .v4(let v4): withUnsafeBytes(of: v4.address.sin_addr) { Array($0) }
        case .v6(let v6): withUnsafeBytes(of: v6.address.sin6_addr) { Array($0) }
        case .unixDomainSocket: nil
        }
    }
}

/// Hands datagrams on; an error on the socket is a lost datagram, never the end of receiving.
final class DatagramHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private static let window = TimeAmount.milliseconds(100)
    private let most: Int
    private let paused: () -> Void
    private let heard: (AddressedEnvelope<ByteBuffer>) -> Void
    private var windowEnds = NIODeadline.uptimeNanoseconds(0)
    private var count = 0

    /// - Parameters:
    ///   - most: what is read within a tenth of a second; beyond it the socket is left alone until
    ///     the next, and the kernel drops what does not fit there. So a flood costs little.
    ///   - paused: called each time that happens.
    init(
        atMost most: Int = .max, paused: @escaping () -> Void = {},
        heard: @escaping (AddressedEnvelope<ByteBuffer>) -> Void
    ) {
        self.most = most
        self.paused = paused
        self.heard = heard
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let now = context.eventLoop.now
        if now >= windowEnds {
            windowEnds = now + Self.window
            count = 0
        }
        count += 1
        if count == most { rest(context) }
        heard(unwrapInboundIn(data))
    }

    private func rest(_ context: ChannelHandlerContext) {
        paused()
        let channel = context.channel
        channel.setOption(.autoRead, value: false).whenComplete { _ in }
        context.eventLoop.scheduleTask(in: Self.window) {
            channel.setOption(.autoRead, value: true).whenComplete { _ in }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}
