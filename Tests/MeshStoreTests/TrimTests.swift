// SPDX-License-Identifier: Apache-2.0

import MeshCore
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
        let room = RuleLimits.room(for: .own).bytes
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
}
