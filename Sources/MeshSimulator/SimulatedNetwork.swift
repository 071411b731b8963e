// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshDiscovery
internal import MeshEngine
internal import MeshLink
internal import MeshStore
internal import MeshTrust

/// What the network does to packets now.
struct SimulatedNetwork {
    /// Sites without a line.
    var cut: Set<String> = []
    /// Sites of whose packets none arrives elsewhere, and sites that get none.
    var cutOutward: Set<String> = []
    var cutInward: Set<String> = []
    /// Machines without a cable.
    var unplugged: Set<Int> = []
    /// The part of all packets that is lost.
    var loss = 0.0
    /// The part of all datagrams that comes twice, and that is cut short.
    var duplicated = 0.0
    var truncated = 0.0
    /// The part of a link's segments of which a bit is changed.
    var changed = 0.0
    /// Machines that are switched off: nothing there answers.
    var off: Set<Int> = []

    func carries(_ from: SimulatedNode, to: SimulatedNode) -> Bool {
        if unplugged.contains(from.index) || unplugged.contains(to.index) { return false }
        if off.contains(from.index) || off.contains(to.index) { return false }
        if from.site == to.site { return true }
        return cut.isDisjoint(with: [from.site, to.site]) && !cutOutward.contains(from.site)
            && !cutInward.contains(to.site)
    }

    func connects(_ one: SimulatedNode, _ other: SimulatedNode) -> Bool {
        carries(one, to: other) && carries(other, to: one)
    }
}

/// A connection: two real link machines, and a stream between them that keeps order or breaks.
enum SimulatedLink {
    enum Segment {
        case bytes([UInt8])
        case end(String)
    }

    /// One end.
    final class End {
        let node: SimulatedNode
        let life: Int
        let number: UInt64
        let dialled: Address?
        var machine: LinkMachine
        var other: End?
        var isEstablished = false
        var isClosed = false
        /// When the last segment that this end sent arrives.
        var lastArrival = Instant(nanoseconds: 0)
        /// What has arrived but cannot be taken now.
        var held: [Segment] = []

        init(_ node: SimulatedNode, dialled: Address?, machine: consuming LinkMachine) {
            self.node = node
            life = node.life
            self.dialled = dialled
            self.machine = machine
            number = node.nextLink
            node.nextLink += 1
            node.ends[number] = self
        }
    }
}

extension Simulation {
    func chance(_ part: Double) -> Bool {
        part > 0 && Double(random.next() >> 11) / Double(1 << 53) < part
    }

    func latency(_ from: SimulatedNode, _ to: SimulatedNode) -> Duration {
        let base: Duration = from.site == to.site ? .microseconds(300) : .milliseconds(20)
        return random.jittered(base, by: 0.3)
    }

    // MARK: Datagrams

    func send(_ datagram: [UInt8], from: SimulatedNode, to address: Address) {
        guard let to = nodes.first(where: { $0.address == address }) else { return }
        deliver(datagram, from, to) { self.post($0, .datagram($1, from: from.host)) }
    }

    private func deliver(
        _ datagram: [UInt8], _ from: SimulatedNode, _ to: SimulatedNode,
        _ take: @escaping (SimulatedNode, [UInt8]) -> Void
    ) {
        guard network.carries(from, to: to), !chance(network.loss) else { return }
        var bytes = datagram
        if chance(network.truncated) {
            bytes.removeLast(Int(random.next() % UInt64(bytes.count + 1)))
        }
        for _ in 0..<(chance(network.duplicated) ? 2 : 1) {
            // Up to three times as late: datagrams overtake each other.
            let pause = latency(from, to) * (1 + Int(random.next() % 3))
            schedule(after: pause) {
                if to.isUp, self.network.carries(from, to: to) { take(to, bytes) }
            }
        }
    }

    func sendBeacon(_ from: SimulatedNode, counter: UInt64) {
        guard let incarnation = from.store?.incarnation else { return }
        let secret = from.identity.secrets.newest
        let mesh = from.identity.root.meshID
        let beacon = Beacon(
            epoch: secret.epoch, node: from.id, incarnation: incarnation, port: 7374,
            counter: counter)
        let bytes = beacon.encoded(mesh: mesh, key: secret.beaconKey)
        for to in nodes where to !== from && to.site == from.site {
            deliver(bytes, from, to) { to, bytes in
                guard
                    let beacon = try? Beacon(
                        decoding: bytes, mesh: mesh, key: { _ in secret.beaconKey })
                else { return }
                self.post(to, .heard(beacon.node, beacon.incarnation, address: from.address))
            }
        }
    }

    // MARK: Links

    func dial(_ node: SimulatedNode, _ address: Address) {
        let target = nodes.first { $0.address == address }
        let life = node.life
        func refuse(
            after pause: Duration, _ reason: String, _ cause: DialFailure.Cause = .unreachable
        ) {
            schedule(after: pause) {
                guard node.life == life else { return }
                self.post(node, .dialFailed(address: address, DialFailure(cause, reason)))
            }
        }
        guard let target, network.connects(node, target) else {
            return refuse(after: .seconds(2), "timed out")
        }
        if target === node { return refuse(after: .milliseconds(1), "own address", .ownAddress) }
        guard target.isUp, !target.isPaused else {
            return refuse(after: latency(node, target) * 2, "refused")
        }
        let near = end(node, dialling: address)
        let far = end(target, dialling: nil)
        near.other = far
        far.other = near
        for end in [near, far] {
            schedule(after: .seconds(5)) {
                if !end.isEstablished { self.close(end, "no handshake in time") }
            }
        }
        transmit(near, .bytes(near.machine.opening()))
    }

