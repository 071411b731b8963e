// SPDX-License-Identifier: Apache-2.0

internal import CSodium
import MeshCore
import MeshCrypto
internal import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `Strict verification` {
    @Test func `passes its own known answers on this machine`() throws { try Sodium.start() }

    @Test func `refuses a signature whose S has the group order added`() throws {
        try Sodium.start()
        let key = TestMesh.key(1, 1)
        var bytes = key.sign([1, 2, 3]).bytes
        let order: [UInt8] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde,
            0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ]
        var carry: UInt16 = 0
        for index in 0..<32 {
            carry += UInt16(bytes[32 + index]) + UInt16(order[index])
            bytes[32 + index] = UInt8(truncatingIfNeeded: carry)
            carry >>= 8
        }
        let signature = try #require(Signature(bytes))
        #expect(!key.publicKey.verify(signature, over: [1, 2, 3]))
    }

    @Test func `refuses a signature whose R is of small order`() throws {
        let key = TestMesh.key(1, 1)
        var bytes = key.sign([1]).bytes
        bytes.replaceSubrange(0..<32, with: [1] + [UInt8](repeating: 0, count: 31))
        #expect(!key.publicKey.verify(try #require(Signature(bytes)), over: [1]))
    }

    @Test func `refuses a key or an R with a part of small order, which releases judge apart`()
        throws
    {
        func adding(order8 point: [UInt8]) throws -> [UInt8] {
            let torsion = try #require(
                Hex.decode("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"))
            var sum = [UInt8](repeating: 0, count: 32)
            #expect(crypto_core_ed25519_add(&sum, point, torsion) == 0)
            return sum
        }
        let key = TestMesh.key(1, 1)
        let mixed = try #require(Bytes32(try adding(order8: key.publicKey.id.array)))
        #expect(key.publicKey.isValid)
        #expect(!VerifyingKey(mixed).isValid)
        let bytes = key.sign([1]).bytes
        let torsion = try adding(order8: Array(bytes.prefix(32))) + bytes.suffix(32)
        #expect(!key.publicKey.verify(try #require(Signature(torsion)), over: [1]))
    }

    /// Its maker holds the key and added the point of order 2 to R before he computed S. Computed
    /// apart from libsodium, with the same arithmetic that gives its answer where nothing is added.
    @Test func `refuses a signature that holds only where the cofactor is left out`() throws {
        let seed = try #require(Bytes32((0..<32).map { UInt8($0) }))
        let key = SigningKey(seed: seed)
        #expect(
            Hex.encode(key.sign([1, 2, 3]).bytes)
                == "3a36b413b5ab3ab4b61d4ae0c1186a557ab72f04b057eae3cb7a51852074724080e2bbfe1654fc8885a854b9e8df1a886b6a19a20db70d362ecda1891b50ac0a"
        )
        let bytes = try #require(
            Hex.decode(
                "b3c94bec4a54c54b49e2b51f3ee795aa8548d0fb4fa8151c3485ae7adf8b8dbf991864b38bcd6b735d5b4b32a87b879421afceb0439069c8fe0355701361ef08"
            ))
        #expect(!key.publicKey.verify(try #require(Signature(bytes)), over: [1, 2, 3]))
    }

    @Test func `binds a signature to its purpose and its mesh`() throws {
        let key = TestMesh.key(1, 1)
        let (mesh, other): (MeshID, MeshID) = (TestMesh.bytes(9, 1), TestMesh.bytes(9, 2))
        let signature = key.sign([1, 2], for: .commit, in: mesh)
        #expect(key.publicKey.verify(signature, of: [1, 2], for: .commit, in: mesh))
        #expect(!key.publicKey.verify(signature, of: [1, 2], for: .commit, in: other))
        #expect(!key.publicKey.verify(signature, of: [1, 2], for: .ticket, in: mesh))
    }
}

@Suite struct `A certificate` {
    @Test func `is verified up to the root by anyone who has the root`() throws {
        let mesh = try TestMesh()
        let card = mesh.identity("till").certificate
        let read = try Certificate(decoding: card.encoded, root: mesh.root)
        #expect(read == card)
        #expect(read.ticket.site == "s1")
    }

