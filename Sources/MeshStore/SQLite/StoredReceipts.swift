// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshRules

/// The receipts of a request that has a name, as they lie on disk until the name is forgotten.
///
/// Most requests write keys that nothing else lives under, at places that follow each other. Such
/// receipts are kept as one run: an import of a million rows would take 100 MB of them otherwise.
enum StoredReceipts {
    private enum Flag {
        static let isNew: UInt8 = 1
        static let hasDot: UInt8 = 2
        static let isRun: UInt8 = 4
    }

    /// Receipts whose own place is all that lives, at places that follow each other.
    private struct Run {
        let first: Dot
        let isNew: Bool
        var count: Int

        init?(_ receipt: Receipt) {
            guard let dot = receipt.dot, receipt.live == [dot] else { return nil }
            first = dot
            isNew = receipt.isNew
            count = 1
        }

        mutating func take(_ receipt: Receipt) -> Bool {
            guard let next = Run(receipt), next.isNew == isNew,
                next.first.author == first.author,
                next.first.sequence == first.sequence + UInt64(count)
            else { return false }
            count += 1
            return true
        }
    }

    static func encode(_ receipts: [Receipt]) -> [UInt8] {
        var writer = WireWriter()
        var rest = receipts[...]
        while let receipt = rest.popFirst() {
            if var run = Run(receipt) {
                while let next = rest.first, run.take(next) { rest.removeFirst() }
                writer.u8(Flag.isRun | (run.isNew ? Flag.isNew : 0))
                writer.count(run.count)
                write(run.first, to: &writer)
            } else {
                let dot = receipt.dot == nil ? 0 : Flag.hasDot
                writer.u8((receipt.isNew ? Flag.isNew : 0) | dot)
                writer.count(receipt.live.count)
                for dot in receipt.live + [receipt.dot].compactMap(\.self) {
                    write(dot, to: &writer)
                }
            }
        }
        return writer.bytes
    }

    /// - Throws: for what a disk has made of them.
    static func decode(_ bytes: [UInt8]) throws(WireError) -> [Receipt] {
        var reader = WireReader(bytes)
        var receipts: [Receipt] = []
        while reader.left > 0 {
            let flags = try reader.u8()
            let isNew = flags & Flag.isNew != 0
            let count = try reader.count("receipt", limit: 1 << 20)
            switch flags & ~Flag.isNew {
            case Flag.isRun:
                let first = try dot(&reader)
                guard count <= CommitHeader.recordsMax,
                    first.sequence <= Dot.sequenceMax - UInt64(count)
                else { throw .invalid("receipt") }
                for place in first.sequence..<first.sequence + UInt64(count) {
                    let dot = Dot(author: first.author, sequence: place)
                    receipts.append(Receipt(dot: dot, live: [dot], isNew: isNew))
                }
            case 0, Flag.hasDot:
                var live: [Dot] = []
                for _ in 0..<count { live.append(try dot(&reader)) }
                let own = flags & Flag.hasDot == 0 ? nil : try dot(&reader)
                receipts.append(Receipt(dot: own, live: live, isNew: isNew))
            default: throw .invalid("receipt")
            }
        }
        return receipts
    }

    private static func write(_ dot: Dot, to writer: inout WireWriter) {
        writer.author(dot.author)
        writer.u64(dot.sequence)
    }

    private static func dot(_ reader: inout WireReader) throws(WireError) -> Dot {
        Dot(author: try reader.author(), sequence: try reader.sequence())
    }
}
