// SPDX-License-Identifier: Apache-2.0

internal import GRDBSQLite

/// One opening of a file, with the file of the layer below.
final class PageFile {
    /// What is looked at in a file.
    enum Kind {
        /// The sums of its pages.
        case pages(PageWatch)
        /// The sums that SQLite has put into a write-ahead log.
        case log(LogFrames)
        /// Nothing.
        case other
    }

    private let inner: UnsafeMutablePointer<sqlite3_file>
    private let memory: UnsafeMutableRawPointer
    private let kind: Kind

    /// Takes an open file over, and the memory that it lies in.
    init(
        _ inner: UnsafeMutablePointer<sqlite3_file>, _ memory: UnsafeMutableRawPointer, _ kind: Kind
    ) {
        self.inner = inner
        self.memory = memory
        self.kind = kind
    }

    func close() -> Int32 {
        let code = below { $0.xClose?($1) } ?? SQLITE_OK
        memory.deallocate()
        return code
    }

    func below(
        _ call: (sqlite3_io_methods, UnsafeMutablePointer<sqlite3_file>) -> Int32?
    ) -> Int32? {
        inner.pointee.pMethods.flatMap { call($0.pointee, inner) }
    }

    func read(_ target: UnsafeMutableRawBufferPointer, _ offset: Int64) -> Int32 {
        let code = rawRead(target, offset)
        guard code == SQLITE_OK, target.count == PageSum.pageByteCount else { return code }
        switch kind {
        case .pages(let watch): check(UnsafeRawBufferPointer(target), offset, watch)
        case .log(let frames): frames.check(UnsafeRawBufferPointer(target), at: offset, in: self)
        case .other: break
        }
        return code
    }

    func write(_ source: UnsafeRawBufferPointer, _ offset: Int64) -> Int32 {
        switch kind {
        case .pages(let watch) where source.count == PageSum.pageByteCount:
            var page = [UInt8](source)
            return page.withUnsafeMutableBytes { page in
                let number = Self.number(offset)
                var sum = PageSum.of(UnsafeRawBufferPointer(page), number: number)
                if watch.isMarked(number) { sum = ~sum }
                page.storeBytes(
                    of: sum.littleEndian, toByteOffset: PageSum.offset, as: UInt64.self)
                return rawWrite(UnsafeRawBufferPointer(page), offset)
            }
        case .log(let frames):
            let code = rawWrite(source, offset)
            if code == SQLITE_OK { frames.note(source.count, at: offset) }
            return code
        case .pages, .other: return rawWrite(source, offset)
        }
    }

    func rawRead(_ target: UnsafeMutableRawBufferPointer, _ offset: Int64) -> Int32 {
        below { $0.xRead?($1, target.baseAddress, Int32(target.count), offset) } ?? SQLITE_IOERR
    }

    private func rawWrite(_ source: UnsafeRawBufferPointer, _ offset: Int64) -> Int32 {
        below { $0.xWrite?($1, source.baseAddress, Int32(source.count), offset) } ?? SQLITE_IOERR
    }

    private static func number(_ offset: Int64) -> Int64 {
        offset / Int64(PageSum.pageByteCount) + 1
    }

    private func check(_ page: UnsafeRawBufferPointer, _ offset: Int64, _ watch: PageWatch) {
        let number = Self.number(offset)
        let sum = PageSum.of(page, number: number)
        guard PageSum.carried(by: page) != sum else { return }
        // A page that SQLite has passed over while the file grew was never written.
        if page.allSatisfy({ $0 == 0 }) { return }
        watch.meet(.page(number), sum: sum)
    }

    /// Has pages that were looked at carry the sum of what stands there. What cannot be written is
    /// met again by the next process.
    func sumSettledPages() {
        guard case .pages(let watch) = kind else { return }
        for case (.page(let number), let settled) in watch.settled {
            let offset = (number - 1) * Int64(PageSum.pageByteCount)
            var page = [UInt8](repeating: 0, count: PageSum.pageByteCount)
            page.withUnsafeMutableBytes { page in
                guard rawRead(page, offset) == SQLITE_OK,
                    PageSum.of(UnsafeRawBufferPointer(page), number: number) == settled
                else { return }
                withUnsafeBytes(of: settled.littleEndian) {
                    _ = rawWrite($0, offset + Int64(PageSum.offset))
                }
            }
        }
    }
}
