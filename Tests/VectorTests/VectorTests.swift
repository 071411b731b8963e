// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshContent
import MeshCore
import MeshCrypto
import MeshDiscovery
import MeshLink
import MeshMembership
@testable import MeshReplication
internal import MeshStore
import MeshTesting
import MeshTrust
import Testing

/// One vector a file: comments, `format`, `expect` (`ok` or the refusal), then the bytes.
struct Vector {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Vectors")

    let name: String
    let format: String
    let expect: String
    let bytes: [UInt8]

    static func all() throws -> [Vector] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter {
            $0.hasSuffix(".txt")
        }
        .sorted().map { name in
            let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
            var fields: [String: String] = [:]
            for line in text.split(separator: "\n") where !line.hasPrefix("#") {
                let parts = line.split(
                    separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                fields[String(parts[0])] = parts.last?.trimmingCharacters(in: .whitespaces)
            }
            return Vector(
                name: name, format: try #require(fields["format"]),
                expect: try #require(fields["expect"]),
                bytes: try #require(Hex.decode(fields["bytes"] ?? "")))
        }
    }

    func write(_ comment: String) throws {
        let text =
            "# \(comment)\nformat: \(format)\nexpect: \(expect)\nbytes: \(Hex.encode(bytes))\n"
        try text.write(
            to: Self.folder.appendingPathComponent(name), atomically: true, encoding: .utf8)
    }
}

@Suite struct `The vectors` {
    private let mesh: TestMesh

    init() throws { mesh = try TestMesh() }

    func again(_ vector: Vector) throws -> [UInt8] {
        let bytes = vector.bytes
        switch vector.format {
        case "record": return try Record(decoding: bytes).encoded
        case "commit-header": return try CommitHeader(decoding: bytes).encoded
        case "commits":
            let message = try CommitsMessage(decoding: bytes)
            for commit in message.commits {
                guard commit.verifiedIDs(in: mesh.root.meshID) != nil,
                    commit.isSigned(in: mesh.root.meshID)
                else { throw Refusal.badSignature }
            }
            return message.encoded
        case "policy": return try NamespacePolicy(decoding: bytes).encoded
        case "policy-document":
            return try PolicyDocument(decoding: bytes, root: mesh.root).encoded
        case "turn": return try SyncTurn(decoding: bytes).encoded
        case "probe": return try ProbeMessage(decoding: bytes).encoded
        case "want": return try WantMessage(decoding: bytes).encoded
        case "holding": return try HoldingVectors.again(bytes, in: mesh.root.meshID)
        case "link-message": return try LinkMessage(decoding: bytes).encoded
        case "root": return try RootDocument(decoding: bytes).encoded
        case "root-carried": return try RootDocument(carried: bytes).carried
        case "secret": return try SecretDocument(decoding: bytes, root: mesh.root).encoded
        case "certificate": return try Certificate(decoding: bytes, root: mesh.root).encoded
        case "certificate-later":
            return try Certificate(decoding: bytes, root: RotationVectors.second(mesh)).encoded
        case "beacon":
            let (id, key) = (mesh.root.meshID, mesh.secret.beaconKey)
            return try Beacon(decoding: bytes, mesh: id, key: { _ in key })
                .encoded(mesh: id, key: key)
        case "ticket":
            let text = String(decoding: bytes, as: UTF8.self)
            return Array(try TicketFile(text: text).text.utf8)
        case "revocation": return try Revocation(decoding: bytes, root: mesh.root).encoded
        case "manifest": return try Manifest(decoding: bytes).encoded
        case "release": return try SignedRelease(decoding: bytes, root: mesh.root).encoded
        case "content-message": return try ContentMessage(decoding: bytes).encoded
        default: throw WireError.invalid("format")
        }
    }

    @Test func `are accepted and written again as the same bytes, or refused as they say`() throws {
        let vectors = try Vector.all()
        #expect(Set(vectors.map(\.format)).count == 21)
        for vector in vectors {
            do {
                let bytes = try again(vector)
                #expect(vector.expect == "ok", "\(vector.name)")
                #expect(bytes == vector.bytes, "\(vector.name)")
            } catch {
                #expect(vector.expect == "refused \(error)", "\(vector.name)")
            }
        }
    }

