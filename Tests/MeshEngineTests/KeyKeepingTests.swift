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

    private func keeper(_ effects: [Effect]) -> [Address?] {
        effects.compactMap { if case .keeper(let at) = $0 { .some(at) } else { nil } }
    }

    @Test func `has neighbours and the centre keep its key, and nobody else`() {
        var bench = Bench(own)
        _ = bench.give(.sealed(under: StorageSeal(key)))
        let kept = LinkMessage.deposited(name).encoded
        for (peer, isCentre) in [(near, false), (centre, true)] {
            let (id, effects) = bench.link(peer, dialled: true)
            #expect(effects.sent.map(\.message).contains(.deposit(key)))
            #expect(keeper(bench.give(.message(id, kept))) == ["h:7374"])
            #expect(keeper(bench.give(.message(id, kept))) == [])
            #expect(bench.engine.keepers?.isWithCentre == isCentre)
        }
        let (id, effects) = bench.link(far, dialled: true)
        #expect(!effects.sent.map(\.message).contains(.deposit(key)))
        // A lie about another key counts for nothing.
        _ = bench.give(.message(id, LinkMessage.deposited(TestMesh.bytes(1, 1)).encoded))
        #expect(bench.engine.keepers?.count == 2)
        #expect(bench.engine.counters[.depositUnasked] == 1)
        // A keeper that has moved is noted anew.
        let (again, _) = bench.link(near, dialled: true, host: "g")
        #expect(keeper(bench.give(.message(again, kept))) == ["g:7374"])
    }

    @Test func `offers it also over links that stood before it was known to be sealed`() {
        var bench = Bench(own)
        let (id, effects) = bench.link(near, dialled: true)
        #expect(!effects.sent.contains { if case .deposit = $0.message { true } else { false } })
        #expect(bench.engine.keepers == nil)
        let later = bench.give(.sealed(under: StorageSeal(key)))
        #expect(later.sent.map(\.id) == [id])
        #expect(later.sent.map(\.message) == [.deposit(key)])
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

    /// A locked server asks on a link of its own, and the key is on disk.
    private func ask(
        _ bench: inout Bench, _ card: Certificate, _ host: String, key kept: Bytes32? = key
    ) -> [LinkMessage] {
        let (id, _) = bench.link(card, dialled: false, host: host)
        let effects = bench.give(.message(id, LinkMessage.wantKey(name).encoded))
        let looks = effects.contains {
            if case .findKey(id, card.node, name) = $0 { true } else { false }
        }
        #expect(looks)
        return bench.give(.foundKey(id, kept)).sent.map(\.message)
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
        for _ in 0..<9 { _ = bench.give(.message(id, LinkMessage.wantKey(name).encoded)) }
        #expect(bench.engine.counters[.keyWantedOverLimit] == 9 - UInt64(KeyKeeping.perLinkMax))
    }

    @Test func `that is no neighbour and not of the centre takes none`() {
        var bench = Bench(mesh.identity("till").certificate)
        let (id, _) = bench.link(far, dialled: false)
        #expect(bench.give(.message(id, LinkMessage.deposit(key).encoded)).isEmpty)
        #expect(bench.engine.counters[.depositRefused] == 1)
    }

    @Test func `hands a key to a neighbour in its own network at once, and not through a tunnel`() {
        var bench = Bench(own)
        #expect(ask(&bench, near, "h") == [.key(key)])
        #expect(ask(&bench, near, "h", key: nil) == [.noKey(.notKept)])
        #expect(bench.engine.lockedServers(bench.now).isEmpty)
        #expect(ask(&bench, near, "vpn") == [.noKey(.operatorsWord)])
        #expect(ask(&bench, far, "h") == [.noKey(.operatorsWord)])
        #expect(bench.engine.lockedServers(bench.now).count == 2)
    }

    @Test
    func `hands one to another site once, to the host that an operator named, within its time`() {
        var bench = Bench(own)
        #expect(ask(&bench, far, "shop") == [.noKey(.operatorsWord)])
        #expect(ask(&bench, far, "thief") == [.noKey(.operatorsWord)])
        #expect(bench.engine.lockedServers(bench.now).map(\.host) == ["shop", "thief"])
        _ = bench.give(.unlock(far.node, host: "shop"))
        #expect(ask(&bench, far, "thief") == [.noKey(.operatorsWord)])
        #expect(ask(&bench, near, "shop") == [.noKey(.operatorsWord)])
        #expect(ask(&bench, far, "shop") == [.key(key)])
        #expect(bench.engine.lockedServers(bench.now).map(\.certificate) == [near])
        #expect(ask(&bench, far, "shop") == [.noKey(.operatorsWord)])
        _ = bench.give(.unlock(far.node, host: "shop"))
        bench.now = bench.now.advanced(by: KeyKeeping.patience)
        #expect(ask(&bench, far, "shop") == [.noKey(.operatorsWord)])
    }

    @Test func `shows nobody as locked whose key it has not`() {
        var bench = Bench(own)
        #expect(ask(&bench, far, "shop", key: nil) == [.noKey(.notKept)])
        #expect(bench.engine.lockedServers(bench.now).isEmpty)
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

    private func search(_ want: KeySearch.Want, own card: Certificate? = nil) -> KeySearch {
        KeySearch(want, own: card ?? own, root: mesh.root, addresses: ["a:1", "b:1"], now: now)
    }

    @Test func `dials everybody that may keep it, again and again, and forgets who fell silent`() {
        var search = search(.key(name))
        search.hear(of: "c:1", now: now)
        #expect(search.tick(now) == [.dial("a:1"), .dial("b:1"), .dial("c:1")])
        #expect(search.tick(now.advanced(by: .seconds(1))).isEmpty)
        #expect(search.tick(now.advanced(by: KeySearch.pause)).count == 3)
        for number in 0..<200 as Range<UInt16> {
            let later = now.advanced(by: .seconds(20))
            search.hear(of: Address(host: "d", port: 1000 + number)!, now: later)
        }
        search.hear(of: "e:1", now: now.advanced(by: .seconds(30)))
        let dials = search.tick(now.advanced(by: .seconds(60)))
        #expect(dials.count == 2 + KeySearch.candidatesMax)
        #expect(dials.contains(.dial("a:1")) && dials.contains(.dial("e:1")))
        #expect(!dials.contains(.dial("c:1")))
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
        #expect(search.receive(id, LinkMessage.deposited(name).encoded).first == .found(key))
    }

    @Test func `goes on where a keeper refuses, or says nothing, and tells it once`() {
        var search = search(.key(name))
        let refusal = LinkMessage.noKey(.operatorsWord)
        let end: [KeySearch.Effect] = [.send(id, .goodbye), .close(id)]
        _ = search.linkUp(id, near, now: now)
        let told = search.receive(id, refusal.encoded)
        #expect(told == [.note(.refused(.operatorsWord, by: "s1/near"))] + end)
        search.linkDown(id)
        _ = search.linkUp(id, near, now: now)
        #expect(search.receive(id, refusal.encoded) == end)
        #expect(search.tick(now.advanced(by: .seconds(9))).contains(.close(id)))
    }

    private func revocation(of card: Certificate) -> [UInt8] {
        let document = Revocation(
            of: card.node, created: 1, reason: "stolen", cuts: [], key: mesh.revoke,
            mesh: mesh.root.meshID)
        return LinkMessage.revocation(document.encoded).encoded
    }

    @Test func `believes no revoked peer, and says that the server itself was revoked`() {
        var search = search(.keeper(of: key))
        let thief = mesh.identity("thief").certificate
        _ = search.linkUp(LinkID(2), thief, now: now)
        _ = search.linkUp(id, near, now: now)
        #expect(search.receive(id, LinkMessage.revocation([1]).encoded).isEmpty)
        #expect(search.receive(id, revocation(of: thief)) == [.close(LinkID(2))])
        #expect(search.receive(LinkID(2), LinkMessage.deposited(name).encoded).isEmpty)
        #expect(search.linkUp(LinkID(3), thief, now: now) == [.close(LinkID(3))])
        #expect(search.receive(id, revocation(of: own)) == [.note(.revoked(reason: "stolen"))])
    }

    @Test func `of a box that waits to be approved takes its approval first, from anybody`() {
        let box = mesh.identity("box", needsApproval: true).certificate
        let approved = box.approved(by: mesh.enrol, in: mesh.root.meshID)
        let other = mesh.identity("box", needsApproval: true).certificate
            .approved(by: mesh.enrol, in: mesh.root.meshID)
        var search = search(.keeper(of: key), own: box)
        #expect(search.linkUp(id, far, now: now).isEmpty)
        #expect(search.receive(id, LinkMessage.deposited(name).encoded).isEmpty)
        for lie in [other.encoded, box.encoded, [7]] {
            #expect(search.receive(id, LinkMessage.certificate(lie).encoded).isEmpty)
        }
        let effects = search.receive(id, LinkMessage.certificate(approved.encoded).encoded)
        #expect(effects == [.enrol(approved)])
    }
}
