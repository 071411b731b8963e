// SPDX-License-Identifier: Apache-2.0

internal import CNIOLinux
internal import Dispatch
internal import Glibc
package import MeshCore
package import MeshDiscovery
package import MeshEngine
internal import MeshLink
package import MeshMembership
package import MeshStore
internal import MeshTransport
internal import NIOCore
internal import Synchronization

/// What the engine knew at one moment.
package struct NodeSnapshot: Sendable {
    /// When, on the node's clock.
    package var at = Instant(nanoseconds: 0)
    /// The linked peers.
    package var peers: [PeerStatus] = []
    /// Every other node of the mesh that is known, linked or not.
    package var members: [Member] = []
    /// What comparisons showed of every node that was linked since the start.
    package var exchanges: [NodeID: Exchange] = [:]
    /// Every address that was ever to be dialled.
    package var addresses: [DialPlan.Target] = []
    /// The node that keeps this site's links to other sites; nil before the start.
    package var gateway: NodeID?
    /// The node that has this one's name and place by a later ticket; nil for most.
    package var successor: NodeID?
    /// Nodes that joined with one ticket.
    package var doubles: [TicketDouble] = []
    /// Boxes that called here and wait to be approved.
    package var waiting: [WaitingBox] = []
    /// Servers that asked here for the key of their records, which an operator has to allow.
    package var locked: [LockedServer] = []
    /// How many servers said that they keep the key of this one's records, and whether one of the
    /// centre did; nil if those are not sealed.
    package var keepers: (count: Int, isWithCentre: Bool)?
    /// What was counted.
    package var counters: [String: UInt64] = [:]
    /// What discovery sent and heard.
    package var discovery = DiscoveryLog()
}

/// Messages of links that wait to be taken: one budget for all, and a limit for each link, so that
/// none can fill the memory, and neither can many together.
struct Backlog {
    /// Most messages of one link.
    static let messagesMax = 4096
    /// Most bytes of one link.
    static let bytesMax = 16 << 20
    /// Bytes of all links, beyond which one may have no more than `bytesLeast`: more than honest
    /// peers together have on their way.
    static let bytesOfAll = 192 << 20
    static let bytesLeast = 1 << 20

    private var links: [LinkID: (messages: Int, bytes: Int)] = [:]
    private var bytes = 0

    /// Notes a message that waits.
    ///
    /// - Returns: false where there is no room; then it does not wait, and its link ends.
    mutating func add(_ byteCount: Int, of id: LinkID) -> Bool {
        let link = links[id] ?? (0, 0)
        let isCrowded = bytes + byteCount > Self.bytesOfAll
        guard link.messages < Self.messagesMax,
            link.bytes + byteCount <= (isCrowded ? Self.bytesLeast : Self.bytesMax)
        else { return false }
        links[id] = (link.messages + 1, link.bytes + byteCount)
        bytes += byteCount
        return true
    }

    /// A message that waited was taken.
    mutating func take(_ byteCount: Int, of id: LinkID) {
        guard let link = links[id] else { return }
        bytes -= byteCount
        links[id] =
            link.messages > 1 ? (link.messages - 1, link.bytes - byteCount) : nil
    }
}

/// How many datagrams are looked at in a second: the rest are dropped before any arithmetic.
struct Budget {
    private let perSecond: Double
    private var tokens: Double
    private var last = ContinuousClock.now

    init(perSecond: Double) {
        self.perSecond = perSecond
        tokens = perSecond
    }

    mutating func take(at now: ContinuousClock.Instant) -> Bool {
        tokens = min(perSecond, tokens + (now - last).seconds * perSecond)
        last = now
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }
}

/// Addresses as the system has them.
enum HostPort {
    /// The address to dial for a beacon's source; nil for one that no host can have.
    static func dialable(_ source: SocketAddress, port: UInt16) -> Address? {
        host(source).flatMap { Address(host: $0, port: port) }
    }

