// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Logging
internal import MeshContent
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

extension MeshNode {
    func linkPort() -> LinkPort {
        let callbacks = LinkCallbacks(
            established: { connection, peer in self.established(connection, peer) },
            message: { connection, bytes in self.received(connection, bytes) },
            closed: { connection, error, reason in self.closed(connection, error, reason) },
            newRoot: { root in
                do { _ = try self.adopt(root) } catch {
                    self.logger.error("A root document cannot be kept: \(error)")
                }
            })
        return LinkPort(
            group: group, identity: store.identity.ofLinks, callbacks: callbacks,
            packs: configuration.packs)
    }

    /// Opens the port of links and the port of datagrams, which have one number.
    func listen(_ port: LinkPort) async throws -> ([any Channel], DatagramPort) {
        let (host, wanted) = (configuration.listenHost, configuration.listenPort)
        do {
            let listeners = try await port.listen(host: host, port: wanted)
            let number = listeners.first?.localAddress?.port ?? wanted
            let datagrams = try await DatagramPort.open(group: group, host: host, port: number) {
                self.received(datagram: $0, from: $1)
            }
            return (listeners, datagrams)
        } catch let error as IOError {
            throw StoreError.unusable(
                "mesh.listen: \(host):\(wanted): \(String(cString: strerror(error.errnoCode)))")
        }
    }

    private func received(_ connection: LinkConnection, _ bytes: [UInt8]) {
        let id = LinkID(connection.number)
        // Chunks go past the engine: their lane has a thread and limits of its own.
        if let tag = bytes.first, ContentMessage.tags.contains(tag), tag.isMultiple(of: 2) {
            return content.receive(bytes, from: id.number)
        }
        guard backlog.withLock({ $0.add(bytes.count, of: id) }) else {
            count("backlog_over_limit")
            return connection.close()
        }
        post(.message(id, bytes))
    }

    private func established(_ connection: LinkConnection, _ peer: LinkMachine.Peer) {
        let id = LinkID(connection.number)
        connections.add(connection, as: id)
        let mayLink = certificate.isApproved && peer.certificate.isApproved
        if mayLink, !store.isRevoked(peer.certificate) {
            content.linkUp(id.number, peer.certificate)
        }
        let ip = connection.remote?.ipAddress ?? "?"
        let interface = connection.remote.flatMap(BeaconPort.interface)
        let origin = LinkOrigin(
            remote: "\(ip):\(connection.remote?.port ?? 0)", dialled: connection.dialled,
            isLocal: interface != nil,
            isHere: interface.map {
                BeaconPort.isSegment($0, among: configuration.interfaces)
            } ?? false,
            interface: interface,
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
        let wasUp = connections.remove(id)
        if wasUp { content.linkDown(id.number) }
        if let error { count("link_\(error.code)") }
        if wasUp {
            post(.linkDown(id, reason: reason))
        } else if let address = connection.dialled {
            post(.dialFailed(address: address, DialFailure(error?.cause ?? .unreachable, reason)))
        } else {
            count("handshake_failed")
            let host = connection.remote.flatMap(HostPort.host) ?? "?"
            // Who closes without a word has gone, or only looked whether the port is open. Who was
            // given a root document comes again.
            if let error, error != .selfConnect, !error.isOfRoot {
                discoveryLog.withLock { $0.refuse(host, error.cause.rawValue, reason, at: now) }
            }
            logger.debug("A connection came to nothing", metadata: ["reason": "\(reason)"])
        }
    }

    func dial(_ address: Address, _ port: LinkPort) {
        Task {
            do {
                let known = HostPort.address(address.bareHost, port: Int(address.port))
                try await port.dial(address, known: known)
            } catch {
                post(
                    .dialFailed(address: address, DialFailure(.unreachable, Self.reason(error))))
            }
        }
    }

    /// What a failed dial says to a person.
    private static func reason(_ error: any Error) -> String {
        if case ChannelError.connectTimeout = error { return "no answer within 2 s" }
        if let error = error as? NIOConnectionError {
            guard let first = error.connectionErrors.first?.error else {
                return "the name '\(error.host)' is not known"
            }
            return reason(first)
        }
        if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
        return "\(error)"
    }

    func beaconPort() -> BeaconPort {
        BeaconPort(group: group, settings: configuration.beacons) { self.heard($0) }
    }

    /// Whether beacons are sent and heard.
    package var isDiscovering: Bool { configuration.discovery }

    func discovery(_ beacons: BeaconPort) -> DiscoveryLog {
        var log = discoveryLog.withLock { $0 }
        log.use(beacons.traffic)
        log.forget(at: now)
        return log
    }

    /// Looks at the interfaces once a minute, and whenever the system says that one has changed.
    func refresh(_ beacons: BeaconPort) async {
        let (changes, changed) = AsyncStream.makeStream(
            of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let monitor = await InterfaceMonitor.watch(group: group) { changed.yield() }
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                while !Task.isCancelled {
                    changed.yield()
                    // Groups are joined again, because switches forget.
                    let isTold = monitor?.isActive == true
                    try? await Task.sleep(for: isTold ? .seconds(60) : .seconds(10))
                }
            }
            tasks.addTask { await self.follow(changes, beacons) }
        }
        try? await monitor?.close().get()
    }

    private func follow(_ changes: AsyncStream<Void>, _ beacons: BeaconPort) async {
        var last: Set<String> = []
        for await _ in changes {
            // An interface that comes up says so several times.
            try? await Task.sleep(for: .milliseconds(200))
            await beacons.refresh()
            let names = Set(beacons.traffic.map { "\($0.name) \($0.address)" })
            discoveryLog.withLock { log in
                log.began = log.began ?? now
                log.complaints = (configuration.interfaces ?? []).filter { name in
                    !beacons.traffic.contains { $0.name == name }
                }.map { "discovery.interfaces names '\($0)', which is not up on this host" }
            }
            post(.mayDial(configuration.networks + BeaconPort.attachedNetworks()))
            if !names.subtracting(last).isEmpty { post(.networkChanged) }
            last = names
        }
    }

    private func heard(_ arrival: BeaconPort.Arrival) {
        do throws(BeaconRefusal) {
            guard beaconBudget.withLock({ $0.take(at: ContinuousClock.now) }) else {
                throw .overBudget
            }
            let identity = store.identity
            let beacon = try Beacon(
                decoding: arrival.bytes, mesh: identity.root.meshID
            ) { identity.secrets[$0]?.beaconKey }
            let isOwn = beacon.node == identity.certificate.node
            if arrival.interface != nil || configuration.beaconTTL > 1 {
                let name = arrival.interface ?? DiscoveryLog.routed
                discoveryLog.withLock { $0.hear(on: name, isOwn: isOwn, at: now) }
            }
            if isOwn {
                // Another process under our own key is a clone or a restored disk at work.
                if beacon.incarnation != store.incarnation { count("duplicate_node") }
                throw .own
            }
            guard arrival.interface != nil || configuration.beaconTTL > 1,
                let address = HostPort.dialable(arrival.source, port: beacon.port)
            else {
                discoveryLog.withLock {
                    $0.refuse(
                        HostPort.host(arrival.source) ?? "?", "interfaces_differ",
                        "its beacons arrive, but it is in no network of this host", at: now)
                }
                throw .badSource
            }
            post(.heard(beacon.node, beacon.incarnation, address: address))
        } catch {
            count("beacon_\(error.rawValue)")
        }
    }
}
