// SPDX-License-Identifier: Apache-2.0

package import NIOCore
internal import NIOPosix

/// Datagrams to and from members, on the port of the links: bytes and addresses only.
package final class DatagramPort: Sendable {
    /// Longest datagram that is looked at, in bytes; the socket cuts longer ones off.
    private static let bytesMax = 1280

    private let channels: [any Channel]

    private init(_ channels: [any Channel]) { self.channels = channels }

    /// Opens a socket, and one more for IPv6 where the host is every address.
    ///
    /// - Parameter heard: called on the event loop with each datagram and its source.
    package static func open(
        group: any EventLoopGroup, host: String, port: Int,
        heard: @escaping @Sendable ([UInt8], SocketAddress) -> Void
    ) async throws -> DatagramPort {
        var channels = [try await bind(group, host, port, heard)]
        if host == ListenHost.every, let other = try? await bind(group, "::", port, heard) {
            channels.append(other)
        }
        return DatagramPort(channels)
    }

    private static func bind(
        _ group: any EventLoopGroup, _ host: String, _ port: Int,
        _ heard: @escaping @Sendable ([UInt8], SocketAddress) -> Void
    ) async throws -> any Channel {
        var bootstrap = DatagramBootstrap(group: group)
            .channelOption(
                .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: bytesMax)
            )
        if host.contains(":") { bootstrap = bootstrap.channelOption(ListenHost.onlyV6, value: 1) }
        return try await bootstrap.channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                let handler = DatagramHandler { envelope in
                    heard(Array(envelope.data.readableBytesView), envelope.remoteAddress)
                }
                try channel.pipeline.syncOperations.addHandler(handler)
            }
        }.bind(host: host, port: port).get()
    }

    /// Sends one datagram; one that cannot be sent is lost, as datagrams are.
    package func send(_ bytes: [UInt8], to address: SocketAddress) {
        let family = address.protocol
        guard let channel = channels.first(where: { $0.localAddress?.protocol == family }) else {
            return
        }
        let buffer = channel.allocator.buffer(bytes: bytes)
        channel.writeAndFlush(
            AddressedEnvelope(remoteAddress: address, data: buffer), promise: nil)
    }

    /// Closes the sockets.
    package func close() async { for channel in channels { try? await channel.close().get() } }
}

/// How a host to listen on is said.
enum ListenHost {
    /// Every address, of IPv6 too where the host has it.
    static let every = "0.0.0.0"
    /// A socket of IPv6 does not take IPv4 as well: that one has a socket of its own.
    static let onlyV6 = ChannelOptions.Types.SocketOption(
        level: .ipv6, name: NIOBSDSocket.Option(rawValue: CInt(IPV6_V6ONLY)))
}
