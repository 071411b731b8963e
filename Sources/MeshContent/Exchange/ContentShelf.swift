// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// What is on a server's disk of releases: the exchange of chunks runs where it lives.
///
/// Chunks are named by manifest and place: the place in the list of the manifest's different
/// chunks, in the order in which they first stand in it.
package protocol ContentShelf {
    /// A manifest's bytes, if they are here.
    func manifestBytes(_ manifest: Digest) -> [UInt8]?
    /// A release's layout, if its manifest is here.
    func layout(_ manifest: Digest) -> Layout?
    /// Whether a chunk is here.
    func holds(_ manifest: Digest, _ place: Int) -> Bool
    /// A chunk's bytes, checked against its name; nil if they are not here or not whole any more.
    mutating func read(_ manifest: Digest, _ place: Int) -> [UInt8]?
    /// Keeps a chunk that was checked.
    ///
    /// - Returns: whether it is kept.
    mutating func write(_ manifest: Digest, _ place: Int, _ bytes: [UInt8]) -> Bool
}

/// A manifest with what is worked out from it once.
package final class Layout: Sendable {
    /// Where a chunk stands: file, offset within it.
    package struct Position: Sendable {
        /// The file's index.
        package let file: Int
        /// Bytes before it.
        package let offset: UInt64
    }

    /// The manifest.
    package let manifest: Manifest
    /// The different chunks, in the order in which they first stand.
    package let chunks: [Manifest.Chunk]
    /// Every position of each of them.
    package let positions: [[Position]]
    /// The places of each file's chunks.
    package let places: [[Int32]]
    /// A hash of each file's content: equal on every server.
    package let etags: [String]

    /// Lays a manifest out.
    package init(_ manifest: Manifest) {
        self.manifest = manifest
        var chunks: [Manifest.Chunk] = []
        var positions: [[Position]] = []
        var places: [[Int32]] = []
        var known: [Digest: Int32] = [:]
        for (index, file) in manifest.files.enumerated() {
            var offset: UInt64 = 0
            var list: [Int32] = []
            list.reserveCapacity(file.chunks.count)
            for chunk in file.chunks {
                let place: Int32
                if let found = known[chunk.id] {
                    place = found
                } else {
                    place = Int32(chunks.count)
                    known[chunk.id] = place
                    chunks.append(chunk)
                    positions.append([])
                }
                positions[Int(place)].append(Position(file: index, offset: offset))
                list.append(place)
                offset += UInt64(chunk.byteCount)
            }
            places.append(list)
        }
        etags = manifest.files.map { file in
            var ids: [UInt8] = []
            ids.reserveCapacity(file.chunks.count * 32)
            for chunk in file.chunks { ids += chunk.id.array }
            return Hex.encode(Blake2b.hash(ids).array.prefix(16))
        }
        self.chunks = chunks
        self.positions = positions
        self.places = places
    }

    /// For each place of this layout that another lacks: the run of lacking places it stands in
    /// within its file, and what stands in the other's file of the same path in their stead.
    ///
    /// An edit then has a base: the old chunks between the same two neighbours.
    package func bases(in old: Layout) -> [Int: (run: [Int], base: [Int])] {
        let oldFiles = Dictionary(
            old.manifest.files.enumerated().map { ($0.element.path, $0.offset) },
            uniquingKeysWith: { first, _ in first })
        let oldIDs = Set(old.chunks.map(\.id))
        var found: [Int: (run: [Int], base: [Int])] = [:]
        for (index, file) in manifest.files.enumerated() {
            guard let other = oldFiles[file.path] else { continue }
            let theirs = old.manifest.files[other].chunks.map(\.id)
            var cursor = 0
            var start = 0
            while start < file.chunks.count {
                if oldIDs.contains(file.chunks[start].id) {
                    if let at = theirs[cursor...].firstIndex(of: file.chunks[start].id) {
                        cursor = at + 1
                    }
                    start += 1
                    continue
                }
                var end = start
                while end < file.chunks.count, !oldIDs.contains(file.chunks[end].id) { end += 1 }
                // Up to the next chunk that both have, or the file's end.
                let stop =
                    end < file.chunks.count
                    ? theirs[cursor...].firstIndex(of: file.chunks[end].id) ?? cursor
                    : theirs.count
                let run = Self.distinct(places[index][start..<end])
                let base = old.places[other][cursor..<max(cursor, stop)].map(Int.init)
                // Longer runs than one answer takes are asked for chunk by chunk.
                if !base.isEmpty, base.count <= 32, run.count <= 32,
                    size(of: run) <= ContentMessage.givenBytesMax,
                    old.size(of: base) <= ContentMessage.givenBytesMax
                {
                    for place in run where found[place] == nil { found[place] = (run, base) }
                }
                start = end
            }
        }
        return found
    }

    private func size(of places: [Int]) -> Int {
        places.reduce(0) { $0 + Int(chunks[$1].byteCount) }
    }

    private static func distinct(_ places: ArraySlice<Int32>) -> [Int] {
        var seen: Set<Int32> = []
        return places.filter { seen.insert($0).inserted }.map(Int.init)
    }
}
