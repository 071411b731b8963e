// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
package import MeshContent
package import MeshCore

/// From a manifest to a folder that is served.
extension DiskShelf {
    /// Begins a tree, or goes on with one: lays its files out, and fills them from what is here.
    ///
    /// - Returns: whether the manifest is good; a bad one is refused whole.
    /// - Throws: where it does not fit on the disk, before anything is fetched.
    package func begin(_ manifest: Digest, _ bytes: [UInt8], channel: String) throws(StoreError) {
        if trees[manifest] != nil { return }
        let decoded: Manifest
        do throws(ContentRefusal) { decoded = try Manifest(decoding: bytes) } catch {
            throw .limit("\(error)")
        }
        guard decoded.channel == channel else {
            throw .limit("the manifest is of channel '\(decoded.channel)'")
        }
        let layout = Layout(decoded)
        let folder = "\(root)/\(channel)/trees"
        let tree = Tree(
            channel: channel, layout: layout, path: "\(folder)/\(manifest).part", isWhole: false)
        try refuseTooLarge(tree)
        try Self.makeFolder(tree.path)
        try Self.makeFolder("\(root)/\(channel)/releases")
        do {
            try DataDirectory.write(bytes, to: "\(root)/.manifests/\(manifest)", mode: 0o644)
        } catch { throw StoreError(error) }
        // A place is here if all its positions are.
        tree.here = Array(repeating: true, count: layout.chunks.count)
        for (number, file) in decoded.files.enumerated() { try lay(file, number, tree) }
        trees[manifest] = tree
    }

    /// What has to be written must fit, beside what other trees still need, and leave the reserve
    /// to records.
    private func refuseTooLarge(_ tree: Tree) throws(StoreError) {
        var needed = tree.layout.manifest.files.reduce(0 as UInt64) {
            $0 + (files[Self.content(of: $1)] == nil ? $1.byteCount : 0)
        }
        needed -= min(needed, allocated(tree.path))
        for other in trees.values where !other.isWhole {
            let all = other.layout.manifest.byteCount
            needed += all - min(all, allocated(other.path))
        }
        var system = statvfs()
        guard statvfs(root, &system) == 0 else { return }
        let free = UInt64(system.f_bavail) * UInt64(system.f_frsize)
        guard needed &+ reserve <= free else {
            throw .limit(
                "the release needs \(needed) bytes on disk; \(free) are free, of which \(reserve) are kept for records"
            )
        }
    }

    /// Bytes on disk of all files of a folder.
    private func allocated(_ path: String) -> UInt64 {
        var total: UInt64 = 0
        let names = FileManager.default.enumerator(atPath: path)
        while let name = names?.nextObject() as? String {
            var status = stat()
            if lstat("\(path)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG {
                total += UInt64(max(0, status.st_blocks)) * 512
            }
        }
        return total
    }

