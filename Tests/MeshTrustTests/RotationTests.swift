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
        let own = try Certificate(decoding: goes.encoded, root: root, takesRetired: true)
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
