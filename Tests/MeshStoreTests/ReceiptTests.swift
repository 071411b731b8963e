// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshReplication
import MeshRules
import Testing

@testable import MeshStore

@Suite struct `Receipts on disk` {
    private func author(_ number: UInt8) throws -> Author {
        Author(
            node: try #require(NodeID([UInt8](repeating: number, count: 32))), life: Life(7))
    }

    private func receipt(_ author: Author, _ place: UInt64, isNew: Bool = true) -> Receipt {
        let dot = Dot(author: author, sequence: place)
        return Receipt(dot: dot, live: [dot], isNew: isNew)
    }

    @Test func `are read as they were written, whatever stands beside what`() throws {
        let (one, other) = (try author(1), try author(2))
        let split = Receipt(
            dot: Dot(author: one, sequence: 9),
            live: [Dot(author: one, sequence: 9), Dot(author: other, sequence: 3)], isNew: false)
        let none = Receipt(dot: nil, live: [], isNew: false)
        let all = [
            receipt(one, 1), receipt(one, 2), receipt(one, 3, isNew: false), receipt(one, 5),
            receipt(other, 6), split, none, receipt(one, 10), receipt(one, 11),
        ]
        for count in 0...all.count {
            let some = Array(all.prefix(count))
            #expect(try StoredReceipts.decode(StoredReceipts.encode(some)) == some)
        }
    }

    @Test func `are read as they were kept before there were runs`() throws {
        let author = try author(1)
        let node = [UInt8](repeating: 1, count: 32)
        let place: [UInt8] = node + [7, 0, 0, 0, 0, 0, 0, 0] + [5, 0, 0, 0, 0, 0, 0, 0]
        #expect(
            try StoredReceipts.decode([3, 1] + place + place) == [receipt(author, 5)])
        #expect(
            try StoredReceipts.decode([2, 1] + place + place)
                == [receipt(author, 5, isNew: false)])
    }

    @Test func `of a large request take little room`() throws {
        let author = try author(1)
        let all = (1...1000).map { receipt(author, UInt64($0)) }
        #expect(StoredReceipts.encode(all).count < 64)
    }

    @Test func `that have rotted are refused, and promise no more places than a request has`()
        throws
    {
        let bytes = StoredReceipts.encode([receipt(try author(1), 5), receipt(try author(1), 6)])
        for bit in 0..<bytes.count * 8 {
            var rotten = bytes
            rotten[bit / 8] ^= 1 << (bit % 8)
            #expect((try? StoredReceipts.decode(rotten))?.count ?? 0 <= 1024)
        }
        #expect(throws: WireError.self) { try StoredReceipts.decode(Array(bytes.dropLast())) }
    }
}
