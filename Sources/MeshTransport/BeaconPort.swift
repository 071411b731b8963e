// SPDX-License-Identifier: Apache-2.0

internal import CNIOLinux
package import MeshCore
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
        /// Why the last beacon could not; nil once one was sent again.
        package var error: String?
    }

    private struct Sender: Sendable {
        let name: String
        let address: SocketAddress
        let index: Int
        let socket: DatagramSocket
        let destination: SocketAddress
        var traffic: Traffic
    }

    /// A group that a receiver has joined on an interface.
    private struct Joined: Hashable {
        let name: String
        let index: Int
        let family: CInt

        init?(_ device: NIONetworkDevice) {
            guard let address = device.address else { return nil }
            (name, index) = (device.name, device.interfaceIndex)
            family = address.protocol.rawValue
        }
    }

    private struct State {
        var receivers: [any Channel] = []
        var senders: [Sender] = []
        var joined: Set<Joined> = []
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

    /// The networks of this host's interfaces.
    package static func attachedNetworks() -> [IPNetwork] {
        ((try? System.enumerateDevices()) ?? []).compactMap { device in
            guard let host = device.address?.ipAddress.flatMap({ IPAddress($0) }),
                let mask = device.netmask?.ipAddress.flatMap({ IPAddress($0) })
            else { return nil }
            return IPNetwork(host, bits: mask.bytes.reduce(0) { $0 + $1.nonzeroBitCount })
        }
    }

    /// Opens what is not open, joins what is not joined, and drops what is gone.
    package func refresh() async {
        let devices = ((try? System.enumerateDevices()) ?? []).filter { device in
            device.multicastSupported && (settings.interfaces?.contains(device.name) ?? true)
                && (device.name != "lo" || settings.interfaces?.contains("lo") == true)
        }
        await reopen(devices)
        await openReceivers()
        for receiver in state.withLock({ $0.receivers }) { await join(receiver, devices) }
        let current = Set(devices.compactMap { Self.key($0) })
        let stale = state.withLock { state in
            state.devices = devices
            let split = state.senders.partition { Self.key($0).map(current.contains) != true }
            defer { state.senders.removeSubrange(split...) }
            return Array(state.senders[split...])
        }
        for sender in stale { sender.socket.close() }
        let known = Set(state.withLock { $0.senders.map(Self.key) })
        for device in devices {
            guard let key = Self.key(device), !known.contains(key) else { continue }
            if let sender = open(device) { state.withLock { $0.senders.append(sender) } }
        }
    }

    /// An interface that was made anew has another index.
    private static func key(_ device: NIONetworkDevice) -> String? {
        device.address.flatMap { key(device.name, device.interfaceIndex, $0) }
    }

    private static func key(_ sender: Sender) -> String? {
        key(sender.name, sender.index, sender.address)
    }

    private static func key(_ name: String, _ index: Int, _ address: SocketAddress) -> String? {
        address.ipAddress.map { "\(name) \(index) \($0)" }
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

    /// Closes the receiver of a family of which an interface is gone.
    ///
    /// What was joined there stays with the socket, which may join only so many (20 of IPv4).
    private func reopen(_ devices: [NIONetworkDevice]) async {
        let current = Set(devices.compactMap(Joined.init))
        let closed = state.withLock { state in
            let families = Set(state.joined.subtracting(current).map(\.family))
            state.joined = state.joined.filter { !families.contains($0.family) }
            return state.receivers.filter { receiver in
                receiver.localAddress.map { families.contains($0.protocol.rawValue) } == true
            }
        }
        for receiver in closed { try? await receiver.close().get() }
    }

    /// Opens the receiver of each family that has none: IPv6 may come long after the start.
    private func openReceivers() async {
        let open = state.withLock { state in
            state.receivers.removeAll { !$0.isActive }
            return state.receivers.compactMap { $0.localAddress?.protocol }
        }
        for host in [settings.v4, settings.v6] {
            guard let address = try? SocketAddress(ipAddress: host, port: settings.port),
                !open.contains(address.protocol)
            else { continue }
            let receiver = try? await bootstrap().channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = DatagramHandler(
                        atMost: Self.readAtOnce,
                        paused: { self.paused.add(1, ordering: .relaxed) },
                        heard: { self.receive($0) })
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }.bind(to: address).get()
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
            guard names.insert(device.name).inserted, let key = Joined(device) else {
                continue
            }
            if state.withLock({ !$0.joined.insert(key).inserted }) {
                try? await channel.leaveGroup(target, device: device).get()
            }
            try? await channel.joinGroup(target, device: device).get()
        }
    }

    private func open(_ device: NIONetworkDevice) -> Sender? {
        guard let address = device.address, let host = address.ipAddress else { return nil }
        let isV4 = address.protocol == .inet
        // One address of IPv6 an interface is enough, and only the link-local one is always there.
        if !isV4, !host.lowercased().hasPrefix("fe80") { return nil }
        let text = isV4 ? settings.v4 : settings.v6
        guard let destination = try? SocketAddress(ipAddress: text, port: settings.port),
            let any = try? SocketAddress(ipAddress: isV4 ? "0.0.0.0" : "::", port: 0),
            let socket = try? DatagramSocket(boundTo: any)
        else { return nil }
        let ttl = CInt(clamping: settings.ttl)
        let level = CInt(isV4 ? IPPROTO_IP : IPPROTO_IPV6)
        let isSet =
            if isV4, case .v4(let v4) = address {
                socket.set(level, IP_MULTICAST_IF, v4.address.sin_addr)
                    && socket.set(level, IP_MULTICAST_TTL, ttl)
                    && socket.set(level, IP_MULTICAST_LOOP, CInt(1))
            } else {
                socket.set(level, IPV6_MULTICAST_IF, CInt(clamping: device.interfaceIndex))
                    && socket.set(level, IPV6_MULTICAST_HOPS, ttl)
                    && socket.set(level, IPV6_MULTICAST_LOOP, CInt(1))
            }
        guard isSet else { return nil }
        return Sender(
            name: device.name, address: address, index: device.interfaceIndex, socket: socket,
            destination: destination, traffic: Traffic(name: device.name, address: host))
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

    /// Whether an interface is one on which beacons go out: no tunnel and no line between two, and
    /// loopback only where it is named.
    package static func isSegment(_ name: String, among interfaces: [String]?) -> Bool {
        guard interfaces?.contains(name) ?? (name != "lo") else { return false }
        return ((try? System.enumerateDevices()) ?? []).contains {
            $0.name == name && $0.multicastSupported && $0.pointToPointDestinationAddress == nil
        }
    }

    /// Sends one datagram on every interface.
    package func send(_ bytes: [UInt8]) {
        state.withLock { state in
            for index in state.senders.indices {
                let sender = state.senders[index]
                if let error = sender.socket.send(bytes, to: sender.destination) {
                    state.senders[index].traffic.lost += 1
                    state.senders[index].traffic.error = String(cString: strerror(error))
                } else {
                    state.senders[index].traffic.sent += 1
                    state.senders[index].traffic.error = nil
                }
            }
        }
    }

    /// Closes every socket.
    package func close() async {
        let receivers = state.withLock { state in
            for sender in state.senders { sender.socket.close() }
            defer { state = State() }
            return state.receivers
        }
        for receiver in receivers { try? await receiver.close().get() }
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
