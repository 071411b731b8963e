// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshReplication
internal import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `A further version of the root document` {
    private let enrol = TestMesh.key(90, 1)

    @Test func `is signed by a threshold of the keys before and of its own`() throws {
        let mesh = try TestMesh()
        let new = try mesh.rotated(enrol: [enrol])
        #expect(new.version == 2)
        #expect(new.meshID == mesh.root.meshID)
        #expect(new.enrolKeys == [enrol.publicKey.id])
        #expect(mesh.root.isSucceeded(by: new))
        #expect(!new.isSucceeded(by: mesh.root))
        #expect(!new.isSucceeded(by: new))
        let read = try RootDocument(carried: new.carried, of: mesh.root.meshID)
        #expect(read == new)
        #expect(throws: TrustError.badThreshold) {
            try mesh.rotated(enrol: [enrol], signers: [mesh.roots[0]])
        }
    }

    @Test func `with other root keys needs theirs too`() throws {
        let mesh = try TestMesh()
        let fresh = (0..<3).map { TestMesh.key(91 + $0, 1) }
        func next(_ signers: [SigningKey]) throws -> RootDocument {
            try mesh.root.next(
                created: 1, threshold: 2, roots: fresh.map(\.publicKey.id),
                enrol: mesh.root.enrolKeys, revoke: mesh.root.revokeKeys, honours: Honours([]),
                signers: signers)
        }
        #expect(try next(mesh.roots + fresh).version == 2)
        #expect(throws: TrustError.badThreshold) { try next(mesh.roots) }
        #expect(throws: TrustError.badThreshold) { try next(fresh) }
        #expect(throws: TrustError.badThreshold) {
            try next([mesh.roots[0]] + fresh)
        }
    }

    @Test func `is refused when any byte of it is changed`() throws {
        let mesh = try TestMesh()
        let bytes = try mesh.rotated(enrol: [enrol]).encoded
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 1
            #expect(throws: TrustError.self) {
                try RootDocument(decoding: changed, of: mesh.root.meshID)
            }
        }
    }

    @Test func `follows the very one before`() throws {
        let mesh = try TestMesh()
        let (one, other) = (
            try mesh.rotated(enrol: [enrol]), try mesh.rotated(enrol: [TestMesh.key(90, 2)])
        )
        let third = try one.next(
            created: 1, threshold: 2, roots: mesh.roots.map(\.publicKey.id),
            enrol: one.enrolKeys, revoke: [], honours: Honours([]), signers: mesh.roots)
        #expect(one.isSucceeded(by: third))
        #expect(!other.isSucceeded(by: third))
        // The third behind the other second, though every signature is good.
        let tail = third.encoded.dropFirst(one.encoded.count)
        #expect(throws: TrustError.notASuccessor) {
            try RootDocument(decoding: other.encoded + tail)
        }
        // And without the second.
        #expect(throws: TrustError.notASuccessor) {
            try RootDocument(decoding: mesh.root.encoded + tail)
        }
    }

    @Test func `is without its list where that is another's`() throws {
        let mesh = try TestMesh()
        let name: Digest = TestMesh.bytes(1, 1)
        let new = try mesh.rotated(enrol: [enrol], honours: [name])
        #expect(new.isWhole)
        let alone = try RootDocument(decoding: new.encoded, honours: Honours([.zero]))
        #expect(!alone.isWhole)
        #expect(!alone.honours.contains(.zero))
        #expect(alone.isSucceeded(by: new))
        #expect(!mesh.root.isSucceeded(by: alone))
        var writer = WireWriter()
        writer.long(new.encoded)
        writer.long(Honours([.zero]).encoded)
        #expect(throws: TrustError.wrongHonours) { try RootDocument(carried: writer.bytes) }
        let descending = Honours([name, .zero]).encoded
        #expect(throws: TrustError.malformed("list of what stands", .unordered("entries"))) {
            try Honours(decoding: Array(descending.suffix(32) + descending.prefix(32)))
        }
    }
}

@Suite struct `A retired key` {
    private let enrol = TestMesh.key(90, 1)

