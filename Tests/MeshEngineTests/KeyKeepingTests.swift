// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshEngine
import MeshLink
import MeshStore
import MeshTesting
import MeshTrust
import Testing

private let key: Bytes32 = TestMesh.bytes(5, 5)
private let name = StorageSeal.name(of: key)

@Suite struct `A server whose records are sealed` {
    private let mesh: TestMesh
    private let own: Certificate
    private let near: Certificate
    private let far: Certificate
    private let centre: Certificate

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("own").certificate
        near = mesh.identity("near").certificate
        far = mesh.identity("far", site: "s2").certificate
        centre = mesh.identity("centre", site: "hq", central: true).certificate
    }

    @Test func `has neighbours and the centre keep its key, and nobody else`() {
        var bench = Bench(own)
        _ = bench.give(.sealed(under: key))
        for (peer, isKeeper) in [(near, true), (centre, true), (far, false)] {
            let (id, effects) = bench.link(peer, dialled: true)
            #expect(effects.sent.map(\.message).contains(.deposit(key)) == isKeeper)
            let words = bench.give(.message(id, LinkMessage.deposited(name).encoded))
            let addresses = words.compactMap { if case .keeper(let at) = $0 { at } else { nil } }
            if isKeeper { #expect(addresses == ["h:7374"]) }
        }
        #expect(bench.engine.keeperCount == 3)
        // A lie about another key counts for nothing.
        let (id, _) = bench.link(mesh.identity("other").certificate, dialled: true)
        _ = bench.give(.message(id, LinkMessage.deposited(TestMesh.bytes(1, 1)).encoded))
        #expect(bench.engine.keeperCount == 3)
        #expect(bench.engine.counters[.depositUnasked] == 1)
    }

    @Test func `is none that asks others to keep a key where its records are not sealed`() {
        var bench = Bench(own)
        let (_, effects) = bench.link(near, dialled: true)
        #expect(!effects.sent.contains { if case .deposit = $0.message { true } else { false } })
        #expect(bench.engine.keeperCount == nil)
    }
}

@Suite struct `A keeper of keys` {
    private let mesh: TestMesh
    private let own: Certificate
    private let near: Certificate
    private let far: Certificate

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("centre", site: "s1", central: true).certificate
        near = mesh.identity("near").certificate
        far = mesh.identity("far", site: "s2").certificate
    }

    private func looks(_ effects: [Effect]) -> Bool {
        effects.contains { if case .findKey = $0 { true } else { false } }
    }

    @Test func `says that it keeps a key once that is on disk, and takes few over one link`() {
        var bench = Bench(own)
        let (id, _) = bench.link(far, dialled: false)
        let effects = bench.give(.message(id, LinkMessage.deposit(key).encoded))
        let isKept = effects.contains {
            if case .keepKey(id, far.node, key) = $0 { true } else { false }
        }
        #expect(isKept)
        #expect(effects.sent.isEmpty)
        #expect(bench.give(.keptKey(id, name)).sent.map(\.message) == [.deposited(name)])
        #expect(bench.give(.keptKey(id, nil)).sent.isEmpty)
        for _ in 0..<9 { _ = bench.give(.message(id, LinkMessage.deposit(key).encoded)) }
        #expect(bench.engine.counters[.depositRefused] == 10 - UInt64(KeyKeeping.perLinkMax))
    }

    @Test func `that is no neighbour and not of the centre takes none`() {
        var bench = Bench(mesh.identity("till").certificate)
        let (id, _) = bench.link(far, dialled: false)
        #expect(bench.give(.message(id, LinkMessage.deposit(key).encoded)).isEmpty)
        #expect(bench.engine.counters[.depositRefused] == 1)
    }

    @Test func `hands a key to a neighbour in its own network at once`() {
        var bench = Bench(own)
        let (id, _) = bench.link(near, dialled: false)
        let effects = bench.give(.message(id, LinkMessage.wantKey(name).encoded))
        #expect(looks(effects))
        #expect(bench.give(.foundKey(id, key)).sent.map(\.message) == [.key(key)])
        #expect(bench.give(.foundKey(id, nil)).sent.map(\.message) == [.noKey(.notKept)])
        #expect(bench.engine.lockedServers(bench.now).isEmpty)
    }

    @Test func `hands one to another site once, after an operator's word, within its time`() {
        var bench = Bench(own)
        let (id, _) = bench.link(far, dialled: false)
        func ask() -> [Effect] { bench.give(.message(id, LinkMessage.wantKey(name).encoded)) }
        #expect(ask().sent.map(\.message) == [.noKey(.operatorsWord)])
        #expect(bench.engine.lockedServers(bench.now).map(\.certificate) == [far])
        _ = bench.give(.unlock(near.node))
        #expect(!looks(ask()))
        _ = bench.give(.unlock(far.node))
        #expect(looks(ask()))
        #expect(bench.give(.foundKey(id, key)).sent.map(\.message) == [.key(key)])
        #expect(bench.engine.lockedServers(bench.now).isEmpty)
        #expect(!looks(ask()))
        _ = bench.give(.unlock(far.node))
        bench.now = bench.now.advanced(by: KeyKeeping.patience)
        #expect(!looks(ask()))
    }
}

