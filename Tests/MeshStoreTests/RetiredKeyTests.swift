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

/// What becomes of records once the root document has retired who enrolled their authors.
@Suite struct `A store under a further version of the root document` {
    private let mesh: TestMesh
    private let centre: DataDirectory.Identity
    private let honest: DataDirectory.Identity
    private let minted: DataDirectory.Identity
    private let witness: DataDirectory.Identity

    /// A server of the mesh, one that a thief of the enrol key made, and a third that holds what
    /// both wrote.
    init() async throws {
        mesh = try TestMesh()
        let centre = try await mesh.centre(["prices": .prices])
        self.centre = centre.identity
        (honest, minted, witness) = (
            mesh.identity("honest"), mesh.identity("minted"), mesh.identity("witness")
        )
        let (one, two, three) = (
            try mesh.store(honest), try mesh.store(minted), try mesh.store(witness)
        )
        for store in [one, two, three] { #expect(try await store.reconcile(with: centre) != nil) }
        try await one.put(prices, "soup", "4")
        #expect(try await two.reconcile(with: one) != nil)
        try await two.put(prices, "soup", "0")
        try await two.put(prices, "tea", "0")
        #expect(try await three.reconcile(with: one) != nil)
        #expect(try await three.reconcile(with: two) != nil)
        #expect(try three.text(prices, "soup") == "0")
        for store in [one, two, three, centre] { store.close() }
    }

    /// The same node, started by another root document.
    private func restarted(
        _ identity: DataDirectory.Identity, by root: RootDocument
    ) throws -> Store {
        let store = try mesh.store(
            DataDirectory.Identity(
                root: root,
                certificate: try Certificate(
                    decoding: identity.certificate.encoded, root: root, mayLack: .goodKey),
                nodeKey: identity.nodeKey, linkKey: identity.linkKey, secrets: identity.secrets,
                seeds: []))
        store.judgeAnew()
        store.settle()
        return store
    }

    /// A new enrol key, and a list of whose tickets stand.
    private func root(listing stay: [DataDirectory.Identity]) throws -> RootDocument {
        try mesh.rotated(
            enrol: [TestMesh.key(90, 1)],
            honours: ([centre] + stay).map {
                Honours.name(of: $0.certificate.ticket.body, for: .ticket)
            })
    }

    @Test func `takes out what unlisted servers wrote, and brings back what that had superseded`()
        throws
    {
        let root = try root(listing: [honest, witness])
        let store = try restarted(witness, by: root)
        #expect(try store.text(prices, "soup") == "4")
        #expect(try store.text(prices, "tea") == nil)
        #expect(store.isRevoked(minted.certificate.node))
        #expect(!store.isRevoked(honest.certificate.node))
        // And again after a restart, from what is on disk.
        store.close()
        let again = try restarted(witness, by: root)
        #expect(try again.text(prices, "soup") == "4")
        #expect(again.isRevoked(minted.certificate.node))
    }

    @Test func `takes in nothing more that unlisted servers wrote`() async throws {
        let root = try root(listing: [honest, witness])
        let store = try restarted(witness, by: root)
        let thief = try mesh.store(minted)
        let outcomes = try await store.ingest(try thief.everything(of: prices))
        #expect(!outcomes.isEmpty)
        #expect(try store.text(prices, "tea") == nil)
        #expect(throws: TrustError.retiredEnrolKey) {
            try Certificate(decoding: minted.certificate.encoded, root: root)
        }
    }

    @Test func `takes out nobody as long as its list is not there`() throws {
        let whole = try root(listing: [honest, witness])
        let store = try restarted(witness, by: try RootDocument(decoding: whole.encoded))
        #expect(try store.text(prices, "soup") == "0")
        #expect(!store.isRevoked(honest.certificate.node))
        #expect(!store.isRevoked(minted.certificate.node))
        store.close()
        let again = try restarted(witness, by: whole)
        #expect(try again.text(prices, "soup") == "4")
    }

