// SPDX-License-Identifier: Apache-2.0

internal import GRDBSQLite

/// The sums that SQLite puts into its write-ahead log, as one opening of the log sees them.
///
/// SQLite looks at them when it recovers, and then trusts the log. A page that has rotted there
/// would get a sum of its own as it is copied into the file; one that was met is marked, and gets
/// a wrong one.
///
/// Source: sqlite.org, "Database File Format", §4.1–4.3 (frames, checksums).
final class LogFrames {
    private static let headerByteCount = 32
    private static let frameHeaderByteCount = 24
    private static let frameByteCount = frameHeaderByteCount + PageSum.pageByteCount
    /// What the first four bytes of a log say if its sums are over little-endian words; one more
    /// if they are over big-endian ones.
    private static let magic: UInt32 = 0x377f_0682

    private let watch: PageWatch
    /// Where the last header of a frame was written.
    private var lastHeader: Int64 = -1
    /// Pages that were written again, in a transaction that goes on: their sums come as it ends.
    private var isWithoutSum: Set<Int64> = []

    init(_ watch: PageWatch) { self.watch = watch }

    /// Notes what was written to the log.
    func note(_ count: Int, at offset: Int64) {
        switch count {
        case Self.frameHeaderByteCount:
            lastHeader = offset
            isWithoutSum.remove(offset)
        case PageSum.pageByteCount:
            let header = offset - Int64(Self.frameHeaderByteCount)
            if header != lastHeader { isWithoutSum.insert(header) }
            lastHeader = -1
        default: break
        }
    }

    /// Looks whether a page of the log is what was written there.
    func check(_ page: UnsafeRawBufferPointer, at offset: Int64, in file: PageFile) {
        let header = offset - Int64(Self.frameHeaderByteCount)
        let place = header - Int64(Self.headerByteCount)
        guard place >= 0, place % Int64(Self.frameByteCount) == 0, !isWithoutSum.contains(header)
        else { return }
        // The sum goes on from that of the frame before, or of the log's own header.
        let before = place == 0 ? 24 : header - Int64(Self.frameByteCount) + 16
        guard let start = bytes(8, at: before, file), let frame = bytes(24, at: header, file),
            let kind = bytes(4, at: 0, file).map({ Self.word($0, 0) })
        else { return }
        // SQLite leaves salt and sum empty where an earlier frame is without a sum.
        if frame[8...].allSatisfy({ $0 == 0 }) { return }
        var sum = (Self.word(start, 0), Self.word(start, 4))
        let isBig = kind == Self.magic + 1
        frame.prefix(8).withUnsafeBytes { Self.add($0, to: &sum, isBig: isBig) }
        Self.add(page, to: &sum, isBig: isBig)
        guard sum != (Self.word(frame, 16), Self.word(frame, 20)) else { return }
        watch.meet(.logged(offset), sum: UInt64(sum.0) << 32 | UInt64(sum.1))
        watch.mark(page: Int64(Self.word(frame, 0)))
    }

    private func bytes(_ count: Int, at offset: Int64, _ file: PageFile) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        let code = bytes.withUnsafeMutableBytes { file.rawRead($0, offset) }
        return code == SQLITE_OK ? bytes : nil
    }

    /// A big-endian number, as all are in headers.
    private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }

    private static func add(
        _ bytes: UnsafeRawBufferPointer, to sum: inout (UInt32, UInt32), isBig: Bool
    ) {
        for place in stride(from: 0, through: bytes.count - 8, by: 8) {
            let first = bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self)
            let second = bytes.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self)
            sum.0 &+= (isBig ? UInt32(bigEndian: first) : UInt32(littleEndian: first)) &+ sum.1
            sum.1 &+= (isBig ? UInt32(bigEndian: second) : UInt32(littleEndian: second)) &+ sum.0
        }
    }
}
