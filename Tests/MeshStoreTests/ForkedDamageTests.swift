// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import MeshTrust
import Testing

private let prices = Scope("prices@site/s1")!

/// What is not held any more of one of two commits in one place.
@Suite struct `A commit in the place of one that is gone` {
    private let mesh: TestMesh
    private let centre: Store

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(["prices": .prices])
    }

    private func filled(_ identity: DataDirectory.Identity) async throws -> Store {
        let store = try mesh.store(identity)
        #expect(try await store.reconcile(with: centre) != nil)
        return store
    }

    @Test(arguments: [1, 2])
    func `takes no write from this server where its own has rotted`(place: UInt64) async throws {
        let identity = mesh.identity("till")
        var till = try await filled(identity)
        try await till.put(prices, "a", "only here")
        try await till.put(prices, "b", "only here")
        let memory = till.memory
        till.close()
        try mesh.rot(
            identity,
            "DELETE FROM batch WHERE first = \(place) AND scope = (SELECT id FROM scope WHERE name = 'prices@site/s1')"
        )
        till = try mesh.store(identity, memory: memory)
        let copy = PeerWriter(identity, life: memory.life.value)
        // Which of the two stands is decided by their hashes.
        for draw in 0..<4 {
            let record = try copy.record("x", "from a copy \(draw)")
            _ = try await till.take(
                copy.fill([copy.commit(prices, [record], first: place)]))
        }
        for key in ["a", "b"] { #expect(try till.values(prices, key) == ["only here"]) }
        try till.scrubAll()
        #expect(try await till.reconcile(with: centre) != nil)
        for key in ["a", "b"] { #expect(try centre.values(prices, key) == ["only here"]) }
    }

    @Test func `stands where the end of a log outdid it, and its records were let go`()
        async throws
    {
        let (liar, reader) = (
            PeerWriter(mesh.identity("liar")), PeerWriter(mesh.identity("reader"))
        )
        let identities = [mesh.identity("one"), mesh.identity("other")]
        var stores: [Store] = []
        for identity in identities { stores.append(try await filled(identity)) }
        let start = liar.commit(prices, try (1...6).map { try liar.record("s/\($0)") })
        let end = liar.commit(prices, [try liar.record("k"), try liar.record("l")], first: 8)
        var middle = liar.commit(prices, [try liar.record("m"), try liar.record("n")], first: 7)
        var draw = 0
        let meshID = mesh.root.meshID
        while end.header.id(in: meshID) < middle.header.id(in: meshID) {
            draw += 1
            middle = liar.commit(
                prices, [try liar.record("m", "\(draw)"), try liar.record("n")], first: 7)
        }
        for store in stores {
            for one in [liar, reader] { try store.keep(one.identity.certificate) }
            _ = try await store.take(liar.run([start]))
        }
        _ = try await stores[0].take(liar.run([end], after: 6))
        let newer = try ["k", "l"].map { try reader.record($0, "newer", seen: [liar.dot(9)]) }
        _ = try await stores[0].take(reader.message(prices, newer))
        _ = try await stores[1].take(liar.run([middle], after: 6))
        // Room was needed: what was superseded went.
        stores[0].close()
        try mesh.rot(identities[0], "DELETE FROM batch WHERE first = 8")
        try mesh.rot(identities[0], "DELETE FROM record WHERE sequence IN (8, 9)")
        stores[0] = try mesh.store(identities[0])
        #expect(try await stores[0].reconcile(with: stores[1]) != nil)
        #expect(try stores[0].root(of: prices) == stores[1].root(of: prices))
        #expect(try stores[0].values(prices, "n") == ["v"])
        #expect(try stores[1].values(prices, "k") == ["newer"])
    }
}
