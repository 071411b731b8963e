// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
package import MeshContent
package import MeshCore
internal import MeshCrypto

/// Releases on disk as plain files that any program can read, each byte of them once.
///
/// ```
/// CHANNEL/active        → releases/E.V              changed by one rename
/// CHANNEL/releases/E.V  → ../trees/HASH             one for each release that is kept
/// CHANNEL/trees/HASH/   the files, read-only; equal files of several trees are hard links
/// CHANNEL/trees/HASH.part/   files that are being fetched
/// .manifests/HASH       manifests of all trees
/// ```
///
/// There is no store of chunks beside the files: a chunk is read from the file it stands in. One
/// thread owns the shelf.
package final class DiskShelf: ContentShelf {
    final class Tree {
        let channel: String
        let layout: Layout
        var path: String
        var isWhole: Bool
        /// Chunks that are there; meaningless once the tree is whole.
        var here: [Bool]
        /// Chunks of a whole tree whose bytes have changed on disk.
        var damaged: Set<Int> = []

        init(channel: String, layout: Layout, path: String, isWhole: Bool) {
            self.channel = channel
            self.layout = layout
            self.path = path
            self.isWhole = isWhole
            here = isWhole ? [] : Array(repeating: false, count: layout.chunks.count)
        }
    }

    /// The folder of all channels.
    package let root: String
    var trees: [Digest: Tree] = [:]
    /// Where chunks of whole trees stand, so that none is fetched twice.
    var index: [Digest: (tree: Digest, place: Int32)] = [:]
    /// Files of whole trees by their content, to be linked instead of written.
    var files: [Digest: String] = [:]
    /// Whole trees in which a chunk was found changed since this was last asked.
    private var found: Set<Digest> = []
    /// The manifest that was read last, since it is asked for in parts.
    private var lastManifest: (id: Digest, bytes: [UInt8])?
    /// Bytes that stay free whatever is published.
    let reserve: UInt64

    /// Opens or makes the folder and finds the trees in it.
    package init(root: String, reserve: UInt64 = 256 << 20) throws(StoreError) {
        self.root = root
        self.reserve = reserve
        try Self.makeFolder(root)
        try Self.makeFolder("\(root)/.manifests")
        for channel in names(root) where Name.isValid(channel) {
            for name in names("\(root)/\(channel)/trees") where !name.hasSuffix(".part") {
                guard let manifest = Hex.decode(name).flatMap({ Digest($0) }) else { continue }
                load(manifest, channel)
            }
        }
    }

    static func makeFolder(_ path: String) throws(StoreError) {
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o755])
        } catch { throw .unusable("\(path) cannot be made: \(error)") }
    }

    func names(_ path: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    }

    private func load(_ manifest: Digest, _ channel: String) {
        guard let bytes = manifestBytes(manifest),
            let decoded = try? Manifest(decoding: bytes)
        else { return }
        let tree = Tree(
            channel: channel, layout: Layout(decoded),
            path: "\(root)/\(channel)/trees/\(manifest)", isWhole: true)
        trees[manifest] = tree
        enter(manifest, tree)
    }

    func enter(_ manifest: Digest, _ tree: Tree) {
        for (place, chunk) in tree.layout.chunks.enumerated() where index[chunk.id] == nil {
            index[chunk.id] = (manifest, Int32(place))
        }
        for file in tree.layout.manifest.files {
            let name = Self.content(of: file)
            if files[name] == nil { files[name] = "\(tree.path)/\(file.path)" }
        }
    }

    static func content(of file: Manifest.File) -> Digest {
        var bytes: [UInt8] = [file.isExecutable ? 1 : 0]
        for chunk in file.chunks { bytes += chunk.id.array }
        return Blake2b.hash(bytes)
    }

    // MARK: ContentShelf

    /// A manifest's bytes, checked against its name.
    package func manifestBytes(_ manifest: Digest) -> [UInt8]? {
        if let lastManifest, lastManifest.id == manifest { return lastManifest.bytes }
        guard let data = FileManager.default.contents(atPath: "\(root)/.manifests/\(manifest)")
        else { return nil }
        let bytes = Array(data)
        guard Manifest.id(ofManifest: bytes) == manifest else { return nil }
        if bytes.count <= 16 << 20 { lastManifest = (manifest, bytes) }
        return bytes
    }

    /// Whole trees in which a chunk was found changed since this was last asked.
    package func takeFound() -> [Digest] {
        defer { found = [] }
        return found.sorted()
    }

    /// A tree's layout.
    package func layout(_ manifest: Digest) -> Layout? { trees[manifest]?.layout }

    /// Whether a chunk is there and, so far as is known, whole.
    package func holds(_ manifest: Digest, _ place: Int) -> Bool {
        guard let tree = trees[manifest] else { return false }
        return tree.isWhole ? !tree.damaged.contains(place) : tree.here[place]
    }

    /// A chunk's bytes, checked against its name.
    package func read(_ manifest: Digest, _ place: Int) -> [UInt8]? {
        guard let tree = trees[manifest], holds(manifest, place) else { return nil }
        for position in tree.layout.positions[place] {
            switch look(tree, position, tree.layout.chunks[place]) {
            case .sound(let bytes): return bytes
            case .changed: continue
            case .notNow: return nil
            }
        }
        if tree.isWhole {
            tree.damaged.insert(place)
            found.insert(manifest)
        } else {
            tree.here[place] = false
        }
        return nil
    }

    /// What was found where a chunk should be.
    enum Look {
        case sound([UInt8]), changed
        /// Files or memory have run out in this process or system: that says nothing of the chunk.
        case notNow
    }

    func look(_ tree: Tree, _ position: Layout.Position, _ chunk: Manifest.Chunk) -> Look {
        let path = "\(tree.path)/\(tree.layout.manifest.files[position.file].path)"
        errno = 0
        guard let bytes = Self.bytes(path, position.offset, Int(chunk.byteCount)) else {
            return [EMFILE, ENFILE, ENOMEM, EINTR].contains(errno) ? .notNow : .changed
        }
        return Manifest.id(of: bytes) == chunk.id ? .sound(bytes) : .changed
    }

    /// Keeps a chunk at all its positions.
    package func write(_ manifest: Digest, _ place: Int, _ bytes: [UInt8]) -> Bool {
        guard let tree = trees[manifest] else { return false }
        for position in tree.layout.positions[place] {
            let path = "\(tree.path)/\(tree.layout.manifest.files[position.file].path)"
            if tree.isWhole, access(path, F_OK) != 0 {
                let size = tree.layout.manifest.files[position.file].byteCount
                guard Self.makeFile(path, size) else { return false }
            }
            guard Self.put(bytes, path, position.offset) else { return false }
        }
        if tree.isWhole { tree.damaged.remove(place) } else { tree.here[place] = true }
        return true
    }

    static func bytes(_ path: String, _ offset: UInt64, _ count: Int) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var done = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while done < count, let base = buffer.baseAddress {
                let read = pread(file, base + done, count - done, off_t(offset) + off_t(done))
                guard read > 0 else { break }
                done += read
            }
            filled = done
        }
        return done == count ? bytes : nil
    }

    /// Makes an empty file of some size, where there is none or an unfinished one.
    static func makeFile(_ path: String, _ size: UInt64) -> Bool {
        try? makeFolder(DataDirectory.folder(of: path))
        chmod(path, 0o644)
        let file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard file >= 0 else { return false }
        defer { close(file) }
        // Web servers read what this process may keep from others by its mask.
        fchmod(file, 0o644)
        return ftruncate(file, off_t(size)) == 0
    }

    static func put(_ bytes: [UInt8], _ path: String, _ offset: UInt64) -> Bool {
        // A repaired file is read-only to others; its owner may write again.
        var file = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC)
        if file < 0, errno == EACCES, chmod(path, 0o644) == 0 {
            file = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC)
        }
        guard file >= 0 else { return false }
        defer { close(file) }
        var done = 0
        return bytes.withUnsafeBytes { buffer in
            while done < bytes.count, let base = buffer.baseAddress {
                let count = pwrite(
                    file, base + done, bytes.count - done, off_t(offset) + off_t(done))
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
    }
}
