// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MeshContent
import MeshCore
import MeshCrypto
import MeshTrust

/// A folder on a publisher's machine, cut into chunks.
struct ContentFolder {
    struct Source {
        let place: Int
        let path: String
        let offset: UInt64
        let byteCount: Int
    }

    let root: String
    let manifest: Manifest
    let layout: Layout

    /// Walks a folder: regular files only, the executable bit kept, links refused or left out.
    ///
    /// - Parameter progress: called with the bytes read so far.
    init(_ root: String, channel: String, skipLinks: Bool, progress: (UInt64) -> Void) throws {
        self.root = root
        var files: [Manifest.File] = []
        var read: UInt64 = 0
        for path in try Self.walk(root, skipLinks: skipLinks) {
            if let fault = ContentPath.fault(Array(path.utf8)) {
                throw Failure("'\(path)' cannot be published: \(fault)")
            }
            files.append(try Self.cut(root, path, &read, progress))
        }
        guard files.count <= ContentSpecification.filesMax else {
            throw Failure(
                "\(files.count) files; a release has at most \(ContentSpecification.filesMax)")
        }
        let list = Manifest(channel: channel, files: files)
        // What every server would refuse is refused here, with the same words.
        do throws(ContentRefusal) { manifest = try Manifest(decoding: list.encoded) } catch {
            throw Failure("\(error)")
        }
        layout = Layout(manifest)
    }

    private static func walk(_ root: String, skipLinks: Bool) throws -> [String] {
        var status = stat()
        guard stat(root, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure("\(root) is not a folder that can be read")
        }
        var found: [String] = []
        var folders = [""]
        while let folder = folders.popLast() {
            let names: [String]
            do {
                names = try FileManager.default.contentsOfDirectory(
                    atPath: folder.isEmpty ? root : "\(root)/\(folder)")
            } catch {
                throw Failure("\(root)/\(folder) cannot be read: \(error.localizedDescription)")
            }
            for name in names {
                let path = folder.isEmpty ? name : "\(folder)/\(name)"
                guard lstat("\(root)/\(path)", &status) == 0 else {
                    throw Failure("\(root)/\(path) cannot be read")
                }
                switch status.st_mode & S_IFMT {
                case S_IFDIR: folders.append(path)
                case S_IFREG: found.append(path)
                case S_IFLNK where skipLinks: break
                case S_IFLNK:
                    throw Failure(
                        "'\(path)' is a symbolic link, which no server would follow (--skip-links leaves links out)"
                    )
                default:
                    throw Failure("'\(path)' is neither a file nor a folder")
                }
            }
        }
        return found
    }

