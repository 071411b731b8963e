// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshMembership
import MeshTesting
import Testing

@Suite struct `Members of a site` {
    @Test(arguments: 0..<10)
    func `know within three seconds that one was killed, and at once that it is back`(seed: UInt64)
    {
        var site = VirtualSite(seed: seed)
        site.add(3)
        site.linkAll()
        site.run(.seconds(10))
        #expect(site.state(of: 2, at: 0) == .alive)
        site.kill(2)
        site.run(.seconds(3))
        #expect(site.state(of: 2, at: 0) == .away)
        #expect(site.state(of: 2, at: 1) == .away)
        #expect(site.state(of: 1, at: 0) == .alive)
        site.restart(2)
        site.link(0, 2)
        site.run(.seconds(1))
        #expect(site.state(of: 2, at: 0) == .alive)
        #expect(site.state(of: 2, at: 1) == .alive)
        #expect(site.falseAways == 0)
    }

    @Test func `take nobody for away where three datagrams of ten are lost`() {
        for seed in 0..<3 as Range<UInt64> {
            var site = VirtualSite(seed: seed)
            site.add(10)
            site.loss = 0.3
            site.linkAll()
            site.run(.seconds(300))
            #expect(site.falseAways == 0)
        }
    }

    @Test func `ask a suspect as long as they suspect it, also where no link is left to ask on`() {
        for seed in 0..<3 as Range<UInt64> {
            var site = VirtualSite(seed: seed)
            site.add(6)
            site.linkAll()
            site.dials = false
            for pair in site.links.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
                site.unlink(pair)
            }
            site.loss = 0.35
            site.run(.seconds(1200))
            #expect(site.suspicions > 0)
            #expect(site.falseAways == 0)
        }
    }

    @Test func `do not keep a dead one for alive because another says that he answers`() {
        for count in [3, 6] {
            var site = VirtualSite(seed: 6)
            site.add(count)
            site.hosts[1].isLiar = true
            site.linkAll()
            site.run(.seconds(10))
            site.kill(2)
            site.run(.seconds(30))
            #expect(site.state(of: 2, at: 0) == .away)
            #expect(site.hosts[0].machine.counters[.ackUnproved] > 0)
        }
    }

    @Test func `believe each other that one is there whom they cannot reach themselves`() {
        var site = VirtualSite(seed: 7)
        site.add(5)
        site.linkAll()
        site.run(.seconds(10))
        site.broken = [[0, 2]]
        site.unlink([0, 2])
        site.run(.seconds(600))
        // An answer by way of another may come too late for one question, and refutes the next.
        #expect(site.falseAways == 0 && site.suspicions < 10)
        #expect(site.state(of: 2, at: 0) == .alive && site.state(of: 0, at: 2) == .alive)
        let challenges = site.hosts[0].machine.counters[.challenged]
        #expect((30...61).contains(challenges), "\(challenges)")
    }

    @Test func `find each other again after any time apart, also when they began apart`() {
        var site = VirtualSite(seed: 1)
        site.add(6)
        site.cut([0, 1, 2])
        site.linkAll()
        site.run(.seconds(60))
        #expect(site.state(of: 4, at: 0) == nil)
        site.heal()
        site.link(0, 4)
        site.run(.seconds(5))
        for one in 0..<6 {
            for other in 0..<6 where one != other {
                #expect(site.state(of: other, at: one) == .alive)
            }
        }
        site.cut([0, 1, 2])
        site.run(.seconds(3600))
        #expect(site.state(of: 4, at: 0) == .away)
        site.heal()
        // Away members are tried for ever: no link is needed to find them.
        site.run(.seconds(90))
        for one in 0..<6 {
            for other in 0..<6 where one != other {
                #expect(site.state(of: other, at: one) == .alive)
            }
        }
    }

    @Test func `are not accused by one that was stopped for a minute`() {
        var site = VirtualSite(seed: 2)
        site.add(5)
        site.linkAll()
        site.run(.seconds(10))
        site.hosts[3].isPaused = true
        site.run(.seconds(60))
        #expect(site.state(of: 3, at: 0) == .away)
        site.hosts[3].isPaused = false
        site.run(.seconds(70))
        #expect(site.falseAways == 0)
        #expect(site.state(of: 3, at: 0) == .alive)
        #expect(site.hosts[3].machine.counters[.paused] == 1)
    }

    @Test func `believe no accusation that they can check, and none forged or of the past`() {
        var site = VirtualSite(seed: 4)
        site.add(5)
        site.linkAll()
        site.run(.seconds(5))
        // One of them says of everybody, over and over, that they are away, in several names.
        for round in 0..<200 {
            for victim in 0..<4 {
                guard let version = site.hosts[0].machine.member(site.id(victim))?.presence?.version
                else { continue }
                for accuser in 0..<5 where accuser != victim {
                    let rumour = Rumour.away(
                        site.id(victim).short, version, by: site.id(accuser).short)
                    for host in 0..<4 {
                        site.hosts[host].machine.hear(rumour, from: site.id(4), site.now)
                    }
                }
            }
            site.run(.milliseconds(round < 50 ? 100 : 500))
        }
        #expect(site.falseAways == 0)
        site.run(.seconds(15))
        for one in 0..<4 {
            for other in 0..<4 where one != other {
                #expect(site.state(of: other, at: one) == .alive)
            }
        }
    }

    @Test func `take a member's words from itself alone, also at the end of all counting`() throws {
        var site = VirtualSite(seed: 5)
        site.add(3)
        site.linkAll()
        site.run(.seconds(3))
        let last = Presence.Version(incarnation: .max, counter: .max)
        let forged = Presence(
            key: site.hosts[2].key, mesh: TestMesh.bytes(1, 1), version: last, status: .left,
            wan: .untried, priority: 0, port: 1)
        site.hosts[0].machine.hear(
            .presence(forged, address: nil), from: site.id(2), site.now)
        #expect(site.state(of: 2, at: 0) == .alive)
        #expect(site.hosts[0].machine.counters[.presenceForged] == 1)
        let own = Presence(
            key: site.hosts[1].key, mesh: TestMesh.bytes(9, 9), version: last, status: .left,
            wan: .untried, priority: 0, port: 1)
        site.hosts[0].machine.hear(.presence(own, address: nil), from: site.id(2), site.now)
        #expect(site.state(of: 1, at: 0) == .left)
        // An accusation of a life that nobody had changes nothing.
        let accusation = Rumour.suspect(site.id(0).short, last, by: site.id(2).short)
        site.hosts[0].machine.hear(accusation, from: site.id(2), site.now)
        #expect(site.hosts[0].machine.counters[.accusedOfThePast] == 1)
    }

    @Test func `vouch for their site to the centre, and tell other sites nothing of it`() {
        var site = VirtualSite(seed: 6)
        site.add(1, site: "hq", isCentral: true)
        site.add(3, site: "s1")
        site.add(2, site: "s2")
        site.dials = false
        for pair in [[1, 2], [1, 3], [2, 3], [4, 5], [0, 1], [0, 4]] { site.link(pair[0], pair[1]) }
        site.run(.seconds(5))
        // The centre is linked with one server of each site, and knows of all.
        for other in 1...5 { #expect(site.state(of: other, at: 0) == .alive) }
        #expect(site.state(of: 0, at: 3) == .alive)
        #expect(site.state(of: 4, at: 1) == nil && site.state(of: 1, at: 4) == nil)
        site.kill(3)
        site.run(.seconds(4))
        #expect(site.state(of: 3, at: 0) == .away)
        #expect(site.state(of: 2, at: 0) == .alive)
        // With the link to the site goes what is known of it.
        site.unlink([0, 1])
        site.run(.seconds(1))
        #expect(site.state(of: 1, at: 0) == .away && site.state(of: 2, at: 0) == .away)
        #expect(site.state(of: 0, at: 2) == .away)
        #expect(site.state(of: 5, at: 0) == .alive)
    }

    @Test func `of a large site know of another through its gateways, one after the other`() {
        var site = VirtualSite(seed: 11)
        site.dials = false
        site.add(1, site: "hq", isCentral: true)
        site.add(14, site: "s1")
        // A chain, so that all but one hear only from neighbours what the gateway knows.
        for host in 1..<14 { site.link(host, host + 1) }
        site.link(14, 1)
        site.link(0, 1)
        site.run(.seconds(5))
        func seen(_ state: Member.State) -> Int {
            (1...14).count { site.hosts[$0].isUp && site.state(of: 0, at: $0) == state }
        }
        #expect(seen(.alive) == 14)
        // Another gateway links before the first gives way; then its line is cut.
        site.link(0, 7)
        site.run(.seconds(2))
        site.unlink([0, 1])
        site.run(.seconds(2))
        #expect(seen(.alive) == 14)
        site.unlink([0, 7])
        site.run(.seconds(2))
        #expect(seen(.away) == 14)
        site.link(0, 4)
        site.run(.seconds(2))
        #expect(seen(.alive) == 14)
        // What a dead gateway vouched for goes with it, and nobody else can vouch in its name.
        let forger = site.hosts[5]
        let forged = Vouch(
            key: forger.key, mesh: TestMesh.bytes(1, 1),
            version: .init(incarnation: .max, counter: 1), subject: site.id(0), isThere: false)
        site.hosts[6].machine.hear(.vouch(forged), from: site.id(5), site.now)
        #expect(site.hosts[6].machine.counters[.vouchForged] == 1)
        site.kill(4)
        site.run(.seconds(60))
        #expect(seen(.away) == 13)
    }

    @Test func `send no more as they become more`() {
        var rates: [Double] = []
        for count in [5, 20, 40] {
            var site = VirtualSite(seed: 3)
            site.add(count)
            site.linkAll()
            site.run(.seconds(20))
            site.datagrams = 0
            site.run(.seconds(30))
            rates.append(Double(site.datagrams) / 30 / Double(count))
        }
        #expect(rates.allSatisfy { $0 < 2.2 }, "\(rates)")
    }
}