    private func end(_ node: SimulatedNode, dialling: Address?) -> SimulatedLink.End {
        let identity = LinkIdentity(
            certificate: node.identity.certificate, key: node.identity.linkKey,
            root: node.identity.root, secrets: node.identity.secrets, version: "0.1.0")
        let machine = LinkMachine(
            identity: identity, isInitiator: dialling != nil, expecting: nil,
            ephemeral: AgreementKey(secret: SimulatedTrust.bytes(&random)))
        return SimulatedLink.End(node, dialled: dialling, machine: machine)
    }

    func send(_ node: SimulatedNode, _ id: LinkID, _ message: LinkMessage) {
        guard let end = node.ends[id.number] else { return }
        do throws(LinkError) {
            transmit(end, .bytes(try end.machine.seal(message.encoded)))
        } catch { close(end, "\(error)") }
    }

    private func transmit(_ end: SimulatedLink.End, _ segment: SimulatedLink.Segment) {
        guard let other = end.other else { return }
        var segment = segment
        if case .bytes(var bytes) = segment, !bytes.isEmpty, chance(network.changed) {
            let place = Int(random.next() % UInt64(bytes.count))
            bytes[place] ^= 1 << UInt8(random.next() % 8)
            segment = .bytes(bytes)
        }
        var pause = latency(end.node, other.node)
        for _ in 0..<6 where chance(network.loss) { pause += .milliseconds(200) }
        // A segment never overtakes the one before it.
        let at = max(now.advanced(by: pause), end.lastArrival.advanced(by: .nanoseconds(1)))
        end.lastArrival = at
        schedule(at: at) { self.arrive(other, segment) }
    }

    private func arrive(_ end: SimulatedLink.End, _ segment: SimulatedLink.Segment) {
        guard let sender = end.other, !end.isClosed || !sender.isClosed else { return }
        if !network.connects(end.node, sender.node) || end.node.isPaused || !end.held.isEmpty {
            end.held.append(segment)
            return
        }
        take(end, segment)
    }

    /// What was held arrives, in order, once it can.
    func flush() {
        for node in nodes {
            for number in node.ends.keys.sorted() {
                guard let end = node.ends[number], let sender = end.other, !end.held.isEmpty,
                    !node.isPaused, network.connects(node, sender.node)
                else { continue }
                let held = end.held
                end.held = []
                for segment in held { take(end, segment) }
            }
        }
    }

    private func take(_ end: SimulatedLink.End, _ segment: SimulatedLink.Segment) {
        guard !end.isClosed, end.life == end.node.life, end.node.isUp else {
            // Nobody listens there any more: the sender's end is reset.
            if let sender = end.other, !sender.isClosed {
                schedule(after: latency(end.node, sender.node)) {
                    if self.network.connects(end.node, sender.node) { self.close(sender, "reset") }
                }
            }
            return
        }
        switch segment {
        case .end(let reason): close(end, reason)
        case .bytes(let bytes):
            do throws(LinkError) {
                for event in try end.machine.receive(bytes) { perform(end, event) }
            } catch {
                if error == .badFrame { mark(.bytesChanged) }
                close(end, "\(error)")
            }
        }
    }

    private func perform(_ end: SimulatedLink.End, _ event: LinkMachine.Event) {
        switch event {
        case .send(let bytes): transmit(end, .bytes(bytes))
        case .message(let bytes): post(end.node, .message(LinkID(end.number), bytes))
        case .established(let peer):
            end.isEstablished = true
            guard let other = end.other?.node else { return }
            let origin = LinkOrigin(
                remote: "\(other.host):\(20_000 + end.number)", dialled: end.dialled,
                isLocal: other.site == end.node.site, host: other.host,
                datagramKey: SimulatedTrust.bytes(&random))
            post(end.node, .linkUp(LinkID(end.number), peer, origin))
        case .settling, .newRoot: preconditionFailure("no scenario changes the mesh's keys")
        case .ended(let error): close(end, "\(error)")
        }
    }

    /// Ends a connection at one end; the other hears of it behind what was sent.
    func close(_ end: SimulatedLink.End, _ reason: String) {
        guard !end.isClosed else { return }
        end.isClosed = true
        end.node.ends[end.number] = nil
        transmit(end, .end(reason))
        guard end.life == end.node.life else { return }
        if end.isEstablished {
            post(end.node, .linkDown(LinkID(end.number), reason: reason))
        } else if let address = end.dialled {
            post(end.node, .dialFailed(address: address, DialFailure(.unreachable, reason)))
        }
    }

    /// A machine lost its power: its ends are gone, and nobody is told.
    func forget(_ node: SimulatedNode) {
        for end in node.ends.values { end.isClosed = true }
        node.ends = [:]
    }
}
