// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshDiscovery
@testable import MeshEngine
import MeshLink
import MeshMembership
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `An engine that hears of a revocation` {
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

    private func revocation(of card: Certificate) -> Revocation {
        Revocation(
            of: card.node, created: 1, reason: "", cuts: [], key: mesh.revoke,
            mesh: mesh.root.meshID)
    }

    @Test func `has no link with a revoked node: it is shown why, and never dialled again`() {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: true)
        let document = revocation(of: peer)
        let effects = bench.give(.revoked([document]))
        #expect(effects.sent.last?.message == .revocation(document.encoded))
        #expect(effects.closed == [id])
        _ = bench.give(.linkDown(id, reason: "closed"))
        #expect(bench.engine.membership.member(peer.node)?.state == .revoked)
        let (again, more) = bench.link(peer, dialled: false)
        #expect(more.sent.map(\.message) == [.revocation(document.encoded)])
        #expect(more.closed == [again])
        #expect(bench.engine.peers.isEmpty)
        let words = bench.give(.heard(peer.node, Incarnation(2), address: "h:7374"))
        let dials = (words + bench.wait(120)).count {
            if case .dial = $0 { true } else { false }
        }
        #expect(dials == 0)
        #expect(bench.engine.membership.member(peer.node)?.state == .revoked)
    }

    @Test func `that is revoked itself says so to its peers, and keeps to itself`() throws {
        let seed = try #require(Address(host: "10.9.9.9", port: 7374))
        var bench = Bench(own, seeds: [seed])
        let (id, _) = bench.link(peer, dialled: true)
        let document = revocation(of: own)
        let shown = bench.give(.message(id, LinkMessage.revocation(document.encoded).encoded))
        #expect(shown.contains { if case .heed(id, document.encoded) = $0 { true } else { false } })
        let last = bench.give(.revoked([document]))
        #expect(last.sent.map(\.message) == [.revocation(document.encoded)])
        #expect(last.closed == [id])
        _ = bench.give(.linkDown(id, reason: "closed"))
        let late = bench.wait(60)
        #expect(!late.contains { if case .beacon = $0 { true } else { false } })
        // It asks now and then whether a newer root document has taken that back.
        func dials(_ effects: [Effect]) -> Int {
            effects.count { if case .dial = $0 { true } else { false } }
        }
        #expect(dials(late) == 1)
        _ = bench.give(.dialFailed(address: seed, DialFailure(.unreachable, "nobody answers")))
        #expect(dials(bench.wait(400)) == 0)
        #expect(dials(bench.wait(400)) == 1)
        let (again, effects) = bench.link(third, dialled: false)
        #expect(effects.sent.map(\.message) == [.revocation(document.encoded)])
        #expect(effects.closed == [again])
    }

    @Test func `dials a seed at which a revoked node answers once in ten minutes`() {
        var bench = Bench(own, seeds: ["h:7374"])
        _ = bench.give(.revoked([revocation(of: peer)]))
        #expect((1...3).contains(bench.dials(peer, seconds: 550)))
        #expect((1...2).contains(bench.dials(peer, seconds: 600)))
    }

    @Test func `tells servers of another site at once who of theirs was revoked`() {
        var bench = Bench(third)
        let known = bench.give(.known([KnownNode(peer)]))
        #expect(known.closed.isEmpty)
        let document = revocation(of: peer)
        _ = bench.give(.revoked([document]))
        let (_, effects) = bench.link(own, dialled: false)
        #expect(effects.sent.first?.message == .revocation(document.encoded))
        let other = mesh.identity("other", site: "s2").certificate
        let (_, none) = bench.link(other, dialled: false)
        #expect(!none.sent.contains { $0.message == .revocation(document.encoded) })
    }

    @Test func `looks at no more revocations of one peer than its limit`() {
        var limits = EngineLimits()
        limits.revocationsShown = 2
        var bench = Bench(own, limits: limits)
        let (id, _) = bench.link(third, dialled: false)
        let bytes = LinkMessage.revocation([1, 2, 3]).encoded
        let looked = (0..<5).map { _ in
            bench.give(.message(id, bytes)).count { if case .heed = $0 { true } else { false } }
        }
        #expect(looked == [1, 1, 0, 0, 0])
        #expect(bench.engine.counters[.revocationOverLimit] == 3)
        let closed = (0..<3).flatMap { _ in bench.give(.heeded(id, isGood: false)).closed }
        #expect(closed == [id])
    }
}
