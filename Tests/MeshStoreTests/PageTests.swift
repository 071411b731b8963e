// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import Testing

private let menu = Scope("menu@all")!

/// What an app reads of a file in which one bit has flipped, before any scrub has come by.
@Suite struct `A rotten page` {
    private static let count = 150
    private let mesh: TestMesh
    private let identity: DataDirectory.Identity
    private let whole: Data
    private var path: String { mesh.path(identity) }

    init() async throws {
        mesh = try TestMesh()
        let centre = try await mesh.centre(["menu": .menu])
        identity = centre.identity
        for index in 0..<Self.count { try await centre.put(menu, "k\(index)", "first \(index)") }
        for index in stride(from: 0, to: Self.count, by: 3) {
            try await centre.put(menu, "k\(index)", "value \(index)")
        }
        for index in 0..<Self.count where index % 3 != 0 {
            try await centre.put(menu, "k\(index)", "value \(index)")
        }
        centre.close()
        whole = try Data(contentsOf: URL(fileURLWithPath: mesh.path(identity)))
    }

    private func write(_ bytes: Data) throws {
        for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
        try bytes.write(to: URL(fileURLWithPath: path))
    }

    /// Keys that are not shown as they were written, though nothing says that something is lost.
    private func hidden(_ store: Store) throws -> [Int] {
        let wrong = try (0..<Self.count).filter {
            try store.text(menu, "k\($0)") != "value \($0)"
        }
        if wrong.isEmpty { return [] }
        store.settle()
        try store.scrubAll()
        // Whatever the scrub brings back had been hidden; what it notes as lost had rotted itself.
        let lost = try store.damageCount() + store.statistics.counts.damaged
        return lost >= wrong.count ? [] : wrong
    }

    /// Flips one bit, opens the store and reads every key, then writes between them and reads
    /// again.
    private func look(_ offset: Int, bit: UInt8) async throws {
        var rotten = whole
        rotten[offset] ^= bit
        try write(rotten)
        guard let store = try? mesh.store(identity) else { return }
        defer { store.close() }
        do {
            #expect(try hidden(store) == [], "bit \(bit) at \(offset)")
            try await store.put(menu, "k\(Self.count / 2)x", "between")
            #expect(try hidden(store) == [], "bit \(bit) at \(offset), after a write")
        } catch StoreError.database {
            // The process ends, and its next start looks at everything.
        } catch StoreError.closed {}
    }

    @Test func `hides no record, whatever copy of its key has rotted`() async throws {
        var offsets: [Int] = []
        for key in ["k7", "k31", "k64", "k99", "k121", "k148"] {
            var place = whole.startIndex
            while let found = whole.range(of: Data(key.utf8), in: place..<whole.endIndex) {
                offsets.append(found.upperBound - 1)
                place = found.upperBound
            }
        }
        #expect(offsets.count > 24)
        for offset in offsets {
            for bit: UInt8 in [1, 8, 64] { try await look(offset, bit: bit) }
        }
    }

    @Test func `hides no record, wherever its bit has flipped`() async throws {
        var random = SeededGenerator(seed: 11)
        for _ in 0..<120 {
            let offset = Int(random.next() % UInt64(whole.count))
            try await look(offset, bit: 1 << UInt8(random.next() % 8))
        }
    }

    /// A number as SQLite writes that of a row: seven bits a byte, the highest first (file format,
    /// section 1.6).
    private static func varint(_ number: UInt64) -> [UInt8] {
        var (rest, bytes) = (number >> 7, [UInt8(number & 0x7f)])
        while rest > 0 {
            bytes.insert(UInt8(rest & 0x7f) | 0x80, at: 0)
            rest >>= 7
        }
        return bytes
    }

    @Test func `keeps no follower from what is written next, whatever number of a row has rotted`()
        async throws
    {
        try write(whole)
        let before = try mesh.store(identity)
        let numbers = try before.changes(after: .beginning, limit: 1000).changes.map(
            \.position.number)
        before.close()
        var tried = 0
        for number in numbers where number % 29 == 0 {
            let bytes = Data(Self.varint(number))
            var place = whole.startIndex
            while let found = whole.range(of: bytes, in: place..<whole.endIndex) {
                place = found.upperBound
                for bit: UInt8 in [0x08, 0x40] {
                    var rotten = whole
                    rotten[found.lowerBound] ^= bit
                    try write(rotten)
                    let store = try mesh.store(identity)
                    defer { store.close() }
                    tried += 1
                    var follower = FeedPosition.beginning
                    func told() throws -> Set<String> {
                        var keys: Set<String> = []
                        while case let (changes, position) = try store.changes(
                            after: follower, limit: 50), position > follower
                        {
                            keys.formUnion(changes.map(\.key.description))
                            follower = position
                        }
                        return keys
                    }
                    #expect(try told().count >= Self.count)
                    try await store.put(menu, "next", "1")
                    #expect(try told() == ["next"], "\(number), bit \(bit)")
                }
            }
        }
        #expect(tried > 6)
    }