@Suite struct `A search for a key` {
    private let mesh: TestMesh
    private let own: Certificate
    private let near: Certificate
    private let far: Certificate
    private let now = Instant(nanoseconds: 0)
    private let id = LinkID(1)

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("own").certificate
        near = mesh.identity("near").certificate
        far = mesh.identity("far", site: "s2").certificate
    }

    private func search(_ want: KeySearch.Want) -> KeySearch {
        KeySearch(want, own: own, addresses: ["a:1", "b:1"], now: now)
    }

    @Test func `dials everybody that may keep it, again and again, and few at a time`() {
        var search = search(.key(name))
        search.hear(of: "c:1", now: now)
        #expect(search.tick(now) == [.dial("a:1"), .dial("b:1"), .dial("c:1")])
        #expect(search.tick(now.advanced(by: .seconds(1))).isEmpty)
        #expect(search.tick(now.advanced(by: KeySearch.pause)).count == 3)
        for number in 0..<200 {
            search.hear(of: Address(host: "d", port: UInt16(1000 + number))!, now: now)
        }
        let dials = search.tick(now.advanced(by: .seconds(60)))
        #expect(dials.count == KeySearch.candidatesMax)
    }

    @Test func `takes the key of its name and no other, from a keeper and nobody else`() {
        var search = search(.key(name))
        #expect(search.linkUp(LinkID(2), far, now: now) == [.close(LinkID(2))])
        #expect(search.linkUp(id, near, now: now) == [.send(id, .wantKey(name))])
        let lie = LinkMessage.key(TestMesh.bytes(1, 1)).encoded
        #expect(search.receive(id, lie).isEmpty)
        #expect(search.receive(id, [1, 2]).isEmpty)
        #expect(search.receive(LinkID(2), LinkMessage.key(key).encoded).isEmpty)
        #expect(search.receive(id, LinkMessage.deposited(name).encoded).isEmpty)
        let effects = search.receive(id, LinkMessage.key(key).encoded)
        #expect(effects == [.found(key), .send(id, .goodbye), .close(id)])
        #expect(search.tick(now.advanced(by: .seconds(60))).isEmpty)
    }

    @Test func `of a new server ends once somebody has the key on disk`() {
        var search = search(.keeper(of: key))
        #expect(search.linkUp(id, near, now: now) == [.send(id, .deposit(key))])
        #expect(search.receive(id, LinkMessage.deposited(TestMesh.bytes(1, 1)).encoded).isEmpty)
        #expect(search.receive(id, LinkMessage.key(key).encoded).isEmpty)
        let effects = search.receive(id, LinkMessage.deposited(name).encoded)
        #expect(effects.first == .found(key))
    }

    @Test func `goes on where a keeper refuses, or says nothing`() {
        var search = search(.key(name))
        _ = search.linkUp(id, near, now: now)
        let refusal = LinkMessage.noKey(.operatorsWord)
        let effects = search.receive(id, refusal.encoded)
        #expect(
            effects == [.refused(.operatorsWord, by: "s1/near"), .send(id, .goodbye), .close(id)])
        search.linkDown(id)
        _ = search.linkUp(id, near, now: now)
        #expect(search.tick(now.advanced(by: .seconds(9))).contains(.close(id)))
    }
}
