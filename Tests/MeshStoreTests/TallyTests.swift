// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshReplication
import MeshStore
import MeshTesting
import Testing

private let prices = Scope("prices@site/s1")!

@Suite struct `The count of a scope's records` {
    private let mesh: TestMesh
    private let identity: DataDirectory.Identity

    init() async throws {
        mesh = try TestMesh()
        identity = mesh.identity("n")
        let centre = try await mesh.centre(["prices": .prices])
        let store = try mesh.store(identity)
        #expect(try await store.reconcile(with: centre) != nil)
        for number in 0..<20 { try await store.put(prices, "k\(number)", "v") }
        store.close()
    }

    /// Opens the store after its file was changed, and counts.
    private func counted(after sql: String, write: Bool = false) async throws -> Int {
        try mesh.rot(identity, sql)
        let store = try mesh.store(identity)
        defer { store.close() }
        if write { try await store.put(prices, "one more", "v") }
        return try store.liveCount(in: prices)
    }

    @Test func `is read, and not counted again by each who asks`() async throws {
        #expect(try await counted(after: "DELETE FROM record WHERE key = 'k7'") == 20)
    }

    @Test func `is right where its row has rotted, and written anew with the next change`()
        async throws
    {
        let rot = "UPDATE meta SET value = zeroblob(16) WHERE name LIKE 'live %'"
        #expect(try await counted(after: rot) == 20)
        #expect(try await counted(after: rot, write: true) == 21)
        #expect(
            try await counted(after: "DELETE FROM record WHERE key = 'k7'") == 21,
            "the row is there again")
    }

    @Test func `is right where its row is lost`() async throws {
        #expect(try await counted(after: "DELETE FROM meta WHERE name LIKE 'live %'") == 20)
    }

    @Test func `counts a record once that comes to a place which a rotten row claims`()
        async throws
    {
        // The row of one record says that it stands where the next one will: first of a new life.
        let count = try await counted(
            after: """
                UPDATE record SET author = (SELECT max(id) + 1 FROM author), sequence = 1
                WHERE key = 'k3';
                """, write: true)
        #expect(count == 20)
    }
}