    @Test func `of another mesh is refused`() throws {
        let (mesh, other) = (try TestMesh(), try TestMesh(seed: 7))
        let card = other.identity("till").certificate
        #expect(throws: TrustError.unknownEnrolKey) {
            try Certificate(decoding: card.encoded, root: mesh.root)
        }
    }

    @Test func `is refused when any byte of it is changed`() throws {
        let mesh = try TestMesh()
        let bytes = mesh.identity("till").certificate.encoded
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 1
            #expect(throws: TrustError.self) { try Certificate(decoding: changed, root: mesh.root) }
        }
    }

    @Test func `is refused when it is longer than its limit`() throws {
        let mesh = try TestMesh()
        let long = [UInt8](repeating: 0, count: 1_000_000)
        #expect(
            throws: TrustError.malformed(
                "certificate", .tooLong("certificate", 1_000_000, limit: 2048))
        ) { try Certificate(decoding: long, root: mesh.root) }
    }

    @Test func `for one site says nothing about a site whose name begins alike`() throws {
        let card = try TestMesh().identity("till", site: "1").certificate
        #expect(card.allows(.write, Scope(namespace: "orders", audience: .site("1"))))
        #expect(!card.allows(.write, Scope(namespace: "orders", audience: .site("10"))))
        #expect(!card.allows(.write, Scope(namespace: "menu", audience: .all)))
    }
}

@Suite struct `A root document` {
    @Test func `proves itself with a threshold of its keys`() throws {
        let root = try TestMesh().root
        let read = try RootDocument(decoding: root.encoded)
        #expect(read == root)
        #expect(read.meshID == root.meshID)
    }

    @Test func `is refused when a signature is changed or taken away`() throws {
        let root = try TestMesh().root
        var changed = root.encoded
        changed[changed.count - 1] ^= 1
        #expect(throws: TrustError.badSignature("root document")) {
            try RootDocument(decoding: changed)
        }
        // Only one of three signatures left, where two are needed.
        var writer = WireWriter()
        writer.medium(root.current.body)
        writer.u8(1)
        writer.u8(0)
        writer.append(root.current.signatures[0].signature.bytes)
        #expect(throws: TrustError.badThreshold) { try RootDocument(decoding: writer.bytes) }
    }
}

@Suite struct `A ticket` {
    private func ticket(_ mesh: TestMesh) -> TicketFile {
        let key = TestMesh.key(5, 5)
        let ticket = Ticket(
            key: key.publicKey.id, serial: [UInt8](repeating: 1, count: 16), site: "s1", node: "n",
            isCentral: false, groups: ["north"], grants: Grant.edge(site: "s1", groups: ["north"]))
        return TicketFile(
            root: mesh.root, enrol: mesh.enrol, secrets: MeshSecrets(mesh.secret),
            ticketSeed: key.seed,
            ticket: ticket, seeds: ["centre.example:7374"])
    }

    @Test func `is newer than the one before, whatever the clock says`() {
        #expect(Ticket.time(now: 50, after: nil) == 50)
        #expect(Ticket.time(now: 50, after: 20) == 50)
        #expect(Ticket.time(now: 50, after: 50) == 51)
        #expect(Ticket.time(now: 50, after: 4_102_444_800_000) == 4_102_444_800_001)
        #expect(Ticket.time(now: .max, after: nil) == (1 << 48) - 1)
        #expect(Ticket.time(now: 50, after: .max) == nil)
    }

    @Test func `carries everything as text that survives line breaks`() throws {
        let file = ticket(try TestMesh())
        let read = try TicketFile(text: file.text.replacingOccurrences("\n", "\r\n "))
        #expect(read.ticket == file.ticket)
        #expect(read.seeds == ["centre.example:7374"])
        #expect(read.root == file.root)
    }

    @Test func `says whether it was cut off, mistyped or is no ticket`() throws {
        let text = ticket(try TestMesh()).text
        #expect(throws: TrustError.self) { try TicketFile(text: String(text.dropLast(20))) }
        #expect(throws: TrustError.notATicket("it does not begin with 'mesh-ticket-1:'")) {
            try TicketFile(text: "hello")
        }
        var characters = Array(text)
        characters[40] = characters[40] == "a" ? "b" : "a"
        #expect(throws: TrustError.notATicket("its checksum is wrong: it was cut off or mistyped"))
        {
            try TicketFile(text: String(characters))
        }
    }
}

extension String {
    fileprivate func replacingOccurrences(_ old: Character, _ new: String) -> String {
        reduce(into: "") { $0 += $1 == old ? new : String($1) }
    }
}

@Suite struct `A revocation` {
    private let mesh: TestMesh
    private let node: NodeID = TestMesh.bytes(3, 3)

    init() throws { mesh = try TestMesh() }

