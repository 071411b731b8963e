// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import Logging
internal import MeshCore
internal import MeshCrypto
internal import MeshDiscovery
internal import MeshEngine
internal import MeshLink
internal import MeshStore
internal import MeshTransport
internal import MeshTrust
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// The key of a server's sealed records, once another server has given it.
public struct UnlockedKey: Sendable {
    let seal: StorageSeal

    init(_ key: Bytes32) { seal = StorageSeal(key) }

    /// A key that was handed over in memory.
    public init?(_ bytes: [UInt8]) {
        guard let key = Bytes32(bytes) else { return nil }
        self.init(key)
    }

    /// The key's bytes, to hand them over in memory to the process that comes next.
    public var bytes: [UInt8] { seal.key.array }
}

/// Finds the key of sealed records before the server serves: the shell around `KeySearch`.
public final class Unlocking: Sendable {
    private enum Item: Sendable {
        case up(LinkID, Certificate)
        case message(LinkID, [UInt8])
        case down(LinkID)
        case heard(Address)
        case tick
        case anew
    }

    /// How a search ended.
    private enum Outcome {
        case found(Bytes32)
        /// By another root document, or with an approved certificate, all is judged anew.
        case anew
    }

    private let configuration: MeshConfiguration
    private let logger: Logger
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let started = ContinuousClock.now

    private init(_ configuration: MeshConfiguration, _ logger: Logger) {
        (self.configuration, self.logger) = (configuration, logger)
    }

    /// Finds the key of a data directory's records.
    ///
    /// Waits for as long as nobody has the key: nothing of the records can be read without it.
    ///
    /// - Parameters:
    ///   - known: a key that the process before has handed over.
    ///   - waits: is called where the key has to come from another server.
    /// - Returns: nil where records are not sealed.
    /// - Throws: why the directory cannot be used.
    public static func key(
        _ configuration: MeshConfiguration, known: UnlockedKey? = nil, logger: Logger,
        waits: @escaping @Sendable () -> Void
    ) async throws -> UnlockedKey? {
        try Sodium.start()
        let directory = configuration.directory
        guard directory.isJoined else { return nil }
        let want: KeySearch.Want
        switch try directory.sealing() {
        case .none: return nil
        case .under(let name):
            if let known, known.seal.name == name { return known }
            want = .key(name)
        case .new:
            guard !FileManager.default.fileExists(atPath: directory.database) else {
                throw StoreError.unusable(
                    "\(directory.path)/sealed says that there are no records yet, and \(directory.database) is there"
                )
            }
            guard let key = Bytes32(Sodium.random(32)) else {
                throw StoreError.unusable("no random bytes")
            }
            want = .keeper(of: key)
        }
        try MeshNode.check(configuration)
        let lock = try directory.lock()
        defer { withExtendedLifetime(lock) {} }
        waits()
        let unlocking = Unlocking(configuration, logger)
        let result: Result<Bytes32, any Error>
        do { result = .success(try await unlocking.run(want)) } catch { result = .failure(error) }
        try? await unlocking.group.shutdownGracefully()
        let key = try result.get()
        // Only now: a key that nobody else keeps would be lost with the process.
        if case .keeper = want {
            try directory.write(sealing: .under(StorageSeal.name(of: key)))
        }
        return UnlockedKey(key)
    }

    private var now: Instant {
        Instant(nanoseconds: (ContinuousClock.now - started).nanoseconds)
    }

    private func run(_ want: KeySearch.Want) async throws -> Bytes32 {
        while true {
            if case .found(let key) = try await search(want) { return key }
            try Task.checkCancellation()
        }
    }

    private func search(_ want: KeySearch.Want) async throws -> Outcome {
        let identity = try configuration.directory.identity()
        let (inbox, feed) = AsyncStream.makeStream(of: Item.self)
        let connections = LinkTable()
        let port = linkPort(identity, connections, feed)
        let beacons = beaconPort(identity, feed)
        let addresses =
            configuration.directory.keepers()
            + (configuration.seeds + identity.seeds).compactMap { Address($0) }
        var machine = KeySearch(
            want, own: identity.certificate, root: identity.root, addresses: addresses, now: now)
        let ticking = Task { [configuration] in
            var count = 0
            while !Task.isCancelled {
                if configuration.discovery, count % 60 == 0 { await beacons.refresh() }
                count += 1
                feed.yield(.tick)
                try? await Task.sleep(for: .seconds(1))
            }
            feed.finish()
        }
        var outcome = Outcome.anew
        loop: for await item in inbox {
            for effect in step(&machine, item) {
                switch effect {
                case .found(let key): outcome = .found(key)
                case .enrol(let card): try take(card, identity, feed)
                default: perform(effect, port, connections, identity.certificate)
                }
            }
            if case .anew = item { break loop }
            if case .found = outcome { break loop }
        }
        ticking.cancel()
        await ticking.value
        for connection in connections.all { connection.close() }
        await beacons.close()
        return outcome
    }

