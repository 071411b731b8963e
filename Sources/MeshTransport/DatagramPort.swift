// SPDX-License-Identifier: Apache-2.0

package import NIOCore
internal import NIOPosix
internal import Synchronization

/// Datagrams to and from members, on the port of the links: bytes and addresses only.
package final class DatagramPort: Sendable {
    /// Longest datagram that is looked at, in bytes; the socket cuts longer ones off.
    private static let bytesMax = 1280

    private let sockets: [DatagramSocket]
    private let channels: [any Channel]
    private let lost = Atomic<Int>(0)
    /// How many datagrams could not be sent.
    package var unsent: Int { lost.load(ordering: .relaxed) }

    private init(_ sockets: [DatagramSocket], _ channels: [any Channel]) {
        self.sockets = sockets
        self.channels = channels
    }

    /// Opens a socket, and one more for IPv6 where the host is every address.
    ///
    /// - Parameter heard: called on the event loop with each datagram and its source.
    package static func open(
        group: any EventLoopGroup, host: String, port: Int,
        heard: @escaping @Sendable ([UInt8], SocketAddress) -> Void
    ) async throws -> DatagramPort {
        var pairs = [try await bind(group, host, port, heard)]
        if host == ListenHost.every, let other = try? await bind(group, "::", port, heard) {
            pairs.append(other)
        }
        return DatagramPort(pairs.map(\.0), pairs.map(\.1))
    }

    private static func bind(
        _ group: any EventLoopGroup, _ host: String, _ port: Int,
        _ heard: @escaping @Sendable ([UInt8], SocketAddress) -> Void
    ) async throws -> (DatagramSocket, any Channel) {
        let socket = try DatagramSocket(boundTo: try ListenHost.address(host, port: port))
        let bootstrap = DatagramBootstrap(group: group)
            .channelOption(
                .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: bytesMax)
            )
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = DatagramHandler { envelope in
                        heard(Array(envelope.data.readableBytesView), envelope.remoteAddress)
                    }
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
        return (socket, try await socket.receive(by: bootstrap))
    }

    /// Sends one datagram; one that cannot be sent is lost, as datagrams are, and counted.
    package func send(_ bytes: [UInt8], to address: SocketAddress) {
        let socket = sockets.first { $0.family == address.protocol }
        guard let socket, socket.send(bytes, to: address) == nil else {
            lost.add(1, ordering: .relaxed)
            return
        }
    }

    /// Closes the sockets.
    package func close() async {
        for socket in sockets { socket.close() }
        for channel in channels { try? await channel.close().get() }
    }
}

/// How a host to listen on is said.
enum ListenHost {
    /// Every address, of IPv6 too where the host has it.
    static let every = "0.0.0.0"

    /// An address is taken as it stands: the system's resolver turns one of IPv4 into one of IPv6
    /// on a host that has no IPv4.
    static func address(_ host: String, port: Int) throws -> SocketAddress {
        if let address = try? SocketAddress(ipAddress: host, port: port) { return address }
        return try SocketAddress.makeAddressResolvingHost(host, port: port)
    }
    /// A socket of IPv6 does not take IPv4 as well: that one has a socket of its own.
    static let onlyV6 = ChannelOptions.Types.SocketOption(
        level: .ipv6, name: NIOBSDSocket.Option(rawValue: CInt(IPV6_V6ONLY)))
}
