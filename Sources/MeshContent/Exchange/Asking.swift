// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Whom to ask for what, and what to do with the answers.
extension ContentExchange {
    mutating func release(_ asked: Asked) {
        if case .manifest = asked.wanted {
            fetches[asked.manifest]?.isManifestAsked = false
        } else {
            fetches[asked.manifest]?.release(asked.places)
        }
    }

    /// Time went by: answers that are late are asked of others, neighbours are told what has come.
    package mutating func tick(_ now: Instant) {
        for link in peers.keys.sorted() {
            for (request, asked) in peers[link]?.asked ?? [:]
            where now.since(asked.at) > tuning.patience {
                count("answer_late")
                peers[link]?.asked[request] = nil
                peers[link]?.inFlight -= asked.byteCount
                peers[link]?.isSlow = true
                release(asked)
            }
            if let until = peers[link]?.lacksUntil, until <= now {
                peers[link]?.lacks = [:]
                peers[link]?.lacksUntil = nil
            }
        }
        if let most = farBytesPerSecond {
            let more = Double(most) * min(now.since(farFilled).seconds, 1)
            farBudget = min(farBudget + Int(more), most)
            farFilled = now
        }
        if nextTell <= now {
            nextTell = now.advanced(by: tuning.tellPause)
            for manifest in fetches.keys.sorted() {
                guard let fresh = fetches[manifest]?.fresh, !fresh.isEmpty,
                    let audience = held[manifest]?.audience
                else { continue }
                fetches[manifest]?.fresh = []
                let ranges = fresh.ranges
                for link in peers.keys.sorted() {
                    guard let peer = peers[link], peer.isNear, mayRead(peer, audience) else {
                        continue
                    }
                    if case .some(.none) = peer.offers[manifest] { continue }
                    tell(ranges, of: manifest, to: link)
                }
            }
        }
        askAll(now)
    }

    /// Asks every peer for as much as its window takes.
    mutating func askAll(_ now: Instant) {
        guard !fetches.isEmpty else { return }
        let order = peers.keys.sorted { one, other in
            let (near, far) = (peers[one]?.isNear == true, peers[other]?.isNear == true)
            return near == far ? one < other : near
        }
        for manifest in fetches.keys.sorted() {
            for link in order { ask(link, manifest, now) }
        }
    }

    mutating func ask(_ link: UInt64, _ manifest: Digest, _ now: Instant) {
        guard let peer = peers[link], let offer = peer.offers[manifest],
            peer.strikes[manifest, default: 0] < tuning.strikes, var fetch = fetches[manifest]
        else { return }
        guard fetch.layout != nil else {
            guard !fetch.isManifestAsked, peer.lacks[manifest]?.contains(-1) != true else {
                return
            }
            fetches[manifest]?.isManifestAsked = true
            let wanted = ContentMessage.Wanted.manifest(offset: fetch.manifestBytes.count)
            return send(link, manifest, wanted, [], [], 0, now)
        }
        guard peer.isNear || isFarOpen else { return }
        let window = peer.isNear ? tuning.nearWindow : peer.window
        let others = peers.filter { $0.key != link }.compactMap { key, other in
            other.offers[manifest].map { places in
                (
                    isNear: other.isNear, places: places,
                    isUseful: !other.isSlow && other.lacks[manifest] == nil
                        && other.strikes[manifest, default: 0] < tuning.strikes
                )
            }
        }
        let near = others.filter { $0.isNear && $0.isUseful }
        let lacks = peer.lacks[manifest] ?? []
        while (peers[link]?.inFlight ?? window) < window {
            guard peer.isNear || farBytesPerSecond == nil || farBudget > 0 else { break }
            let next = fetch.next(
                tuning, bytes: peer.isNear ? tuning.requestBytes : tuning.farRequestBytes,
                has: { (offer?.contains($0) ?? true) && !lacks.contains($0) },
                isElsewhere: { place in
                    !peer.isNear && near.contains { $0.places?.contains(place) ?? true }
                },
                holders: { place in others.count { $0.places?.contains(place) ?? true } })
            guard let (places, base) = next, !places.isEmpty, let layout = fetch.layout else {
                break
            }
            let count = places.reduce(0) { $0 + Int(layout.chunks[$1].byteCount) }
            if !peer.isNear { farBudget -= count }
            let named = base.flatMap { base in
                fetch.old.map { ContentMessage.Base(manifest: $0, places: base.ranges) }
            }
            // A base out of order would be told wrongly by ranges.
            let isPlain = base.map { $0 == $0.sorted() && Set($0).count == $0.count } ?? true
            let isSorted = places == places.sorted()
            send(
                link, manifest, .chunks(places.ranges, base: isPlain && isSorted ? named : nil),
                places.sorted(), isPlain && isSorted ? base ?? [] : [], count, now)
        }
        fetches[manifest] = fetch
    }

    mutating func send(
        _ link: UInt64, _ manifest: Digest, _ wanted: ContentMessage.Wanted, _ places: [Int],
        _ base: [Int], _ byteCount: Int, _ now: Instant
    ) {
        let request = nextRequest
        nextRequest &+= 1
        peers[link]?.asked[request] = Asked(
            manifest: manifest, wanted: wanted, places: places, base: base, byteCount: byteCount,
            at: now)
        peers[link]?.inFlight += byteCount
        effects.append(.send(link, .get(request, manifest, wanted)))
    }