    /// Makes the files anew from the code, for a change of format that is meant: WRITE_VECTORS=1.
    @Test(.enabled(if: ProcessInfo.processInfo.environment["WRITE_VECTORS"] != nil))
    func `are written anew where that is asked for`() throws {
        let identity = mesh.identity("till")
        let author = Author(
            node: identity.certificate.node, life: Life(0x2_0000_0007))
        try writeRecords(author, identity.nodeKey)
        try writeConversation(author, identity.nodeKey)
        try writeTrust(identity.certificate)
        try RotationVectors.write(mesh, identity.certificate)
        try DigestVectors.write(author)
        try HoldingVectors.write(
            author, identity.nodeKey, enrol: mesh.enrol, in: mesh.root.meshID)
        try writeContent()
    }

    private func writeContent() throws {
        let chunk = Manifest.Chunk(id: Manifest.id(of: [1, 2, 3]), byteCount: 3)
        let manifest = Manifest(
            channel: "menu",
            files: [
                Manifest.File(path: "index.html", isExecutable: false, chunks: [chunk]),
                Manifest.File(path: "bin/run", isExecutable: true, chunks: []),
            ])
        try good("manifest", manifest.encoded, "Two files, one of them empty and executable.")
        let key = TestMesh.key(100, 1)
        let charter = Charter(
            channel: "menu", epoch: 1, threshold: 1, keys: [key.publicKey.id], root: mesh.root,
            signers: [TestMesh.key(201, 0), TestMesh.key(202, 0)])
        var release = Release(
            channel: "menu", number: ReleaseNumber(epoch: 1, version: 2), audience: .all,
            manifest: Manifest.id(ofManifest: manifest.encoded),
            manifestBytes: UInt32(manifest.encoded.count), totalBytes: 3, files: 2,
            created: 1_700_000_000_000, message: "autumn", rings: [.sites(["s1"]), .all])
        let first = release
        release.number = ReleaseNumber(epoch: 1, version: 3)
        let signed = SignedRelease(
            first, charter: charter, mesh: mesh.root.meshID, signers: [key], wayBack: release)
        try good("release", signed.encoded, "A charter, a release for two rings, a way back.")
        let base = ContentMessage.Base(manifest: release.manifest, places: [4..<5])
        let message = ContentMessage.get(
            7, release.manifest, .chunks([0..<2, 5..<6], base: base))
        try good("content-message", message.encoded, "Three chunks are wanted, with a base.")
    }

    func good(
        _ format: String, named name: String, _ bytes: [UInt8], _ comment: String
    ) throws {
        try Vector(
            name: "\(format)-\(name)-ok.txt", format: format, expect: "ok", bytes: bytes
        ).write(comment)
    }

    func good(_ format: String, _ bytes: [UInt8], _ comment: String) throws {
        try Vector(name: "\(format)-ok.txt", format: format, expect: "ok", bytes: bytes).write(
            comment)
        for (fault, bytes) in [
            ("trailing", bytes + [0]), ("truncated", Array(bytes.dropLast())),
        ] {
            let bad = Vector(
                name: "\(format)-\(fault).txt", format: format, expect: "", bytes: bytes)
            do {
                _ = try again(bad)
            } catch {
                try Vector(
                    name: bad.name, format: format, expect: "refused \(error)", bytes: bytes
                )
                .write("The one above, \(fault) by a byte.")
            }
        }
    }

    private func writeRecords(_ author: Author, _ key: SigningKey) throws {
        let other = Author(node: TestMesh.bytes(8, 8), life: Life(1))
        let context = Context([Dot(author: other, sequence: 41)])
        let record = Record(
            kind: .put, stamp: HybridTime(1_700_000_000_000 << 16), key: try RecordKey("soup/1"),
            context: context, contentType: "text/plain", body: Array("hot".utf8))
        let gone = Record(
            kind: .delete, stamp: HybridTime(5), key: try RecordKey("soup/2"), context: .empty,
            contentType: "", body: [])
        let records = [record.encoded, gone.encoded, record.encoded]
        let ids = records.map { Record.id(of: $0, in: mesh.root.meshID) }
        let whole = Commit(
            signing: records, ids: ids, scope: Scope(namespace: "prices", audience: .site("s1")),
            author: author, first: 5, previous: TestMesh.bytes(1, 1),
            policy: NamespacePolicy.prices.id(for: "prices", in: mesh.root.meshID), key: key,
            mesh: mesh.root.meshID)
        let part = Commit(
            header: whole.header, signature: whole.signature,
            proof: whole.proof.dropping([0: ids[0], 1: ids[1]]), records: [records[2]])
        let message = CommitsMessage(
            scope: whole.header.scope, author: author, after: 4, through: 7, commits: [part])
        try good("record", record.encoded, "A value that supersedes dot 41 of another node.")
        try good(
            "commit-header", whole.header.encoded, "Three records of an author from sequence 5 on.")
        try good(
            "commits", message.encoded,
            "The last of the three, with one hash for the two that are gone.")
        try RecordVectors.writeBad(record, whole, message)
        try good(
            "policy", NamespacePolicy.orders.encoded, "A log for each site, written by the site.")
        try writePolicies()
    }

