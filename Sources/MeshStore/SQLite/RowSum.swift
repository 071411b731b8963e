// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshRules

/// A sum over a row's columns that shows a rotten bit; no protection against a person.
///
/// What people could forge is signed. A sum finds what a disk did to numbers and blobs that no
/// signature covers, at a few nanoseconds a row.
struct RowSum {
    private var state: UInt64 = 0x9e37_79b9_7f4a_7c15

    /// What was summed so far.
    var value: UInt64 { mix(state, 0xd6e8_feb8_6659_fd93) }

    private func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let (high, low) = a.multipliedFullWidth(by: b)
        return high ^ low
    }

    mutating func add(_ word: UInt64) {
        state = mix(state ^ word, 0xa076_1d64_78bd_642f) ^ state.byteSwapped
    }

    mutating func add(_ bytes: [UInt8]) {
        add(UInt64(bytes.count))
        bytes.withUnsafeBytes { raw in
            var offset = 0
            while offset + 8 <= raw.count {
                add(raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                offset += 8
            }
            var last: UInt64 = 0
            for index in offset..<raw.count { last = last << 8 | UInt64(raw[index]) }
            add(last)
        }
    }

    mutating func add(_ log: LogKey) {
        add(UInt64(bitPattern: log.scope))
        add(UInt64(bitPattern: log.author))
    }

    mutating func add(_ value: some FixedBytes) {
        value.withUnsafeBytes { raw in
            for offset in stride(from: 0, to: 32, by: 8) {
                add(raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
            }
        }
    }
}

/// Where a record stands in the database's own numbers.
struct LogKey: Hashable, Comparable {
    let scope: Int64
    let author: Int64

    static func < (lhs: LogKey, rhs: LogKey) -> Bool {
        (lhs.scope, lhs.author) < (rhs.scope, rhs.author)
    }
}

/// The columns of a record that say where it stands and whether it lives.
struct RecordPlace {
    let log: LogKey
    let sequence: UInt64
    let id: Digest
    let merge: UInt8
    /// When it was superseded, for whom it is kept, and by what; nil if it lives.
    var gone: (number: UInt64, undo: UndoShare, by: LogKey, sequence: UInt64)?

    var sum: UInt64 {
        var sum = RowSum()
        sum.add(log)
        sum.add(sequence)
        sum.add(id)
        sum.add(UInt64(merge))
        if let gone {
            sum.add(gone.number)
            sum.add(UInt64(bitPattern: gone.undo.number))
            sum.add(UInt64(bitPattern: gone.by.author))
            sum.add(gone.sequence)
        }
        return sum.value
    }
}

/// The sums of the other tables.
enum Sums {
    static func name(_ id: Int64, _ bytes: [UInt8]) -> UInt64 {
        var sum = RowSum()
        sum.add(UInt64(bitPattern: id))
        sum.add(bytes)
        return sum.value
    }

    static func log(
        _ log: LogKey, _ frontier: UInt64, _ header: [UInt8], _ signature: [UInt8], _ head: Digest
    ) -> UInt64 {
        var sum = RowSum()
        sum.add(log)
        sum.add(frontier)
        sum.add(header)
        sum.add(signature)
        sum.add(head)
        return sum.value
    }

    /// Whether a row of `log` is what was written: its columns `frontier, header, signature, head,
    /// sum` from one on.
    static func isLog(_ key: LogKey, _ row: SQLRow, from column: Int32) -> Bool {
        log(
            key, row.sequence(column), row.bytes(column + 1), row.bytes(column + 2),
            row.fixed(column + 3) ?? .zero) == row.bits(column + 4)
    }

    static func root(_ log: LogKey, _ root: Digest) -> UInt64 {
        var sum = RowSum()
        sum.add(log)
        sum.add(root)
        return sum.value
    }

    static func node(_ log: LogKey, _ level: Int, _ place: UInt64, _ hash: Digest) -> UInt64 {
        var sum = RowSum()
        sum.add(log)
        sum.add(UInt64(level))
        sum.add(place)
        sum.add(hash)
        return sum.value
    }

    static func batch(
        _ log: LogKey, _ first: UInt64, _ last: UInt64, _ header: [UInt8], _ signature: [UInt8],
        _ proof: [UInt8]
    ) -> UInt64 {
        var sum = RowSum()
        sum.add(log)
        sum.add(first)
        sum.add(last)
        sum.add(header)
        sum.add(signature)
        sum.add(proof)
        return sum.value
    }
}
