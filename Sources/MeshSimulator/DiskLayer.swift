// SPDX-License-Identifier: Apache-2.0

internal import GRDBSQLite
internal import MeshStore
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#endif

/// SQLite's file layer on simulated disks, below the one that sums pages.
///
/// A path on no simulated disk is the affair of the machine's own layer.
///
/// Source: sqlite.org, "The OS Interface or VFS" and "WAL-mode File Format" (§2, locks).
enum DiskLayer {
    fileprivate static let former = UInt(bitPattern: sqlite3_vfs_find("unix"))

    /// Registers the layer, once a process.
    static let isRegistered: Bool = {
        guard let former = UnsafeMutablePointer<sqlite3_vfs>(bitPattern: former) else {
            return false
        }
        let layer = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
        layer.initialize(to: sqlite3_vfs())
        layer.pointee.iVersion = 2
        layer.pointee.szOsFile = max(former.pointee.szOsFile, Int32(MemoryLayout<OpenFile>.size))
        layer.pointee.mxPathname = 512
        layer.pointee.zName = UnsafePointer(strdup("simulated"))
        layer.pointee.xOpen = openFile
        setPathMethods(layer)
        // Only names temporary files and salts the log: nothing of ours depends on it.
        layer.pointee.xRandomness = { _, count, out in
            for index in 0..<Int(count) { out?[index] = CChar(truncatingIfNeeded: index &* 37) }
            return count
        }
        layer.pointee.xSleep = { _, microseconds in
            usleep(UInt32(clamping: microseconds))
            return microseconds
        }
        layer.pointee.xCurrentTime = { _, out in
            out?.pointee = 2_451_544.5
            return SQLITE_OK
        }
        layer.pointee.xCurrentTimeInt64 = { _, out in
            out?.pointee = 211_813_444_800_000
            return SQLITE_OK
        }
        layer.pointee.xGetLastError = { _, _, _ in 0 }
        guard sqlite3_vfs_register(layer, 0) == SQLITE_OK else { return false }
        PageLayer.put(over: "simulated")
        return true
    }()

    fileprivate static let methods: UInt = {
        let methods = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
        methods.initialize(to: sqlite3_io_methods())
        methods.pointee.iVersion = 2
        setFileMethods(methods)
        setLockMethods(methods)
        return UInt(bitPattern: methods)
    }()
}

/// What SQLite hands back at each call: its own part first, then ours.
private struct OpenFile {
    var base: sqlite3_file
    var handle: UnsafeMutableRawPointer?
}

/// One opening of a file.
private final class Handle: Sendable {
    let disk: SimulatedDisk
    let name: String
    let shared: SharedFile
    private let level = Mutex<Int32>(SQLITE_LOCK_NONE)
    private let isMapped = Mutex(false)
    private let slots = Mutex<[Int: Int32]>([:])
    let deletes: Bool

    init(_ disk: SimulatedDisk, _ name: String, deletes: Bool) {
        self.disk = disk
        self.name = name
        self.deletes = deletes
        shared = SharedFile.of(disk.path + name)
    }

    func lock(_ wanted: Int32) -> Int32 {
        level.withLock { level in
            if wanted <= level { return SQLITE_OK }
            guard shared.raise(from: level, to: wanted) else { return SQLITE_BUSY }
            level = wanted
            return SQLITE_OK
        }
    }

    func unlock(_ wanted: Int32) {
        level.withLock { level in
            if wanted >= level { return }
            shared.lower(from: level, to: wanted)
            level = wanted
        }
    }

    /// Counts this opening among those that use the log's index, or not any more: then its locks
    /// there are gone too.
    func map(_ wanted: Bool) {
        isMapped.withLock { isMapped in
            if isMapped != wanted { shared.mapped(wanted ? 1 : -1) }
            isMapped = wanted
        }
        if !wanted {
            let held = slots.withLock { slots in
                defer { slots = [:] }
                return slots
            }
            for (slot, flag) in held { _ = shared.slots(slot, 1, SQLITE_SHM_UNLOCK | flag) }
        }
    }

    /// Takes or gives back locks of the log's index.
    func slots(_ offset: Int, _ count: Int, _ flags: Int32) -> Bool {
        guard shared.slots(offset, count, flags) else { return false }
        let isUnlock = flags & SQLITE_SHM_UNLOCK != 0
        let kind = flags & (SQLITE_SHM_SHARED | SQLITE_SHM_EXCLUSIVE)
        slots.withLock { slots in
            for slot in offset..<offset + count { slots[slot] = isUnlock ? nil : kind }
        }
        return true
    }
}

/// What the openings of one file share: locks, and the index of the write-ahead log in memory.
private final class SharedFile: Sendable {
    private struct State {
        var readers = 0
        var isReserved = false
        var isExclusive = false
        var regions: [UInt] = []
        var slots = [Int](repeating: 0, count: 8)
        var mappings = 0
    }

    private static let all = Mutex<[String: SharedFile]>([:])
    private let state = Mutex(State())

