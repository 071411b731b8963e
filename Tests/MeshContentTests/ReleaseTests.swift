// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshTesting
import MeshTrust
import Testing

@testable import MeshContent

/// A channel with two publish keys of which both must sign.
struct Channel {
    let mesh: TestMesh
    let keys: [SigningKey]
    let charter: Charter

    init(_ mesh: TestMesh, name: String = "menu", epoch: UInt32 = 1, roots: Int = 2) {
        self.mesh = mesh
        keys = (0..<2).map { TestMesh.key(UInt8(100 + $0), UInt8(truncatingIfNeeded: epoch)) }
        charter = Charter(
            channel: name, epoch: epoch, threshold: 2, keys: keys.map(\.publicKey.id),
            root: mesh.root, signers: (0..<roots).map { TestMesh.key(201 + UInt8($0), 0) })
    }

    func release(
        _ version: UInt64, channel: String = "menu", epoch: UInt32 = 1,
        audience: Audience = .all, manifest: Digest = .zero, rings: [Ring] = []
    ) -> Release {
        Release(
            channel: channel, number: ReleaseNumber(epoch: epoch, version: version),
            audience: audience, manifest: manifest, manifestBytes: 10, totalBytes: 100, files: 1,
            created: 1, message: "spring", rings: rings)
    }

    func sign(_ release: Release, by count: Int = 2, back: Release? = nil) -> SignedRelease {
        SignedRelease(
            release, charter: charter, mesh: mesh.root.meshID, signers: Array(keys.prefix(count)),
            wayBack: back)
    }
}

@Suite struct `A signed release` {
    @Test func `is read as it was written, with the way back that was signed with it`() throws {
        let channel = Channel(try TestMesh())
        let rings: [Ring] = [.sites(["s1", "s2"]), .group("north"), .percent(10), .all]
        let signed = channel.sign(
            channel.release(4, audience: .group("north"), rings: rings), back: channel.release(5))
        let again = try SignedRelease(decoding: signed.encoded, root: channel.mesh.root)
        #expect(again == signed)
        #expect(again.release.rings == rings)
        let back = try #require(again.back)
        #expect(back.release.number.version == 5 && back.back == nil)
        #expect(try SignedRelease(decoding: back.encoded, root: channel.mesh.root) == back)
    }

    @Test func `is refused when any byte of it is changed, cut off or added`() throws {
        let channel = Channel(try TestMesh())
        let bytes = channel.sign(channel.release(2), back: channel.release(3)).encoded
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 0x10
            #expect(throws: ContentRefusal.self) {
                try SignedRelease(decoding: changed, root: channel.mesh.root)
            }
        }
        for count in [0, 1, bytes.count / 2, bytes.count - 1] {
            #expect(throws: ContentRefusal.self) {
                try SignedRelease(decoding: Array(bytes.prefix(count)), root: channel.mesh.root)
            }
        }
        #expect(throws: ContentRefusal.self) {
            try SignedRelease(decoding: bytes + [0], root: channel.mesh.root)
        }
    }

    @Test func `needs as many signatures as its charter asks, and the charter the root's`() throws {
        let mesh = try TestMesh()
        let channel = Channel(mesh)
        #expect(throws: ContentRefusal.belowThreshold(1, of: 2)) {
            try SignedRelease(
                decoding: channel.sign(channel.release(2), by: 1).encoded, root: mesh.root)
        }
        let weak = Channel(mesh, roots: 1)
        #expect(throws: ContentRefusal.belowThreshold(1, of: 2)) {
            try SignedRelease(decoding: weak.sign(weak.release(2)).encoded, root: mesh.root)
        }
        let foreign = Channel(try TestMesh(seed: 9))
        #expect(throws: ContentRefusal.self) {
            try SignedRelease(decoding: foreign.sign(foreign.release(2)).encoded, root: mesh.root)
        }
    }

    @Test func `of another channel or epoch than its charter's is refused`() throws {
        let channel = Channel(try TestMesh())
        for release in [
            channel.release(2, channel: "prices"), channel.release(2, epoch: 2),
            channel.release(.max),
        ] {
            #expect(throws: ContentRefusal.wrongChannel) {
                try SignedRelease(
                    decoding: channel.sign(release).encoded, root: channel.mesh.root)
            }
        }
        // The way back is the next number and no other.
        #expect(throws: ContentRefusal.wrongChannel) {
            try SignedRelease(
                decoding: channel.sign(channel.release(2), back: channel.release(9)).encoded,
                root: channel.mesh.root)
        }
    }

    @Test func `of a later epoch outranks any version of the one before`() {
        let stolen = ReleaseNumber(epoch: 1, version: .max - 1)
        #expect(stolen < ReleaseNumber(epoch: 2, version: 2))
        #expect(ReleaseNumber("2.17") == ReleaseNumber(epoch: 2, version: 17))
        #expect(ReleaseNumber("2") == nil && ReleaseNumber("2.x") == nil)
    }

    @Test func `is for the first ring that names a site`() {
        let release = Channel(try! TestMesh()).release(
            2, rings: [.sites(["s1"]), .group("north"), .percent(30), .all])
        #expect(release.ring(of: "s1", groups: []) == 0)
        #expect(release.ring(of: "s9", groups: ["north"]) == 1)
        let sites = (0..<1000).map { "shop-\($0)" }
        let early = sites.count { release.ring(of: $0, groups: []) == 2 }
        #expect((250...350).contains(early))
        #expect(sites.allSatisfy { [2, 3].contains(release.ring(of: $0, groups: [])) })
    }
}