    private func lay(_ file: Manifest.File, _ number: Int, _ tree: Tree) throws(StoreError) {
        let path = "\(tree.path)/\(file.path)"
        try Self.makeFolder(DataDirectory.folder(of: path))
        if let same = files[Self.content(of: file)], isSound(file, at: same) {
            unlink(path)
            if Glibc.link(same, path) == 0 { return }
        }
        var status = stat()
        let isNew = lstat(path, &status) != 0 || status.st_blocks == 0
        guard Self.makeFile(path, file.byteCount) else {
            throw .unusable("\(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        var offset: UInt64 = 0
        for (chunk, place) in zip(file.chunks, tree.layout.places[number]) {
            defer { offset += UInt64(chunk.byteCount) }
            // What an earlier run wrote is there if it has its name.
            if !isNew, let bytes = Self.bytes(path, offset, Int(chunk.byteCount)),
                Manifest.id(of: bytes) == chunk.id
            {
                continue
            }
            if let known = index[chunk.id], let bytes = read(known.tree, Int(known.place)) {
                guard Self.put(bytes, path, offset) else {
                    throw .unusable("\(path) cannot be written")
                }
            } else {
                tree.here[Int(place)] = false
            }
        }
    }

    private func isSound(_ file: Manifest.File, at path: String) -> Bool {
        var offset: UInt64 = 0
        return file.chunks.allSatisfy { chunk in
            defer { offset += UInt64(chunk.byteCount) }
            return Self.bytes(path, offset, Int(chunk.byteCount))
                .map { Manifest.id(of: $0) == chunk.id } ?? false
        }
    }

    /// Makes a whole tree of one whose chunks are all there: synced, read-only, under its name.
    package func finish(_ manifest: Digest) throws(StoreError) {
        guard let tree = trees[manifest] else { return }
        if tree.isWhole { return restoreModes(tree) }
        guard tree.here.allSatisfy({ $0 }) else { throw .busy }
        let place = "\(root)/\(tree.channel)/trees/\(manifest)"
        restoreModes(tree)
        try syncAll(tree)
        guard rename(tree.path, place) == 0 else {
            throw .unusable("\(place) cannot be made: \(String(cString: strerror(errno)))")
        }
        try sync("\(root)/\(tree.channel)/trees")
        tree.path = place
        tree.isWhole = true
        enter(manifest, tree)
    }

    private func restoreModes(_ tree: Tree) {
        for file in tree.layout.manifest.files {
            chmod("\(tree.path)/\(file.path)", file.isExecutable ? 0o555 : 0o444)
        }
    }

    /// Syncs all files and folders of a tree: by one call for the whole file system where libc has
    /// it (`syncfs`, which Swift's Glibc does not show), else file by file.
    private func syncAll(_ tree: Tree) throws(StoreError) {
        typealias SyncFS = @convention(c) (CInt) -> CInt
        if let symbol = dlsym(nil, "syncfs") {
            let syncfs = unsafeBitCast(symbol, to: SyncFS.self)
            let folder = open(tree.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            defer { if folder >= 0 { close(folder) } }
            if folder >= 0, syncfs(folder) == 0 { return }
        }
        var folders: Set<String> = [tree.path]
        for file in tree.layout.manifest.files {
            let path = "\(tree.path)/\(file.path)"
            // What is linked from another tree was synced with that.
            if isAlone(path) { try sync(path) }
            folders.insert(DataDirectory.folder(of: path))
        }
        for folder in folders.sorted() { try sync(folder) }
    }

    private func isAlone(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_nlink == 1
    }

    private func sync(_ path: String) throws(StoreError) {
        let handle = open(path, O_RDONLY | O_CLOEXEC)
        guard handle >= 0 else { throw .unusable("\(path) cannot be opened") }
        defer { close(handle) }
        guard fsync(handle) == 0 else {
            throw .unusable("\(path) cannot be synced: \(String(cString: strerror(errno)))")
        }
    }

    /// Where a whole tree is.
    package func folder(_ manifest: Digest) -> String? {
        trees[manifest].flatMap { $0.isWhole ? $0.path : nil }
    }

    /// Whether a tree is there whole.
    package func isWhole(_ manifest: Digest) -> Bool { trees[manifest]?.isWhole == true }

    /// Makes a release the one that is served: by one rename, so old or new and never between.
    package func activate(
        _ channel: String, _ number: ReleaseNumber, _ manifest: Digest
    ) throws(StoreError) {
        let folder = "\(root)/\(channel)"
        try point(to: "../trees/\(manifest)", at: "\(folder)/releases/\(number)")
        try sync("\(folder)/releases")
        try point(to: "releases/\(number)", at: "\(folder)/active")
        try sync(folder)
    }

    private func point(to target: String, at path: String) throws(StoreError) {
        let temporary = path + ".new"
        unlink(temporary)
        guard symlink(target, temporary) == 0, rename(temporary, path) == 0 else {
            throw .unusable("\(path) cannot be made: \(String(cString: strerror(errno)))")
        }
    }

    /// What the next start must know of a release.
    package enum Mark: String {
        /// It was served and was not well.
        case refused
        /// It is served, and its probe has not ended.
        case unproven
    }

    /// Notes something of a channel's release for the next start; nil forgets it.
    ///
    /// Where it can't be kept, the next start knows less, and tries or trusts once more.
    package func mark(_ channel: String, _ mark: Mark, _ number: ReleaseNumber?) {
        let path = "\(root)/\(channel)/\(mark.rawValue)"
        guard let number else {
            unlink(path)
            return
        }
        try? DataDirectory.write(Array("\(number)\n".utf8), to: path, mode: 0o644)
    }

    /// What was noted.
    package func marked(_ channel: String, _ mark: Mark) -> ReleaseNumber? {
        FileManager.default.contents(atPath: "\(root)/\(channel)/\(mark.rawValue)").flatMap {
            ReleaseNumber(String(decoding: $0.prefix(64), as: UTF8.self).prefix { $0 != "\n" })
        }
    }

    /// The release of a channel that is served; nil if none is.
    package func active(_ channel: String) -> ReleaseNumber? {
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = readlink("\(root)/\(channel)/active", &buffer, buffer.count)
        guard count > 0 else { return nil }
        let target = String(decoding: buffer.prefix(count), as: UTF8.self)
        return target.split(separator: "/").last.flatMap { ReleaseNumber($0) }
    }

    /// The tree that a channel serves.
    package func activeTree(_ channel: String) -> Digest? {
        var buffer = [UInt8](repeating: 0, count: 256)
        guard let number = active(channel) else { return nil }
        let count = readlink("\(root)/\(channel)/releases/\(number)", &buffer, buffer.count)
        guard count > 0 else { return nil }
        let target = String(decoding: buffer.prefix(count), as: UTF8.self)
        return target.split(separator: "/").last.flatMap { Hex.decode($0) }.flatMap { Digest($0) }
    }

    /// Removes the trees of a channel that no kept release has, and links to releases beyond.
    ///
    /// - Parameter sparesUnfinished: whether trees that are not whole stay: a publisher may be at
    ///   them.
    package func collect(
        _ channel: String, keeping manifests: Set<Digest>, numbers: Set<ReleaseNumber>,
        sparesUnfinished: Bool = false
    ) {
        for name in names("\(root)/\(channel)/releases") {
            guard let number = ReleaseNumber(name), !numbers.contains(number) else { continue }
            unlink("\(root)/\(channel)/releases/\(name)")
        }
        var isLess = false
        for (manifest, tree) in trees where tree.channel == channel && !manifests.contains(manifest)
        {
            trees[manifest] = nil
            isLess = true
            try? FileManager.default.removeItem(atPath: tree.path)
            try? FileManager.default.removeItem(atPath: "\(root)/.manifests/\(manifest)")
        }
        for name in names("\(root)/\(channel)/trees") {
            if sparesUnfinished, name.hasSuffix(".part") { continue }
            let manifest = Hex.decode(name.prefix(64)).flatMap { Digest($0) }
            guard manifest.map({ trees[$0] == nil && !manifests.contains($0) }) ?? true else {
                continue
            }
            try? FileManager.default.removeItem(atPath: "\(root)/\(channel)/trees/\(name)")
        }
        guard isLess else { return }
        index = [:]
        files = [:]
        for (manifest, tree) in trees.sorted(by: { $0.key < $1.key }) where tree.isWhole {
            enter(manifest, tree)
        }
    }

    /// Lets go of what was fetched of a release that is not wanted any more.
    package func dropUnfinished(_ manifest: Digest) {
        guard let tree = trees[manifest], !tree.isWhole else { return }
        trees[manifest] = nil
        try? FileManager.default.removeItem(atPath: tree.path)
        try? FileManager.default.removeItem(atPath: "\(root)/.manifests/\(manifest)")
    }

    // MARK: Scrub

    /// Reads chunks of whole trees and finds those whose bytes have changed.
    ///
    /// - Parameters:
    ///   - start: where the last step ended.
    ///   - budget: bytes to read.
    /// - Returns: where the next step begins; nil at the end.
    package func scrub(
        _ manifest: Digest, from start: Int, budget: Int
    ) -> (next: Int?, damaged: [Int]) {
        guard let tree = trees[manifest], tree.isWhole else { return (nil, []) }
        var (place, bytes, damaged) = (start, 0, [Int]())
        while place < tree.layout.chunks.count, bytes < budget {
            // Where files cannot be opened now, it is looked again later.
            guard let isSound = isSound(tree, place) else { break }
            bytes += Int(tree.layout.chunks[place].byteCount)
            if !isSound {
                tree.damaged.insert(place)
                damaged.append(place)
            }
            place += 1
        }
        return (place < tree.layout.chunks.count ? place : nil, damaged)
    }

    /// Every position of a chunk is looked at: one good copy does not make another good.
    ///
    /// - Returns: nil where that cannot be told now.
    private func isSound(_ tree: Tree, _ place: Int) -> Bool? {
        for position in tree.layout.positions[place] {
            switch look(tree, position, tree.layout.chunks[place]) {
            case .sound: continue
            case .changed: return false
            case .notNow: return nil
            }
        }
        return true
    }

    /// Files of a channel's trees that must not be served until they are mended.
    package var damagedFiles: Set<String> {
        var paths: Set<String> = []
        for tree in trees.values where !tree.damaged.isEmpty {
            for place in tree.damaged {
                for position in tree.layout.positions[place] {
                    paths.insert("\(tree.path)/\(tree.layout.manifest.files[position.file].path)")
                }
            }
        }
        return paths
    }

    /// The damaged places of a whole tree.
    package func damaged(_ manifest: Digest) -> [Int] {
        trees[manifest].map { $0.damaged.sorted() } ?? []
    }

    /// The channels that have a folder.
    package var channelNames: [String] { names(root).filter { Name.isValid($0) } }

    /// The trees that are whole, by manifest.
    package var wholeTrees: [Digest] { trees.filter(\.value.isWhole).keys.sorted() }
}
