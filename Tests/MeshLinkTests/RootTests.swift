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

    @Test func `of one number and other bytes is none`() throws {
        let mesh = try TestMesh()
        var pair = Pair(
            mesh,
            roots: (
                try mesh.rotated(enrol: [TestMesh.key(90, 1)], honours: listed(mesh)),
                try mesh.rotated(enrol: [TestMesh.key(90, 2)], honours: listed(mesh))
            ))
        #expect(throws: LinkError.root("it is another version 2 than this node's")) {
            try pair.run()
        }
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

@Suite struct `A link between two epochs of the mesh's secret` {
    private let mesh: TestMesh

    init() throws { mesh = try TestMesh() }

    private func secrets(_ changes: [(UInt32, UInt8)]) -> MeshSecrets {
        MeshSecrets(
            mesh.secret,
            changes: changes.map { epoch, value in
                SecretDocument(
                    MeshSecret(epoch: epoch, value: TestMesh.bytes(70, value)), key: mesh.enrol,
                    mesh: mesh.root.meshID)
            })
    }

    /// Runs a handshake.
    ///
    /// - Returns: the epoch by which each end says that the link stands.
    private func epochs(
        _ dialling: MeshSecrets, _ listening: MeshSecrets, back: Int = 0
    ) throws(LinkError) -> [UInt32] {
        let (a, b) = (mesh.identity("a"), mesh.identity("b", site: "s2"))
        func end(_ identity: DataDirectory.Identity, _ secrets: MeshSecrets, _ dials: Bool)
            -> LinkMachine
        {
            LinkMachine(
                identity: LinkIdentity(
                    certificate: identity.certificate, key: identity.linkKey,
                    root: identity.root, secrets: secrets, version: "9"),
                isInitiator: dials, expecting: nil,
                ephemeral: AgreementKey(secret: TestMesh.bytes(50, dials ? 1 : 2)),
                epochsBack: back)
        }
        var dialler = end(a, dialling, true)
        var listener = end(b, listening, false)
        var (toListener, toDialler, found): ([UInt8], [UInt8], [UInt32]) = (
            dialler.opening(), [], []
        )
        func carry(_ events: [LinkMachine.Event], _ bytes: inout [UInt8]) {
            for event in events {
                if case .send(let more) = event { bytes += more }
                if case .established(let peer) = event { found.append(peer.epoch) }
            }
        }
        while !toListener.isEmpty || !toDialler.isEmpty {
            let (right, left) = (toListener, toDialler)
            (toListener, toDialler) = ([], [])
            if !right.isEmpty { carry(try listener.receive(right), &toDialler) }
            if !left.isEmpty { carry(try dialler.receive(left), &toListener) }
        }
        return found
    }

    @Test func `stands by the newest that both know, whoever dials`() throws {
        let (old, new) = (secrets([]), secrets([(2, 2), (3, 3)]))
        #expect(try epochs(old, new) == [1, 1])
        #expect(try epochs(new, old) == [1, 1])
        #expect(try epochs(new, new) == [3, 3])
        #expect(try epochs(secrets([(2, 2)]), new) == [2, 2])
    }

    @Test func `stands by one before where each has another secret of one epoch`() throws {
        let (one, other) = (secrets([(2, 2)]), secrets([(2, 9)]))
        #expect(throws: LinkError.handshake(.notAuthentic)) { try epochs(one, other) }
        let address = try #require(Address(host: "10.0.0.1", port: 7374))
        var choice = EpochChoice()
        #expect(choice.back(address, of: 2) == 0)
        choice.ended(address, .turnedAway)
        #expect(choice.back(address, of: 2) == 1)
        #expect(try epochs(one, other, back: 1) == [1, 1])
        choice.ended(address, .turnedAway)
        #expect(choice.back(address, of: 2) == 0)
        choice.ended(address, .turnedAway)
        choice.ended(address, nil)
        #expect(choice.back(address, of: 2) == 0)
    }
}
