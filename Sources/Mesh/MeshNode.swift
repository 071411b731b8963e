// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import MeshCore
internal import MeshCrypto
internal import MeshDiscovery
internal import MeshEngine
internal import MeshLink
internal import MeshMembership
internal import MeshReplication
package import MeshStore
internal import MeshTransport
package import MeshTrust
internal import NIOCore
internal import NIOPosix
public import Logging
internal import Synchronization

/// A server of the mesh: the shell around the engine, with real sockets, disk and clock.
///
/// One task owns the engine and performs its effects; it never waits between a step and handing the
/// effects on. Records go through a lane of their own, so that the disk never holds up the links.
public final class MeshNode: Sendable {
    /// What may wait for the engine of one link; beyond it the link is closed. Everything else that
    /// waits answers the engine itself, and is never dropped.
    private static let backlogMax = Backlog(messages: 4096, bytes: 16 << 20)

    private struct Backlog {
        var messages = 0
        var bytes = 0
    }

    private enum Item: Sendable {
        case input(Input)
        case snapshot(CheckedContinuation<NodeSnapshot, Never>)
    }

    let configuration: MeshConfiguration
    /// The records on disk.
    package let store: Store
    /// Where the node tells what it does.
    package let logger: Logger
    private let group: MultiThreadedEventLoopGroup
    private let inbox: AsyncStream<Item>
    private let feed: AsyncStream<Item>.Continuation
    private let connections = Mutex<[LinkID: LinkConnection]>([:])
    private let counters = Mutex<[String: UInt64]>([:])
    private let beaconBudget = Mutex(Budget(perSecond: 500))
    private let lane: StoreLane
    private let started = ContinuousClock.now
    private let failure = Mutex<(any Error)?>(nil)
    private let changeHub = ChangeHub()
    private let beaconInterfaces = Mutex<[String]>([])
    let datagramPort = Mutex<DatagramPort?>(nil)
    let datagramBudget = Mutex(Budget(perSecond: 2000))
    private let backlog = Mutex<[LinkID: Backlog]>([:])

    /// Opens the data directory of a joined node; nothing is on the network yet.
    ///
    /// - Throws: why the directory cannot be used: not joined, in use, a newer schema, another
    ///   node's.
    public init(_ configuration: MeshConfiguration, logger: Logger) throws {
        try Sodium.start()
        let directory = DataDirectory(configuration.dataDirectory)
        let identity = try directory.identity()
        if !configuration.allowVolatile { try directory.checkFileSystem() }
        let lock = try directory.lock()
        let name = "mesh-\(identity.certificate.node.description.prefix(32))"
        store = try Store(
            path: directory.database, identity: identity, lock: lock,
            proof: TailProof(path: "/dev/shm/\(name)"),
            wallMilliseconds: { UInt64(max(0, Date().timeIntervalSince1970 * 1000)) })
        self.configuration = configuration
        self.logger = logger
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        (inbox, feed) = AsyncStream.makeStream(of: Item.self)
        let feed = feed
        lane = StoreLane(store: store) { _ = feed.yield(.input($0)) }
    }

    /// This node's certificate.
    package var certificate: Certificate { store.identity.certificate }

    /// Where the node's files are.
    package var dataDirectory: String { configuration.dataDirectory }

    var now: Instant {
        Instant(nanoseconds: (ContinuousClock.now - started).nanoseconds)
    }

    /// Seconds since the start.
    package var uptime: Duration { ContinuousClock.now - started }

