// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import MeshTrust
internal import Synchronization
import Testing

private let menu = Scope("menu@all")!
private let orders = Scope("orders@site/s1")!
private let prices = Scope("prices@site/s1")!
private let all: [String: NamespacePolicy] = ["menu": .menu, "orders": .orders, "prices": .prices]

@Suite struct `Two stores` {
    @Test func `that were apart agree after tails alone, also where they overwrote each other`()
        async throws
    {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let (one, two) = (try mesh.store(mesh.identity("a")), try mesh.store(mesh.identity("b")))
        for store in [one, two] { #expect(try await store.reconcile(with: centre) != nil) }
        for index in 0..<100 { try await one.put(prices, "p/\(index)", "1") }
        #expect(try await one.reconcile(with: two) != nil)
        for index in 0..<50 {
            try await one.put(prices, "p/\(index)", "one")
            try await two.put(prices, "p/\(index + 25)", "two")
        }
        let rounds = try #require(try await one.reconcile(with: two))
        #expect(rounds.rounds <= 2)
        #expect(try one.root(of: prices) == two.root(of: prices))
        // Written on both sides without knowledge of each other: both live, and both show the same one.
        let key = try RecordKey("p/30")
        #expect(try one.get(key, in: prices)?.versions.count == 2)
        #expect(
            try one.get(key, in: prices)?.versions.map(\.dot)
                == two.get(key, in: prices)?.versions.map(\.dot))
        // A write that has seen them resolves them everywhere.
        try await two.put(prices, "p/30", "settled")
        #expect(try await one.reconcile(with: two) != nil)
        #expect(try one.text(prices, "p/30") == "settled")
        #expect(try one.get(key, in: prices)?.versions.count == 1)
    }

