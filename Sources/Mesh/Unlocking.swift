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
        case newRoot
    }

    private let configuration: MeshConfiguration
    private let logger: Logger
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let connections = LinkTable()
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
        let want: KeySearch.Want
        switch try directory.sealing() {
        case .none: return nil
        case .under(let name):
            if let known, known.seal.name == name { return known }
            want = .key(name)
        case .new:
            guard let key = Bytes32(Sodium.random(32)) else {
                throw StoreError.unusable("no random bytes")
            }
            want = .keeper(of: key)
        }
        let lock = try directory.lock()
        defer { withExtendedLifetime(lock) {} }
        waits()
        let unlocking = Unlocking(configuration, logger)
        let key = try await unlocking.run(want)
        try? await unlocking.group.shutdownGracefully()
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
            if let key = try await search(want) { return key }
            try Task.checkCancellation()
        }
    }

    /// Searches until the key is there.
    ///
    /// - Returns: nil where the root document has changed, by which all links are judged.
    private func search(_ want: KeySearch.Want) async throws -> Bytes32? {
        let identity = try configuration.directory.identity()
        let (inbox, feed) = AsyncStream.makeStream(of: Item.self)
        let port = linkPort(identity, feed)
        let beacons = beaconPort(identity, feed)
        let addresses =
            configuration.directory.keepers()
            + (configuration.seeds + identity.seeds).compactMap { Address($0) }
        var machine = KeySearch(
            want, own: identity.certificate, addresses: addresses, now: now)
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
        var found: Bytes32?
        for await item in inbox {
            if case .newRoot = item { break }
            for effect in step(&machine, item) {
                if case .found(let key) = effect { found = key } else { perform(effect, port) }
            }
            if found != nil { break }
        }
        ticking.cancel()
        for connection in connections.all { connection.close() }
        await beacons.close()
        return found
    }

    private func step(_ machine: inout KeySearch, _ item: Item) -> [KeySearch.Effect] {
        switch item {
        case .up(let id, let peer): return machine.linkUp(id, peer, now: now)
        case .message(let id, let bytes): return machine.receive(id, bytes)
        case .down(let id): machine.linkDown(id)
        case .heard(let address): machine.hear(of: address, now: now)
        case .tick: return machine.tick(now)
        case .newRoot: break
        }
        return []
    }

    private func perform(_ effect: KeySearch.Effect, _ port: LinkPort) {
        switch effect {
        case .dial(let address):
            Task {
                let known = HostPort.address(address.bareHost, port: Int(address.port))
                try? await port.dial(address, known: known)
            }
        case .send(let id, let message): connections[id]?.send([message.encoded])
        case .close(let id): connections[id]?.close()
        case .refused(.operatorsWord, let peer):
            let own = try? configuration.directory.identity().certificate.ticket
            logger.notice(
                "This server is locked: an operator has to allow that it gets its key",
                metadata: [
                    "keeper": "\(peer)",
                    "run": "meshctl unlock \(own?.site ?? "")/\(own?.node ?? "")",
                ])
        case .refused(.notKept, let peer):
            logger.notice(
                "This server is locked, and its key is not with a peer",
                metadata: ["peer": "\(peer)"])
        case .found: break
        }
    }

    private func linkPort(
        _ identity: DataDirectory.Identity, _ feed: AsyncStream<Item>.Continuation
    ) -> LinkPort {
        let link = LinkIdentity(
            certificate: identity.certificate, key: identity.linkKey, root: identity.root,
            secrets: identity.secrets, version: meshVersion)
        let (connections, directory, logger) = (connections, configuration.directory, logger)
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
                    if try directory.adopt(root) { feed.yield(.newRoot) }
                } catch {
                    logger.error("A root document cannot be kept: \(error)")
                }
            })
        return LinkPort(group: group, identity: link, callbacks: callbacks)
    }

    /// Hears where servers of the mesh are; sends nothing.
    private func beaconPort(
        _ identity: DataDirectory.Identity, _ feed: AsyncStream<Item>.Continuation
    ) -> BeaconPort {
        var settings = BeaconPort.Group()
        settings.v4 = configuration.beaconGroup
        settings.v6 = configuration.beaconGroup6
        settings.port = configuration.beaconPort
        settings.ttl = configuration.beaconTTL
        settings.interfaces = configuration.interfaces
        let budget = Mutex(Budget(perSecond: 50))
        return BeaconPort(group: group, settings: settings) { arrival in
            guard budget.withLock({ $0.take(at: ContinuousClock.now) }),
                let beacon = try? Beacon(
                    decoding: arrival.bytes, mesh: identity.root.meshID,
                    key: { identity.secrets[$0]?.beaconKey }),
                beacon.node != identity.certificate.node,
                let address = HostPort.dialable(arrival.source, port: beacon.port)
            else { return }
            feed.yield(.heard(address))
        }
    }
}
