// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshLink
import MeshReplication
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@testable import MeshEngine

@Suite struct `What an absent server lacks` {
    private let mesh: TestMesh
    private let own: Certificate
    private let peer: Certificate

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("a", site: "s1").certificate
        peer = mesh.identity("b", site: "s1").certificate
    }

    /// Links, is told that the peer lacks so many, and parts again.
    private func parted(lacking count: UInt64) -> Bench {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: true)
        bench.engine.exchanges[peer.node]?.compared(lacks: count)
        _ = bench.give(.linkDown(id, reason: "closed"))
        return bench
    }

    private func behind(_ bench: borrowing Bench) -> UInt64? {
        bench.engine.allExchanges[peer.node]?.behind
    }

    @Test func `grows with every commit that it may hold, from when its link ended`() throws {
        var bench = parted(lacking: 3)
        #expect(behind(bench) == 3)
        let mine = try mesh.message(own)
        _ = bench.give(.committed([mine]))
        _ = bench.give(.committed([mine]))
        #expect(behind(bench) == 5)
        _ = bench.give(.committed([try mesh.message(own, in: Scope("prices@site/s2")!)]))
        #expect(behind(bench) == 5)
    }

    @Test func `is not forgotten by a link that ends before both were compared`() throws {
        var bench = parted(lacking: 0)
        let mine = try mesh.message(own)
        _ = bench.give(.committed([mine]))
        let (id, _) = bench.link(peer, dialled: true)
        _ = bench.give(.linkDown(id, reason: "closed"))
        #expect(behind(bench) == 1)
        let (again, _) = bench.link(peer, dialled: true)
        _ = bench.give(.committed([mine]))
        #expect(behind(bench) == 1, "it is sent what is new while it is linked")
        _ = bench.give(.linkDown(again, reason: "closed"))
        let (next, _) = bench.link(peer, dialled: true)
        bench.engine.exchanges[peer.node]?.agreed(now: bench.now)
        #expect(behind(bench) == 0)
        _ = bench.give(.linkDown(next, reason: "closed"))
        _ = bench.give(.committed([mine]))
        #expect(behind(bench) == 1)
    }

    @Test func `is unknown where nothing was ever compared`() throws {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: true)
        _ = bench.give(.linkDown(id, reason: "closed"))
        _ = bench.give(.committed([try mesh.message(own)]))
        #expect(behind(bench) == nil)
    }
}