    @Test func `in step say so in one round trip of few bytes`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let site = try mesh.store(mesh.identity("a"))
        for index in 0..<20 { try await centre.put(menu, "k\(index)", "v") }
        #expect(try await site.reconcile(with: centre) != nil)
        let again = try #require(try await site.reconcile(with: centre))
        #expect(again.rounds == 1)
        #expect(again.bytes <= 64)
    }

    @Test func `do not bring back what was deleted while one was away`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let site = try mesh.store(mesh.identity("a"))
        try await centre.put(menu, "soup", "hot")
        #expect(try await site.reconcile(with: centre) != nil)
        _ = try await centre.write(
            WriteRequest(scope: menu, writes: [Write(.delete, try RecordKey("soup"))]))
        #expect(try site.text(menu, "soup") == "hot")
        #expect(try await site.reconcile(with: centre) != nil)
        #expect(try site.text(menu, "soup") == nil)
        #expect(try centre.text(menu, "soup") == nil)
        #expect(try site.root(of: menu) == centre.root(of: menu))
    }

    @Test func `fill each other's holes by descent to the leaf`() async throws {
        let mesh = try TestMesh()
        var centre = try await mesh.centre(all)
        let identity = mesh.identity("a")
        var site = try mesh.store(identity)
        let writes = try (0..<900).map { Write(.put, try RecordKey("k/\($0)"), body: [1, 2, 3]) }
        _ = try await centre.write(WriteRequest(scope: menu, writes: writes))
        for index in 0..<700 { try await centre.put(menu, "k/\(index)", "again") }
        #expect(try await site.reconcile(with: centre) != nil)
        let root = try centre.root(of: menu)
        #expect(try site.root(of: menu) == root)
        var generator = SeededGenerator(seed: 4)
        let lost = (0..<60).map { _ in "\(generator.next() % 1600 + 1)" }
        for (store, places) in [(site, lost.prefix(40)), (centre, lost.suffix(20))] {
            store.close()
            try mesh.rot(
                store.identity,
                "UPDATE record SET bytes = x'00' WHERE key LIKE 'k/%' AND sequence IN (\(places.joined(separator: ",")))"
            )
        }
        (site, centre) = (try mesh.store(identity), try mesh.store(centre.identity))
        try site.scrubAll()
        try centre.scrubAll()
        #expect(try site.root(of: menu) != root)
        #expect(try await site.reconcile(with: centre) != nil)
        #expect(try site.root(of: menu) == root)
        #expect(try centre.root(of: menu) == root)
        #expect(try site.liveCount(in: menu) == 900)
    }

    @Test func `compute one digest however the records came in`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        for part in 0..<3 {
            let writes = try (0..<1000).map { Write(.put, try RecordKey("k/\(part)/\($0)")) }
            _ = try await centre.write(WriteRequest(scope: menu, writes: writes))
        }
        let site = try mesh.store(mesh.identity("a"))
        try site.keep(centre.identity.certificate)
        _ = try await site.ingest(try centre.everything(of: NamespacePolicy.scope))
        let run = try #require(try centre.everything(of: menu).first)
        #expect(run.commits.count == 3)
        // The later commits come before the first, each compared at once; then each by itself.
        for index in [2, 1, 0, 2, 1, 2] {
            let commit = run.commits[index]
            let outcome = try await site.ingest([
                CommitsMessage(
                    scope: menu, author: run.author, after: commit.header.first - 1,
                    through: commit.header.last, commits: [commit])
            ])
            #expect(outcome.first?.refusal == nil)
            _ = try site.root(of: menu)
        }
        #expect(try site.root(of: menu) == centre.root(of: menu))
    }

    @Test func `settle a lost superseding record by evidence and never by absence`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let site = try mesh.store(mesh.identity("a"))
        try await centre.put(menu, "k", "old")
        #expect(try await site.reconcile(with: centre) != nil)
        try await centre.put(menu, "k", "new")
        // The site hears the end of the log without the record that superseded its own.
        let message = try #require(try centre.everything(of: menu).last)
        let last = try #require(message.commits.last)
        let hollow = Commit(
            header: last.header, signature: last.signature, proof: CommitProof(noneOf: last.header),
            records: [])
        let outcome = try await site.ingest([
            CommitsMessage(
                scope: menu, author: message.author, after: 1, through: 2, commits: [hollow])
        ])
        #expect(outcome[0].refusal == nil)
        #expect(try site.text(menu, "k") == "old")
        #expect(try await site.reconcile(with: centre) != nil)
        #expect(try site.text(menu, "k") == "new")
        #expect(try centre.text(menu, "k") == "new")
    }

    @Test func `have equal digests after any history and a full rescan`() async throws {
        for seed in 1...6 {
            let mesh = try TestMesh()
            let centre = try await mesh.centre(all)
            let stores = [
                try mesh.store(mesh.identity("a")), try mesh.store(mesh.identity("b")), centre,
            ]
            for store in stores.dropLast() {
                #expect(try await store.reconcile(with: centre) != nil)
            }
            var generator = SeededGenerator(seed: UInt64(seed))
            for _ in 0..<60 {
                let store = stores[Int(generator.next() % 2)]
                switch generator.next() % 5 {
                case 0:
                    #expect(
                        try await store.reconcile(with: stores[Int(generator.next() % 3)]) != nil)
                case 1:
                    let write = Write(.delete, try RecordKey("k\(generator.next() % 9)"))
                    _ = try await store.write(WriteRequest(scope: prices, writes: [write]))
                default:
                    try await store.put(
                        prices, "k\(generator.next() % 9)", "\(generator.next() % 99)")
                }
            }
            for _ in 0..<2 {
                for store in stores {
                    for other in stores where other !== store {
                        #expect(try await store.reconcile(with: other) != nil)
                    }
                }
            }
            #expect(try Set(stores.map { try $0.root(of: prices) }).count == 1)
            // The stored trees are what a store computes that gets everything anew.
            let fresh = try mesh.store(mesh.identity("c"))
            #expect(try await fresh.reconcile(with: centre) != nil)
            #expect(try fresh.root(of: prices) == centre.root(of: prices))
        }
    }
}