    /// An operator has approved this server: links stand by that from now on.
    private func take(
        _ card: Certificate, _ identity: DataDirectory.Identity,
        _ feed: AsyncStream<Item>.Continuation
    ) throws {
        guard try configuration.directory.adopt(card, instead: identity.certificate) else { return }
        logger.notice("An operator has approved this server")
        feed.yield(.anew)
    }

    private func step(_ machine: inout KeySearch, _ item: Item) -> [KeySearch.Effect] {
        switch item {
        case .up(let id, let peer): return machine.linkUp(id, peer, now: now)
        case .message(let id, let bytes): return machine.receive(id, bytes)
        case .down(let id): machine.linkDown(id)
        case .heard(let address): machine.hear(of: address, now: now)
        case .tick: return machine.tick(now)
        case .anew: break
        }
        return []
    }

    private func perform(
        _ effect: KeySearch.Effect, _ port: LinkPort, _ connections: LinkTable, _ own: Certificate
    ) {
        switch effect {
        case .dial(let address):
            let logger = logger
            Task {
                let known = HostPort.address(address.bareHost, port: Int(address.port))
                do { try await port.dial(address, known: known) } catch {
                    logger.debug("A dial came to nothing", metadata: ["address": "\(address)"])
                }
            }
        case .send(let id, let message): connections[id]?.send([message.encoded])
        case .close(let id): connections[id]?.close()
        case .note(.refused(.operatorsWord, let peer)):
            let name = "\(own.ticket.site)/\(own.ticket.node)"
            logger.notice(
                "This server is locked: an operator has to allow that it gets its key",
                metadata: ["keeper": "\(peer)", "run": "meshctl unlock \(name)"])
        case .note(.refused(.notKept, let peer)):
            logger.notice(
                "This server is locked, and its key is not with a peer",
                metadata: ["peer": "\(peer)"])
        case .note(.revoked(let reason)):
            logger.critical(
                "This server was revoked: nobody gives it the key of its records",
                metadata: ["reason": "\(reason)"])
        case .found, .enrol: break
        }
    }

    private func linkPort(
        _ identity: DataDirectory.Identity, _ connections: LinkTable,
        _ feed: AsyncStream<Item>.Continuation
    ) -> LinkPort {
        let (directory, logger) = (configuration.directory, logger)
        let callbacks = LinkCallbacks(
            established: { connection, peer in
                connections.add(connection, as: LinkID(connection.number))
                feed.yield(.up(LinkID(connection.number), peer.certificate))
            },
            message: { connection, bytes in
                feed.yield(.message(LinkID(connection.number), bytes))
            },
            closed: { connection, _, _ in
                _ = connections.remove(LinkID(connection.number))
                feed.yield(.down(LinkID(connection.number)))
            },
            newRoot: { root in
                do {
                    if try directory.adopt(root) { feed.yield(.anew) }
                } catch {
                    logger.error("A root document cannot be kept: \(error)")
                }
            })
        return LinkPort(group: group, identity: identity.ofLinks, callbacks: callbacks)
    }

    /// Hears where servers of the mesh are; sends nothing.
    private func beaconPort(
        _ identity: DataDirectory.Identity, _ feed: AsyncStream<Item>.Continuation
    ) -> BeaconPort {
        let budget = Mutex(Budget(perSecond: 50))
        let (ttl, lowest) = (configuration.beaconTTL, EngineLimits().beaconPortMin)
        return BeaconPort(group: group, settings: configuration.beacons) { arrival in
            guard budget.withLock({ $0.take(at: ContinuousClock.now) }),
                let beacon = try? Beacon(
                    decoding: arrival.bytes, mesh: identity.root.meshID,
                    key: { identity.secrets[$0]?.beaconKey }),
                beacon.node != identity.certificate.node, beacon.port >= lowest,
                arrival.interface != nil || ttl > 1,
                let address = HostPort.dialable(arrival.source, port: beacon.port)
            else { return }
            feed.yield(.heard(address))
        }
    }
}