    private func writePolicies() throws {
        func document(_ key: SigningKey) -> PolicyDocument {
            PolicyDocument(
                of: "orders", .orders, created: 1_700_000_000_000, key: key,
                mesh: mesh.root.meshID)
        }
        try good(
            "policy-document", document(mesh.enrol).encoded, "The policy above, for `orders`.")
        let stranger = document(mesh.revoke).encoded
        try Vector(
            name: "policy-document-unknown-key.txt", format: "policy-document",
            expect: "refused \(TrustError.unknownEnrolKey)", bytes: stranger
        ).write("The one above, signed by a key that enrols nobody.")
        var changed = document(mesh.enrol).encoded
        changed[6] ^= 1
        try Vector(
            name: "policy-document-bad-signature.txt", format: "policy-document",
            expect: "refused \(TrustError.badSignature("policy document"))", bytes: changed
        ).write("The first, with another letter in the namespace's name.")
    }

    private func writeConversation(_ author: Author, _ key: SigningKey) throws {
        let leaf = SyncPart.LeafEntry(leaf: 9, bits: LeafBits(0b1010))
        let path = AuthorTrie.Path.root.child(3).child(0xa)
        let scope = SyncPart.ScopeEntry(
            scope: Scope(namespace: "menu", audience: .all), root: 0x0102_0304_0506)
        let log = SyncPart.AuthorEntry(tag: 7, frontier: 300, hash: 9, isHeld: false)
        let children: [UInt64] = [1, 0, 2] + [UInt64](repeating: 0, count: 13)
        let node = SyncPart.NodeEntry(index: 3, children: children)
        let hashes: [UInt64] = Array(0..<16)
        let parts: [SyncPart] = [
            .summary([UInt8](repeating: 3, count: 16), .all),
            .inStep([UInt8](repeating: 4, count: 16)), .scopes([scope]),
            .authors(scope: 0, path: path, isAnswer: true, [log]),
            .branches(scope: 0, path: path, hashes),
            .nodes(scope: 0, author: 7, level: 2, [node]),
            .leaves(scope: 0, author: 7, [leaf]), .wants(scope: 0, author: 7, [leaf]),
        ]
        let turn = SyncTurn(parts)
        try good("turn", turn.encoded, "One part of each kind.")
        try LinkVectors.write()
        let presence = Presence(
            key: key, mesh: mesh.root.meshID, version: .init(incarnation: 7, counter: 8),
            status: .alive, wan: .linked, priority: 3, port: 7374)
        let probe = ProbeMessage(
            .ping, 77, author.node.short,
            rumours: [
                .presence(presence, address: "10.0.0.1:7374"),
                .suspect(1, .init(incarnation: 2, counter: 3), by: 4),
                .away(5, .init(incarnation: 6, counter: 7), by: 8),
                .vouch(
                    Vouch(
                        key: key, mesh: mesh.root.meshID,
                        version: .init(incarnation: 7, counter: 9), subject: author.node,
                        isThere: true)),
            ])
        try good(
            "probe", probe.encoded, "A ping with one rumour of each kind, before it is sealed.")
        try RecordVectors.writeAddresses(probe.encoded)
        let beacon = Beacon(
            epoch: 1, node: author.node, incarnation: Incarnation(start: 2, random: 7), port: 7374,
            counter: 3)
        try good(
            "beacon", beacon.encoded(mesh: mesh.root.meshID, key: mesh.secret.beaconKey),
            "A beacon.")
    }

