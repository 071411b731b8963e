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
private let orders = Scope("orders@site/s1")!
private let all: [String: NamespacePolicy] = ["menu": .menu, "orders": .orders, "prices": .prices]

/// What every store under the port must do, whatever database it is: another one is added here.
enum StoreKind: String, CaseIterable, Sendable {
    case sqlite, sealed, dictionary

    func open(_ mesh: TestMesh, _ identity: DataDirectory.Identity) throws -> Store {
        switch self {
        case .sqlite: try mesh.store(identity)
        case .sealed: try mesh.store(identity, seal: TestMesh.seal)
        case .dictionary: try mesh.dictionaryStore(identity)
        }
    }
}

@Suite(.serialized) struct `Every store of records` {
    private func scene(_ kind: StoreKind) async throws -> (TestMesh, Store, Store) {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let store = try kind.open(mesh, mesh.identity("s"))
        #expect(try await store.reconcile(with: centre) != nil)
        return (mesh, centre, store)
    }

    @Test(arguments: StoreKind.allCases)
    func `shows what was written, replaced and deleted`(kind: StoreKind) async throws {
        let (_, _, store) = try await scene(kind)
        let first = try await store.put(prices, "a", "1")
        #expect(first.isNew)
        let second = try await store.put(prices, "a", "2")
        #expect(!second.isNew && second.etag != first.etag)
        try await store.put(prices, "b", "3")
        try await store.delete(prices, "b")
        #expect(try store.values(prices, "a") == ["2"])
        #expect(try store.text(prices, "b") == nil)
        let page = try store.list(prices, prefix: [], after: nil, limit: 10)
        #expect(page.map(\.key.description) == ["a"])
        #expect(try store.liveCount(in: prices) == 2)
    }

    @Test(arguments: StoreKind.allCases)
    func `takes what a peer sends once, and gives it on`(kind: StoreKind) async throws {
        let (mesh, centre, store) = try await scene(kind)
        let writer = PeerWriter(mesh.identity("w"))
        try store.keep(writer.identity.certificate)
        let message = writer.message(prices, [try writer.record("a"), try writer.record("b")])
        #expect(try await store.take(message).stored == 2)
        #expect(try await store.take(message).isDuplicate)
        #expect(try await centre.reconcile(with: store) != nil)
        #expect(try centre.root(of: prices) == store.root(of: prices))
    }

    @Test(arguments: StoreKind.allCases)
    func `tells a follower of every change, in order, and of what went`(kind: StoreKind)
        async throws
    {
        let (mesh, _, store) = try await scene(kind)
        let begin = store.lastPosition
        try await store.put(prices, "a", "1")
        let writer = PeerWriter(mesh.identity("w"))
        try store.keep(writer.identity.certificate)
        _ = try await store.take(writer.message(prices, [try writer.record("x", "thief's")]))
        let (changes, reached) = try store.changes(after: begin, limit: 10)
        #expect(changes.map(\.key.description) == ["a", "x"])
        let document = Revocation(
            of: writer.author.node, created: 1, reason: "", cuts: [], key: mesh.revoke,
            mesh: mesh.root.meshID)
        _ = try await withCheckedThrowingContinuation { continuation in
            store.revoke(document) { continuation.resume(with: $0) }
        }
        let (more, end) = try store.changes(after: reached, limit: 10)
        #expect(more.contains { $0.key.description == "x" && $0.version == nil })
        for position in [begin, changes[0].position, end] {
            #expect(try store.resume(position, of: store.epoch) == position)
        }
        // What stood there is gone, as in a history that was lost: the follower lists anew.
        #expect(try store.resume(reached, of: store.epoch) == nil)
        #expect(try store.resume(FeedPosition(1 << 60), of: store.epoch) == nil)
        #expect(try store.resume(reached, of: [1, 2, 3]) == nil)
    }

