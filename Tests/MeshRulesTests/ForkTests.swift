// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import MeshTrust
import Testing

private let prices = Scope("prices@site/s1")!
private let all: [String: NamespacePolicy] = ["prices": .prices]

@Suite struct `A log that was written twice` {
    private let mesh: TestMesh
    private let centre: Store

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(all)
    }

    private func store(_ name: String) async throws -> Store {
        let store = try mesh.store(mesh.identity(name))
        #expect(try await store.reconcile(with: centre) != nil)
        return store
    }

    /// One history: commits of so many records each, chained.
    private func history(
        _ writer: PeerWriter, _ name: String, _ sizes: [Int]
    ) throws -> [Commit] {
        var commits: [Commit] = []
        var first: UInt64 = 1
        for size in sizes {
            let records = try (0..<size).map { offset in
                try writer.record("k/\((first + UInt64(offset)) % 4)", "\(name) \(first)")
            }
            let previous = commits.last?.header.id(in: mesh.root.meshID)
            commits.append(writer.commit(prices, records, first: first, previous: previous))
            first += UInt64(size)
        }
        return commits
    }

    @Test(arguments: 0..<8)
    func `is the same on servers that heard of it in different orders`(run: Int) async throws {
        let liar = PeerWriter(mesh.identity("liar"), life: UInt64(run) + 1)
        let histories = [
            try history(liar, "one", [2, 3, 1, 4]), try history(liar, "other", [1, 4, 2, 3]),
            try history(liar, "third", [5, 5]),
        ]
        var generator = SeededGenerator(seed: UInt64(run))
        let stores = [try await store("a"), try await store("b"), try await store("c")]
        for (place, store) in stores.enumerated() {
            try store.keep(liar.identity.certificate)
            // Each heard another history first, and some of the others in any order.
            #expect(try await store.take(liar.run(histories[place])).hasAdvanced)
            let others = histories.flatMap(\.self).filter { _ in generator.next() % 2 == 0 }
                .map { ($0, generator.next()) }.sorted { $0.1 < $1.1 }
            for (commit, _) in others { _ = try await store.take(liar.fill([commit])) }
        }
        for _ in 0..<4 {
            _ = try await stores[0].reconcile(with: stores[1])
            _ = try await stores[1].reconcile(with: stores[2])
        }
        #expect(try await stores[0].reconcile(with: stores[2]) != nil)
        #expect(try stores[0].root(of: prices) == stores[1].root(of: prices))
        #expect(try stores[0].root(of: prices) == stores[2].root(of: prices))
        #expect(try stores[0].root(of: prices) != centre.root(of: prices))
    }

    /// Of three commits the second overlaps both others, loses to one and outdoes the other. Nothing
    /// of the one that it loses to lives, so no digest shows that.
    @Test func `is the same where what outdid a commit has been superseded`() async throws {
        let liar = PeerWriter(mesh.identity("liar"))
        var (long, short): (Commit, [Commit]) = try twoWays(liar, 0)
        var draw = 1
        func id(_ commit: Commit) -> Digest { commit.header.id(in: mesh.root.meshID) }
        while !(id(short[1]) < id(long) && id(long) < id(short[0]) && id(long) < id(short[2])) {
            (long, short) = try twoWays(liar, draw)
            draw += 1
        }
        let stores = [try await store("a"), try await store("b")]
        for store in stores { try store.keep(liar.identity.certificate) }
        #expect(try await stores[0].take(liar.run(short)).hasAdvanced)
        try await stores[0].put(prices, "k/4", "newer")
        #expect(try await stores[1].take(liar.run([long])).hasAdvanced)
        for place in 0..<5 { try await stores[1].put(prices, "l/\(place)", "newer") }
        // The first store has heard of the fork before, and its answer was lost with a link.
        let header = Commit(
            header: long.header, signature: long.signature,
            proof: CommitProof(noneOf: long.header), records: [])
        #expect(try await stores[0].take(liar.fill([header])).isFork)
        #expect(try await stores[0].reconcile(with: stores[1]) != nil)
        for store in stores {
            #expect(Set(try store.values(prices, "k/1")) == ["short \(draw - 1)"])
        }
    }

    private func twoWays(_ liar: PeerWriter, _ draw: Int) throws -> (Commit, [Commit]) {
        let long = liar.commit(
            prices, try (0..<5).map { try liar.record("l/\($0)", "long \(draw)") })
        var short: [Commit] = []
        for keys in [["k/1", "k/2", "k/3"], ["k/4"], ["k/4"]] {
            let first = short.last.map { $0.header.last + 1 } ?? 1
            let records = try keys.map { try liar.record($0, "short \(draw)") }
            let previous = short.last?.header.id(in: mesh.root.meshID)
            short.append(liar.commit(prices, records, first: first, previous: previous))
        }
        return (long, short)
    }

    /// Which of two commits in one place lives is decided by their hashes: each run draws anew.
    @Test(arguments: 0..<6)
    func `is written again by its author record by record, and once`(run: Int) async throws {
        let identity = mesh.identity("till")
        var till = try mesh.store(identity)
        #expect(try await till.reconcile(with: centre) != nil)
        try await till.put(prices, "stand", "1")
        #expect(try await till.reconcile(with: centre) != nil)
        let memory = till.memory
        till.close()
        let path = mesh.path(identity)
        try FileManager.default.copyItem(atPath: path, toPath: path + ".kept")
        till = try mesh.store(identity, memory: memory)
        let position = till.lastPosition
        // One commit, of which others know only a part as alive.
        let batch = try ["x", "y", "z"].map { Write(.put, try RecordKey($0), body: [7]) }
        _ = try await till.write(WriteRequest(scope: prices, writes: batch))
        #expect(try await till.reconcile(with: centre) != nil)
        try await centre.put(prices, "x", "replaced at the centre")
        let cursor = till.lastPosition
        till.close()
        for suffix in ["", "-wal", "-shm"] {
            try? FileManager.default.removeItem(atPath: path + suffix)
        }
        try FileManager.default.moveItem(atPath: path + ".kept", toPath: path)
        till = try mesh.store(identity, memory: memory)
        try await till.put(prices, "a", "second history")
        try await till.put(prices, "b", "second history")
        for _ in 0..<3 { _ = try await till.reconcile(with: centre) }
        #expect(try await till.reconcile(with: centre) != nil)
        for store in [till, centre] {
            #expect(try store.values(prices, "x") == ["replaced at the centre"])
            for key in ["y", "z"] { #expect(Set(try store.values(prices, key)) == ["\u{7}"]) }
            for key in ["a", "b"] {
                #expect(Set(try store.values(prices, key)) == ["second history"])
            }
        }
        // Whoever followed the first history is told to begin anew.
        #expect(position < cursor)
        #expect(till.epoch != memory.epoch)
        #expect(try till.resume(cursor, of: memory.epoch) == nil)
    }
}