    mutating func take(
        _ given: ContentMessage.Given, _ request: UInt32, from link: UInt64,
        _ shelf: inout some ContentShelf, _ now: Instant
    ) {
        guard let asked = peers[link]?.asked.removeValue(forKey: request) else {
            return count("answer_unasked")
        }
        peers[link]?.inFlight -= asked.byteCount
        adjust(link, now.since(asked.at), asked.byteCount)
        guard let fetch = fetches[asked.manifest] else { return count("answer_late") }
        if case .manifest = asked.wanted {
            return takeManifest(given, asked, fetch, from: link, now)
        }
        peers[link]?.isSlow = false
        let bytes: [UInt8]
        switch given {
        case .bytes(let whole): bytes = whole
        case .patch(let patch):
            guard let old = fetch.old, let base = join(old, asked.base, &shelf),
                let patched = patch.apply(to: base)
            else {
                // The base is not whole here any more: the chunks are asked for as they are.
                count("base_lacking")
                for place in asked.places { fetches[asked.manifest]?.bases[place] = nil }
                return release(asked)
            }
            bytes = patched
        case .lack:
            lack(asked.manifest, asked.places, link, now)
            return release(asked)
        }
        let came = given.byteCount
        if peers[link]?.isNear == true { nearBytes += came } else { farBytes += came }
        switch keep(bytes, asked, &shelf) {
        case .kept: break
        case .wrong:
            count("chunk_wrong")
            peers[link]?.strikes[asked.manifest, default: 0] += 1
            release(asked)
        case .unwritable:
            count("chunk_unwritable")
            release(asked)
            return effects.append(.unwritable(asked.manifest))
        }
        if fetches[asked.manifest]?.isComplete == true { effects.append(.complete(asked.manifest)) }
    }

    /// A peer had not what it offered: it is asked for other things, and for this later.
    private mutating func lack(
        _ manifest: Digest, _ places: [Int], _ link: UInt64, _ now: Instant
    ) {
        count("answer_lacking")
        peers[link]?.lacks[manifest, default: []].formUnion(places)
        peers[link]?.lacksUntil = now.advanced(by: tuning.lackPause)
    }

    private enum Kept { case kept, wrong, unwritable }

    /// Asks more at once of a server that answers as fast as ever, and less of one whose answers
    /// begin to queue (as LEDBAT does, RFC 6817).
    private mutating func adjust(_ link: UInt64, _ latency: Duration, _ byteCount: Int) {
        guard var peer = peers[link], !peer.isNear, byteCount >= tuning.farRequestBytes / 2 else {
            return
        }
        let least = min(peer.fastest ?? latency, latency)
        peer.fastest = least
        if latency > least + tuning.queueing {
            peer.window = max(tuning.farWindowLeast, peer.window - (8 << 10))
        } else {
            peer.window = min(tuning.farWindowMost, peer.window + (8 << 10))
        }
        peers[link] = peer
    }

    private mutating func keep(
        _ bytes: [UInt8], _ asked: Asked, _ shelf: inout some ContentShelf
    ) -> Kept {
        guard let layout = fetches[asked.manifest]?.layout, bytes.count == asked.byteCount else {
            return .wrong
        }
        var offset = 0
        for place in asked.places {
            let end = offset + Int(layout.chunks[place].byteCount)
            guard end <= bytes.count else { return .wrong }
            let chunk = Array(bytes[offset..<end])
            guard Manifest.id(of: chunk) == layout.chunks[place].id else { return .wrong }
            guard shelf.write(asked.manifest, place, chunk) else { return .unwritable }
            fetches[asked.manifest]?.arrived(place)
            offset = end
        }
        return .kept
    }

    mutating func takeManifest(
        _ given: ContentMessage.Given, _ asked: Asked, _ fetch: Fetch, from link: UInt64,
        _ now: Instant
    ) {
        guard fetch.layout == nil else { return count("answer_late") }
        fetches[asked.manifest]?.isManifestAsked = false
        guard case .bytes(let part) = given, !part.isEmpty,
            fetch.manifestBytes.count + part.count <= fetch.manifestByteCount
        else { return lack(asked.manifest, [-1], link, now) }
        let came = UInt64(part.count)
        if peers[link]?.isNear == true { nearBytes += came } else { farBytes += came }
        let bytes = fetch.manifestBytes + part
        fetches[asked.manifest]?.manifestBytes = bytes
        guard bytes.count == fetch.manifestByteCount else { return }
        guard Manifest.id(ofManifest: bytes) == asked.manifest else {
            count("manifest_wrong")
            fetches[asked.manifest]?.manifestBytes = []
            peers[link]?.strikes[asked.manifest, default: 0] += 1
            return
        }
        fetches[asked.manifest]?.isManifestAsked = true
        effects.append(.manifest(asked.manifest, bytes))
    }
}

extension ContentMessage.Given {
    fileprivate var byteCount: UInt64 {
        switch self {
        case .bytes(let bytes): UInt64(bytes.count)
        case .patch(let patch): UInt64(patch.newByteCount)
        case .lack: 0
        }
    }
}
