// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// One release that is being fetched: what is missing, what was asked for.
struct Fetch {
    enum Chunk: UInt8 {
        case missing
        case asked
        case here
    }

    let manifest: Digest
    let audience: Audience
    let manifestByteCount: Int
    /// The release whose files are there already, as a base for edits.
    let old: Digest?
    var manifestBytes: [UInt8] = []
    var isManifestAsked = false
    var layout: Layout?
    var chunks: [Chunk] = []
    var missing = 0
    /// Where the search for the next chunk goes on.
    var cursor = 0
    var bases: [Int: (run: [Int], base: [Int])] = [:]
    /// What has come since neighbours were last told.
    var fresh: [Int] = []
    var bytesHere: UInt64 = 0

    init(_ manifest: Digest, byteCount: Int, audience: Audience, old: Digest?) {
        self.manifest = manifest
        self.audience = audience
        self.old = old
        manifestByteCount = byteCount
    }

    var isComplete: Bool { layout != nil && missing == 0 }

    mutating func lay(_ layout: Layout, old: Layout?, holds: (Int) -> Bool) {
        self.layout = layout
        chunks = layout.chunks.indices.map { holds($0) ? .here : .missing }
        missing = chunks.count { $0 != .here }
        bytesHere = zip(layout.chunks, chunks).reduce(0) {
            $0 + ($1.1 == .here ? UInt64($1.0.byteCount) : 0)
        }
        if missing > 0, let old { bases = layout.bases(in: old) }
    }

    mutating func arrived(_ place: Int) {
        guard chunks[place] != .here, let layout else { return }
        chunks[place] = .here
        missing -= 1
        bytesHere += UInt64(layout.chunks[place].byteCount)
        fresh.append(place)
    }

    /// What to ask a peer for next.
    ///
    /// - Parameters:
    ///   - most: bytes of one request.
    ///   - has: whether the peer holds a place.
    ///   - isElsewhere: whether a nearer peer does, who will be asked.
    ///   - holders: how many peers hold a place.
    mutating func next(
        _ tuning: ContentTuning, bytes most: Int, has: (Int) -> Bool, isElsewhere: (Int) -> Bool,
        holders: (Int) -> Int
    ) -> (places: [Int], base: [Int]?)? {
        guard let layout, missing > 0 else { return nil }
        var candidates: [Int] = []
        var looked = 0
        var index = cursor
        while looked < chunks.count, candidates.count < tuning.rarestAmong {
            if index >= chunks.count { index = 0 }
            if chunks[index] == .missing, has(index), !isElsewhere(index) {
                candidates.append(index)
            }
            index += 1
            looked += 1
        }
        guard let rarest = candidates.map(holders).min(),
            let first = candidates.first(where: { holders($0) == rarest })
        else { return nil }
        if let (run, base) = bases[first], run.allSatisfy({ chunks[$0] == .missing && has($0) }) {
            for place in run { chunks[place] = .asked }
            return (run, base)
        }
        var places: [Int] = []
        var bytes = 0
        var place = first
        // Neighbours in the list are neighbours on disk.
        while place < chunks.count, chunks[place] == .missing, has(place), !isElsewhere(place),
            places.count < tuning.requestChunks, bytes < most,
            bases[place] == nil || place == first
        {
            places.append(place)
            bytes += Int(layout.chunks[place].byteCount)
            chunks[place] = .asked
            place += 1
        }
        cursor = place
        return (places, nil)
    }

    mutating func release(_ places: [Int]) {
        for place in places
        where chunks.indices.contains(place) && chunks[place] == .asked { chunks[place] = .missing }
        cursor = min(cursor, places.min() ?? cursor)
    }
}

extension [Int] {
    /// Ascending numbers as ranges.
    var ranges: [Range<Int>] {
        var ranges: [Range<Int>] = []
        for number in sorted() {
            if let last = ranges.last, last.upperBound == number {
                ranges[ranges.count - 1] = last.lowerBound..<(number + 1)
            } else {
                ranges.append(number..<(number + 1))
            }
        }
        return ranges
    }
}