    /// An address of digits with its port, also a local one of IPv6 with its interface.
    static func address(_ host: String, port: Int) -> SocketAddress? {
        guard let percent = host.firstIndex(of: "%") else {
            return try? SocketAddress(ipAddress: host, port: port)
        }
        let index = if_nametoindex(String(host[host.index(after: percent)...]))
        guard index != 0,
            let plain = try? SocketAddress(ipAddress: String(host[..<percent]), port: port),
            case .v6(let v6) = plain
        else { return nil }
        var address = v6.address
        address.sin6_scope_id = index
        return SocketAddress(address, host: host)
    }

    /// The source without its port, as it can be dialled; nil for one that no host can have.
    static func host(_ source: SocketAddress) -> String? {
        guard let ip = source.ipAddress, let bytes = source.networkBytes else { return nil }
        switch source {
        case .v4:
            guard let first = bytes.first, first != 0, first < 224 else { return nil }
            return ip
        case .v6(let v6):
            guard bytes.first != 0xff else { return nil }
            let index = v6.address.sin6_scope_id
            guard index != 0 else { return "[\(ip)]" }
            var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
            guard if_indextoname(index, &name) != nil else { return nil }
            let text = String(
                decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return "[\(ip)%\(text)]"
        case .unixDomainSocket: return nil
        }
    }
}

/// A thread of its own for what the mesh waits for: a heartbeat that is answered late is taken for
/// a server that is gone.
///
/// Tasks of the API share the threads of the system's pool, and may take all of them.
final class MeshThread: TaskExecutor {
    private let queue = DispatchQueue(label: "mesh")

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

/// Wakes those who wait for changes.
package final class ChangeHub: Sendable {
    /// Most feeds that wait at once.
    package static let waitersMax = 256

    private struct State {
        var position = FeedPosition.beginning
        var waiters: [Int: AsyncStream<FeedPosition>.Continuation] = [:]
        var next = 0
        var isClosed = false
    }

    private let state = Mutex(State())

    func advance(to position: FeedPosition) {
        let waiters = state.withLock { state in
            state.position = max(state.position, position)
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.yield(position) }
    }

    func close() {
        let waiters = state.withLock { state in
            state.isClosed = true
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.finish() }
    }

    /// Positions as they come; only the newest waits. Nil if too many listen already.
    package func positions() -> AsyncStream<FeedPosition>? {
        let (stream, continuation) = AsyncStream.makeStream(
            of: FeedPosition.self, bufferingPolicy: .bufferingNewest(1))
        let number: Int? = state.withLock { state in
            guard !state.isClosed, state.waiters.count < Self.waitersMax else { return nil }
            state.next += 1
            state.waiters[state.next] = continuation
            return state.next
        }
        guard let number else { return nil }
        continuation.onTermination = { _ in self.state.withLock { $0.waiters[number] = nil } }
        return stream
    }
}

/// The links that stand, by number.
final class LinkTable: Sendable {
    private let connections = Mutex<[LinkID: LinkConnection]>([:])

    var all: [LinkConnection] { connections.withLock { Array($0.values) } }

    subscript(id: LinkID) -> LinkConnection? { connections.withLock { $0[id] } }

    func add(_ connection: LinkConnection, as id: LinkID) {
        connections.withLock { $0[id] = connection }
    }

    /// - Returns: whether it was there.
    func remove(_ id: LinkID) -> Bool {
        connections.withLock { $0.removeValue(forKey: id) } != nil
    }
}

extension MeshConfiguration {
    /// Where beacons are sent and heard.
    var beacons: BeaconPort.Group {
        var settings = BeaconPort.Group()
        settings.v4 = beaconGroup
        settings.v6 = beaconGroup6
        settings.port = beaconPort
        settings.ttl = beaconTTL
        settings.interfaces = interfaces
        return settings
    }
}

extension DataDirectory.Identity {
    /// What both ends of a link prove to each other.
    var ofLinks: LinkIdentity {
        LinkIdentity(
            certificate: certificate, key: linkKey, root: root, secrets: secrets,
            version: meshVersion)
    }
}
