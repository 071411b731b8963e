// SPDX-License-Identifier: Apache-2.0

import MeshCore
@testable import MeshEngine
import MeshLink
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `Room for records` {
    private let mesh: TestMesh

    init() throws { mesh = try TestMesh() }

    private func crowd(_ count: Int) -> [Certificate] {
        (0..<count).map { mesh.identity("n\($0)", site: "x\($0)").certificate }
    }

    private func windows(_ effects: [Effect]) -> [LinkID: Int] {
        var all: [LinkID: Int] = [:]
        for case .send(let id, .window(let count)) in effects { all[id] = Int(count) }
        return all
    }

    @Test func `is one budget, whatever the number of links`() {
        let limits = EngineLimits()
        for count in [1, 2, 31, 32, 33, 100, 1000, 2000, 2048] {
            let part = limits.part(ofLinks: count)
            #expect(part * count <= limits.bytesInFlightAll)
            #expect(part >= limits.bytesInFlightLeast && part <= limits.bytesInFlight)
        }
        #expect(limits.part(ofLinks: 32) == 4 << 20)
        #expect(limits.part(ofLinks: 33) == 2 << 20)
        #expect(limits.part(ofLinks: 2048) == 64 << 10)
    }

    @Test func `is told to all peers when their part changes, and to a newcomer alone otherwise`() {
        var limits = EngineLimits()
        (limits.bytesInFlight, limits.bytesInFlightAll) = (400_000, 1_000_000)
        var bench = Bench(mesh.identity("centre", central: true).certificate, limits: limits)
        let peers = crowd(5)
        var ids: [LinkID] = []
        for (index, peer) in peers.enumerated() {
            let (id, effects) = bench.link(peer, dialled: false)
            ids.append(id)
            switch index {
            case 0, 1: #expect(windows(effects).isEmpty)
            case 2: #expect(windows(effects) == [ids[0]: 200_000, ids[1]: 200_000, id: 200_000])
            default: #expect(windows(effects) == [id: 200_000])
            }
        }
        _ = bench.give(.linkDown(ids[4], reason: "gone"))
        _ = bench.give(.linkDown(ids[3], reason: "gone"))
        let effects = bench.give(.linkDown(ids[2], reason: "gone"))
        #expect(windows(effects) == [ids[0]: 400_000, ids[1]: 400_000])
    }

    @Test func `is what the smaller of both ends has`() throws {
        let own = mesh.identity("centre", central: true).certificate
        var bench = Bench(own)
        let (id, _) = bench.link(crowd(1)[0], dialled: false)
        _ = bench.give(.message(id, LinkMessage.window(50_000).encoded))
        let big = try mesh.message(own, in: Scope("menu@all")!, bytes: 40_000)
        var sent = 0
        for _ in 0..<5 {
            sent += bench.give(.committed([big])).sent.count {
                if case .commits = $0.message { true } else { false }
            }
        }
        #expect(sent == 2)
        _ = bench.give(.message(id, LinkMessage.window(.max).encoded))
        #expect(bench.give(.committed([big])).sent.count == 1)
    }
}
