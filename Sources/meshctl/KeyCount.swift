// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Counts keys that stand in a file more than once, in the same memory for a file of any size.
///
/// Keys are told apart by their hashes (FNV-1a, 64 bits): of ten million keys two have the same
/// once in some 400,000 files. Hashes are dealt out to parts by their upper bits, and what a part
/// has no room for in memory goes to a nameless file. In the end each part is sorted by itself.
struct KeyCount {
    private static let parts = 64
    /// Hashes of a part in memory: a megabyte for all parts.
    private static let roomOfPart = 2048

    private var waiting = [[UInt64]](repeating: [], count: parts)
    private var files: [Int: FileHandle] = [:]
    /// Why keys could not be counted; nil if they were.
    private(set) var failure: (any Error)?

    mutating func add(_ key: [UInt8]) {
        guard failure == nil else { return }
        let hash = key.withUnsafeBytes { bytes in
            bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        }
        let part = Int(hash >> 58)
        waiting[part].append(hash)
        if waiting[part].count >= Self.roomOfPart { spill(part) }
    }

    /// How many rows have a key that a row before them has; nil where that was not counted.
    mutating func twice() -> Int? {
        var count = 0
        for part in 0..<Self.parts where failure == nil {
            do {
                let hashes = (waiting[part] + (try spilled(part))).sorted()
                count += zip(hashes, hashes.dropFirst()).count { $0 == $1 }
            } catch { failure = error }
        }
        return failure == nil ? count : nil
    }

    private mutating func spill(_ part: Int) {
        do {
            let file = try files[part] ?? Self.namelessFile()
            files[part] = file
            try waiting[part].withUnsafeBytes { try file.write(contentsOf: Data($0)) }
            waiting[part].removeAll(keepingCapacity: true)
        } catch {
            failure = error
            waiting = [[UInt64]](repeating: [], count: Self.parts)
        }
    }

    private func spilled(_ part: Int) throws -> [UInt64] {
        guard let file = files[part] else { return [] }
        try file.seek(toOffset: 0)
        let bytes = try file.readToEnd() ?? Data()
        return bytes.withUnsafeBytes { raw in
            (0..<raw.count / 8).map {
                raw.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)
            }
        }
    }

    /// A file that is gone with the process, however that ends.
    private static func namelessFile() throws -> FileHandle {
        let path = FileManager.default.temporaryDirectory.appending(
            component: "meshctl-import-\(UUID().uuidString)")
        try Data().write(to: path, options: .withoutOverwriting)
        defer { try? FileManager.default.removeItem(at: path) }
        return try FileHandle(forUpdating: path)
    }
}
