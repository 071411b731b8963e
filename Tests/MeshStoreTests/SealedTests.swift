// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshReplication
import MeshStore
import MeshTesting
import MeshTrust
import Testing

private let all: [String: NamespacePolicy] = ["menu": .menu, "prices": .prices]
private let menu = Scope("menu@all")!
private let prices = Scope("prices@site/s1")!

@Suite struct `A store whose records are sealed` {
    private let mesh: TestMesh
    private let centre: Store
    private let identity: DataDirectory.Identity

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(all)
        identity = mesh.identity("site")
    }

    private func filled(_ seal: StorageSeal?) async throws -> Store {
        let store = try mesh.store(identity, seal: seal)
        #expect(try await store.reconcile(with: centre) != nil)
        return store
    }

    private func isOnDisk(_ text: String) throws -> Bool {
        let folder = URL(fileURLWithPath: mesh.directory)
        let name = identity.certificate.ticket.node
        let files = try FileManager.default.contentsOfDirectory(atPath: mesh.directory)
        return try files.filter { $0.hasPrefix(name) }.contains { file in
            try Data(contentsOf: folder.appendingPathComponent(file)).range(of: Data(text.utf8))
                != nil
        }
    }

    @Test(arguments: [true, false])
    func `has no body in any file, which one that is not has`(isSealed: Bool) async throws {
        try await centre.put(menu, "soup", "of the centre: tomato")
        let store = try await filled(isSealed ? TestMesh.seal : nil)
        try await store.put(prices, "a", "first of the site")
        try await store.put(prices, "a", "second of the site")
        for isClosed in [false, true] {
            if isClosed { store.close() }
            for text in ["of the centre", "first of", "second of"] {
                #expect(try isOnDisk(text) != isSealed)
            }
        }
    }

    @Test func `is opened under its own key alone, and keeps what it holds`() async throws {
        let store = try await filled(TestMesh.seal)
        try await store.put(prices, "a", "1")
        store.close()
        for seal in [StorageSeal(TestMesh.bytes(6, 6)), nil] {
            #expect(throws: StoreError.self) { try mesh.store(identity, seal: seal) }
        }
        // Also where the note has rotted that says under which.
        try mesh.rot(identity, "UPDATE meta SET value = zeroblob(40) WHERE name = 'seal'")
        #expect(throws: StoreError.self) {
            try mesh.store(identity, seal: StorageSeal(TestMesh.bytes(6, 6)))
        }
        let again = try mesh.store(identity, seal: TestMesh.seal)
        #expect(try again.text(prices, "a") == "1")
    }

    @Test func `has what rotted fetched again`() async throws {
        for index in 0..<20 { try await centre.put(menu, "k\(index)", "value \(index)") }
        let store = try await filled(TestMesh.seal)
        store.close()
        try mesh.rot(
            identity,
            "UPDATE record SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || x'00' AS BLOB) WHERE key='k7'"
        )
        let opened = try mesh.store(identity, seal: TestMesh.seal)
        try opened.scrubAll()
        #expect(try opened.text(menu, "k7") == nil)
        #expect(try opened.damageCount() == 1)
        #expect(try await opened.reconcile(with: centre) != nil)
        #expect(try opened.text(menu, "k7") == "value 7")
        #expect(try opened.damageCount() == 0)
    }

    @Test func `keeps other servers' keys sealed too, the first of each and the last`() async throws
    {
        let store = try await filled(TestMesh.seal)
        let node: NodeID = TestMesh.bytes(1, 1)
        let keys: [Bytes32] = (0..<6).map { TestMesh.bytes(9, $0) }
        for key in keys { try store.deposits.keep(key, of: node) }
        for (place, key) in keys.enumerated() {
            let held = try store.deposits.key(StorageSeal.name(of: key), of: node)
            #expect(held == ([3, 4].contains(place) ? nil : key))
        }
        #expect(
            try store.deposits.key(StorageSeal.name(of: keys[5]), of: TestMesh.bytes(1, 2)) == nil)
        #expect(try store.deposits.isKept(for: node))
        #expect(try store.deposits.wards() == [node])
        // One that has rotted is not there, and is written anew.
        let rotten = node.array + StorageSeal.name(of: keys[0]).array
        try store.notes.keep(.deposit, rotten, [UInt8](repeating: 0, count: 81))
        #expect(try store.deposits.key(StorageSeal.name(of: keys[0]), of: node) == nil)
        try store.deposits.keep(keys[0], of: node)
        #expect(try store.deposits.key(StorageSeal.name(of: keys[0]), of: node) == keys[0])
        let notes = try Data(contentsOf: URL(fileURLWithPath: mesh.path(identity) + "-notes"))
        for key in keys { #expect(notes.range(of: Data(key.array)) == nil) }
        store.close()
    }
}

@Suite struct `A seal` {
    @Test(arguments: [0, 1, 300, 70_000])
    func `opens what it has sealed, and nothing that was changed`(count: Int) {
        let (one, other) = (TestMesh.seal, StorageSeal(TestMesh.bytes(6, 6)))
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        let box = one.seal(bytes)
        #expect(box.count == count + StorageSeal.overhead)
        #expect(one.open(box) == bytes)
        #expect(one.seal(bytes) != box)
        #expect(other.open(box) == nil)
        for place in [0, 1, 24, box.count - 1, box.count / 2] {
            var changed = box
            changed[place] ^= 1
            #expect(one.open(changed) == nil)
        }
        for length in [0, 1, 40, box.count - 1] where length < box.count {
            #expect(one.open(Array(box.prefix(length))) == nil)
        }
    }
}
