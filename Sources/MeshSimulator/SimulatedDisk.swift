// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import Synchronization

/// A disk in memory that loses at a power cut what was not synced, in any order, down to sectors.
///
/// SQLite's own file layer is the boundary: everything above it is what a server runs. `DiskLayer`
/// hands SQLite's calls to the disk that a path names.
final class SimulatedDisk: Sendable {
    /// The unit that a disk writes whole or not at all, in bytes.
    static let sectorByteCount = 512
    private static let prefix = "/simulated/"

    /// What came of a write.
    enum Written: Sendable {
        case done, full, failed
    }

    private struct Change {
        /// Counts the changes of all files, so that they can be undone in order.
        let number: Int
        let offset: Int
        let before: [UInt8]
        let after: [UInt8]
        /// The file's length before, and after.
        let lengths: (Int, Int)
    }

    private struct File {
        var bytes: [UInt8] = []
        var unsynced: [Change] = []
    }

    private struct State {
        var files: [String: File] = [:]
        var writesLeft: Int?
        var isDead = false
        var fault: DiskFault?
        var changes = 0
        /// How many changes there were where the disk said, and lied, that they last.
        var promises: [Int] = []
    }

    /// What a power cut did.
    struct Loss: Equatable {
        /// Writes that are gone.
        var lost = 0
        /// Writes of which some sectors are gone.
        var torn = 0
    }

    /// A copy of the files, as they were synced.
    struct Image: Sendable {
        fileprivate let files: [String: [UInt8]]
    }

    private static let mounted = Mutex<[String: SimulatedDisk]>([:])
    private static let nextNumber = Atomic<Int>(1)

    private let state = Mutex(State())
    /// The disk's folder.
    let path: String

    /// Makes an empty disk and mounts it; `unmount` takes it away.
    init() {
        let number = Self.nextNumber.add(1, ordering: .relaxed).newValue
        path = "\(Self.prefix)\(number)/"
        Self.mounted.withLock { $0[path] = self }
    }

    /// The disk on which a path lies.
    static func holding(_ path: String) -> SimulatedDisk? {
        guard path.hasPrefix(prefix), let end = path.dropFirst(prefix.count).firstIndex(of: "/")
        else { return nil }
        return mounted.withLock { $0[String(path[...end])] }
    }

    /// Nothing finds the disk any more.
    func unmount() { Self.mounted.withLock { $0[path] = nil } }

    // MARK: Faults

    /// The machine loses its power after so many more writes; nil for not at all.
    func failAfter(writes: Int?) { state.withLock { $0.writesLeft = writes } }

    /// Something is wrong with the disk from now on; nil if it is in order.
    func set(_ fault: DiskFault?) {
        state.withLock { state in
            // What a disk that has lied has lost comes out when it works again.
            if state.fault == .lying, state.isDead { return }
            // One that goes on may have kept its word by now.
            if state.fault == .lying, fault != .lying {
                for name in state.files.keys { state.files[name]?.unsynced = [] }
                state.promises = []
            }
            state.fault = fault
        }
    }

    /// What is wrong with the disk.
    var fault: DiskFault? { state.withLock { $0.fault } }

    /// Flips one bit somewhere in a file.
    ///
    /// - Returns: where; nil where nothing is.
    func rot(_ name: String, _ random: inout SeededGenerator) -> Int? {
        let (chance, bit) = (random.next(), UInt8(random.next() % 8))
        return state.withLock { state in
            guard let count = state.files[name]?.bytes.count, count > 0 else { return nil }
            let place = Int(chance % UInt64(count))
            state.files[name]?.bytes[place] ^= 1 << bit
            return place
        }
    }

    /// Every file as it is now, by its name.
    var contents: [String: [UInt8]] { state.withLock { $0.files.mapValues(\.bytes) } }

    /// Whether nothing can be read or written any more.
    var isDead: Bool { state.withLock { $0.isDead } }

    /// From now on every access fails, so that a process that ends leaves the files as they are.
    func freeze() { state.withLock { $0.isDead = true } }

    /// Works again, with everything that was written: only a process had died.
    func thaw() {
        state.withLock { state in
            state.isDead = false
            state.writesLeft = nil
        }
    }

    /// Loses what was not synced, or some of it, and works again.
    func cutPower(_ random: inout SeededGenerator) -> Loss {
        var seed = SeededGenerator(seed: random.next())
        return state.withLock { state in
            var loss = Loss()
            if state.fault == .lying {
                loss.lost = Self.loseTail(&state, &seed)
                state.isDead = false
                state.writesLeft = nil
                state.fault = nil
                return loss
            }
            for name in state.files.keys.sorted() {
                guard var file = state.files[name] else { continue }
                Self.lose(&file, &seed, &loss)
                state.files[name] = file
            }
            state.isDead = false
            state.writesLeft = nil
            return loss
        }
    }

    /// A disk that lied goes back to one of the moments at which it said that everything lasts.
    ///
    /// - Returns: how many writes are gone.
    private static func loseTail(_ state: inout State, _ random: inout SeededGenerator) -> Int {
        let kept =
            state.promises.isEmpty
            ? 0 : state.promises[Int(random.next() % UInt64(state.promises.count))]
        state.promises = []
        var lost = 0
        for name in state.files.keys.sorted() {
            guard var file = state.files[name] else { continue }
            for change in file.unsynced.reversed() where change.number > kept {
                undo(change, &file.bytes)
                lost += 1
            }
            file.unsynced = []
            state.files[name] = file
        }
        return lost
    }