    @Test func `makes no member but those that are listed`() throws {
        let mesh = try TestMesh()
        let (stays, goes) = (mesh.identity("stays").certificate, mesh.identity("goes").certificate)
        let root = try mesh.rotated(
            enrol: [enrol], honours: [Honours.name(of: stays.ticket.body, for: .ticket)])
        #expect(try Certificate(decoding: stays.encoded, root: root) == stays)
        #expect(throws: TrustError.retiredEnrolKey) {
            try Certificate(decoding: goes.encoded, root: root)
        }
        #expect(!Certificate.isRetired(stays.encoded, root: root))
        #expect(Certificate.isRetired(goes.encoded, root: root))
        // A node starts with its own all the same.
        let own = try Certificate(decoding: goes.encoded, root: root, mayLack: .goodKey)
        #expect(!own.stands)
    }

    @Test func `gives no new policy a namespace, whatever its clock said`() throws {
        let mesh = try TestMesh()
        func document(_ policy: NamespacePolicy, _ created: UInt64, _ key: SigningKey)
            -> PolicyDocument
        {
            PolicyDocument(
                of: "prices", policy, created: created, key: key, mesh: mesh.root.meshID)
        }
        let honest = document(.prices, 5, mesh.enrol)
        let stolen = document(.orders, .max, mesh.enrol)
        let bodies = [honest, stolen].map(\.encoded)
        #expect(PolicyDocument.ordered(bodies, root: mesh.root).first == stolen)
        let root = try mesh.rotated(
            enrol: [enrol], honours: [Honours.name(of: honest.body, for: .definition)])
        #expect(PolicyDocument.ordered(bodies, root: root).first == honest)
        #expect(try PolicyDocument(decoding: stolen.encoded, root: root) == stolen)
        let later = document(.orders, 6, enrol)
        #expect(
            PolicyDocument.ordered(bodies + [later.encoded], root: root).first == later)
    }

    @Test func `revokes nobody but whom the list names`() throws {
        let mesh = try TestMesh()
        let node = mesh.identity("a").certificate.node
        func revocation(_ reason: String) -> Revocation {
            Revocation(
                of: node, created: 1, reason: reason, cuts: [], key: mesh.revoke,
                mesh: mesh.root.meshID)
        }
        let (honest, stolen) = (revocation("stolen box"), revocation("by the thief"))
        let root = try mesh.rotated(
            revoke: [enrol], honours: [Honours.name(of: honest.body, for: .revocation)])
        #expect(try Revocation(decoding: honest.encoded, root: root).stands)
        // It stays a document: every server holds the same records.
        #expect(try !Revocation(decoding: stolen.encoded, root: root).stands)
        // A name in the list is one of its kind.
        let mixed = try mesh.rotated(
            revoke: [enrol], honours: [Honours.name(of: honest.body, for: .ticket)])
        #expect(try !Revocation(decoding: honest.encoded, root: mixed).stands)
    }
}

@Suite struct `The mesh's secret` {
    private let mesh: TestMesh

    init() throws { mesh = try TestMesh() }

    private func change(
        _ epoch: UInt32, _ value: UInt8 = 1, by key: SigningKey? = nil
    ) -> SecretDocument {
        SecretDocument(
            MeshSecret(epoch: epoch, value: TestMesh.bytes(70, value)), key: key ?? mesh.enrol,
            mesh: mesh.root.meshID)
    }

    @Test func `changes one epoch at a time, and the last eight open links`() throws {
        var secrets = MeshSecrets(mesh.secret)
        #expect(secrets.taking(change(3), root: mesh.root) == nil)
        #expect(secrets.taking(change(.max), root: mesh.root) == nil)
        for epoch in 2...9 {
            let next = secrets.taking(change(UInt32(epoch)), root: mesh.root)
            secrets = try #require(next)
        }
        #expect(secrets.newest.epoch == 9)
        #expect(secrets.all.map(\.epoch) == (2...9).reversed())
        #expect(secrets[1] == nil)
        #expect(secrets.taking(change(9), root: mesh.root) == nil)
    }

    @Test func `of one epoch is the same everywhere, whichever change came first`() throws {
        let (one, other) = (change(2, 1), change(2, 2))
        let both = [one, other].map { first in
            [one, other].reduce(MeshSecrets(mesh.secret, changes: [first])) { secrets, change in
                secrets.taking(change, root: mesh.root) ?? secrets
            }.newest
        }
        #expect(both[0] == both[1])
    }

    @Test func `is changed by no retired key, and by no stranger; what it had changed opens links`()
        throws
    {
        let enrol = TestMesh.key(90, 1)
        let root = try mesh.rotated(enrol: [enrol])
        let secrets = MeshSecrets(mesh.secret, changes: [change(2)])
        #expect(secrets.taking(change(3), root: root) == nil)
        #expect(try SecretDocument(decoding: change(2).encoded, root: root) == change(2))
        #expect(secrets.taking(change(3, by: enrol), root: root)?.newest.epoch == 3)
        #expect(throws: TrustError.unknownEnrolKey) {
            try SecretDocument(
                decoding: change(2, by: TestMesh.key(9, 9)).encoded, root: mesh.root)
        }
    }
}
