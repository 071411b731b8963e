// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshEngine
@testable import MeshLink
import MeshMembership
import MeshReplication
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `An engine` {
    private let mesh: TestMesh
    private let peerKey: SigningKey
    private let own: Certificate
    private let peer: Certificate
    private let third: Certificate

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("own").certificate
        let identity = mesh.identity("peer")
        peer = identity.certificate
        peerKey = identity.nodeKey
        third = mesh.identity("centre", site: "hq", central: true).certificate
    }

    @Test func `compares at once with whom it dialled, and waits for whom dialled it`() {
        var bench = Bench(own)
        #expect(bench.link(peer, dialled: true).1.comparisons == 1)
        #expect(bench.link(third, dialled: false).1.comparisons == 0)
    }

    @Test func `keeps of two links the one that the lower identity dialled`() {
        let (lower, higher) = own.node < peer.node ? (own, peer) : (peer, own)
        for order in [[true, false], [false, true]] {
            var low = Bench(lower)
            var high = Bench(higher)
            var survivors: [Bool] = []
            var lowClosed: [LinkID] = []
            var highClosed: [LinkID] = []
            for lowDialled in order {
                lowClosed += low.link(higher, dialled: lowDialled).1.closed
                highClosed += high.link(lower, dialled: !lowDialled).1.closed
            }
            // Both ends closed the same one, and what is left was dialled by the lower.
            #expect(lowClosed == highClosed)
            survivors = low.engine.peers.map { $0.origin.dialled != nil }
            #expect(survivors == [true])
        }
    }

    @Test func `closes a link that falls silent and not one that answers`() {
        var bench = Bench(own)
        let (quiet, _) = bench.link(peer, dialled: true)
        let (alive, _) = bench.link(third, dialled: false)
        var closed: [LinkID] = []
        for _ in 0..<100 {
            let effects = bench.wait(1)
            closed += effects.closed
            for (id, message) in effects.sent where id == alive {
                if case .ping(let number) = message {
                    _ = bench.give(.message(alive, LinkMessage.pong(number).encoded))
                }
            }
        }
        #expect(Set(closed) == [quiet])
        #expect(bench.engine.peers.first { $0.certificate == third }?.roundTrip != nil)
    }

    @Test func `ends a neighbour's dead link however often it asks, and dials where he is now`() {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: true)
        _ = bench.give(.heard(peer.node, Incarnation(1), address: "new:7374"))
        var effects: [Effect] = []
        for _ in 0..<35 {
            effects += bench.give(.networkChanged)
            let soon = bench.wait(0.2)
            effects += soon
            for id in soon.closed { effects += bench.give(.linkDown(id, reason: "closed here")) }
        }
        #expect(effects.closed == [id])
        #expect(effects.dialled == ["new:7374"])
    }

    @Test func `dials a peer whose link ended at the last addresses of its beacons, and no others`()
    {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: true)
        for index in 0..<10 {
            _ = bench.give(.heard(peer.node, Incarnation(1), address: "h\(index):7374"))
        }
        let ended = bench.give(.linkDown(id, reason: "closed")) + bench.wait(2)
        let most = EngineLimits().beaconsHeard
        #expect(Set(ended.dialled) == Set((10 - most..<10).map { "h\($0):7374" }))
    }

    @Test func `closes a link on a malformed message, an unasked answer or a turn out of order`() {
        for bytes in [
            [201],
            LinkMessage.syncAnswer(SyncTurn([.inStep([UInt8](repeating: 0, count: 16))]).encoded)
                .encoded,
            LinkMessage.syncTurn(SyncTurn([.inStep([UInt8](repeating: 0, count: 16))]).encoded)
                .encoded,
            LinkMessage.commits([1, 2]).encoded,
        ] {
            var bench = Bench(own)
            let (id, _) = bench.link(peer, dialled: false)
            #expect(bench.give(.message(id, bytes)).closed == [id])
        }
    }

    @Test func `skips a message of a later version that may be skipped`() {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        #expect(bench.give(.message(id, [200, 1, 2])).closed.isEmpty)
        #expect(bench.engine.counters[.messageUnknown] == 1)
    }

    @Test
    func `closes the link of a peer whose records fail their signatures three times a minute`()
        throws
    {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        let ticket = try #require(
            bench.give(.message(id, LinkMessage.commits(try mesh.message(peer).encoded).encoded))
                .ingested.first)
        var bad = IngestOutcome()
        bad.refusal = .badSignature
        #expect(bench.give(.ingested(id, ticket, bad)).closed.isEmpty)
        let more = try mesh.message(peer)
        #expect(bench.judge(id, more, bad).closed.isEmpty)
        #expect(bench.judge(id, more, bad).closed == [id])
    }

    @Test
    func `tells its own commits to all who may read them, and others' only where they are wanted`()
        throws
    {
        var bench = Bench(own)
        let (neighbour, _) = bench.link(peer, dialled: false)
        let (centre, _) = bench.link(third, dialled: false)
        let told = bench.give(.committed([try mesh.message(own)])).sent.map(\.id)
        #expect(Set(told) == [neighbour, centre])
        // What a neighbour wrote the centre hears from the gateway, which this node is.
        var stored = IngestOutcome()
        stored.stored = 1
        stored.authorSite = "s1"
        stored.frontier = 1
        let own = try mesh.message(peer)
        #expect(bench.judge(neighbour, own, stored).sent.contains { $0.id == centre })
        // What the centre tells of it goes to nobody who has it.
        let echo = bench.judge(centre, own, stored).sent
        #expect(!echo.contains { if case .commits = $0.message { $0.id == centre } else { false } })
        // What the centre wrote the neighbour may not have heard.
        stored.authorSite = "hq"
        let news = try mesh.message(third)
        #expect(bench.judge(centre, news, stored).sent.contains { $0.id == neighbour })
    }

    @Test func `never has more on its way to a peer than its limit`() throws {
        var limits = EngineLimits()
        limits.bytesInFlight = 100_000
        var bench = Bench(own, limits: limits)
        let (id, _) = bench.link(peer, dialled: false)
        let big = try mesh.message(own, bytes: 60_000)
        var sent = 0
        for _ in 0..<10 { sent += bench.give(.committed([big])).sent.count }
        #expect(sent == 2)
        #expect(bench.engine.counters[.pushOverLimit] == 8)
        _ = bench.give(.message(id, LinkMessage.credit(200_000).encoded))
        #expect(bench.give(.committed([big])).sent.count == 1)
    }

    @Test func `compares ever more seldom with a peer that never agrees`() {
        var bench = Bench(own)
        let (id, first) = bench.link(peer, dialled: true)
        var comparisons = 0
        var effects = first
        for _ in 0..<3600 {
            for effect in effects + bench.wait(1) {
                switch effect {
                case .send(_, .ping(let number)):
                    _ = bench.give(.message(id, LinkMessage.pong(number).encoded))
                case .compare(_, let session, _):
                    comparisons += 1
                    _ = bench.give(.compared(id, session, .outcome(SyncSession.Outcome())))
                    _ = bench.give(.message(id, LinkMessage.syncEnd.encoded))
                default: break
                }
            }
            effects = []
        }
        #expect((4...16).contains(comparisons))
    }

    @Test func `gives up a comparison that the peer never answers, and begins another`() {
        var bench = Bench(own)
        let (id, first) = bench.link(peer, dialled: true)
        guard let session = first.session else {
            Issue.record("no comparison began")
            return
        }
        var asked = SyncSession.Outcome()
        asked.reply = SyncTurn([.summary([UInt8](repeating: 0, count: 16), .all)])
        _ = bench.give(.compared(id, session, .outcome(asked)))
        var comparisons = 0
        for _ in 0..<120 {
            for effect in bench.wait(1) {
                if case .send(_, .ping(let number)) = effect {
                    _ = bench.give(.message(id, LinkMessage.pong(number).encoded))
                }
                if case .compare = effect { comparisons += 1 }
            }
        }
        #expect(comparisons >= 1)
        #expect(bench.engine.counters[.syncUnanswered] == 1)
    }

    @Test func `takes an answer that comes after all for late, and keeps the link`() {
        var bench = Bench(own)
        let (id, first) = bench.link(peer, dialled: true)
        guard let session = first.session else {
            Issue.record("no comparison began")
            return
        }
        var asked = SyncSession.Outcome()
        asked.reply = SyncTurn([.summary([UInt8](repeating: 0, count: 16), .all)])
        _ = bench.give(.compared(id, session, .outcome(asked)))
        for _ in 0..<31 {
            for (_, message) in bench.wait(1).sent {
                guard case .ping(let number) = message else { continue }
                _ = bench.give(.message(id, LinkMessage.pong(number).encoded))
            }
        }
        #expect(bench.engine.counters[.syncUnanswered] == 1)
        let late = LinkMessage.syncAnswer(
            SyncTurn([.inStep([UInt8](repeating: 0, count: 16))]).encoded
        ).encoded
        #expect(bench.give(.message(id, late)).closed.isEmpty)
        #expect(bench.engine.counters[.syncLate] == 1)
        #expect(bench.give(.message(id, late)).closed == [id])
    }

    @Test func `closes the link of a peer that sends more than it has credit for`() throws {
        var limits = EngineLimits()
        limits.bytesInFlight = 100_000
        var bench = Bench(own, limits: limits)
        let (id, _) = bench.link(peer, dialled: false)
        let bytes = LinkMessage.commits(try mesh.message(peer, bytes: 50_000).encoded).encoded
        var closed: [LinkID] = []
        for _ in 0..<4 { closed += bench.give(.message(id, bytes)).closed }
        #expect(closed == [id])
        #expect(bench.engine.counters[.commitsOverCredit] == 1)
    }

    @Test func `gives way to the gateway once that holds a link with another site, not before`() {
        var bench = Bench(own)
        let (far, _) = bench.link(third, dialled: true)
        let (near, _) = bench.link(peer, dialled: false)
        #expect(bench.wait(1).closed.isEmpty)
        for (wan, expected) in [(Presence.WAN.untried, []), (.linked, [far])]
            as [(Presence.WAN, [LinkID])]
        {
            // The neighbour wants it more than this node does.
            let presence = Presence(
                key: peerKey, mesh: Bench.mesh,
                version: .init(incarnation: 1, counter: UInt64(wan.rawValue)), status: .alive,
                wan: wan, priority: 9, port: 7374)
            var writer = WireWriter()
            Rumour.encode([.presence(presence, address: nil)], to: &writer)
            _ = bench.give(.message(near, LinkMessage.rumours(writer.bytes).encoded))
            #expect(Array(Set(bench.wait(1).closed)) == expected)
        }
    }

    @Test func `compares over no link with another site once a neighbour has one`() {
        var bench = Bench(own)
        let (near, _) = bench.link(peer, dialled: false)
        let presence = Presence(
            key: peerKey, mesh: Bench.mesh, version: .init(incarnation: 1, counter: 1),
            status: .alive, wan: .linked, priority: 9, port: 7374)
        var writer = WireWriter()
        Rumour.encode([.presence(presence, address: nil)], to: &writer)
        _ = bench.give(.message(near, LinkMessage.rumours(writer.bytes).encoded))
        let (far, effects) = bench.link(third, dialled: true)
        #expect(effects.comparisons == 0)
        let later = bench.wait(0.2)
        #expect(later.closed == [far])
        #expect(later.comparisons == 0)
    }

    @Test func `tells its neighbours at once that it has a link with another site`() {
        var bench = Bench(own)
        let (near, _) = bench.link(peer, dialled: false)
        let (_, effects) = bench.link(third, dialled: true)
        let told = effects.sent.contains { id, message in
            guard id == near, case .rumours(let bytes) = message else { return false }
            var reader = WireReader(bytes)
            return (try? Rumour.decode(from: &reader))?.contains { rumour in
                if case .presence(let one, _) = rumour {
                    one.node == Bench.key.publicKey.node && one.wan == .linked
                } else {
                    false
                }
            } == true
        }
        #expect(told)
        #expect(effects.comparisons == 1)
    }

    @Test func `sends nothing of a scope that the peer may not read`() throws {
        var bench = Bench(own)
        let other = mesh.identity("other", site: "s2").certificate
        let (id, _) = bench.link(other, dialled: false)
        let message = try mesh.message(other)
        var outcome = IngestOutcome()
        let author = message.author
        outcome.evidence = [
            .tail(Scope("prices@site/s1")!, author, after: 0),
            .tail(Scope("menu@all")!, author, after: 0),
        ]
        let reads = bench.judge(id, message, outcome).compactMap { effect in
            if case .read(_, let request) = effect { request.scope?.description } else { nil }
        }
        #expect(reads == ["menu@all"])
        #expect(bench.engine.counters[.streamNotGranted] == 1)
    }

    @Test func `verifies one certificate more than it asked for, and no other`() {
        var bench = Bench(own)
        let (id, first) = bench.link(peer, dialled: false)
        func kept(_ effects: [Effect]) -> Int {
            effects.count { if case .keep = $0 { true } else { false } }
        }
        #expect(kept(first) == 1)
        _ = bench.give(.certificate(id, peer))
        let unasked = LinkMessage.certificate(third.encoded).encoded
        // It may be that of another server with the same ticket as this one's.
        #expect(kept(bench.give(.message(id, unasked))) == 1)
        _ = bench.give(.certificate(id, third))
        #expect(kept(bench.give(.message(id, unasked))) == 0)
        #expect(bench.engine.counters[.certificateUnasked] == 1)
    }

    @Test func `dials no port of another service that a beacon names`() {
        var bench = Bench(own)
        #expect(bench.give(.heard(peer.node, Incarnation(1), address: "h:22")).dialled.isEmpty)
        #expect(bench.wait(5).dialled.isEmpty)
        #expect(bench.engine.counters[.beaconPortRefused] == 1)
        let heard = bench.give(.heard(peer.node, Incarnation(1), address: "h:7374"))
        #expect((heard + bench.wait(5)).dialled == ["h:7374"])
    }

    @Test func `gives the same effects for the same seed and inputs`() throws {
        func trace() throws -> [String] {
            var bench = Bench(own)
            let (id, first) = bench.link(peer, dialled: true)
            var effects = first
            for _ in 0..<50 {
                effects += bench.wait(1)
                effects += bench.give(.message(id, LinkMessage.ping(3).encoded))
            }
            return effects.compactMap { if case .compare = $0 { nil } else { "\($0)" } }
        }
        #expect(try trace() == trace())
    }
}