@Suite struct `A manifest` {
    private func file(_ path: String, _ text: String = "x") -> Manifest.File {
        let bytes = Array(text.utf8)
        return Manifest.File(
            path: path, isExecutable: false,
            chunks: bytes.isEmpty
                ? [] : [Manifest.Chunk(id: Manifest.id(of: bytes), byteCount: UInt32(bytes.count))])
    }

    @Test func `is read as it was written, empty files among them`() throws {
        let manifest = Manifest(
            channel: "menu", files: [file("b/c"), file("a"), file("empty", "")])
        #expect(try Manifest(decoding: manifest.encoded) == manifest)
        #expect(manifest.files.map(\.path) == ["a", "b/c", "empty"])
        for count in 0..<manifest.encoded.count {
            #expect(throws: ContentRefusal.self) {
                try Manifest(decoding: Array(manifest.encoded.prefix(count)))
            }
        }
        #expect(throws: ContentRefusal.self) { try Manifest(decoding: manifest.encoded + [0]) }
    }

    @Test(arguments: [
        "../x", "a/../b", "/etc/passwd", "a//b", "a/", "./a", "a\\b", "a\u{0}b", "a\nb", "con",
        "x/NUL.txt", "", String(repeating: "a", count: 256), "a/.", "..",
    ])
    func `with a path that leads elsewhere is refused whole`(path: String) throws {
        let manifest = Manifest(channel: "menu", files: [file("good"), file(path)])
        #expect(throws: ContentRefusal.self) { try Manifest(decoding: manifest.encoded) }
    }

    @Test func `with two paths for one file, or a file in place of a folder, is refused`() {
        for pair in [["a", "A"], ["a", "a"], ["a/b", "a"], ["A/b", "a"]] {
            let manifest = Manifest(channel: "menu", files: pair.map { file($0) })
            #expect(throws: ContentRefusal.self) { try Manifest(decoding: manifest.encoded) }
        }
    }

    @Test func `with a path that is not UTF-8 is refused, found by fuzzing`() {
        #expect(throws: ContentRefusal.malformed("manifest", .invalid("path"))) {
            try Manifest(decoding: [1, 1, 0x64, 1, 1, 0, 0xf5, 0, 0])
        }
    }

    @Test func `with more files than its limit is refused before they are read`() {
        var writer = WireWriter()
        writer.u8(1)
        writer.short("menu".utf8)
        writer.count(10_000_000)
        #expect(throws: ContentRefusal.self) { try Manifest(decoding: writer.bytes) }
    }
}
