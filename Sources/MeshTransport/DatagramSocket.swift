// SPDX-License-Identifier: Apache-2.0

internal import CNIOLinux
internal import NIOCore
internal import NIOPosix
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#endif

/// A UDP socket of which an error of sending costs one datagram.
///
/// NIO ends a datagram channel at most errors of a write: after a cable that was pulled out
/// (`ENETUNREACH`) or a firewall's rule (`EPERM`) nothing would be sent until the next start. NIO
/// only receives here.
final class DatagramSocket: Sendable {
    /// What is asked for; the system grants what its own limit allows.
    private static let bufferBytes: CInt = 1 << 20

    private let descriptor: Mutex<CInt?>
    /// Of the address it is bound to.
    let family: NIOBSDSocket.ProtocolFamily

    /// Opens a socket, bound to an address.
    ///
    /// - Parameter address: a socket of IPv6 takes IPv6 alone.
    init(boundTo address: SocketAddress) throws {
        family = address.protocol
        let kind = SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
        let opened = socket(CInt(family.rawValue), CInt(kind), 0)
        guard opened >= 0 else { throw IOError(errnoCode: errno, reason: "socket") }
        descriptor = Mutex(opened)
        // What waits for the hardware address of a neighbour that is gone takes room from the rest.
        set(SOL_SOCKET, SO_SNDBUF, Self.bufferBytes)
        let isReady = family == .inet || set(CInt(IPPROTO_IPV6), IPV6_V6ONLY, CInt(1))
        guard isReady, address.withSockaddr({ bind(opened, $0, $1) }) == 0 else {
            let error = IOError(errnoCode: errno, reason: "bind \(address)")
            close()
            throw error
        }
    }

    deinit { close() }

    /// Sets an option of the socket.
    ///
    /// - Returns: whether it was taken.
    @discardableResult
    func set<Value>(_ level: CInt, _ name: CInt, _ value: Value) -> Bool {
        descriptor.withLock { descriptor in
            guard let descriptor else { return false }
            return withUnsafeBytes(of: value) {
                setsockopt(descriptor, level, name, $0.baseAddress, socklen_t($0.count)) == 0
            }
        }
    }

    /// Sends one datagram, or loses it.
    ///
    /// - Returns: the error's number; nil if it was sent.
    func send(_ bytes: [UInt8], to address: SocketAddress) -> CInt? {
        descriptor.withLock { descriptor in
            guard let descriptor else { return EBADF }
            let sent = address.withSockaddr { sockaddr, length in
                sendto(descriptor, bytes, bytes.count, 0, sockaddr, length)
            }
            return sent == bytes.count ? nil : errno
        }
    }

    /// Receives on the same socket, by a channel that is to be closed besides.
    func receive(by bootstrap: DatagramBootstrap) async throws -> any Channel {
        let copy = descriptor.withLock { $0.map { fcntl($0, F_DUPFD_CLOEXEC, 0) } } ?? -1
        guard copy >= 0 else { throw IOError(errnoCode: errno, reason: "dup") }
        return try await bootstrap.withBoundSocket(copy).get()
    }

    /// Sends no more.
    func close() {
        descriptor.withLock { descriptor in
            if let open = descriptor { _ = Glibc.close(open) }
            descriptor = nil
        }
    }
}

extension SocketAddress {
    /// Calls the body with the address as the system takes it; -1 for a Unix socket.
    fileprivate func withSockaddr<Result: SignedInteger>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        func call<Address>(_ address: Address) -> Result {
            withUnsafePointer(to: address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<Address>.size))
                }
            }
        }
        switch self {
        case .v4(let v4): return call(v4.address)
        case .v6(let v6): return call(v6.address)
        case .unixDomainSocket:
            errno = EAFNOSUPPORT
            return -1
        }
    }
}