    static func of(_ name: String) -> SharedFile {
        all.withLock { all in
            if let file = all[name] { return file }
            let file = SharedFile()
            all[name] = file
            return file
        }
    }

    func raise(from level: Int32, to wanted: Int32) -> Bool {
        state.withLock { state in
            switch wanted {
            case SQLITE_LOCK_SHARED:
                if state.isExclusive { return false }
                state.readers += 1
            case SQLITE_LOCK_RESERVED:
                if state.isReserved { return false }
                state.isReserved = true
            default:
                if level < SQLITE_LOCK_RESERVED, state.isReserved { return false }
                if state.readers > 1 { return false }
                state.isReserved = true
                state.isExclusive = true
            }
            return true
        }
    }

    func lower(from level: Int32, to wanted: Int32) {
        state.withLock { state in
            if level >= SQLITE_LOCK_RESERVED {
                state.isReserved = false
                state.isExclusive = false
            }
            if wanted == SQLITE_LOCK_NONE, level >= SQLITE_LOCK_SHARED { state.readers -= 1 }
        }
    }

    var isReserved: Bool { state.withLock { $0.isReserved } }

    func region(_ index: Int, _ size: Int, extending: Bool) -> UnsafeMutableRawPointer? {
        let address: UInt = state.withLock { state in
            while state.regions.count <= index {
                guard extending else { return 0 }
                let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
                memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
                state.regions.append(UInt(bitPattern: memory))
            }
            return state.regions[index]
        }
        return UnsafeMutableRawPointer(bitPattern: address)
    }

    func slots(_ offset: Int, _ count: Int, _ flags: Int32) -> Bool {
        state.withLock { state in
            let range = offset..<min(8, offset + count)
            let isExclusive = flags & SQLITE_SHM_EXCLUSIVE != 0
            if flags & SQLITE_SHM_UNLOCK != 0 {
                for slot in range { state.slots[slot] = isExclusive ? 0 : state.slots[slot] - 1 }
                return true
            }
            let isFree = range.allSatisfy {
                isExclusive ? state.slots[$0] == 0 : state.slots[$0] >= 0
            }
            guard isFree else { return false }
            for slot in range { state.slots[slot] = isExclusive ? -1 : state.slots[slot] + 1 }
            return true
        }
    }

    func mapped(_ change: Int) {
        state.withLock { state in
            state.mappings += change
            guard state.mappings == 0 else { return }
            for address in state.regions {
                UnsafeMutableRawPointer(bitPattern: address)?.deallocate()
            }
            state.regions = []
            state.slots = [Int](repeating: 0, count: 8)
        }
    }
}

private func place(_ name: UnsafePointer<CChar>?) -> (SimulatedDisk, String)? {
    guard let name else { return nil }
    let path = String(cString: name)
    guard let disk = SimulatedDisk.holding(path) else { return nil }
    return (disk, String(path.dropFirst(disk.path.count)))
}

private func handle(_ file: UnsafeMutablePointer<sqlite3_file>?) -> Handle? {
    guard let file else { return nil }
    let raw = UnsafeMutableRawPointer(file).assumingMemoryBound(to: OpenFile.self).pointee.handle
    return raw.map { Unmanaged<Handle>.fromOpaque($0).takeUnretainedValue() }
}

/// SQLite's macro for it is not visible here.
private let shortRead = SQLITE_IOERR | 2 << 8
private let scratch = SimulatedDisk()
private let scratchFiles = Atomic<Int>(0)

private var former: UnsafeMutablePointer<sqlite3_vfs>? {
    UnsafeMutablePointer<sqlite3_vfs>(bitPattern: DiskLayer.former)
}

private func setPathMethods(_ layer: UnsafeMutablePointer<sqlite3_vfs>) {
    layer.pointee.xDelete = { _, name, syncs in
        guard let (disk, name) = place(name) else {
            return former?.pointee.xDelete?(former, name, syncs) ?? SQLITE_IOERR
        }
        disk.delete(name)
        return SQLITE_OK
    }
    layer.pointee.xAccess = { _, name, flags, out in
        guard let (disk, name) = place(name) else {
            return former?.pointee.xAccess?(former, name, flags, out) ?? SQLITE_IOERR
        }
        out?.pointee = disk.exists(name) ? 1 : 0
        return SQLITE_OK
    }
    layer.pointee.xFullPathname = { _, name, count, out in
        guard place(name) != nil else {
            return former?.pointee.xFullPathname?(former, name, count, out) ?? SQLITE_CANTOPEN
        }
        guard let name, let out, strlen(name) < Int(count) else { return SQLITE_CANTOPEN }
        strcpy(out, name)
        return SQLITE_OK
    }
}