    private func cut(_ incarnation: UInt64, _ through: UInt64 = 9) throws -> Revocation.Cut {
        Revocation.Cut(
            scope: try #require(Scope("orders@site/s1")), life: Life(incarnation),
            through: through)
    }

    private func made(_ cuts: [Revocation.Cut], key: SigningKey? = nil) -> Revocation {
        Revocation(
            of: node, created: 1, reason: "stolen", cuts: cuts, key: key ?? mesh.revoke,
            mesh: mesh.root.meshID)
    }

    @Test func `is read as it was written, with its cuts in order`() throws {
        let written = made([try cut(2), try cut(1)])
        let read = try Revocation(decoding: written.encoded, root: mesh.root)
        #expect(read == written)
        #expect(read.cuts == [try cut(1), try cut(2)])
        #expect(read.key == written.key)
    }

    @Test func `is refused when any byte of it is changed`() throws {
        let bytes = made([try cut(1)]).encoded
        for place in bytes.indices {
            var changed = bytes
            changed[place] ^= 1
            #expect(throws: TrustError.self) {
                try Revocation(decoding: changed, root: mesh.root)
            }
        }
    }

    @Test func `names tickets, in order, and is refused with one named twice or too many`() throws {
        let serials = (0..<UInt8(Revocation.serialsMax)).map {
            [UInt8](repeating: 200 + $0, count: 16)
        }
        func naming(_ serials: [[UInt8]]) -> Revocation {
            Revocation(
                of: node, created: 1, reason: "", cuts: [], serials: serials, key: mesh.revoke,
                mesh: mesh.root.meshID)
        }
        let read = try Revocation(
            decoding: naming(serials.reversed()).encoded, root: mesh.root)
        #expect(read.serials == serials)
        #expect(throws: TrustError.malformed("revocation", .unordered("serials"))) {
            try Revocation(decoding: naming([serials[0], serials[0]]).encoded, root: mesh.root)
        }
        var logs = RevokedLogs()
        logs.add(read)
        let ticket = mesh.identity("late", serial: serials[3]).certificate.ticket
        #expect(logs.contains(ticket))
        #expect(!logs.contains(mesh.identity("other").certificate.ticket))
    }

    @Test func `is refused from another key, for another mesh, or with a log named twice`() throws {
        let enrol = made([], key: mesh.enrol)
        #expect(throws: TrustError.unknownRevokeKey) {
            try Revocation(decoding: enrol.encoded, root: mesh.root)
        }
        let other = try TestMesh(name: "other", seed: 0)
        #expect(throws: TrustError.badSignature("revocation")) {
            try Revocation(decoding: made([]).encoded, root: other.root)
        }
        let twice = made([try cut(1, 8), try cut(1, 9)])
        #expect(throws: TrustError.malformed("revocation", .unordered("cuts"))) {
            try Revocation(decoding: twice.encoded, root: mesh.root)
        }
    }

    @Test func `fits its limits of cuts, reason and bytes, or is not made`() throws {
        let most = try (0..<UInt64(Revocation.cutsMax)).map { try cut($0) }
        #expect(Revocation.fits(reason: "", cuts: most))
        #expect(!Revocation.fits(reason: "", cuts: most + [try cut(.max)]))
        let reason = String(repeating: "r", count: Revocation.reasonBytesMax)
        #expect(Revocation.fits(reason: reason, cuts: []))
        #expect(!Revocation.fits(reason: reason + "r", cuts: []))
        let long = Scope(namespace: String(repeating: "n", count: 63), audience: .all)
        let wide = (0..<UInt64(Revocation.cutsMax)).map {
            Revocation.Cut(scope: long, life: Life($0), through: 1)
        }
        #expect(!Revocation.fits(reason: "", cuts: wide))
        #expect(try Revocation(decoding: made(most).encoded, root: mesh.root).cuts == most)
    }

    @Test func `beside another of its node leaves each log the lesser end`() throws {
        var logs = RevokedLogs()
        logs.add(made([try cut(1, 8), try cut(2, 5)]))
        logs.add(made([try cut(1, 3)]))
        let scope = try #require(Scope("orders@site/s1"))
        func end(_ incarnation: UInt64) -> UInt64? {
            logs.end(of: Author(node: node, life: Life(incarnation)), in: scope)
        }
        #expect(end(1) == 3)
        #expect(end(2) == 0)
        #expect(end(7) == 0)
        let free = Author(node: TestMesh.bytes(6, 6), life: Life(1))
        #expect(logs.end(of: free, in: scope) == nil)
    }
}
