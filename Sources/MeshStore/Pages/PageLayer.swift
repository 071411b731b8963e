// SPDX-License-Identifier: Apache-2.0

internal import GRDBSQLite
internal import Glibc
internal import Synchronization

/// A layer between SQLite and its files that puts a sum into each page and looks at it at each
/// read, so that SQLite believes no rotten index.
///
/// A row shows its own rot, but by an index SQLite searches: one bit in one entry can hide whole
/// neighbours of it, and a server that does not see its own record writes another in its place.
/// Pages of the write-ahead log carry a sum of SQLite's own, which SQLite looks at only after a
/// crash; the layer looks at it at each read (`LogFrames`). Below it works the layer of the disk,
/// or that of a simulated one.
///
/// Source: sqlite.org, "The OS Interface or VFS"; "The Checksum VFS Shim" does the like.
package enum PageLayer {
    /// The layer below, SQLite's own before this one: files that nobody watches are its alone.
    fileprivate static let belowName = Mutex("unix")

    /// Watches a file from its next opening on.
    ///
    /// - Throws: where the layer is not SQLite's default, or the path is none.
    static func watch(_ path: String) throws(StoreError) -> PageWatch {
        guard isRegistered, let full = fullPath(path) else {
            throw .unusable("SQLite cannot open \(path) with sums of its pages")
        }
        return PageWatch.watching(full)
    }

    /// Puts the layer over another than the disk of the machine, by its name.
    package static func put(over name: String) {
        _ = isRegistered
        belowName.withLock { $0 = name }
    }

    /// The path under which SQLite opens a file.
    private static func fullPath(_ path: String) -> String? {
        guard let below else { return nil }
        var full = [CChar](repeating: 0, count: Int(below.pointee.mxPathname) + 1)
        let code = below.pointee.xFullPathname?(below, path, Int32(full.count), &full)
        // A link on the way is no error.
        guard let code, code & 0xff == SQLITE_OK else { return nil }
        return full.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } }
    }

    /// Has a new file leave room for the sums; call before anything is written.
    static func reserve(_ connection: OpaquePointer?) {
        var count = Int32(PageSum.byteCount)
        sqlite3_file_control(connection, "main", SQLITE_FCNTL_RESERVE_BYTES, &count)
    }

    /// Whether a file that was read leaves room for the sums: without it they would overwrite rows.
    static func hasRoom(_ connection: OpaquePointer?) -> Bool {
        var count: Int32 = -1
        sqlite3_file_control(connection, "main", SQLITE_FCNTL_RESERVE_BYTES, &count)
        return count == Int32(PageSum.byteCount)
    }

    /// Has pages that were looked at carry their sums again; only the writer may ask for it.
    static func sumSettledPages(_ connection: OpaquePointer?) {
        sqlite3_file_control(connection, "main", sumSettledPagesCode, nil)
    }

    /// A number of ours: SQLite leaves those above 100 to layers.
    fileprivate static let sumSettledPagesCode: Int32 = 0x4d50

    private static let isRegistered: Bool = {
        let layer = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
        layer.initialize(to: sqlite3_vfs())
        layer.pointee.iVersion = 2
        layer.pointee.szOsFile = Int32(MemoryLayout<OpenFile>.size)
        layer.pointee.mxPathname = below?.pointee.mxPathname ?? 512
        layer.pointee.zName = UnsafePointer(strdup("mesh-pages"))
        layer.pointee.xOpen = open
        setPathMethods(layer)
        return sqlite3_vfs_register(layer, 1) == SQLITE_OK
    }()

    fileprivate static let methods: UInt = {
        let methods = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
        methods.initialize(to: sqlite3_io_methods())
        // Without the third version's mapping of files: what is mapped is read by nobody.
        methods.pointee.iVersion = 2
        setFileMethods(methods)
        setLockMethods(methods)
        return UInt(bitPattern: methods)
    }()
}

private var below: UnsafeMutablePointer<sqlite3_vfs>? {
    PageLayer.belowName.withLock { sqlite3_vfs_find($0) }
}

/// What SQLite hands back at each call: its own part first, then ours.
private struct OpenFile {
    var base: sqlite3_file
    var handle: UnsafeMutableRawPointer?
}

private func handle(_ file: UnsafeMutablePointer<sqlite3_file>?) -> PageFile? {
    guard let file else { return nil }
    let raw = UnsafeMutableRawPointer(file).assumingMemoryBound(to: OpenFile.self).pointee.handle
    return raw.map { Unmanaged<PageFile>.fromOpaque($0).takeUnretainedValue() }
}

private func open(
    _ layer: UnsafeMutablePointer<sqlite3_vfs>?, _ name: UnsafePointer<CChar>?,
    _ file: UnsafeMutablePointer<sqlite3_file>?, _ flags: Int32, _ out: UnsafeMutablePointer<Int32>?
) -> Int32 {
    guard let file, let below else { return SQLITE_CANTOPEN }
    file.pointee.pMethods = nil
    let memory = UnsafeMutableRawPointer.allocate(
        byteCount: Int(below.pointee.szOsFile), alignment: 16)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: Int(below.pointee.szOsFile))
    let inner = memory.assumingMemoryBound(to: sqlite3_file.self)
    let code = below.pointee.xOpen?(below, name, inner, flags, out) ?? SQLITE_CANTOPEN
    guard code == SQLITE_OK else {
        if inner.pointee.pMethods != nil { _ = inner.pointee.pMethods.pointee.xClose?(inner) }
        memory.deallocate()
        return code
    }
    let handle = PageFile(inner, memory, kind(name, flags))
    let open = UnsafeMutableRawPointer(file).assumingMemoryBound(to: OpenFile.self)
    open.pointee.handle = Unmanaged.passRetained(handle).toOpaque()
    open.pointee.base.pMethods = UnsafePointer(bitPattern: PageLayer.methods)
    return SQLITE_OK
}