    /// Runs the node until the task is cancelled or the disk fails.
    ///
    /// - Parameter ready: called once links are accepted, with the port they are accepted on.
    public func run(ready: @escaping @Sendable (Int) async -> Void = { _ in }) async throws {
        var observers = Store.Observers()
        let feed = feed
        let hub = changeHub
        observers.committed = { _ = feed.yield(.input(.committed($0))) }
        observers.changed = { hub.advance(to: $0) }
        observers.failed = { error in
            self.failure.withLock { $0 = error }
            self.logger.critical("The disk failed", metadata: ["error": "\(error)"])
            feed.finish()
        }
        store.observe(observers)
        let port = linkPort()
        let listener = try await port.listen(
            host: configuration.listenHost, port: configuration.listenPort)
        let listening = listener.localAddress?.port ?? configuration.listenPort
        let datagrams = try await DatagramPort.open(
            group: group, host: configuration.listenHost, port: listening
        ) { self.received(datagram: $0, from: $1) }
        datagramPort.withLock { $0 = datagrams }
        let beacons = beaconPort()
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.drive(port, beacons, listening) }
            tasks.addTask { await self.tick() }
            tasks.addTask { await self.scrub() }
            if configuration.discovery { tasks.addTask { await self.refresh(beacons) } }
            tasks.addTask { await ready(listening) }
            while failure.withLock({ $0 }) == nil, !Task.isCancelled {
                try? await Task.sleep(for: .milliseconds(200))
            }
            tasks.cancelAll()
            feed.finish()
        }
        await shutDown(listener, beacons, datagrams)
        if let error = failure.withLock({ $0 }) { throw error }
    }

    /// Says goodbye, finishes what waits for the disk, and marks a clean stop.
    private func shutDown(
        _ listener: any Channel, _ beacons: BeaconPort, _ datagrams: DatagramPort
    ) async {
        try? await listener.close().get()
        for connection in connections.withLock({ Array($0.values) }) {
            connection.send([LinkMessage.goodbye.encoded])
            connection.close()
        }
        await beacons.close()
        await datagrams.close()
        await lane.close()
        changeHub.close()
        store.close()
        try? await group.shutdownGracefully()
    }

    private func tick() async {
        while !Task.isCancelled {
            post(.tick)
            try? await Task.sleep(for: .milliseconds(200), tolerance: .milliseconds(50))
        }
    }

    func post(_ input: Input) { feed.yield(.input(input)) }

    /// Counts an event, for metrics.
    package func count(_ name: String) { counters.withLock { $0[name, default: 0] += 1 } }

    /// Asks the engine for what it knows now.
    package func snapshot() async -> NodeSnapshot {
        await withCheckedContinuation { continuation in
            switch feed.yield(.snapshot(continuation)) {
            case .enqueued: break
            default: continuation.resume(returning: NodeSnapshot())
            }
        }
    }

    /// Compares with every peer now.
    package func syncNow() { post(.syncNow) }

    /// The position of the change feed, waited for.
    package var changes: ChangeHub { changeHub }

    private func drive(_ port: LinkPort, _ beacons: BeaconPort, _ listening: Int) async {
        let identity = store.identity
        var generator = SystemRandomNumberGenerator()
        var engine = Engine(
            own: identity.certificate, membership: membership(listening, seed: generator.next()),
            seeds: Array(Set(configuration.seeds + identity.seeds)).sorted(),
            seed: generator.next(), now: now)
        post(.known(knownNodes()))
        for await item in inbox {
            switch item {
            case .input(let input):
                if case .message(let id, let bytes) = input { taken(id, bytes.count) }
                for effect in engine.step(input, at: now) {
                    perform(effect, port, beacons, listening)
                }
            case .snapshot(let continuation):
                var counters = counters.withLock { $0 }
                counters["half_open_refused"] = port.refused
                counters.merge(engine.counters.events) { $0 + $1 }
                counters.merge(engine.membership.events) { $0 + $1 }
                continuation.resume(
                    returning: NodeSnapshot(
                        at: now, peers: engine.peers, members: engine.membership.members,
                        addresses: engine.addresses,
                        counters: counters, interfaces: beaconInterfaces.withLock { $0 }))
            }
        }
    }

    private func perform(
        _ effect: Effect, _ port: LinkPort, _ beacons: BeaconPort, _ listening: Int
    ) {
        switch effect {
        case .send(let id, let message): connection(id)?.send([message.encoded])
        case .close(let id, let reason):
            logger.info(
                "Link closed", metadata: ["link.id": "\(id.number)", "reason": "\(reason)"])
            connection(id)?.close()
            post(.linkDown(id, reason: reason))
        case .dial(let address): dial(address, port)
        case .beacon(let counter):
            guard configuration.discovery, let port = UInt16(exactly: listening) else { return }
            let beacon = Beacon(
                epoch: store.identity.secret.epoch, node: certificate.node,
                incarnation: store.author.incarnation, port: port, counter: counter)
            beacons.send(
                beacon.encoded(
                    mesh: store.identity.root.meshID, key: store.identity.secret.beaconKey))
        case .datagram(let address, let bytes): send(bytes, to: address)
        case .note(let text, let id):
            logger.notice("\(text)", metadata: ["link.id": "\(id?.number ?? 0)"])
        case .compare, .ingest, .read, .keep, .show, .remember:
            if let work = StoreWork(effect) { lane.add(work) }
        }
    }

    private func connection(_ id: LinkID) -> LinkConnection? {
        connections.withLock { $0[id] }
    }
}

// MARK: Network

extension MeshNode {
    private func linkPort() -> LinkPort {
        let identity = store.identity
        let link = LinkIdentity(
            certificate: identity.certificate, key: identity.linkKey, root: identity.root,
            secret: identity.secret, version: meshVersion)
        let callbacks = LinkCallbacks(
            established: { connection, peer in self.established(connection, peer) },
            message: { connection, bytes in self.received(connection, bytes) },
            closed: { connection, error, reason in self.closed(connection, error, reason) })
        return LinkPort(group: group, identity: link, callbacks: callbacks)
    }

