// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshMembership
import MeshTesting

/// Members in virtual time: real machines, a network that loses, delays and cuts, links that do not
/// lose but break.
struct VirtualSite {
    struct Host {
        var machine: Membership
        let key: SigningKey
        let site: String
        let isCentral: Bool
        var incarnation: UInt64
        var isUp = true
        var isPaused = false
        /// Says of everybody it is asked about that they answered.
        var isLiar = false
    }

    private struct Packet {
        let at: Instant
        let from: Int
        let to: Int
        let content: Content
    }

    private enum Content {
        case datagram([UInt8])
        case link([Rumour])
    }

    static let step = Duration.milliseconds(100)
    var hosts: [Host] = []
    var now = Instant(nanoseconds: 0)
    var loss = 0.0
    var delay = Duration.milliseconds(1)
    var links: Set<[Int]> = []
    var datagrams = 0
    var bytes = 0
    var suspicions = 0
    var falseAways = 0
    var dials = true
    /// Pairs between which nothing passes.
    var broken: Set<[Int]> = []
    private var cut: (Int, Int) -> Bool = { _, _ in false }
    private var packets: [Packet] = []
    private var random: SeededGenerator
    private let mesh: MeshID = TestMesh.bytes(9, 9)
    private let tuning: MembershipTuning

    init(seed: UInt64, tuning: MembershipTuning = MembershipTuning()) {
        random = SeededGenerator(seed: seed)
        self.tuning = tuning
    }

    mutating func add(_ count: Int, site: String = "s1", isCentral: Bool = false) {
        for _ in 0..<count {
            let number = hosts.count
            let key = SigningKey(
                seed: Blake2b.hash([UInt8(number & 255), UInt8(number >> 8), 1]).bytes)
            let incarnation = UInt64(number + 1) << 32
            hosts.append(
                Host(
                    machine: machine(key, site, isCentral, incarnation), key: key, site: site,
                    isCentral: isCentral, incarnation: incarnation))
        }
    }

    private mutating func machine(
        _ key: SigningKey, _ site: String, _ isCentral: Bool, _ incarnation: UInt64
    ) -> Membership {
        Membership(
            .init(key: key, mesh: mesh, site: site, isCentral: isCentral),
            incarnation: Incarnation(incarnation), port: 7374, tuning: tuning,
            seed: random.next(), now: now)
    }

    func id(_ host: Int) -> NodeID { hosts[host].key.publicKey.node }

    private func host(_ address: Address) -> Int? { Int(address.host.dropFirst()) }

    func state(of other: Int, at host: Int) -> Member.State? {
        hosts[host].machine.member(id(other))?.state
    }

    /// Links two hosts: certificates, keys and tables change hands.
    mutating func link(_ one: Int, _ other: Int) {
        guard hosts[one].isUp, hosts[other].isUp, !isCut(one, other), !isCut(other, one),
            links.insert([min(one, other), max(one, other)]).inserted
        else { return }
        let keys = [
            Blake2b.hash(bytes(random.next())).bytes, Blake2b.hash(bytes(random.next())).bytes,
        ]
        for (index, (mine, theirs)) in [(one, other), (other, one)].enumerated() {
            let peer = hosts[theirs]
            hosts[mine].machine.admit(
                id(theirs), site: peer.site, isCentral: peer.isCentral, now: now)
            hosts[mine].machine.keyed(
                id(theirs), sends: keys[1 - index], receives: keys[index])
            hosts[mine].machine.linked(id(theirs), host: "h\(theirs)", now: now)
        }
        perform(one)
        perform(other)
    }