private func kind(_ name: UnsafePointer<CChar>?, _ flags: Int32) -> PageFile.Kind {
    guard let name, flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL) != 0,
        let watch = PageWatch.ofFile(String(cString: sqlite3_filename_database(name)))
    else { return .other }
    return flags & SQLITE_OPEN_MAIN_DB != 0 ? .pages(watch) : .log(LogFrames(watch))
}

private func setPathMethods(_ layer: UnsafeMutablePointer<sqlite3_vfs>) {
    layer.pointee.xDelete = { _, name, syncs in
        below?.pointee.xDelete?(below, name, syncs) ?? SQLITE_IOERR
    }
    layer.pointee.xAccess = { _, name, flags, out in
        below?.pointee.xAccess?(below, name, flags, out) ?? SQLITE_IOERR
    }
    layer.pointee.xFullPathname = { _, name, count, out in
        below?.pointee.xFullPathname?(below, name, count, out) ?? SQLITE_CANTOPEN
    }
    layer.pointee.xRandomness = { _, count, out in
        below?.pointee.xRandomness?(below, count, out) ?? 0
    }
    layer.pointee.xSleep = { _, microseconds in
        below?.pointee.xSleep?(below, microseconds) ?? 0
    }
    layer.pointee.xCurrentTime = { _, out in
        below?.pointee.xCurrentTime?(below, out) ?? SQLITE_ERROR
    }
    layer.pointee.xCurrentTimeInt64 = { _, out in
        below?.pointee.xCurrentTimeInt64?(below, out) ?? SQLITE_ERROR
    }
    layer.pointee.xGetLastError = { _, count, out in
        below?.pointee.xGetLastError?(below, count, out) ?? 0
    }
}

private func setFileMethods(_ methods: UnsafeMutablePointer<sqlite3_io_methods>) {
    methods.pointee.xClose = { file in
        guard let file else { return SQLITE_OK }
        let open = UnsafeMutableRawPointer(file).assumingMemoryBound(to: OpenFile.self)
        guard let raw = open.pointee.handle else { return SQLITE_OK }
        open.pointee.handle = nil
        return Unmanaged<PageFile>.fromOpaque(raw).takeRetainedValue().close()
    }
    methods.pointee.xRead = { file, buffer, count, offset in
        guard let handle = handle(file), let buffer else { return SQLITE_IOERR }
        return handle.read(UnsafeMutableRawBufferPointer(start: buffer, count: Int(count)), offset)
    }
    methods.pointee.xWrite = { file, buffer, count, offset in
        guard let handle = handle(file), let buffer else { return SQLITE_IOERR }
        return handle.write(UnsafeRawBufferPointer(start: buffer, count: Int(count)), offset)
    }
    methods.pointee.xTruncate = { file, size in
        handle(file)?.below { $0.xTruncate?($1, size) } ?? SQLITE_IOERR
    }
    methods.pointee.xSync = { file, flags in
        handle(file)?.below { $0.xSync?($1, flags) } ?? SQLITE_IOERR
    }
    methods.pointee.xFileSize = { file, size in
        handle(file)?.below { $0.xFileSize?($1, size) } ?? SQLITE_IOERR
    }
    methods.pointee.xFileControl = { file, code, argument in
        if code == PageLayer.sumSettledPagesCode {
            handle(file)?.sumSettledPages()
            return SQLITE_OK
        }
        return handle(file)?.below { $0.xFileControl?($1, code, argument) } ?? SQLITE_NOTFOUND
    }
    methods.pointee.xSectorSize = { file in
        handle(file)?.below { $0.xSectorSize?($1) } ?? Int32(PageSum.pageByteCount)
    }
    methods.pointee.xDeviceCharacteristics = { file in
        handle(file)?.below { $0.xDeviceCharacteristics?($1) } ?? 0
    }
}

private func setLockMethods(_ methods: UnsafeMutablePointer<sqlite3_io_methods>) {
    methods.pointee.xLock = { file, level in
        handle(file)?.below { $0.xLock?($1, level) } ?? SQLITE_IOERR
    }
    methods.pointee.xUnlock = { file, level in
        handle(file)?.below { $0.xUnlock?($1, level) } ?? SQLITE_IOERR
    }
    methods.pointee.xCheckReservedLock = { file, out in
        handle(file)?.below { $0.xCheckReservedLock?($1, out) } ?? SQLITE_IOERR
    }
    methods.pointee.xShmMap = { file, index, size, extends, out in
        handle(file)?.below { $0.xShmMap?($1, index, size, extends, out) } ?? SQLITE_IOERR
    }
    methods.pointee.xShmLock = { file, offset, count, flags in
        handle(file)?.below { $0.xShmLock?($1, offset, count, flags) } ?? SQLITE_IOERR
    }
    methods.pointee.xShmBarrier = { file in
        _ = handle(file)?.below { methods, inner in
            methods.xShmBarrier?(inner)
            return SQLITE_OK
        }
    }
    methods.pointee.xShmUnmap = { file, deletes in
        handle(file)?.below { $0.xShmUnmap?($1, deletes) } ?? SQLITE_IOERR
    }
}