    private func received(_ connection: LinkConnection, _ bytes: [UInt8]) {
        let id = LinkID(connection.number)
        let waiting = backlog.withLock { backlog in
            backlog[id, default: Backlog()].messages += 1
            backlog[id, default: Backlog()].bytes += bytes.count
            return backlog[id, default: Backlog()]
        }
        let most = Self.backlogMax
        guard waiting.messages <= most.messages, waiting.bytes <= most.bytes else {
            count("backlog_over_limit")
            taken(id, bytes.count)
            return connection.close()
        }
        post(.message(id, bytes))
    }

    private func taken(_ id: LinkID, _ byteCount: Int) {
        backlog.withLock { backlog in
            backlog[id]?.messages -= 1
            backlog[id]?.bytes -= byteCount
            if backlog[id]?.messages == 0 { backlog[id] = nil }
        }
    }

    private func established(_ connection: LinkConnection, _ peer: LinkMachine.Peer) {
        let id = LinkID(connection.number)
        connections.withLock { $0[id] = connection }
        let ip = connection.remote?.ipAddress ?? "?"
        let origin = LinkOrigin(
            remote: "\(ip):\(connection.remote?.port ?? 0)", dialled: connection.dialled,
            isLocal: connection.remote.map(BeaconPort.isOnSegment) ?? false,
            host: connection.remote.flatMap(HostPort.host),
            datagramKey: Bytes32(Sodium.random(32)) ?? .zero)
        logger.info(
            "Link up",
            metadata: [
                "link.id": "\(id.number)", "peer.name": "\(peer.certificate.ticket.node)",
                "peer.address": "\(origin.remote)",
            ])
        post(.linkUp(id, peer, origin))
    }

    private func closed(_ connection: LinkConnection, _ error: LinkError?, _ reason: String) {
        let id = LinkID(connection.number)
        let wasUp = connections.withLock { $0.removeValue(forKey: id) } != nil
        if let error { count("link_\(error.code)") }
        if wasUp {
            post(.linkDown(id, reason: reason))
        } else if let address = connection.dialled {
            post(.dialFailed(address: address, reason: reason, isSelf: error == .selfConnect))
        } else {
            count("handshake_failed")
            logger.debug("A connection came to nothing", metadata: ["reason": "\(reason)"])
        }
    }

    private func dial(_ address: String, _ port: LinkPort) {
        guard let (host, number) = HostPort.parse(address) else {
            return post(
                .dialFailed(address: address, reason: "not HOST:PORT", isSelf: false))
        }
        Task {
            do {
                try await port.dial(host: host, port: number, address: address)
            } catch {
                post(.dialFailed(address: address, reason: "\(error)", isSelf: false))
            }
        }
    }

    private func beaconPort() -> BeaconPort {
        var settings = BeaconPort.Group()
        settings.v4 = configuration.beaconGroup
        settings.v6 = configuration.beaconGroup6
        settings.port = configuration.beaconPort
        settings.ttl = configuration.beaconTTL
        settings.interfaces = configuration.interfaces
        return BeaconPort(group: group, settings: settings) { self.heard($0) }
    }

    private func refresh(_ beacons: BeaconPort) async {
        while !Task.isCancelled {
            await beacons.refresh()
            beaconInterfaces.withLock { $0 = beacons.interfaces.map { "\($0.name) \($0.address)" } }
            try? await Task.sleep(for: .seconds(10))
        }
    }

    private func heard(_ arrival: BeaconPort.Arrival) {
        do throws(BeaconRefusal) {
            guard beaconBudget.withLock({ $0.take(at: ContinuousClock.now) }) else {
                throw .overBudget
            }
            let identity = store.identity
            let beacon = try Beacon(
                decoding: arrival.bytes, mesh: identity.root.meshID,
                key: identity.secret.beaconKey)
            if beacon.node == identity.certificate.node {
                // Another incarnation under our own key is a clone or a restored disk at work.
                if beacon.incarnation != store.author.incarnation { count("duplicate_node") }
                throw .own
            }
            guard arrival.isLocal || configuration.beaconTTL > 1,
                let address = HostPort.dialable(arrival.source, port: beacon.port)
            else { throw .badSource }
            post(.heard(beacon.node, beacon.incarnation, address: address))
        } catch {
            count("beacon_\(error.rawValue)")
        }
    }

    /// Reads everything again and again, slowly, and makes holes where a row does not match its
    /// hash.
    private func scrub() async {
        var position: UInt64 = 0
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(10))
            guard let step = try? store.scrub(after: position) else { continue }
            position = step
        }
    }
}
