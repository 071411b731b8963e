// SPDX-License-Identifier: Apache-2.0

internal import CNIOLinux
package import NIOCore
internal import NIOPosix

#if canImport(Glibc)
    internal import Glibc
#endif

/// Tells when an interface or an address of this host comes or goes.
///
/// Source: rtnetlink(7). What a message says is not read: whoever listens looks for himself.
package enum InterfaceMonitor {
    private static let addressByteCount = 12
    /// Links, IPv4 addresses, IPv6 addresses (RTMGRP_LINK, …_IPV4_IFADDR, …_IPV6_IFADDR).
    private static let groups: UInt32 = 0x1 | 0x10 | 0x100

    /// Begins to watch.
    ///
    /// - Returns: what to close; nil where the system has no such socket.
    package static func watch(
        group: any EventLoopGroup, changed: @escaping @Sendable () -> Void
    ) async -> (any Channel)? {
        let descriptor = socket(
            AF_NETLINK, CInt(SOCK_RAW.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        guard join(descriptor) else {
            close(descriptor)
            return nil
        }
        return try? await NIOPipeBootstrap(group: group).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(ChangeHandler(changed))
            }
        }.takingOwnershipOfDescriptor(input: descriptor).get()
    }

    /// Binds to the groups: a `sockaddr_nl` is family, padding, port, groups.
    private static func join(_ descriptor: CInt) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: addressByteCount, alignment: 4) { bytes in
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
            bytes.storeBytes(of: UInt16(AF_NETLINK), as: UInt16.self)
            bytes.storeBytes(of: groups, toByteOffset: 8, as: UInt32.self)
            let address = bytes.assumingMemoryBound(to: sockaddr.self).baseAddress
            return bind(descriptor, address, socklen_t(addressByteCount)) == 0
        }
    }

    private final class ChangeHandler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let changed: @Sendable () -> Void

        init(_ changed: @escaping @Sendable () -> Void) { self.changed = changed }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { changed() }

        /// A full socket buffer is a change too.
        func errorCaught(context: ChannelHandlerContext, error: any Error) { changed() }
    }
}
