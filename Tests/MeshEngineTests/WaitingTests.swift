// SPDX-License-Identifier: Apache-2.0

import MeshCore
@testable import MeshEngine
import MeshLink
import MeshReplication
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `An engine whose logs wait` {
    private let mesh: TestMesh
    private let own: Certificate
    private let peer: Certificate
    private let third: Certificate

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("own").certificate
        peer = mesh.identity("peer").certificate
        third = mesh.identity("centre", site: "hq", central: true).certificate
    }

    @Test func `parks what it cannot judge until the certificate comes, in order`() throws {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        let bytes = LinkMessage.commits(try mesh.message(third).encoded).encoded
        let ticket = try #require(bench.give(.message(id, bytes)).ingested.first)
        var unknown = IngestOutcome()
        unknown.refusal = .authorUnknown
        let asked = bench.give(.ingested(id, ticket, unknown)).sent
        #expect(asked.contains { $0.message == .wantCertificate(third.node) })
        #expect(bench.give(.message(id, bytes)).ingested.isEmpty)
        #expect(bench.give(.certificate(id, third)).ingested.count == 2)
    }

    @Test func `asks for a log that waits once part of a message brings what it waits for`() throws
    {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        let (first, second) = (try mesh.message(peer), try mesh.message(third))
        var waits = IngestOutcome()
        waits.waits = .place(second.log, sequence: 1)
        _ = bench.judge(id, first, waits)
        _ = bench.wait(3)
        #expect(bench.engine.waits.all[first.log] != nil)
        // The other log goes on, and then waits itself.
        var partly = IngestOutcome()
        partly.stored = 1
        partly.hasAdvanced = true
        partly.frontier = 1
        partly.waits = .place(first.log, sequence: 9)
        _ = bench.judge(id, second, partly)
        #expect(bench.engine.waits.all[first.log] == nil)
        #expect(bench.wait(1).sent.contains { $0.message == .syncPlease })
    }

    @Test func `asks for a log that waits for a policy once a lost policy was sent again`() throws {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        var waits = IngestOutcome()
        waits.waits = .policy(.builtIn, namespace: "notes")
        let log = try mesh.message(peer)
        _ = bench.judge(id, log, waits)
        _ = bench.wait(3)
        #expect(bench.engine.waits.all[log.log] != nil)
        // It stands in the middle of its log: the end of that log does not move.
        var fill = IngestOutcome()
        fill.stored = 1
        _ = bench.judge(id, try mesh.message(third, in: NamespacePolicy.scope), fill)
        #expect(bench.engine.waits.all[log.log] == nil)
        #expect(bench.wait(1).sent.contains { $0.message == .syncPlease })
    }

    @Test func `asks for a log that waits as often, however often peers send of it`() throws {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        var waits = IngestOutcome()
        waits.waits = .place(try mesh.message(third).log, sequence: 1)
        var gap = IngestOutcome()
        gap.hasGap = true
        let log = try mesh.message(peer)
        _ = bench.judge(id, log, waits)
        _ = bench.wait(3)
        _ = bench.judge(id, log, waits)
        let tries = try #require(bench.engine.waits.all[log.log]).tries
        for _ in 0..<20 {
            _ = bench.judge(id, log, waits)
            _ = bench.judge(id, log, gap)
        }
        let entry = try #require(bench.engine.waits.all[log.log])
        #expect(entry.tries == tries)
        #expect(entry.due.since(bench.now) <= .seconds(2))
        #expect(!bench.wait(0.8).sent.contains { $0.message == .syncPlease })
    }

    @Test func `forgets what waited for a certificate too long, and gives the room back`() throws {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        let bytes = LinkMessage.commits(try mesh.message(third).encoded).encoded
        let ticket = try #require(bench.give(.message(id, bytes)).ingested.first)
        var unknown = IngestOutcome()
        unknown.refusal = .authorUnknown
        _ = bench.give(.ingested(id, ticket, unknown))
        var credits = 0
        for _ in 0..<40 {
            let effects = bench.wait(1)
            for (id, message) in effects.sent {
                if case .ping(let number) = message {
                    _ = bench.give(.message(id, LinkMessage.pong(number).encoded))
                }
                if case .credit = message { credits += 1 }
            }
        }
        #expect(credits == 1)
        #expect(bench.engine.counters[refused: .authorUnknown] == 1)
    }

    @Test func `tells the author what lost its place, also where he has sent what took it`()
        throws
    {
        var bench = Bench(own)
        let (author, _) = bench.link(peer, dialled: false)
        let (other, _) = bench.link(third, dialled: false)
        let message = try mesh.message(peer)
        for (source, isToldOther) in [(author, true), (other, false)] {
            var outcome = IngestOutcome()
            outcome.outvoted = [message]
            let effects = bench.judge(source, message, outcome)
            let reads = effects.compactMap { effect -> LinkID? in
                if case .read(let id, .losers(of: peer.node)) = effect { id } else { nil }
            }
            #expect(reads == [author])
            #expect(
                effects.sent.contains {
                    if case .commits = $0.message { $0.id == other } else { false }
                } == isToldOther)
            _ = bench.give(.chunk(author, [], rest: nil))
        }
    }

    @Test func `tells of no more commits that lost their place than a server keeps`() throws {
        var limits = EngineLimits()
        limits.losersTold = 3
        var bench = Bench(own, limits: limits)
        let (source, _) = bench.link(peer, dialled: false)
        let (other, _) = bench.link(mesh.identity("other").certificate, dialled: false)
        let message = try mesh.message(peer)
        var told: [LinkID] = []
        for bytes in 1...5 {
            var outcome = IngestOutcome()
            outcome.outvoted = [try mesh.message(third, bytes: bytes)]
            for (id, sent) in bench.judge(source, message, outcome).sent {
                if case .commits = sent { told.append(id) }
            }
        }
        #expect(told == [other, other, other])
        #expect(bench.engine.counters[.losersOverLimit] == 2)
    }
}
