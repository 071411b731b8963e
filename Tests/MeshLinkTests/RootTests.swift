// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshLink
internal import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `A link between two versions of the root document` {
    /// The list on which both ends' certificates stand.
    private func listed(_ mesh: TestMesh) -> [Digest] {
        let other = TestMesh.copy(of: mesh)
        return [other.identity("a"), other.identity("b", site: "s2")].map {
            Honours.name(of: $0.certificate.ticket.body, for: .ticket)
        }
    }

    @Test(arguments: [false, true])
    func `gives the newer to whoever has the older, and is none`(dialled: Bool) throws {
        let mesh = try TestMesh()
        let new = try mesh.rotated(enrol: [TestMesh.key(90, 1)])
        var pair = Pair(mesh, roots: dialled ? (mesh.root, new) : (new, mesh.root))
        try pair.run()
        #expect(pair.established == 0)
        #expect((dialled ? pair.taken.dialler : pair.taken.listener) == new)
        #expect((dialled ? pair.taken.listener : pair.taken.dialler) == nil)
        #expect((dialled ? pair.ended.dialler : pair.ended.listener) == .rootWasTaken(2))
        #expect((dialled ? pair.ended.listener : pair.ended.dialler) == .rootIsOlder(1))
    }

    @Test func `of the same version is judged by it`() throws {
        let mesh = try TestMesh()
        let stands = try mesh.rotated(enrol: [TestMesh.key(90, 1)], honours: listed(mesh))
        var pair = Pair(mesh, roots: (stands, stands))
        try pair.run()
        #expect(pair.established == 2)
        let retired = try mesh.rotated(enrol: [TestMesh.key(90, 1)])
        pair = Pair(mesh, roots: (retired, retired))
        #expect(throws: LinkError.certificate("\(TrustError.retiredEnrolKey)")) { try pair.run() }
    }

    @Test func `gives the list to a box that has the document alone`() throws {
        let mesh = try TestMesh()
        let whole = try mesh.rotated(enrol: [TestMesh.key(90, 1)], honours: listed(mesh))
        let alone = try RootDocument(decoding: whole.encoded)
        #expect(!alone.isWhole)
        var pair = Pair(mesh, roots: (alone, whole))
        try pair.run()
        #expect(pair.taken.dialler == whole)
        #expect(pair.established == 0)
    }

    @Test func `takes none that does not go on where its own ends`() throws {
        let mesh = try TestMesh()
        let mine = try mesh.rotated(enrol: [TestMesh.key(90, 1)])
        let fork = try mesh.rotated(enrol: [TestMesh.key(90, 2)]).next(
            created: 1, threshold: 2, roots: mesh.roots.map(\.publicKey.id),
            enrol: [TestMesh.key(90, 3).publicKey.id], revoke: [], honours: Honours([]),
            signers: mesh.roots)
        var pair = Pair(mesh, roots: (mine, fork))
        #expect(throws: LinkError.root("it does not go on where this node's ends")) {
            try pair.run()
        }
        #expect(pair.taken.dialler == nil)
    }

    @Test func `takes none that was changed on the way`() throws {
        let mesh = try TestMesh()
        let new = try mesh.rotated(enrol: [TestMesh.key(90, 1)])
        var pair = Pair(mesh, roots: (mesh.root, new))
        #expect(throws: LinkError.badFrame) {
            try pair.run { number, bytes in if number == 5 { bytes[40] ^= 1 } }
        }
        #expect(pair.taken.dialler == nil)
    }
}
