// SPDX-License-Identifier: Apache-2.0

import MeshCore
@testable import MeshEngine
import MeshLink
import MeshReplication
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `A server that leaves for good` {
    private let own: Certificate
    private let peer: Certificate
    private let held = [Scope("prices@site/s1")!]

    init() throws {
        let mesh = try TestMesh()
        own = mesh.identity("own").certificate
        peer = mesh.identity("peer").certificate
    }

    private var inStep: ComparisonResult {
        var outcome = SyncSession.Outcome()
        outcome.isInStep = true
        return .outcome(outcome)
    }

    @Test func `hands over to a peer that is proven to hold what it holds`() throws {
        var bench = Bench(own)
        let (id, linked) = bench.link(peer, dialled: true)
        let early = linked + bench.wait(1)
        _ = bench.give(.compared(id, try #require(early.session), inStep))
        let asked = bench.give(.handOver(scopes: held, isForced: false)) + bench.wait(1)
        #expect(asked.handedOver.isEmpty)
        let proven = bench.give(.compared(id, try #require(asked.session), inStep))
        #expect(proven.handedOver == [.to(peer.node)])
        #expect(bench.wait(20).handedOver.isEmpty)
    }

    @Test func `takes no proof from a comparison that began before its last write`() throws {
        var bench = Bench(own)
        let (id, linked) = bench.link(peer, dialled: true)
        let early = try #require((linked + bench.wait(1)).session)
        _ = bench.give(.handOver(scopes: held, isForced: false))
        #expect(bench.give(.compared(id, early, inStep)).handedOver.isEmpty)
        let later = try #require(bench.wait(1).session)
        #expect(bench.give(.compared(id, later, inStep)).handedOver == [.to(peer.node)])
    }

    @Test func `takes no proof from a comparison of the peer that began before its last write`()
        throws
    {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        let turn = LinkMessage.syncTurn(
            SyncTurn([.summary([UInt8](repeating: 1, count: 16), .all)]).encoded
        ).encoded
        let early = try #require(bench.give(.message(id, turn)).session)
        _ = bench.give(.handOver(scopes: held, isForced: false))
        #expect(bench.give(.compared(id, early, inStep)).handedOver.isEmpty)
        let later = try #require(bench.give(.message(id, turn)).session)
        #expect(bench.give(.compared(id, later, inStep)).handedOver == [.to(peer.node)])
    }

    @Test func `does not hand over to a peer that may not read all of it`() throws {
        var bench = Bench(own)
        let (id, linked) = bench.link(peer, dialled: true)
        let early = try #require((linked + bench.wait(1)).session)
        _ = bench.give(.compared(id, early, inStep))
        let more = held + [Scope("prices@site/s2")!]
        let asked = bench.give(.handOver(scopes: more, isForced: false)) + bench.wait(1)
        let session = try #require(asked.session)
        #expect(bench.give(.compared(id, session, inStep)).handedOver.isEmpty)
    }

    @Test(arguments: [false, true])
    func `stays where nobody holds all of it unless that is forced`(isForced: Bool) {
        var bench = Bench(own)
        _ = bench.link(peer, dialled: false)
        let answer = bench.give(.handOver(scopes: held, isForced: isForced)) + bench.wait(20)
        #expect(answer.handedOver == [isForced ? .toNobody : .refused])
    }
}

extension [Effect] {
    fileprivate var handedOver: [HandOver] {
        compactMap { if case .handedOver(let answer) = $0 { answer } else { nil } }
    }
}