@Suite struct `The gateway of a site` {
    private func gateways(_ site: VirtualSite) -> Set<NodeID> {
        Set(site.hosts.filter(\.isUp).map(\.machine.gateway))
    }

    @Test func `is one and the same for all, and another when it is gone or its path is broken`() {
        for seed in 0..<5 as Range<UInt64> {
            var site = VirtualSite(seed: seed)
            site.add(4)
            site.linkAll()
            site.run(.seconds(2))
            #expect(gateways(site).count == 1)
            guard
                let first = site.hosts.indices.first(where: { site.id($0) == gateways(site).first })
            else { return }
            // Its path is broken: another takes over, and keeps it when the first is mended.
            site.hosts[first].machine.declare(wan: .broken, now: site.now)
            site.run(.seconds(1))
            #expect(gateways(site).count == 1 && !gateways(site).contains(site.id(first)))
            guard
                let second = site.hosts.indices.first(where: { site.id($0) == gateways(site).first }
                )
            else { return }
            site.hosts[second].machine.declare(wan: .linked, now: site.now)
            site.hosts[first].machine.declare(wan: .untried, now: site.now)
            site.run(.seconds(1))
            #expect(gateways(site) == [site.id(second)])
            #expect(site.hosts[first].machine.isRelieved)
            #expect(!site.hosts[second].machine.isRelieved)
            site.kill(second)
            site.run(.seconds(1))
            #expect(gateways(site).count == 1 && !gateways(site).contains(site.id(second)))
        }
    }