    @Test func `takes out nobody whose certificate has rotted`() throws {
        let all = [honest, minted, witness]
        let node = honest.certificate.node
        // One bit of the ticket's serial, which is within what its enrol key has signed.
        try mesh.rot(
            witness,
            """
            UPDATE certificate SET bytes = CAST(substr(bytes, 1, 110) || x'ff' || substr(bytes, 112)
                AS BLOB) WHERE node = x'\(node)'
            """)
        let store = try restarted(witness, by: try root(listing: all))
        #expect(!store.isRevoked(node))
        #expect(try store.consult { try $0.logs(of: prices) }.contains { $0.author.node == node })
    }

    @Test func `brings anew what stands by its own signature and an unlisted server had carried`()
        async throws
    {
        let third: NodeID = TestMesh.bytes(5, 5)
        let revocation = Revocation(
            of: third, created: 1, reason: "", cuts: [], key: mesh.revoke,
            mesh: mesh.root.meshID)
        let (thief, other) = (try mesh.store(minted), try mesh.store(witness))
        _ = try await withCheckedThrowingContinuation { continuation in
            thief.revoke(revocation) { continuation.resume(with: $0) }
        }
        #expect(try await other.reconcile(with: thief) != nil)
        #expect(other.isRevoked(third))
        other.close()
        let root = try root(listing: [honest, witness])
        let store = try restarted(witness, by: root)
        let authors = try store.consult { try $0.logs(of: Revocation.scope) }.map(\.author.node)
        #expect(authors == [witness.certificate.node])
        let fresh = try restarted(honest, by: root)
        #expect(try await fresh.reconcile(with: store) != nil)
        #expect(fresh.isRevoked(third))
    }

    @Test func `keeps everything of servers that are listed`() throws {
        let store = try restarted(witness, by: try root(listing: [honest, minted, witness]))
        #expect(try store.text(prices, "soup") == "0")
        #expect(try store.text(prices, "tea") == "0")
    }

    @Test func `that lists not itself refuses writes, keeps what it has, and may be listed later`()
        async throws
    {
        let unlisted = try root(listing: [witness])
        let store = try restarted(honest, by: unlisted)
        #expect(try store.text(prices, "soup") == "4")
        await #expect(throws: StoreError.revoked) { try await store.put(prices, "cake", "3") }
        store.close()
        let later = try unlisted.next(
            created: 1, threshold: 2, roots: mesh.roots.map(\.publicKey.id),
            enrol: unlisted.enrolKeys, revoke: unlisted.revokeKeys,
            honours: Honours(
                [centre, honest, witness].map {
                    Honours.name(of: $0.certificate.ticket.body, for: .ticket)
                }), signers: mesh.roots)
        let again = try restarted(honest, by: later)
        try await again.put(prices, "cake", "3")
        #expect(try again.text(prices, "soup") == "4")
    }

    @Test func `by which a revocation counts no more has its server back`() async throws {
        let revocation = Revocation(
            of: honest.certificate.node, created: 1, reason: "by a thief of the revoke key",
            cuts: [], key: mesh.revoke, mesh: mesh.root.meshID)
        let before = try mesh.store(witness)
        let isNew = try await withCheckedThrowingContinuation { continuation in
            before.revoke(revocation) { continuation.resume(with: $0) }
        }
        #expect(isNew)
        #expect(before.isRevoked(honest.certificate.node))
        before.close()
        let store = try restarted(witness, by: try mesh.rotated(revoke: [TestMesh.key(90, 1)]))
        #expect(!store.isRevoked(honest.certificate.node))
        #expect(try store.revocations().isEmpty)
        // What had gone comes from whoever has it.
        let one = try restarted(honest, by: try mesh.rotated(revoke: [TestMesh.key(90, 1)]))
        try await one.put(prices, "cake", "3")
        #expect(try await store.reconcile(with: one) != nil)
        #expect(try store.text(prices, "cake") == "3")
    }
}
