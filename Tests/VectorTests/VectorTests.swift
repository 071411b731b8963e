// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshDiscovery
import MeshLink
import MeshReplication
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

    private func again(_ vector: Vector) throws -> [UInt8] {
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
        case "turn": return try SyncTurn(decoding: bytes).encoded
        case "link-message": return try LinkMessage(decoding: bytes).encoded
        case "root": return try RootDocument(decoding: bytes).encoded
        case "certificate": return try Certificate(decoding: bytes, root: mesh.root).encoded
        case "beacon":
            let (id, key) = (mesh.root.meshID, mesh.secret.beaconKey)
            return try Beacon(decoding: bytes, mesh: id, key: key).encoded(mesh: id, key: key)
        case "ticket":
            let text = String(decoding: bytes, as: UTF8.self)
            return Array(try TicketFile(text: text).text.utf8)
        default: throw WireError.invalid("format")
        }
    }

    @Test func `are accepted and written again as the same bytes, or refused as they say`() throws {
        let vectors = try Vector.all()
        #expect(Set(vectors.map(\.format)).count == 10)
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
            node: identity.certificate.node, incarnation: Incarnation(start: 2, random: 7))
        var context = Context.empty
        context.insert(
            Dot(
                author: Author(node: TestMesh.bytes(8, 8), incarnation: Incarnation(1)),
                sequence: 41))
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
            author: author, first: 5, previous: TestMesh.bytes(1, 1), key: identity.nodeKey,
            mesh: mesh.root.meshID)
        let part = Commit(
            header: whole.header, signature: whole.signature,
            proof: whole.proof.dropping([0: ids[0], 1: ids[1]]), records: [records[2]])
        let message = CommitsMessage(
            scope: whole.header.scope, author: author, after: 4, through: 7, commits: [part])
        let leaf = SyncPart.LeafEntry(leaf: 9, bits: LeafBits(0b1010))
        let turn = SyncTurn([
            .summary([UInt8](repeating: 3, count: 16), .all), .inStep,
            .wants(scope: 0, author: 7, [leaf]),
        ])
        let beacon = Beacon(
            epoch: 1, node: author.node, incarnation: author.incarnation, port: 7374, counter: 3)
        let ticketKey = TestMesh.key(5, 5)
        let ticket = TicketFile(
            root: mesh.root, enrol: mesh.enrol, secret: mesh.secret, ticketSeed: ticketKey.seed,
            ticket: Ticket(
                key: ticketKey.publicKey.id, serial: [UInt8](repeating: 1, count: 16), site: "s1",
                node: "n",
                isCentral: false, groups: [], grants: Grant.edge(site: "s1", groups: [])),
            seeds: ["centre.example:7374"])
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
        try good("record", record.encoded, "A value that supersedes dot 41 of another node.")
        try good(
            "commit-header", whole.header.encoded, "Three records of an author from sequence 5 on.")
        try good(
            "commits", message.encoded,
            "The last of the three, with one hash for the two that are gone.")
        try good(
            "policy", NamespacePolicy.orders.encoded, "A log for each site, written by the site.")
        try good("turn", turn.encoded, "A summary, its answer, and two sequences that are wanted.")
        try good("link-message", LinkMessage.ping(7).encoded, "A ping.")
        try good(
            "root", mesh.root.encoded, "A root document with three keys, two of which must sign.")
        try good("certificate", identity.certificate.encoded, "A server of the site s1.")
        try good(
            "beacon", beacon.encoded(mesh: mesh.root.meshID, key: mesh.secret.beaconKey),
            "A beacon.")
        try good("ticket", Array(ticket.text.utf8), "A ticket with a seed, as text.")
    }
}
