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
private let all: [String: NamespacePolicy] = ["prices": .prices, "menu": .menu]

/// Disks that were put back, copied or reverted: what was acknowledged is shown, what was deleted
/// stays so.
@Suite struct `A disk that was put back` {
    private let mesh: TestMesh
    private let centre: Store
    private let identity: DataDirectory.Identity

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(all)
        identity = mesh.identity("till")
    }

    private func open(memory: StoredStart? = nil) async throws -> Store {
        let store = try mesh.store(identity, memory: memory)
        if try store.policy(of: "prices") == nil {
            #expect(try await store.reconcile(with: centre) != nil)
        }
        return store
    }

    private func keep(_ name: String) throws {
        try FileManager.default.copyItem(
            atPath: mesh.path(identity), toPath: mesh.path(identity) + name)
    }

    private func putBack(_ name: String) throws {
        for suffix in ["", "-wal", "-shm"] {
            try? FileManager.default.removeItem(atPath: mesh.path(identity) + suffix)
        }
        try FileManager.default.copyItem(
            atPath: mesh.path(identity) + name, toPath: mesh.path(identity))
    }

    @Test func `never replaces what it had not seen: both versions are shown`() async throws {
        var till = try await open()
        till.close()
        try keep(".kept")
        till = try await open()
        try await till.put(prices, "tea", "old, and known to the centre")
        #expect(try await till.reconcile(with: centre) != nil)
        till.close()
        try putBack(".kept")
        till = try await open()
        try await till.put(prices, "tea", "new")
        #expect(try await till.reconcile(with: centre) != nil)
        for store in [till, centre] {
            #expect(
                Set(try store.values(prices, "tea")) == ["new", "old, and known to the centre"])
        }
        // A write that has seen both settles it.
        try await till.put(prices, "tea", "settled")
        #expect(try await till.reconcile(with: centre) != nil)
        #expect(try centre.values(prices, "tea") == ["settled"])
    }

    @Test func `does not bring back what its lost tail had deleted`() async throws {
        let other = try mesh.store(mesh.identity("other"))
        var till = try await open()
        till.close()
        try keep(".kept")
        till = try await open()
        #expect(try await other.reconcile(with: centre) != nil)
        try await other.put(prices, "secret", "deleted value")
        #expect(try await till.reconcile(with: other) != nil)
        try await till.delete(prices, "secret")
        #expect(try await till.reconcile(with: centre) != nil)
        till.close()
        try putBack(".kept")
        till = try await open()
        try await till.put(prices, "secret", "v2")
        #expect(try await till.reconcile(with: centre) != nil)
        try await centre.delete(prices, "secret")
        #expect(try await till.reconcile(with: centre) != nil)
        #expect(try await other.reconcile(with: till) != nil)
        for store in [till, centre, other] {
            #expect(try store.values(prices, "secret") == [])
        }
    }

    @Test func `writes in another life after each start, and says what it knew`() async throws {
        var till = try await open()
        try await till.put(prices, "a", "1")
        let first = till.author.life
        till.close()
        till = try await open()
        #expect(till.author.life != first)
        try await till.put(prices, "a", "2")
        let log = LogName(scope: prices, author: till.author)
        let begins = try till.everything(of: prices).first { $0.log == log }?.commits.first
        #expect(begins?.header.first == 1)
        #expect(begins?.header.inherits == [Inheritance(life: first, through: 1)])
        #expect(try till.values(prices, "a") == ["2"])
    }

    /// Which of two commits in one place lives is decided by their hashes: each run draws anew.
    @Test(arguments: 0..<8)
    func `with a machine's memory, so that two things stand in one place, loses neither`(run: Int)
        async throws
    {
        var till = try await open()
        try await till.put(prices, "stand", "1")
        #expect(try await till.reconcile(with: centre) != nil)
        let memory = till.memory
        till.close()
        try keep(".kept")
        // It runs, writes and is told that this is kept; then all of the machine is put back.
        till = try await open(memory: memory)
        try await till.put(prices, "stand", "first")
        try await till.put(prices, "a", "first")
        #expect(try await till.reconcile(with: centre) != nil)
        till.close()
        try putBack(".kept")
        till = try await open(memory: memory)
        try await till.put(prices, "b", "second")
        try await till.put(prices, "stand", "second")
        for _ in 0..<3 { _ = try await till.reconcile(with: centre) }
        #expect(try await till.reconcile(with: centre) != nil)
        for store in [till, centre] {
            #expect(Set(try store.values(prices, "a")) == ["first"])
            #expect(Set(try store.values(prices, "b")) == ["second"])
            #expect(Set(try store.values(prices, "stand")).isSuperset(of: ["first", "second"]))
        }
    }

    @Test func `of which a copy runs too loses nothing of either`() async throws {
        var till = try await open()
        try await till.put(prices, "stand", "1")
        #expect(try await till.reconcile(with: centre) != nil)
        till.close()
        let path = mesh.path(identity)
        try FileManager.default.copyItem(atPath: path, toPath: path + ".copy")
        till = try await open()
        let copy = try Store(
            path: path + ".copy", identity: identity, lock: nil,
            wallMilliseconds: { 1_700_000_000_000 })
        for round in 0..<5 {
            try await till.put(prices, "x", "till \(round)")
            try await copy.put(prices, "x", "copy \(round)")
            if round % 2 == 0 { _ = try await till.reconcile(with: centre) }
        }
        for _ in 0..<3 {
            _ = try await till.reconcile(with: centre)
            _ = try await copy.reconcile(with: centre)
        }
        for store in [till, copy, centre] {
            #expect(Set(try store.values(prices, "x")) == ["till 4", "copy 4"])
        }
        #expect(till.author != copy.author)
    }
}