    @Test(arguments: StoreKind.allCases)
    func `gives a writer's right to whoever asked last`(kind: StoreKind) async throws {
        let mesh = try TestMesh()
        let identity = mesh.identity("s")
        let records: any RecordStore
        switch kind {
        case .dictionary: records = DictionaryRecords(root: mesh.root)
        case .sqlite, .sealed:
            records = try SQLiteRecords(
                path: mesh.path(identity),
                trust: TrustDirectory(root: mesh.root, own: identity.certificate),
                seal: kind == .sealed ? TestMesh.seal : nil)
        }
        func open() throws -> Store {
            try Store(
                records: records, notes: Notes(path: mesh.path(identity) + "-notes"),
                identity: identity, lock: nil, wallMilliseconds: { 1 })
        }
        let first = try open()
        let second = try open()
        #expect(first.author != second.author)
        let policy = try mesh.define("menu", .menu)
        let request = WriteRequest(scope: NamespacePolicy.scope, writes: [policy])
        await #expect(throws: StoreError.leaseLost) { _ = try await first.write(request) }
        // What waits after an error is refused, whatever the store says now.
        await #expect(throws: StoreError.closed) { _ = try await first.write(request) }
        await #expect(throws: StoreError.notGranted(NamespacePolicy.scope)) {
            _ = try await second.write(request)
        }
    }

    /// Two stores that are told the same do the same, whatever lies under them.
    @Test(arguments: 0..<12)
    func `holds what the other kind holds after any history`(seed: UInt64) async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let stores = [
            try mesh.store(
                mesh.identity("one"), seal: seed.isMultiple(of: 2) ? TestMesh.seal : nil),
            try mesh.dictionaryStore(mesh.identity("two")),
        ]
        let thief = try mesh.store(mesh.identity("thief"))
        for store in stores + [thief] { #expect(try await store.reconcile(with: centre) != nil) }
        var random = SeededGenerator(seed: seed)
        for step in 0..<40 {
            let all = stores + [thief]
            let writer = all[Int(random.next() % 3)]
            let key = "k\(random.next() % 4)"
            switch random.next() % 6 {
            case 0: try await writer.delete(prices, key)
            case 1: try await writer.put(orders, "o\(step)", "x")
            default: try await writer.put(prices, key, "\(step)")
            }
            let other = all[Int(random.next() % 3)]
            if other !== writer { _ = try await writer.reconcile(with: other) }
        }
        let node = thief.identity.certificate.node
        let document = Revocation(
            of: node, created: 1, reason: "",
            cuts: try stores[1].logs(of: node, before: nil).map(\.cut).filter { $0.through > 3 }
                .map { .init(scope: $0.scope, life: $0.life, through: $0.through / 2) },
            key: mesh.revoke, mesh: mesh.root.meshID)
        _ = try await withCheckedThrowingContinuation { continuation in
            stores[Int(seed % 2)].revoke(document) { continuation.resume(with: $0) }
        }
        #expect(try await stores[0].reconcile(with: stores[1]) != nil)
        for scope in [prices, orders, Revocation.scope] {
            #expect(try stores[0].root(of: scope) == stores[1].root(of: scope))
            #expect(try stores[0].liveCount(in: scope) == stores[1].liveCount(in: scope))
        }
        for key in ["k0", "k1", "k2", "k3"] {
            #expect(try stores[0].values(prices, key) == stores[1].values(prices, key))
        }
    }
}

@Suite struct `What is kept of superseded records` {
    @Test func `is not proven anew for each overwrite, but where it goes`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let records = DictionaryRecords(root: mesh.root)
        let store = try mesh.dictionaryStore(mesh.identity("s"), records)
        #expect(try await store.reconcile(with: centre) != nil)
        let (importer, editor) = (
            PeerWriter(mesh.identity("importer")), PeerWriter(mesh.identity("editor"))
        )
        for one in [importer, editor] { try store.keep(one.identity.certificate) }
        let bulk = try (1...1000).map { try importer.record("k\($0)") }
        #expect(try await store.take(importer.message(prices, bulk)).stored == 1000)
        let before = records.commitsWritten
        var previous: Digest?
        for number in 1...100 as ClosedRange<UInt64> {
            let record = try editor.record("k\(number)", "new", seen: [importer.dot(number)])
            let message = editor.message(
                prices, [record], first: number, previous: previous)
            previous = message.commits[0].header.id(in: mesh.root.meshID)
            #expect(try await store.take(message).stored == 1)
        }
        // One row each for the new commits; the one of the import, with its proof, stays.
        #expect(records.commitsWritten == before + 100)
    }
}
