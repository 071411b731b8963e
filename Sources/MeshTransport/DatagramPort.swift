// SPDX-License-Identifier: Apache-2.0

package import NIOCore
internal import NIOPosix

/// Datagrams to and from members, on the port of the links: bytes and addresses only.
package final class DatagramPort: Sendable {
    /// Longest datagram that is looked at, in bytes; the socket cuts longer ones off.
    private static let bytesMax = 1280

    private let channel: any Channel

    private init(_ channel: any Channel) { self.channel = channel }

    /// Opens the socket.
    ///
    /// - Parameter heard: called on the event loop with each datagram and its source.
    package static func open(
        group: any EventLoopGroup, host: String, port: Int,
        heard: @escaping @Sendable ([UInt8], SocketAddress) -> Void
    ) async throws -> DatagramPort {
        let channel = try await DatagramBootstrap(group: group)
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
            }.bind(host: host, port: port).get()
        return DatagramPort(channel)
    }

    /// Sends one datagram; one that cannot be sent is lost, as datagrams are.
    package func send(_ bytes: [UInt8], to address: SocketAddress) {
        let buffer = channel.allocator.buffer(bytes: bytes)
        channel.writeAndFlush(
            AddressedEnvelope(remoteAddress: address, data: buffer), promise: nil)
    }

    /// Closes the socket.
    package func close() async { try? await channel.close().get() }
}
