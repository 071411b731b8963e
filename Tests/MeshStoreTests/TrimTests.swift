// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import MeshTrust
import Testing

private let prices = Scope("prices@site/s1")!

/// Superseded records beyond their room go, in the transaction of whatever else is waiting.
@Suite struct `A trim` {
    @Test func `does not end a transaction before a revocation that came with it is carried out`()
        async throws
    {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(["prices": .prices])
        let store = try mesh.store(mesh.identity("store"))
        #expect(try await store.reconcile(with: centre) != nil)
        // One key again and again: what was there before is kept, up to its room.
        let body = [UInt8](repeating: 1, count: 60_000)
        let write = WriteRequest(
            scope: prices, writes: [Write(.put, try RecordKey("k"), body: body)])
        let room = UndoClass.own.room.bytes
        for _ in 1..<(room + room / 64) / (body.count + 64) { _ = try await store.write(write) }
        // One of the next writes goes beyond the room. The transaction after it sees that, and the
        // trim is done with what has come by then: the second revocation.
        for number in 0..<6 {
            let revocations = try ["a", "b"].map { name in
                let thief = PeerWriter(mesh.identity("thief-\(number)\(name)"))
                try store.keep(thief.identity.certificate)
                return (
                    thief.message(prices, [try thief.record(name, "thief's")]),
                    Revocation(
                        of: thief.author.node, created: 1, reason: "", cuts: [], key: mesh.revoke,
                        mesh: mesh.root.meshID)
                )
            }
            for (message, _) in revocations { _ = try await store.take(message) }
            _ = try await withCheckedThrowingContinuation { continuation in
                store.write(write) { _ in
                    store.revoke(revocations[0].1) { _ in
                        store.revoke(revocations[1].1) { continuation.resume(with: $0) }
                    }
                }
            }
            store.settle()
            for name in ["a", "b"] { #expect(try store.values(prices, name) == []) }
        }
        #expect(store.statistics.counts.undoDropped > 0)
    }

    @Test func `takes no more of large values than it must, where there are many small ones`()
        async throws
    {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(["prices": .prices])
        let store = try mesh.store(mesh.identity("store"))
        #expect(try await store.reconcile(with: centre) != nil)
        let room = UndoClass.own.room.bytes
        let large = [UInt8](repeating: 1, count: 60_000)
        let key = try RecordKey("large")
        for _ in 0...room / 60_100 {
            _ = try await store.write(
                WriteRequest(scope: prices, writes: [Write(.put, key, body: large)]))
        }
        let small = try (0..<1000).map { number in
            Write(.put, try RecordKey("small/\(number)"), body: [UInt8](repeating: 2, count: 100))
        }
        for _ in 0..<9 { _ = try await store.write(WriteRequest(scope: prices, writes: small)) }
        store.settle()
        let dropped = store.statistics.counts.undoDropped
        // Eight times a thousand small ones are some 1.6 MB; a large one is 60 KB.
        #expect((1...40).contains(dropped), "\(dropped) were dropped")
    }

    @Test func `pushes out what two thieves pile up, and nothing that they stole`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(["prices": .prices])
        let store = try mesh.store(mesh.identity("store"))
        let honest = try mesh.store(mesh.identity("honest"))
        #expect(try await honest.reconcile(with: centre) != nil)
        for keys in 0..<200 { try await honest.put(prices, "soup/\(keys)", "4") }
        #expect(try await honest.reconcile(with: centre) != nil)
        #expect(try await store.reconcile(with: centre) != nil)
        var thieves = ["one", "other"].map { Thief(PeerWriter(mesh.identity($0))) }
        for thief in thieves { try store.keep(thief.writer.identity.certificate) }

        let stolen = try (0..<200).map { number in
            let old = try #require(try store.get(try RecordKey("soup/\(number)"), in: prices))
            return try thieves[0].writer.record(
                "soup/\(number)", "0", seen: old.versions.map(\.dot))
        }
        _ = try await store.take(thieves[0].message(stolen))
        // Each overwrites what the other wrote, and begins new lives, until the room is full thrice.
        let body = String(repeating: "x", count: 60_000)
        var seen: [Dot] = []
        for round in 0..<3 * UndoClass.others.room.bytes / body.utf8.count {
            let number = round % 2
            if round % 50 < 2 { thieves[number].beginLife() }
            let junk = try thieves[number].writer.record("junk", body, seen: seen)
            #expect(try await store.take(thieves[number].message([junk])).stored == 1)
            seen = [thieves[number].last]
        }
        #expect(store.statistics.counts.undoDropped > 800)
        for thief in thieves {
            let revocation = Revocation(
                of: thief.writer.author.node, created: 1, reason: "", cuts: [], key: mesh.revoke,
                mesh: mesh.root.meshID)
            _ = try await withCheckedThrowingContinuation { continuation in
                store.revoke(revocation) { continuation.resume(with: $0) }
            }
        }
        let back = try (0..<200).count { try store.values(prices, "soup/\($0)") == ["4"] }
        #expect(back == 200)
    }
}

/// A node that writes what it likes, in as many lives as it likes.
private struct Thief {
    private(set) var writer: PeerWriter
    private var written: UInt64 = 0
    private var previous: Digest?

    init(_ writer: PeerWriter) { self.writer = writer }

    var last: Dot { writer.dot(written) }

    mutating func beginLife() {
        writer = PeerWriter(writer.identity, life: writer.author.life.value + 1)
        (written, previous) = (0, nil)
    }

    mutating func message(_ records: [Record]) -> CommitsMessage {
        let commit = writer.commit(prices, records, first: written + 1, previous: previous)
        written += UInt64(records.count)
        previous = commit.header.id(in: writer.identity.root.meshID)
        return writer.run([commit])
    }
}