    @Test func `is chosen in a cut site too, and agreed on again when it heals`() {
        var site = VirtualSite(seed: 9)
        site.add(6)
        site.linkAll()
        site.run(.seconds(2))
        site.cut([0, 1, 2])
        site.run(.seconds(20))
        #expect(gateways(site).count == 2)
        site.heal()
        site.run(.seconds(70))
        #expect(gateways(site).count == 1)
    }
}

@Suite struct `A datagram` {
    private struct Pair {
        var sender = DatagramKeys()
        var receiver = DatagramKeys()
        let one: NodeID = TestMesh.bytes(1, 1)
        let other: NodeID = TestMesh.bytes(2, 2)

        init() {
            sender.send(to: other, under: TestMesh.bytes(3, 3))
            receiver.receive(from: one, under: TestMesh.bytes(3, 3))
        }
    }

    @Test func `opens once, and in any order within its window`() throws {
        var pair = Pair()
        var sealed: [[UInt8]] = []
        for index in 0..<100 as Range<UInt8> {
            let datagram = pair.sender.seal([index], to: pair.other)
            sealed.append(try #require(datagram))
        }
        for index in [5, 3, 4, 70, 69, 99, 36] as [Int] {
            let (sender, payload) = try pair.receiver.open(sealed[index])
            #expect(sender == pair.one && payload == [UInt8(index)])
        }
        for index in [5, 99, 36, 35, 0] as [Int] {
            #expect(throws: DatagramKeys.Refusal.replayed) { try pair.receiver.open(sealed[index]) }
        }
    }

    @Test func `is dropped when any byte of it is changed, cut off or added`() throws {
        var pair = Pair()
        let datagram = pair.sender.seal([1, 2, 3], to: pair.other)
        let sealed = try #require(datagram)
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 1
            #expect(throws: DatagramKeys.Refusal.self) { try pair.receiver.open(changed) }
            #expect(throws: DatagramKeys.Refusal.self) {
                try pair.receiver.open(Array(sealed.prefix(index)))
            }
        }
        #expect(throws: DatagramKeys.Refusal.self) { try pair.receiver.open(sealed + [0]) }
        #expect(throws: DatagramKeys.Refusal.malformed) {
            try pair.receiver.open([UInt8](repeating: 1, count: 1201))
        }
        var stranger = DatagramKeys()
        #expect(throws: DatagramKeys.Refusal.unknownKey) { try stranger.open(sealed) }
    }

    @Test
    func `with more rumours than its limit is refused, one of an unknown kind is passed over`()
        throws
    {
        let head: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(throws: WireError.tooLong("rumours", 65, limit: 64)) {
            try ProbeMessage(decoding: head + [65])
        }
        let skipped = try ProbeMessage(decoding: head + [1, 99, 3, 7, 7, 7])
        #expect(skipped.rumours.isEmpty)
        #expect(throws: WireError.self) { try ProbeMessage(decoding: head + [1, 2, 3, 7, 7, 7]) }
    }

    @Test func `is read as it was written`() throws {
        let key = TestMesh.key(4, 4)
        let presence = Presence(
            key: key, mesh: TestMesh.bytes(9, 9), version: .init(incarnation: 7, counter: 8),
            status: .stopped, wan: .linked, priority: 3, port: 7374)
        let message = ProbeMessage(
            .pingRequest, 77, 0x0102_0304_0506_0708,
            rumours: [
                .presence(presence, address: "10.0.0.1:7374"),
                .suspect(1, .init(incarnation: 2, counter: 3), by: 4),
                .away(5, .init(incarnation: 6, counter: .max), by: 8),
                .vouch(
                    Vouch(
                        key: key, mesh: TestMesh.bytes(9, 9),
                        version: .init(incarnation: 9, counter: 1), subject: TestMesh.bytes(5, 5),
                        isThere: false)),
            ])
        #expect(try ProbeMessage(decoding: message.encoded) == message)
        #expect(presence.isAuthentic(in: TestMesh.bytes(9, 9)))
        #expect(!presence.isAuthentic(in: TestMesh.bytes(9, 8)))
        for count in 0..<message.encoded.count {
            #expect(throws: WireError.self) {
                try ProbeMessage(decoding: Array(message.encoded.prefix(count)))
            }
        }
    }
}
