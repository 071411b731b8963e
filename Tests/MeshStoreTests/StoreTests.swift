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

@Suite struct `A store` {
    @Test func `keeps what it acknowledged over a stop and a crash`() async throws {
        let mesh = try TestMesh()
        let identity = mesh.identity("centre", central: true)
        for round in 0..<3 {
            let store = try mesh.store(identity)
            if round == 0 {
                _ = try await store.write(
                    WriteRequest(
                        scope: NamespacePolicy.scope,
                        writes: [try mesh.define("menu", .menu)]))
            }
            try await store.put(menu, "soup/\(round)", "hot")
            // Every second round ends without a word, as a killed process does.
            if round != 1 { store.close() }
        }
        let store = try mesh.store(identity)
        for round in 0..<3 { #expect(try store.text(menu, "soup/\(round)") == "hot") }
    }

    @Test func `begins a new life with each process, however the last one ended`() throws {
        let mesh = try TestMesh()
        let identity = mesh.identity("n")
        let first = try mesh.store(identity)
        first.close()
        let second = try mesh.store(identity)
        #expect(second.author.life != first.author.life)
        #expect(second.epoch != first.epoch)
        #expect(second.incarnation > first.incarnation)
        // Not closed.
        let third = try mesh.store(identity)
        #expect(third.author.life != second.author.life)
        #expect(third.incarnation > second.incarnation)
    }

    @Test func `keeps beside its records where nodes were met and how they left`() throws {
        let mesh = try TestMesh()
        let identity = mesh.identity("centre", site: "hq", central: true)
        let store = try mesh.store(identity)
        let node = identity.certificate.node
        try store.remember(node, at: "10.0.0.1:7374")
        try store.depart(node, words: [1])
        store.close()
        let again = try mesh.store(identity)
        #expect(try again.addresses() == [node: "10.0.0.1:7374"])
        #expect(try again.departures() == [node: [1]])
        try again.depart(node, words: nil)
        #expect(try again.departures().isEmpty)
    }

    @Test func `refuses files from before the first release, and says what to do`() throws {
        let mesh = try TestMesh()
        let identity = mesh.identity("n")
        try mesh.store(identity).close()
        try mesh.rot(identity, "PRAGMA user_version = 6")
        #expect(throws: StoreError.olderSchema(found: 6, known: 9)) { try mesh.store(identity) }
    }

    @Test func `refuses a newer schema and writes nothing`() throws {
        let mesh = try TestMesh()
        let identity = mesh.identity("n")
        try mesh.store(identity).close()
        let path = mesh.path(identity)
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        shell.arguments = [
            "-c",
            "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('PRAGMA user_version=10'); d.commit()",
            path,
        ]
        try Launch.lock.withLock { try shell.run() }
        shell.waitUntilExit()
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        #expect(throws: StoreError.newerSchema(found: 10, known: 9)) { try mesh.store(identity) }
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
    }

    @Test func `refuses another node's database`() throws {
        let mesh = try TestMesh()
        let one = mesh.identity("n")
        try mesh.store(one).close()
        let other = mesh.identity("n")
        #expect(throws: StoreError.otherNode) { try mesh.store(other) }
    }

    @Test func `signs many writes that wait together once`() async throws {
        let mesh = try TestMesh()
        let store = try await mesh.centre(all)
        let before = store.statistics.counts.signatures
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<200 { group.addTask { try await store.put(menu, "k/\(index)", "v") } }
            try await group.waitForAll()
        }
        let signatures = store.statistics.counts.signatures - before
        #expect(signatures < 100)
        #expect(try store.liveCount(in: menu) == 200)
    }

