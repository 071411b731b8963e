// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// A release's list of files, each a list of chunks.
package struct Manifest: Hashable, Sendable {
    /// A part of a file.
    package struct Chunk: Hashable, Sendable {
        /// BLAKE2b-256 of a zero byte and the chunk's bytes.
        package let id: Digest
        /// How many bytes it has.
        package let byteCount: UInt32

        /// Names a chunk.
        package init(id: Digest, byteCount: UInt32) {
            self.id = id
            self.byteCount = byteCount
        }
    }

    /// One file.
    package struct File: Hashable, Sendable {
        /// Where, within the release.
        package let path: String
        /// Whether it may be run: mode 0755 instead of 0644.
        package let isExecutable: Bool
        /// Its parts in order; none for an empty file.
        package let chunks: [Chunk]

        /// Lists a file.
        package init(path: String, isExecutable: Bool, chunks: [Chunk]) {
            self.path = path
            self.isExecutable = isExecutable
            self.chunks = chunks
        }

        /// How many bytes it has.
        package var byteCount: UInt64 { chunks.reduce(0) { $0 + UInt64($1.byteCount) } }
    }

    /// Whose files: so that no two channels share a manifest, whatever they share.
    package let channel: String
    /// The files, ascending by the bytes of their paths.
    package let files: [File]

    /// Lists files; the caller has checked the channel, paths, and that no path stands twice.
    package init(channel: String, files: [File]) {
        self.channel = channel
        self.files = files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    }

    /// Bytes of all files.
    package var byteCount: UInt64 { files.reduce(0) { $0 + $1.byteCount } }

    /// How a chunk is named.
    package static func id(of chunk: [UInt8]) -> Digest { Blake2b.hash(prefix: 0, chunk) }

    /// The name of the manifest with these bytes.
    package static func id(ofManifest bytes: [UInt8]) -> Digest { Blake2b.hash(prefix: 1, bytes) }

    /// The one encoding: a version, the files.
    package var encoded: [UInt8] {
        var writer = WireWriter(reserving: files.count * 128)
        writer.u8(1)
        writer.short(channel.utf8)
        writer.count(files.count)
        for file in files {
            writer.medium(Array(file.path.utf8))
            writer.u8(file.isExecutable ? 1 : 0)
            writer.count(file.chunks.count)
            for chunk in file.chunks {
                writer.append(chunk.id)
                writer.varint(UInt64(chunk.byteCount))
            }
        }
        return writer.bytes
    }

    /// Decodes a manifest and checks every path; one bad entry refuses the whole.
    package init(decoding bytes: [UInt8]) throws(ContentRefusal) {
        let files: [File]
        do throws(WireError) {
            guard bytes.count <= ContentSpecification.manifestBytesMax else {
                throw .tooLong(
                    "manifest", bytes.count, limit: ContentSpecification.manifestBytesMax)
            }
            var reader = WireReader(bytes)
            guard try reader.u8() == 1 else { throw .invalid("manifest version") }
            channel = try reader.name("channel")
            let count = try reader.count("files", limit: ContentSpecification.filesMax)
            var list: [File] = []
            var chunks = 0
            for _ in 0..<count { list.append(try Self.file(&reader, &chunks)) }
            try reader.finish()
            files = list
        } catch {
            throw .malformed("manifest", error)
        }
        try Self.check(files)
        self.files = files
    }

    private static func file(
        _ reader: inout WireReader, _ chunks: inout Int
    ) throws(WireError) -> File {
        let bytes = try reader.medium("path", limit: ContentSpecification.pathBytesMax)
        guard let path = String(validating: bytes, as: UTF8.self) else { throw .invalid("path") }
        let flags = try reader.u8()
        guard flags <= 1 else { throw .invalid("mode") }
        let count = try reader.count("chunks", limit: ContentSpecification.chunksMax)
        chunks += count
        guard chunks <= ContentSpecification.chunksMax else {
            throw .tooLong("chunks", chunks, limit: ContentSpecification.chunksMax)
        }
        var list: [Chunk] = []
        list.reserveCapacity(min(count, reader.left / 33))
        for _ in 0..<count {
            let id: Digest = try reader.bytes32()
            let size = try reader.varint()
            guard (1...UInt64(ContentSpecification.chunkBytesMax)).contains(size) else {
                throw .invalid("chunk length")
            }
            list.append(Chunk(id: id, byteCount: UInt32(size)))
        }
        return File(
            path: path, isExecutable: flags == 1, chunks: list)
    }

    private static func check(_ files: [File]) throws(ContentRefusal) {
        var names: Set<String> = []
        var folders: Set<String> = []
        var last: [UInt8] = []
        var lengths: [Digest: UInt32] = [:]
        for file in files {
            for chunk in file.chunks
            where lengths.updateValue(chunk.byteCount, forKey: chunk.id) ?? chunk.byteCount
                != chunk.byteCount
            {
                throw .malformed("manifest", .invalid("chunk of two lengths"))
            }
            let bytes = Array(file.path.utf8)
            if let fault = ContentPath.fault(bytes) { throw .badPath(file.path, fault) }
            guard last.isEmpty || last.lexicographicallyPrecedes(bytes) else {
                throw .malformed("manifest", .unordered("paths"))
            }
            last = bytes
            guard names.insert(ContentPath.folded(file.path)).inserted else {
                throw .badPath(file.path, "differs from another path only in case")
            }
            for (index, character) in file.path.utf8.enumerated() where character == 0x2f {
                folders.insert(
                    ContentPath.folded(String(decoding: bytes.prefix(index), as: UTF8.self)))
            }
        }
        if let clash = names.intersection(folders).min() {
            throw .badPath(clash, "a file and a folder of one name")
        }
    }
}