private func openFile(
    _ layer: UnsafeMutablePointer<sqlite3_vfs>?, _ name: UnsafePointer<CChar>?,
    _ file: UnsafeMutablePointer<sqlite3_file>?, _ flags: Int32, _ out: UnsafeMutablePointer<Int32>?
) -> Int32 {
    guard let file else { return SQLITE_CANTOPEN }
    file.pointee.pMethods = nil
    let target: (SimulatedDisk, String)
    if name == nil {
        target = (scratch, "\(scratchFiles.add(1, ordering: .relaxed).newValue)")
    } else if let named = place(name) {
        target = named
    } else {
        return former?.pointee.xOpen?(former, name, file, flags, out) ?? SQLITE_CANTOPEN
    }
    guard target.0.open(target.1, creating: flags & SQLITE_OPEN_CREATE != 0) else {
        return SQLITE_CANTOPEN
    }
    let handle = Handle(target.0, target.1, deletes: flags & SQLITE_OPEN_DELETEONCLOSE != 0)
    let open = UnsafeMutableRawPointer(file).assumingMemoryBound(to: OpenFile.self)
    open.pointee.handle = Unmanaged.passRetained(handle).toOpaque()
    open.pointee.base.pMethods = UnsafePointer(bitPattern: DiskLayer.methods)
    out?.pointee = flags
    return SQLITE_OK
}

private func setFileMethods(_ methods: UnsafeMutablePointer<sqlite3_io_methods>) {
    methods.pointee.xClose = { file in
        guard let file else { return SQLITE_OK }
        let open = UnsafeMutableRawPointer(file).assumingMemoryBound(to: OpenFile.self)
        guard let raw = open.pointee.handle else { return SQLITE_OK }
        let handle = Unmanaged<Handle>.fromOpaque(raw).takeRetainedValue()
        open.pointee.handle = nil
        handle.unlock(SQLITE_LOCK_NONE)
        handle.map(false)
        if handle.deletes { handle.disk.delete(handle.name) }
        return SQLITE_OK
    }
    methods.pointee.xRead = { file, buffer, count, offset in
        guard let handle = handle(file), let buffer else { return SQLITE_IOERR }
        let area = UnsafeMutableRawBufferPointer(start: buffer, count: Int(count))
        guard let read = handle.disk.read(handle.name, at: Int(offset), into: area) else {
            return SQLITE_IOERR
        }
        return read < Int(count) ? shortRead : SQLITE_OK
    }
    methods.pointee.xWrite = { file, buffer, count, offset in
        guard let handle = handle(file), let buffer else { return SQLITE_IOERR }
        let bytes = Array(UnsafeRawBufferPointer(start: buffer, count: Int(count)))
        switch handle.disk.write(handle.name, at: Int(offset), bytes) {
        case .done: return SQLITE_OK
        case .full: return SQLITE_FULL
        case .failed: return SQLITE_IOERR
        }
    }
    methods.pointee.xTruncate = { file, size in
        guard let handle = handle(file) else { return SQLITE_IOERR }
        return handle.disk.truncate(handle.name, to: Int(size))
            ? SQLITE_OK : SQLITE_IOERR
    }
    methods.pointee.xSync = { file, _ in
        guard let handle = handle(file) else { return SQLITE_IOERR }
        return handle.disk.sync(handle.name) ? SQLITE_OK : SQLITE_IOERR
    }
    methods.pointee.xFileSize = { file, size in
        guard let handle = handle(file) else { return SQLITE_IOERR }
        size?.pointee = Int64(handle.disk.size(handle.name))
        return SQLITE_OK
    }
    methods.pointee.xFileControl = { _, _, _ in SQLITE_NOTFOUND }
    methods.pointee.xSectorSize = { _ in Int32(SimulatedDisk.sectorByteCount) }
    methods.pointee.xDeviceCharacteristics = { _ in SQLITE_IOCAP_POWERSAFE_OVERWRITE }
}

private func setLockMethods(_ methods: UnsafeMutablePointer<sqlite3_io_methods>) {
    methods.pointee.xLock = { file, level in handle(file)?.lock(level) ?? SQLITE_IOERR }
    methods.pointee.xUnlock = { file, level in
        handle(file)?.unlock(level)
        return SQLITE_OK
    }
    methods.pointee.xCheckReservedLock = { file, out in
        out?.pointee = handle(file)?.shared.isReserved == true ? 1 : 0
        return SQLITE_OK
    }
    methods.pointee.xShmMap = { file, index, size, extend, out in
        guard let handle = handle(file) else { return SQLITE_IOERR }
        handle.map(true)
        let region = handle.shared.region(Int(index), Int(size), extending: extend != 0)
        out?.pointee = region
        return SQLITE_OK
    }
    methods.pointee.xShmLock = { file, offset, count, flags in
        guard let handle = handle(file) else { return SQLITE_IOERR }
        return handle.slots(Int(offset), Int(count), flags) ? SQLITE_OK : SQLITE_BUSY
    }
    methods.pointee.xShmBarrier = { _ in atomicMemoryFence(ordering: .sequentiallyConsistent) }
    methods.pointee.xShmUnmap = { file, _ in
        handle(file)?.map(false)
        return SQLITE_OK
    }
}