    private func bytes(_ number: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) }
    }

    mutating func linkAll() {
        for one in hosts.indices {
            for other in hosts.indices where one < other { link(one, other) }
        }
    }

    mutating func unlink(_ pair: [Int], isOrderly: Bool = false) {
        guard links.remove(pair) != nil else { return }
        for (mine, theirs) in [(pair[0], pair[1]), (pair[1], pair[0])] where hosts[mine].isUp {
            hosts[mine].machine.unlinked(id(theirs), isOrderly: isOrderly, now: now)
            perform(mine)
        }
    }

    /// The host is gone at once; the others' links to it break.
    mutating func kill(_ host: Int) {
        hosts[host].isUp = false
        for pair in links.filter({ $0.contains(host) }).sorted(by: {
            $0[0] * 10_000 + $0[1] < $1[0] * 10_000 + $1[1]
        }) {
            unlink(pair)
        }
    }

    /// The host comes up again with nothing but its key.
    mutating func restart(_ host: Int) {
        hosts[host].incarnation += 1 << 32
        hosts[host].machine = machine(
            hosts[host].key, hosts[host].site, hosts[host].isCentral, hosts[host].incarnation)
        hosts[host].isUp = true
    }

    /// Cuts datagrams and breaks links between two groups.
    mutating func cut(_ group: Set<Int>) {
        cut = { one, other in group.contains(one) != group.contains(other) }
        for pair in links.sorted(by: { $0.lexicographicallyPrecedes($1) })
        where group.contains(pair[0]) != group.contains(pair[1]) { unlink(pair) }
    }

    private func isCut(_ one: Int, _ other: Int) -> Bool {
        cut(one, other) || broken.contains([min(one, other), max(one, other)])
    }

    mutating func heal() { cut = { _, _ in false } }

    mutating func run(_ duration: Duration) {
        let end = now.advanced(by: duration)
        while now < end {
            now = now.advanced(by: Self.step)
            deliver()
            if dials, now.nanoseconds % 2_000_000_000 == 0 { dial() }
            for host in hosts.indices where hosts[host].isUp && !hosts[host].isPaused {
                hosts[host].machine.tick(now)
                perform(host)
            }
        }
    }

    /// Every host tries those that it knows and is not linked with.
    private mutating func dial() {
        for one in hosts.indices where hosts[one].isUp && !hosts[one].isPaused {
            for member in hosts[one].machine.members where !member.isLinked {
                guard let other = member.address.flatMap(host) else { continue }
                link(one, other)
            }
        }
    }

    private mutating func deliver() {
        let due = packets.filter { $0.at <= now }
        packets.removeAll { $0.at <= now }
        for packet in due where hosts[packet.to].isUp && !hosts[packet.to].isPaused {
            switch packet.content {
            case .datagram(let bytes):
                if hosts[packet.to].isLiar { lie(packet.to, about: bytes) }
                hosts[packet.to].machine.receive(bytes, from: "h\(packet.from)", now: now)
            case .link(let rumours):
                guard hosts[packet.from].isUp else { continue }
                hosts[packet.to].machine.heard(id(packet.from), now: now)
                for rumour in rumours {
                    hosts[packet.to].machine.hear(rumour, from: id(packet.from), now)
                }
            }
            perform(packet.to)
        }
    }

    /// Says of whoever is asked about that it answered.
    private mutating func lie(_ liar: Int, about datagram: [UInt8]) {
        var keys = hosts[liar].machine.keys
        guard let (asker, payload) = try? keys.open(datagram),
            let request = try? ProbeMessage(decoding: payload), request.kind == .pingRequest,
            let to = hosts.indices.first(where: { id($0) == asker }),
            let lie = hosts[liar].machine.keys.seal(
                ProbeMessage(.ack, request.sequence, request.target).encoded, to: asker)
        else { return }
        packets.append(
            Packet(at: now.advanced(by: delay), from: liar, to: to, content: .datagram(lie)))
    }

    private mutating func perform(_ from: Int) {
        for effect in hosts[from].machine.takeEffects() {
            switch effect {
            case .datagram(let address, let datagram):
                datagrams += 1
                bytes += datagram.count + 42
                guard let to = host(address), !isCut(from, to),
                    Double(random.next() >> 11) / Double(1 << 53) >= loss
                else { continue }
                packets.append(
                    Packet(
                        at: now.advanced(by: delay), from: from, to: to,
                        content: .datagram(datagram)))
            case .ask(let node):
                guard let to = hosts.indices.first(where: { id($0) == node }), hosts[to].isUp,
                    !hosts[to].isPaused, links.contains([min(from, to), max(from, to)])
                else { continue }
                packets.append(
                    Packet(
                        at: now.advanced(by: delay * 2), from: to, to: from, content: .link([])))
            case .tell(let node, let rumours):
                guard let to = hosts.indices.first(where: { id($0) == node }),
                    links.contains([min(from, to), max(from, to)])
                else { continue }
                packets.append(
                    Packet(
                        at: now.advanced(by: delay), from: from, to: to, content: .link(rumours)))
            case .changed(let node, .away):
                if let subject = hosts.indices.first(where: { id($0) == node }),
                    hosts[subject].isUp, !hosts[subject].isPaused
                {
                    falseAways += 1
                }
            case .changed(_, .suspect): suspicions += 1
            case .wantCertificate(let node, _):
                guard let subject = hosts.indices.first(where: { id($0) == node }) else { continue }
                hosts[from].machine.admit(
                    node, site: hosts[subject].site, isCentral: hosts[subject].isCentral, now: now)
            case .reach(let node):
                guard let to = hosts.indices.first(where: { id($0) == node }) else { continue }
                link(from, to)
                hosts[from].machine.unreachable(node, isHostThere: false, now: now)
            case .changed, .told: continue
            }
        }
    }
}