    private static func cut(
        _ root: String, _ path: String, _ read: inout UInt64, _ progress: (UInt64) -> Void
    ) throws -> Manifest.File {
        let whole = "\(root)/\(path)"
        let handle = open(whole, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard handle >= 0 else {
            throw Failure("\(whole) cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { close(handle) }
        var status = stat()
        fstat(handle, &status)
        var chunks: [Manifest.Chunk] = []
        var buffer: [UInt8] = []
        var isAtEnd = false
        var start = 0
        while true {
            if !isAtEnd, buffer.count - start < ContentSpecification.chunkBytesMax {
                buffer.removeFirst(start)
                start = 0
                isAtEnd = try !Self.fill(&buffer, handle, whole)
            }
            guard start < buffer.count else { break }
            let length = buffer.withUnsafeBytes {
                Chunker.cut(UnsafeRawBufferPointer(rebasing: $0[start...]))
            }
            let id = Manifest.id(of: Array(buffer[start..<(start + length)]))
            chunks.append(Manifest.Chunk(id: id, byteCount: UInt32(length)))
            start += length
            read += UInt64(length)
            progress(read)
        }
        return Manifest.File(
            path: path, isExecutable: status.st_mode & 0o100 != 0, chunks: chunks)
    }

    /// - Returns: whether there was more.
    private static func fill(_ buffer: inout [UInt8], _ handle: CInt, _ path: String) throws -> Bool
    {
        let size = 4 << 20
        var failed = false
        let more = [UInt8](unsafeUninitializedCapacity: size) { space, count in
            let got = read(handle, space.baseAddress, size)
            failed = got < 0
            count = max(0, got)
        }
        if failed { throw Failure("\(path) cannot be read: \(String(cString: strerror(errno)))") }
        buffer += more
        return !more.isEmpty
    }

    /// The bytes of a chunk, checked: a file that changed meanwhile is not published half old.
    func chunk(_ place: Int) throws -> [UInt8] {
        let chunk = layout.chunks[place]
        guard let position = layout.positions[place].first else { return [] }
        let path = "\(root)/\(manifest.files[position.file].path)"
        let handle = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        defer { if handle >= 0 { close(handle) } }
        let size = Int(chunk.byteCount)
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { space, count in
            count = max(0, pread(handle, space.baseAddress, size, off_t(position.offset)))
        }
        guard Manifest.id(of: bytes) == chunk.id else {
            throw Failure("\(path) changed while it was published; publish again")
        }
        return bytes
    }
}

extension KeyFolder {
    /// Every signing key in the folder whose file begins so.
    func signingKeys(_ prefix: String) throws -> [SigningKey] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return try names.filter { $0.hasPrefix(prefix) && $0.hasSuffix(".key") }.sorted().map {
            guard let seed = Bytes32(try readSecret($0)) else {
                throw Failure("\(path)/\($0) is not a key")
            }
            return SigningKey(seed: seed, isGuarded: true)
        }
    }

    /// Makes new publish keys for a channel and has the root keys in the folder sign its charter.
    func makeCharter(
        _ channel: String, epoch: UInt32, publishers: Int, threshold: Int
    ) throws -> Charter {
        let root = try root()
        let roots = try rootKeys(of: root, for: "a charter for '\(channel)'")
        let keys = try (0..<publishers).map { _ in try Self.newKey() }
        for (index, key) in keys.enumerated() {
            try writeSecret(key.seed.array, "publish-\(channel)-\(epoch)-\(index + 1).key")
        }
        let charter = Charter(
            channel: channel, epoch: epoch, threshold: UInt8(threshold),
            keys: keys.map(\.publicKey.id), root: root, signers: roots)
        var writer = WireWriter()
        charter.encode(to: &writer)
        try write(writer.bytes, "charter-\(channel)")
        Console.complain(
            "channel '\(channel)' has publish keys of epoch \(epoch) in \(path): publish-\(channel)-\(epoch)-*.key"
        )
        return charter
    }

    /// The channels whose charters lie in the folder.
    func channels() throws -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return names.filter { $0.hasPrefix("charter-") }.map { String($0.dropFirst(8)) }.sorted()
    }

    /// The charter that lies in the folder; nil if there is none.
    func charter(_ channel: String) throws -> Charter? {
        let file = "charter-\(channel)"
        guard FileManager.default.fileExists(atPath: "\(path)/\(file)") else { return nil }
        var reader = WireReader(try read(file))
        do { return try Charter(from: &reader, root: try root()) } catch {
            throw Failure("\(path)/\(file): \(error)")
        }
    }

    /// The number for the next release of a channel, which is noted beside the keys before it is
    /// signed: a server that hides releases can't have one number signed twice.
    ///
    /// - Parameters:
    ///   - latest: the newest release that the server shows.
    ///   - isKept: whether the number will be used.
    func nextRelease(
        of channel: String, _ charter: Charter, after latest: ReleaseNumber?, isKept: Bool = true
    ) throws -> ReleaseNumber {
        let name = "last-release-\(channel)"
        var last: ReleaseNumber?
        if FileManager.default.fileExists(atPath: "\(path)/\(name)") {
            let text = String(decoding: try read(name), as: UTF8.self)
            last = ReleaseNumber(text.trimmingCharacters(in: .whitespacesAndNewlines))
            guard last != nil else {
                throw Failure("\(path)/\(name) is not EPOCH.VERSION; put the newest release there")
            }
        }
        let versions = [last, latest].compactMap(\.self).filter { $0.epoch == charter.epoch }
            .map(\.version)
        let version = versions.max() ?? 0
        guard version < .max - 3 else {
            throw Failure(
                "epoch \(charter.epoch) of '\(channel)' has no more numbers: rotate its keys")
        }
        // The number between two publications is for the way back that is signed with each.
        let number = ReleaseNumber(epoch: charter.epoch, version: version / 2 * 2 + 2)
        if isKept { try write(Array("\(number)\n".utf8), name) }
        return number
    }
}
