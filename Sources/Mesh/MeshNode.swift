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

    private enum Item: Sendable {
        case input(Input)
        case snapshot(CheckedContinuation<NodeSnapshot, Never>)
        /// Who of the site is there is to be told to the content's lane.
        case roll
    }

    let configuration: MeshConfiguration
    /// The records on disk.
    package let store: Store
    /// Where the node tells what it does.
    package let logger: Logger
    let group: MultiThreadedEventLoopGroup
    private let inbox: AsyncStream<Item>
    private let feed: AsyncStream<Item>.Continuation
    let connections = LinkTable()
    let counters = Mutex<[String: UInt64]>([:])
    let beaconBudget = Mutex(Budget(perSecond: 500))
    private let lane: StoreLane
    /// Releases and chunks.
    package let content: ContentLane
    private let started = ContinuousClock.now
    private let failure = Mutex<(any Error)?>(nil)
    private let changeHub = ChangeHub()
    let discoveryLog = Mutex(DiscoveryLog())
    let hasLeft = Mutex(false)
    let leaving = Mutex(LeavePhase.stays)
    let newTrust = Mutex(NewTrust.none)
    let datagramPort = Mutex<DatagramPort?>(nil)
    let datagramBudget = Mutex(Budget(perSecond: 2000))
    /// Messages that wait for the engine. Everything else that waits answers the engine itself, and
    /// is never dropped.
    let backlog = Mutex(Backlog())
    /// Writes that wait for other servers.
    let acknowledging = Mutex(WaitingWrites())

    /// Opens the data directory of a joined node; nothing is on the network yet.
    ///
    /// - Parameter key: of sealed records, from `Unlocking`.
    /// - Throws: why the directory cannot be used: not joined, in use, a newer schema, another
    ///   node's, sealed.
    public init(
        _ configuration: MeshConfiguration, key: UnlockedKey? = nil, logger: Logger
    ) throws {
        try Sodium.start()
        let directory = configuration.directory
        let identity = try directory.identity()
        try Self.check(configuration)
        if try directory.sealing() != key.map({ .under($0.seal.name) }) ?? .none {
            throw StoreError.unusable(
                "the records in \(directory.path) are sealed: their key comes first")
        }
        let lock = try directory.lock()
        store = try Store(
            path: directory.database, identity: identity, lock: lock, seal: key?.seal,
            wallMilliseconds: { UInt64(max(0, Date().timeIntervalSince1970 * 1000)) })
        self.configuration = configuration
        self.logger = logger
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        (inbox, feed) = AsyncStream.makeStream(of: Item.self)
        let feed = feed
        lane = StoreLane(store: store) { _ = feed.yield(.input($0)) }
        let (connections, started) = (connections, started)
        content = try ContentLane(
            store: store, settings: configuration.content, logger: logger,
            around: ContentLane.Surroundings(
                connection: { connections[LinkID($0)] },
                now: { Instant(nanoseconds: (ContinuousClock.now - started).nanoseconds) }))
    }

    /// Refuses a directory that is not to be used, before anything is asked of others.
    static func check(_ configuration: MeshConfiguration) throws {
        let directory = configuration.directory
        try directory.keepToOwner()
        if directory.hasLeft {
            throw StoreError.unusable(
                "this server has left the mesh; to begin anew, remove \(directory.path) and join with a new ticket"
            )
        }
        if !configuration.allowVolatile { try directory.checkFileSystem() }
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
        let content = content
        observers.revoked = { list in
            _ = feed.yield(.input(.revoked(list)))
            content.readAnew()
        }
        observers.changed = { news in
            hub.advance(to: news.through)
            content.changed(news)
        }
        observers.failed = { error in
            self.failure.withLock { $0 = error }
            self.logger.critical("The disk failed", metadata: ["error": "\(error)"])
            feed.finish()
        }
        store.observe(observers)
        store.judgeAnew()
        store.bringBackRevocations()
        await content.open()
        let port = linkPort()
        let (listeners, datagrams) = try await listen(port)
        let listening = listeners.first?.localAddress?.port ?? configuration.listenPort
        datagramPort.withLock { $0 = datagrams }
        let beacons = beaconPort()
        await withTaskGroup(of: Void.self) { tasks in
            let thread = MeshThread()
            tasks.addTask(executorPreference: thread) {
                await self.drive(port, beacons, listening)
            }
            tasks.addTask { await self.keepHouse() }
            if configuration.discovery { tasks.addTask { await self.refresh(beacons) } }
            tasks.addTask { await ready(listening) }
            let (ending, end) = AsyncStream.makeStream(of: Void.self)
            tick(on: group.next(), end: end)
            for await _ in ending {}
            tasks.cancelAll()
            feed.finish()
        }
        await shutDown(listeners, beacons, datagrams)
        if let error = failure.withLock({ $0 }) { throw error }
    }

    /// Says goodbye, and finishes what waits for the disk.
    private func shutDown(
        _ listeners: [any Channel], _ beacons: BeaconPort, _ datagrams: DatagramPort
    ) async {
        handedOver(.refused)
        endAcknowledging()
        for listener in listeners { try? await listener.close().get() }
        for connection in connections.all {
            connection.send([LinkMessage.goodbye.encoded])
            connection.close()
        }
        await beacons.close()
        await datagrams.close()
        await content.close()
        await lane.close()
        changeHub.close()
        store.close()
        try? await group.shutdownGracefully()
    }

    /// Tells the engine the time, and the content's lane too, though seldom where nothing goes on.
    ///
    /// Every wake-up of an idle server costs, and one of the loop that waits for the network costs
    /// least, so this looks too whether the node is to end.
    private func tick(
        on loop: any EventLoop, quiet: Int = 0, end: AsyncStream<Void>.Continuation
    ) {
        if failure.withLock({ $0 }) != nil || isDone { return end.finish() }
        let wall = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        guard post(.tick(wall: wall)) else { return end.finish() }
        let quiet = content.isBusy ? 0 : (quiet + 1) % 5
        if quiet == 0 { feed.yield(.roll) }
        // Servers that start together find each other in less than the usual pause.
        loop.scheduleTask(in: .milliseconds(uptime < .seconds(2) ? 50 : 200)) {
            self.tick(on: loop, quiet: quiet, end: end)
        }
    }

    /// - Returns: whether the engine will take it; not once the node ends.
    @discardableResult
    func post(_ input: Input) -> Bool {
        if case .enqueued = feed.yield(.input(input)) { true } else { false }
    }

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

    /// Where to begin: those of the settings and those of the ticket.
    private func seeds(of identity: DataDirectory.Identity) -> [Address] {
        let all = Set(configuration.seeds + identity.seeds).sorted()
        for text in all where Address(text) == nil {
            logger.error(
                "A seed is not HOST:PORT and is not dialled", metadata: ["seed": "\(text)"])
        }
        return all.compactMap { Address($0) }
    }

    private func drive(_ port: LinkPort, _ beacons: BeaconPort, _ listening: Int) async {
        let identity = store.identity
        var generator = SystemRandomNumberGenerator()
        var engine = Engine(
            own: identity.certificate, membership: membership(listening, seed: generator.next()),
            seeds: seeds(of: identity), secrets: identity.secrets.changes,
            seed: generator.next(), now: now)
        post(.mayDial(configuration.networks + BeaconPort.attachedNetworks()))
        post(.revoked((try? store.revocations()) ?? []))
        post(.known(knownNodes()))
        if let seal = store.seal { post(.sealed(under: seal)) }
        post(.keepsLosers(of: (try? store.nodesWithLosers()) ?? []))
        for await item in inbox {
            switch item {
            case .input where Task.isCancelled:
                // Whoever ends leaves what waits to its peers: they hold it.
                break
            case .input(let input):
                if case .message(let id, let bytes) = input {
                    backlog.withLock { $0.take(bytes.count, of: id) }
                }
                perform(engine.step(input, at: now), port, beacons, listening)
            case .roll:
                let roll = engine.membership.roll
                content.tick(roll.neighbours, gone: roll.gone)
            case .snapshot(let continuation):
                var counters = counters.withLock { $0 }
                counters["half_open_refused"] = port.refused
                counters["beacon_reading_paused"] = UInt64(beacons.pauses)
                counters["datagram_unsent"] = UInt64(
                    datagramPort.withLock { $0?.unsent } ?? 0)
                counters["stranger_over_limit"] = discoveryLog.withLock { $0.overflow }
                counters.merge(engine.counters.named) { $0 + $1 }
                counters.merge(engine.membership.counters.named) { $0 + $1 }
                counters.merge(content.counters) { $0 + $1 }
                continuation.resume(
                    returning: NodeSnapshot(
                        at: now, peers: engine.peers, members: engine.membership.members,
                        exchanges: engine.allExchanges, addresses: engine.addresses,
                        gateway: engine.membership.gateway,
                        successor: engine.successor(of: identity.certificate),
                        doubles: engine.doubles, waiting: engine.waitingBoxes(now),
                        locked: engine.lockedServers(now), keepers: engine.keepers,
                        counters: counters, discovery: discovery(beacons)))
            }
        }
    }

    /// What is said to one peer in a row goes out in one piece.
    private func perform(
        _ effects: [Effect], _ port: LinkPort, _ beacons: BeaconPort, _ listening: Int
    ) {
        var words: (link: LinkID, messages: [[UInt8]])?
        for effect in effects {
            if case .send(let id, let message) = effect, words?.link == id {
                words?.messages.append(message.encoded)
                continue
            }
            if let words { connection(words.link)?.send(words.messages) }
            words = nil
            if case .send(let id, let message) = effect {
                words = (id, [message.encoded])
            } else {
                perform(effect, port, beacons, listening)
            }
        }
        if let words { connection(words.link)?.send(words.messages) }
    }

    private func perform(
        _ effect: Effect, _ port: LinkPort, _ beacons: BeaconPort, _ listening: Int
    ) {
        switch effect {
        case .send(let id, let message): connection(id)?.send([message.encoded])
        case .close(let id, let reason):
            logger.info(
                "Link closed", metadata: ["link.id": "\(id.number)", "reason": "\(reason)"])
            if reason.isOfGonePeer { connection(id)?.abort() } else { connection(id)?.close() }
            post(.linkDown(id, reason: "\(reason)"))
        case .dial(let address): dial(address, port)
        case .beacon(let counter):
            guard configuration.discovery, let port = UInt16(exactly: listening) else { return }
            let beacon = Beacon(
                epoch: store.identity.secrets.newest.epoch, node: certificate.node,
                incarnation: store.incarnation, port: port, counter: counter)
            beacons.send(
                beacon.encoded(
                    mesh: store.identity.root.meshID,
                    key: store.identity.secrets.newest.beaconKey))
        case .datagram(let address, let bytes): send(bytes, to: address)
        case .correctClock(let duration):
            logger.notice(
                "Peers agree on another time", metadata: ["seconds": "\(duration.seconds)"])
            store.correctClock(by: duration.nanoseconds / 1_000_000)
        case .adopt(let bytes): take(secret: bytes)
        case .enrol(let bytes): take(approved: bytes)
        case .handedOver(let answer): handedOver(answer)
        case .acknowledged(let number, let reached): acknowledged(number, reached)
        case .keeper(let address): noteKeeper(address)
        case .note(let notice, let id):
            logger.notice("\(notice)", metadata: ["link.id": "\(id?.number ?? 0)"])
        case .compare, .ingest, .read, .keep, .show, .heed, .remember, .depart, .keepKey,
            .findKey, .measure:
            if let work = StoreWork(effect) { lane.add(work) }
        }
    }

    private func connection(_ id: LinkID) -> LinkConnection? {
        connections[id]
    }
}