    @Test func `takes a batch whole or not at all`() async throws {
        let mesh = try TestMesh()
        let store = try await mesh.centre(all)
        try await store.put(menu, "a", "1")
        let writes = [
            Write(.put, try RecordKey("b"), body: [1]),
            Write(.put, try RecordKey("a"), body: [2], condition: .holdsNone),
        ]
        await #expect(throws: StoreError.self) {
            try await store.write(WriteRequest(scope: menu, writes: writes))
        }
        #expect(try store.text(menu, "b") == nil)
        #expect(try store.text(menu, "a") == "1")
    }

    @Test func `writes once under one idempotency key and refuses it for another request`()
        async throws
    {
        let mesh = try TestMesh()
        let store = try await mesh.centre(all)
        func request(_ text: String) throws -> WriteRequest {
            WriteRequest(
                scope: menu, writes: [Write(.put, try RecordKey("a"), body: Array(text.utf8))],
                idempotency: ("till-1", Blake2b.hash(Array(text.utf8))))
        }
        let first = try await store.write(try request("x"))
        let again = try await store.write(try request("x"))
        #expect(first == again)
        #expect(try store.liveCount(in: menu) == 1)
        await #expect(throws: StoreError.idempotencyMismatch) {
            try await store.write(request("y"))
        }
    }

    @Test func `writes conditionally on the state that the writer saw`() async throws {
        let mesh = try TestMesh()
        let store = try await mesh.centre(all)
        let first = try await store.put(menu, "a", "1")
        let stale = Write(.put, try RecordKey("a"), body: [2], condition: .matches(["0000"]))
        await #expect(throws: StoreError.preconditionFailed(current: first.etag)) {
            try await store.write(WriteRequest(scope: menu, writes: [stale]))
        }
        let good = Write(
            .put, try RecordKey("a"), body: Array("2".utf8), condition: .matches([first.etag]))
        _ = try await store.write(WriteRequest(scope: menu, writes: [good]))
        #expect(try store.text(menu, "a") == "2")
    }

    @Test func `refuses what its node may not write, and namespaces nobody made`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let site = try mesh.store(mesh.identity("till"))
        #expect(try await site.reconcile(with: centre) != nil)
        await #expect(throws: StoreError.notGranted(menu)) { try await site.put(menu, "a", "1") }
        await #expect(throws: StoreError.unknownNamespace("nothing")) {
            try await site.put(Scope("nothing@all")!, "a", "1")
        }
        try await site.put(orders, "o/1", "coffee")
        await #expect(throws: StoreError.exists(try RecordKey("o/1"))) {
            try await site.put(orders, "o/1", "tea")
        }
    }

    @Test func `refuses a body or a batch beyond its limit`() async throws {
        let mesh = try TestMesh()
        let store = try await mesh.centre(all)
        let big = Write(.put, try RecordKey("a"), body: [UInt8](repeating: 0, count: 65_537))
        await #expect(throws: StoreError.self) {
            try await store.write(WriteRequest(scope: menu, writes: [big]))
        }
        let many = try (0..<1001).map { Write(.put, try RecordKey("k\($0)")) }
        await #expect(throws: StoreError.self) {
            try await store.write(WriteRequest(scope: menu, writes: many))
        }
        let heavy = try (0..<20).map {
            Write(.put, try RecordKey("k\($0)"), body: [UInt8](repeating: 0, count: 60_000))
        }
        await #expect(throws: StoreError.self) {
            try await store.write(WriteRequest(scope: menu, writes: heavy))
        }
    }

    @Test func `lists keys in order, page by page, without what was deleted`() async throws {
        let mesh = try TestMesh()
        let store = try await mesh.centre(all)
        for index in 0..<30 { try await store.put(menu, String(format: "d/%02d", index), "v") }
        try await store.put(menu, "e", "v")
        _ = try await store.write(
            WriteRequest(scope: menu, writes: [Write(.delete, try RecordKey("d/03"))]))
        var after: RecordKey?
        var keys: [String] = []
        while true {
            let page = try store.list(menu, prefix: Array("d/".utf8), after: after, limit: 7)
            keys += page.map(\.key.description)
            guard let last = page.last else { break }
            after = last.key
        }
        #expect(keys.count == 29)
        #expect(keys == keys.sorted())
        #expect(!keys.contains("d/03"))
    }

    @Test func `gives changes from a position on, each key's newest only`() async throws {
        let mesh = try TestMesh()
        let store = try await mesh.centre(all)
        try await store.put(menu, "a", "1")
        let position = store.lastPosition
        try await store.put(menu, "b", "2")
        try await store.put(menu, "b", "3")
        let (changes, reached) = try store.changes(after: position, limit: 10)
        #expect(
            changes.map { String(decoding: $0.version?.record.body ?? [], as: UTF8.self) } == ["3"])
        #expect(try store.changes(after: reached, limit: 10).changes.isEmpty)
    }
}