    private func writeTrust(_ certificate: Certificate) throws {
        let ticketKey = TestMesh.key(5, 5)
        let ticket = TicketFile(
            root: mesh.root, enrol: mesh.enrol, secrets: MeshSecrets(mesh.secret),
            ticketSeed: ticketKey.seed,
            ticket: Ticket(
                key: ticketKey.publicKey.id, serial: [UInt8](repeating: 1, count: 16), site: "s1",
                node: "n", isCentral: false, groups: [],
                grants: Grant.edge(site: "s1", groups: [])),
            seeds: ["centre.example:7374"])
        try good(
            "root", mesh.root.encoded, "A root document with three keys, two of which must sign.")
        try good("certificate", certificate.encoded, "A server of the site s1.")
        try ApprovalVectors.write(mesh)
        let revocation = Revocation(
            of: certificate.node, created: 1_700_000_000_000, reason: "stolen",
            cuts: [
                .init(scope: Scope("orders@site/s1")!, life: Life(7), through: 9),
                .init(scope: Scope("menu@all")!, life: Life(7), through: 2),
            ], key: mesh.revoke, mesh: mesh.root.meshID)
        try good("revocation", revocation.encoded, "Two logs of a server stand so far.")
        let tickets = Revocation(
            of: certificate.node, created: 1_700_000_000_000, reason: "", cuts: [],
            serials: [1, 2].map { [UInt8](repeating: $0, count: Ticket.serialByteCount) },
            key: mesh.revoke, mesh: mesh.root.meshID)
        try good(
            "revocation", named: "tickets", tickets.encoded, "Two tickets, and nothing stands.")
        try good("ticket", Array(ticket.text.utf8), "A ticket with a seed, as text.")
    }
}

/// What is hashed in a digest, and what comes out: `what: preimage hash`, one a line.
enum DigestVectors {
    private static let file = Vector.folder.appendingPathComponent("digests")
    private static let ids: [Digest] = [TestMesh.bytes(1, 1), TestMesh.bytes(1, 2)]

    private static func leaf() -> Digest {
        DigestTree.hash(leaf: 3, records: [(offset: 0, id: ids[0]), (offset: 63, id: ids[1])])
    }

    private static func children() -> [Digest] {
        [leaf(), leaf()] + [Digest](repeating: .zero, count: 14)
    }

    private static func log(_ author: Author) -> LogState {
        LogState(author: author, frontier: 300, root: leaf())
    }

    /// The hashes as the code computes them.
    static func computed(_ author: Author) -> [String: Digest] {
        [
            "leaf": leaf(), "node": DigestTree.hash(index: 1, children: children()),
            "log": log(author).hash, "scope": AuthorTrie([log(author)]).root,
        ]
    }

    static func write(_ author: Author) throws {
        var preimages: [(String, WireWriter)] = []
        var leafWriter = WireWriter()
        leafWriter.u8(0)
        leafWriter.u64(3)
        for (offset, id) in [(UInt8(0), ids[0]), (63, ids[1])] {
            leafWriter.u8(offset)
            leafWriter.append(id)
        }
        preimages.append(("leaf", leafWriter))
        var nodeWriter = WireWriter()
        nodeWriter.u8(1)
        for child in children() { nodeWriter.append(child) }
        preimages.append(("node", nodeWriter))
        var logWriter = WireWriter()
        logWriter.u8(2)
        logWriter.author(author)
        logWriter.u64(300)
        logWriter.append(leaf())
        preimages.append(("log", logWriter))
        var scopeWriter = WireWriter()
        scopeWriter.u8(4)
        scopeWriter.append(log(author).hash)
        preimages.append(("scope", scopeWriter))
        let lines = preimages.map { name, writer in
            "\(name): \(Hex.encode(writer.bytes)) \(Blake2b.hash(writer.bytes))"
        }
        let comment =
            "# Leaf 3 with offsets 0 and 63; node 1 over two such; a log to 300; its scope.\n"
        try (comment + lines.joined(separator: "\n") + "\n").write(
            to: file, atomically: true, encoding: .utf8)
    }

    static func read() throws -> [(name: String, preimage: [UInt8], hash: String)] {
        try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            .filter { !$0.hasPrefix("#") }.map { line in
                let fields = line.split(separator: " ")
                return (
                    String(fields[0].dropLast()), try #require(Hex.decode(String(fields[1]))),
                    String(fields[2])
                )
            }
    }
}

extension `The vectors` {
    @Test func `of digests are what the code computes, from the bytes that they name`() throws {
        let identity = mesh.identity("till")
        let author = Author(
            node: identity.certificate.node, life: Life(0x2_0000_0007))
        let computed = DigestVectors.computed(author)
        let vectors = try DigestVectors.read()
        #expect(vectors.count == computed.count)
        for vector in vectors {
            #expect(Blake2b.hash(vector.preimage).description == vector.hash)
            #expect(computed[vector.name]?.description == vector.hash, "\(vector.name)")
        }
    }
}