    private static func lose(
        _ file: inout File, _ random: inout SeededGenerator, _ loss: inout Loss
    ) {
        let changes = file.unsynced
        file.unsynced = []
        for change in changes.reversed() { undo(change, &file.bytes) }
        for change in changes {
            switch random.next() % 4 {
            case 0: redo(change, &file.bytes)
            case 1 where change.after.count > sectorByteCount:
                loss.torn += 1
                for start in stride(from: 0, to: change.after.count, by: sectorByteCount)
                where random.next() % 2 == 0 {
                    let end = min(start + sectorByteCount, change.after.count)
                    put(Array(change.after[start..<end]), change.offset + start, &file.bytes)
                }
            default: loss.lost += 1
            }
        }
    }

    private static func undo(_ change: Change, _ bytes: inout [UInt8]) {
        if bytes.count > change.lengths.0 { bytes.removeLast(bytes.count - change.lengths.0) }
        if bytes.count < change.lengths.0 {
            bytes += [UInt8](repeating: 0, count: change.lengths.0 - bytes.count)
        }
        put(change.before, change.offset, &bytes)
    }

    private static func redo(_ change: Change, _ bytes: inout [UInt8]) {
        if change.lengths.1 < change.lengths.0, bytes.count > change.lengths.1 {
            bytes.removeLast(bytes.count - change.lengths.1)
        }
        put(change.after, change.offset, &bytes)
    }

    private static func put(_ part: [UInt8], _ offset: Int, _ bytes: inout [UInt8]) {
        if part.isEmpty { return }
        let end = offset + part.count
        if bytes.count < end { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
        bytes.replaceSubrange(offset..<end, with: part)
    }

    /// What a backup of the disk's image would hold.
    var image: Image { state.withLock { Image(files: $0.files.mapValues(\.bytes)) } }

    /// Puts an image back, as someone with a backup would.
    func restore(_ image: Image) {
        state.withLock { $0.files = image.files.mapValues { File(bytes: $0) } }
    }

    /// Takes every file away.
    func wipe() { state.withLock { $0.files = [:] } }

    // MARK: Files

    /// Whether there is such a file.
    func exists(_ name: String) -> Bool { state.withLock { $0.files[name] != nil } }

    /// Makes a file where there is none.
    ///
    /// - Returns: whether it is there now.
    func open(_ name: String, creating: Bool) -> Bool {
        state.withLock { state in
            if state.isDead { return false }
            if state.files[name] == nil {
                guard creating else { return false }
                state.files[name] = File()
            }
            return true
        }
    }

    /// Takes a file away, at once and for good.
    func delete(_ name: String) { state.withLock { if !$0.isDead { $0.files[name] = nil } } }

    /// The length of a file, in bytes.
    func size(_ name: String) -> Int { state.withLock { $0.files[name]?.bytes.count ?? 0 } }

    /// Reads into a buffer; what lies past the end reads as zeros.
    ///
    /// - Returns: how many bytes were there; nil if the disk is dead.
    func read(_ name: String, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        let address = UInt(bitPattern: buffer.baseAddress)
        let count = buffer.count
        return state.withLock { state in
            guard !state.isDead, let target = UnsafeMutableRawPointer(bitPattern: address) else {
                return nil
            }
            let bytes = state.files[name]?.bytes ?? []
            let there = max(0, min(count, bytes.count - offset))
            bytes.withUnsafeBytes { source in
                if there > 0 {
                    target.copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + there])
                            .baseAddress ?? UnsafeRawPointer(target), byteCount: there)
                }
            }
            if there < count { memoryZero(target + there, count - there) }
            return there
        }
    }

    /// Writes bytes that a power cut may yet take away.
    func write(_ name: String, at offset: Int, _ bytes: [UInt8]) -> Written {
        state.withLock { state in
            guard Self.takesWrite(&state), var file = state.files[name] else { return .failed }
            let length = file.bytes.count
            if state.fault == .full, offset + bytes.count > length { return .full }
            state.files[name] = nil
            let end = min(length, offset + bytes.count)
            let before = offset < end ? Array(file.bytes[offset..<end]) : []
            Self.put(bytes, offset, &file.bytes)
            state.changes += 1
            file.unsynced.append(
                Change(
                    number: state.changes, offset: offset, before: before, after: bytes,
                    lengths: (length, file.bytes.count)))
            state.files[name] = file
            return .done
        }
    }

    /// Shortens a file, which a power cut may yet undo.
    func truncate(_ name: String, to length: Int) -> Bool {
        state.withLock { state in
            guard Self.takesWrite(&state), var file = state.files[name] else { return false }
            let old = file.bytes.count
            guard length < old else { return true }
            let tail = Array(file.bytes[length...])
            file.bytes.removeLast(old - length)
            state.changes += 1
            file.unsynced.append(
                Change(
                    number: state.changes, offset: length, before: tail, after: [],
                    lengths: (old, length)))
            state.files[name] = file
            return true
        }
    }

    /// Makes a file's writes last, or says so.
    func sync(_ name: String) -> Bool {
        state.withLock { state in
            guard Self.takesWrite(&state) else { return false }
            if state.fault == .lying {
                if state.promises.last != state.changes { state.promises.append(state.changes) }
            } else {
                state.files[name]?.unsynced = []
            }
            return true
        }
    }

    private static func takesWrite(_ state: inout State) -> Bool {
        if let left = state.writesLeft {
            if left <= 0 { state.isDead = true }
            state.writesLeft = left - 1
        }
        if state.isDead { return false }
        if state.fault == .failing {
            state.fault = nil
            return false
        }
        return true
    }
}

private func memoryZero(_ target: UnsafeMutableRawPointer, _ count: Int) {
    target.initializeMemory(as: UInt8.self, repeating: 0, count: count)
}
