// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshContent
import MeshCore
import MeshCrypto
import MeshTesting
import Testing

@testable import MeshStore

@Suite struct `The shelf of releases` {
    private let root = NSTemporaryDirectory() + "mesh-shelf-\(UUID().uuidString)"

    private func noise(_ count: Int, _ seed: UInt64) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) }
    }

    /// A manifest of some files, with every chunk's bytes.
    private func release(_ files: [String: [UInt8]]) -> (
        id: Digest, bytes: [UInt8], [Digest: [UInt8]]
    ) {
        var chunks: [Digest: [UInt8]] = [:]
        let list = files.map { path, bytes in
            var start = 0
            let parts = Chunker.lengths(bytes).map { length in
                defer { start += length }
                let part = Array(bytes[start..<(start + length)])
                chunks[Manifest.id(of: part)] = part
                return Manifest.Chunk(id: Manifest.id(of: part), byteCount: UInt32(length))
            }
            return Manifest.File(path: path, isExecutable: path.hasSuffix(".sh"), chunks: parts)
        }
        let bytes = Manifest(channel: "menu", files: list).encoded
        return (Manifest.id(ofManifest: bytes), bytes, chunks)
    }

    @discardableResult
    private func fill(
        _ shelf: DiskShelf, _ release: (id: Digest, bytes: [UInt8], [Digest: [UInt8]]),
        atMost most: Int = .max
    ) throws -> Int {
        try shelf.begin(release.id, release.bytes, channel: "menu")
        let layout = try #require(shelf.layout(release.id))
        var written = 0
        for (place, chunk) in layout.chunks.enumerated() where !shelf.holds(release.id, place) {
            guard written < most else { return written }
            #expect(shelf.write(release.id, place, release.2[chunk.id] ?? []))
            written += 1
        }
        return written
    }

    private func contents(_ path: String) -> [UInt8]? {
        FileManager.default.contents(atPath: "\(root)/menu/active/\(path)").map(Array.init)
    }

    @Test func `lays a release out as plain files, and changes what is served by one rename`()
        throws
    {
        try Sodium.start()
        let shelf = try DiskShelf(root: root, reserve: 0)
        let one = release(["a/b": noise(90_000, 1), "run.sh": [1], "empty": []])
        try fill(shelf, one)
        #expect(!shelf.isWhole(one.id) && shelf.active("menu") == nil)
        try shelf.finish(one.id)
        try shelf.activate("menu", ReleaseNumber(epoch: 1, version: 2), one.id)
        #expect(contents("a/b") == noise(90_000, 1) && contents("empty") == [])
        #expect(FileManager.default.isExecutableFile(atPath: "\(root)/menu/active/run.sh"))
        let again = try DiskShelf(root: root, reserve: 0)
        #expect(again.active("menu") == ReleaseNumber(epoch: 1, version: 2))
        #expect(again.isWhole(one.id))
        try FileManager.default.removeItem(atPath: root)
    }

    @Test func `writes nothing twice: equal files are links, equal chunks come from what is here`()
        throws
    {
        try Sodium.start()
        let shelf = try DiskShelf(root: root, reserve: 0)
        let same = noise(500_000, 2)
        var other = noise(600_000, 3)
        try fill(shelf, release(["same": same, "other": other]))
        let first = release(["same": same, "other": other])
        try shelf.finish(first.id)
        other.replaceSubrange(300_000..<300_010, with: noise(10, 4))
        let second = release(["same": same, "moved": same, "other": other])
        #expect(try fill(shelf, second) <= 2)
        try shelf.finish(second.id)
        let links = ["\(first.id)/same", "\(second.id)/same", "\(second.id)/moved"].map { name in
            (try? FileManager.default.attributesOfItem(atPath: "\(root)/menu/trees/\(name)"))?[
                .systemFileNumber] as? Int
        }
        #expect(Set(links).count == 1 && links[0] != nil)
        // The old release goes; what the new one shares with it stays.
        try shelf.activate("menu", ReleaseNumber(epoch: 1, version: 4), second.id)
        shelf.collect(
            "menu", keeping: [second.id], numbers: [ReleaseNumber(epoch: 1, version: 4)])
        #expect(contents("same") == same && contents("other") == other)
        #expect(!FileManager.default.fileExists(atPath: "\(root)/menu/trees/\(first.id)"))
        try FileManager.default.removeItem(atPath: root)
    }

    @Test func `lets go of what it fetched in vain, and of nothing that is whole`() throws {
        try Sodium.start()
        let shelf = try DiskShelf(root: root, reserve: 0)
        let (one, two) = (release(["a": noise(900_000, 5)]), release(["b": noise(900_000, 6)]))
        try fill(shelf, one)
        try shelf.finish(one.id)
        #expect(try fill(shelf, two, atMost: 7) == 7)
        shelf.dropUnfinished(one.id)
        shelf.dropUnfinished(two.id)
        let left = try FileManager.default.contentsOfDirectory(atPath: "\(root)/menu/trees")
        #expect(left == ["\(one.id)"] && shelf.isWhole(one.id) && shelf.layout(two.id) == nil)
        try FileManager.default.removeItem(atPath: root)
    }

    @Test func `goes on where it was killed, and believes no byte that it cannot name`() throws {
        try Sodium.start()
        let one = release(["a": noise(900_000, 5)])
        let before = try fill(try DiskShelf(root: root, reserve: 0), one, atMost: 7)
        #expect(before == 7)
        // What was written half when the power went has not its name.
        let part = "\(root)/menu/trees/\(one.id).part/a"
        let file = try #require(FileHandle(forWritingAtPath: part))
        try file.seek(toOffset: 20_000)
        file.write(Data([1, 2, 3]))
        try file.close()
        let shelf = try DiskShelf(root: root, reserve: 0)
        let count = Layout(try Manifest(decoding: one.bytes)).chunks.count
        #expect(try fill(shelf, one) == count - 6)
        try shelf.finish(one.id)
        try shelf.activate("menu", ReleaseNumber(epoch: 1, version: 2), one.id)
        #expect(contents("a") == noise(900_000, 5))
        try FileManager.default.removeItem(atPath: root)
    }

    @Test
    func `finds what has changed on disk, gives it to nobody, and takes the right bytes back`()
        throws
    {
        try Sodium.start()
        let shelf = try DiskShelf(root: root, reserve: 0)
        let one = release(["a": noise(300_000, 6), "b": noise(40_000, 7)])
        try fill(shelf, one)
        try shelf.finish(one.id)
        #expect(shelf.scrub(one.id, from: 0, budget: .max).damaged.isEmpty)
        let path = "\(root)/menu/trees/\(one.id)/a"
        chmod(path, 0o644)
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.seek(toOffset: 150_000)
        file.write(Data([0xff, 0x00]))
        try file.close()
        let damaged = shelf.scrub(one.id, from: 0, budget: .max).damaged
        #expect(damaged.count == 1 && shelf.damagedFiles == [path])
        let place = damaged[0]
        #expect(!shelf.holds(one.id, place) && shelf.read(one.id, place) == nil)
        let layout = try #require(shelf.layout(one.id))
        #expect(shelf.write(one.id, place, one.2[layout.chunks[place].id] ?? []))
        #expect(shelf.damagedFiles.isEmpty && shelf.read(one.id, place) != nil)
        #expect(shelf.scrub(one.id, from: 0, budget: .max).damaged.isEmpty)
        try FileManager.default.removeItem(atPath: root)
    }

    @Test func `refuses what does not fit before anything is fetched, and manifests that lead out`()
        throws
    {
        try Sodium.start()
        let shelf = try DiskShelf(root: root, reserve: 1 << 50)
        #expect(throws: StoreError.self) {
            try shelf.begin(release(["a": [1]]).id, release(["a": [1]]).bytes, channel: "menu")
        }
        let roomy = try DiskShelf(root: root, reserve: 0)
        let evil = Manifest(
            channel: "menu", files: [Manifest.File(path: "../x", isExecutable: false, chunks: [])])
        let bytes = evil.encoded
        #expect(throws: StoreError.self) {
            try roomy.begin(Manifest.id(ofManifest: bytes), bytes, channel: "menu")
        }
        #expect(!FileManager.default.fileExists(atPath: "\(root)/menu"))
        try FileManager.default.removeItem(atPath: root)
    }

    @Test func `writes through no link that somebody planted`() throws {
        try Sodium.start()
        let shelf = try DiskShelf(root: root, reserve: 0)
        let one = release(["a": noise(20_000, 8)])
        let victim = root + "-victim"
        _ = FileManager.default.createFile(atPath: victim, contents: Data([9]))
        try FileManager.default.createDirectory(
            atPath: "\(root)/menu/trees/\(one.id).part", withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: "\(root)/menu/trees/\(one.id).part/a", withDestinationPath: victim)
        #expect(throws: StoreError.self) {
            try shelf.begin(one.id, one.bytes, channel: "menu")
        }
        #expect(FileManager.default.contents(atPath: victim) == Data([9]))
        try FileManager.default.removeItem(atPath: root)
        try FileManager.default.removeItem(atPath: victim)
    }
}
