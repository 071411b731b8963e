// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshTesting
import Testing

@testable import MeshContent

func noise(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = SeededGenerator(seed: seed)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) }
}

@Suite struct `The chunker` {
    @Test func `cuts within its bounds, around its normal length, and loses nothing`() throws {
        try Sodium.start()
        let lengths = Chunker.lengths(noise(4 << 20, seed: 1))
        #expect(lengths.reduce(0, +) == 4 << 20)
        for length in lengths.dropLast() {
            #expect(
                (ContentSpecification.chunkBytesMin...ContentSpecification.chunkBytesMax).contains(
                    length))
        }
        let mean = (4 << 20) / lengths.count
        #expect((24_000...44_000).contains(mean), "\(mean)")
        #expect(Chunker.lengths([]) == [] && Chunker.lengths([1]) == [1])
    }

    @Test func `cuts equal bytes to the longest chunk`() throws {
        try Sodium.start()
        let lengths = Chunker.lengths([UInt8](repeating: 0, count: 1 << 20))
        #expect(lengths.allSatisfy { $0 <= ContentSpecification.chunkBytesMax })
    }

    @Test func `moves no cut but those beside an insertion`() throws {
        try Sodium.start()
        let old = noise(2 << 20, seed: 2)
        let new = Array(old.prefix(700_001)) + [1, 2, 3] + Array(old.dropFirst(700_001))
        func ids(_ bytes: [UInt8]) -> [Digest] {
            var start = 0
            return Chunker.lengths(bytes).map { length in
                defer { start += length }
                return Manifest.id(of: Array(bytes[start..<(start + length)]))
            }
        }
        let known = Set(ids(old))
        #expect(ids(new).count { !known.contains($0) } <= 4)
    }

    @Test func `cuts as it did when its format was fixed`() throws {
        try Sodium.start()
        // Another table or mask would make every publisher's chunks new.
        let lengths = Chunker.lengths(noise(400_000, seed: 3))
        #expect(
            lengths == [
                34376, 34595, 35069, 35599, 43723, 35132, 50920, 51525, 45798, 33263,
            ])
    }
}

@Suite struct `A patch` {
    @Test func `leads from any bytes to any others, and costs what is new`() {
        var random = SeededGenerator(seed: 4)
        for _ in 0..<300 {
            let base = noise(Int(random.next() % 200), seed: random.next())
            var new = base
            for _ in 0..<(random.next() % 3) where !new.isEmpty {
                new[Int(random.next() % UInt64(new.count))] ^= 1
            }
            if random.next() % 2 == 0 { new.insert(7, at: new.count / 2) }
            let patch = Patch(from: base, to: new)
            #expect(patch.apply(to: base) == new)
            var writer = WireWriter()
            patch.encode(to: &writer)
            var reader = WireReader(writer.bytes)
            #expect((try? Patch(from: &reader, limit: 1000)) == patch)
        }
        var edited = noise(30_000, seed: 5)
        let base = edited
        edited.replaceSubrange(9_000..<13_096, with: noise(4096, seed: 6))
        #expect(Patch(from: base, to: edited).newByteCount <= 4096)
        // Two edits cost both, and not what is between them; so does an insertion beside one.
        edited.replaceSubrange(20_000..<20_100, with: noise(100, seed: 7))
        edited.insert(contentsOf: [1, 2, 3], at: 500)
        let patch = Patch(from: base, to: edited)
        #expect(patch.newByteCount <= 4096 + 100 + 3 && patch.steps.count <= 5)
        #expect(patch.apply(to: base) == edited)
    }

    @Test func `to a base that is too short gives nothing`() {
        let patch = Patch(from: [1, 2, 3, 4], to: [1, 2, 9, 3, 4])
        #expect(patch.apply(to: [1]) == nil && patch.newByteCount == 1)
    }
}