    @Test func `carries its sum again once everything that depends on it was looked at`() throws {
        // In the last page, a part that holds nothing: SQLite fills pages from their end.
        var rotten = whole
        let page = try #require(
            stride(from: whole.count - 4096, to: 0, by: -4096).first {
                whole[$0] == 10 && whole[($0 + 2000)..<($0 + 2100)].allSatisfy { $0 == 0 }
            })
        rotten[page + 2050] ^= 4
        try write(rotten)
        /// What one process meets.
        func met() throws -> Int {
            let store = try mesh.store(identity)
            defer { store.close() }
            #expect(try hidden(store) == [])
            try store.scrubAll()
            return store.rottenPageCount
        }
        #expect(try met() > 0)
        #expect(try met() == 0)
    }

    /// Flips a bit of a text in the last page of a kind that holds it in the write-ahead log.
    private func rotLog(_ kind: UInt8, _ text: String) throws {
        let log = try FileHandle(forUpdating: URL(fileURLWithPath: path + "-wal"))
        defer { try? log.close() }
        let bytes = try #require(try log.readToEnd())
        let frames = stride(from: 32, to: bytes.count - 4119, by: 4120).map { $0 + 24 }
        let found = frames.reversed().lazy.filter { bytes[$0] == kind }.compactMap {
            bytes.range(of: Data(text.utf8), in: $0..<$0 + 4096)
        }.first
        let offset = try #require(found).upperBound - 1
        try log.seek(toOffset: UInt64(offset))
        try log.write(contentsOf: [bytes[offset] ^ 16])
    }

    @Test func `of the write-ahead log is met before it is believed, and where it was copied`()
        async throws
    {
        try write(whole)
        do {
            let store = try mesh.store(identity)
            // The log holds every page of the index now.
            for index in 0..<Self.count {
                try await store.put(menu, "k\(index)", "value \(index)")
            }
            // Ten is a leaf of an index.
            try rotLog(10, "k100")
            // Only the end of the process reads it.
            store.close()
        }
        let store = try mesh.store(identity)
        defer { store.close() }
        #expect(try hidden(store) == [])
        #expect(store.rottenPageCount > 0)
    }

    @Test func `of the write-ahead log that a commit copies has no write done twice`() async throws
    {
        try write(whole)
        let store = try mesh.store(identity)
        defer { store.close() }
        for index in 0..<Self.count { try await store.put(menu, "k\(index)", "value \(index)") }
        let receipts = Scope("receipts@all")!
        let log = NamespacePolicy(audience: .all, writers: .any, merge: .log)
        _ = try await store.write(
            WriteRequest(
                scope: NamespacePolicy.scope, writes: [try mesh.define("receipts", log)]))
        for index in 0..<500 {
            // Thirteen is a leaf of a table; nothing that comes later is written to this one.
            if index == 10 { try rotLog(13, "value 70") }
            // A write that is done again finds its own entry, and is refused.
            try await store.put(receipts, "r\(index)", "paid")
        }
        #expect(store.rottenPageCount > 0)
    }

    @Test func `of those that are free gives no page away twice`() async throws {
        try write(whole)
        try mesh.rot(
            identity,
            "CREATE TABLE junk(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90) INSERT INTO junk SELECT zeroblob(4000) FROM n; DROP TABLE junk"
        )
        // What was changed past the layer carries its sums from here on.
        let before = try mesh.store(identity)
        _ = try hidden(before)
        try before.scrubAll()
        before.close()
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        let trunk = bytes[32..<36].reduce(0) { $0 << 8 | Int($1) }
        try #require(trunk > 1)
        // The first leaf that the trunk names becomes a page that is in use.
        let leaf = (trunk - 1) * 4096 + 8
        bytes.replaceSubrange(leaf..<leaf + 4, with: [0, 0, 0, 9])
        try write(bytes)
        let store = try mesh.store(identity)
        defer { store.close() }
        for index in 0..<60 {
            try await store.put(menu, "n\(index)", String(repeating: "x", count: 4000))
        }
        #expect(try hidden(store) == [])
        for index in 0..<60 {
            #expect(try store.text(menu, "n\(index)")?.utf8.count == 4000)
        }
        #expect(try store.damageCount() == 0)
    }
}
