// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshTrust

/// Moves releases between linked servers: who has what, whom to ask for what, and what to answer.
///
/// A value: links, messages and the time come in, effects go out; disks are behind `ContentShelf`.
/// Every chunk is checked against its name before it is kept. Servers of the own site are asked
/// first; of another site only what no neighbour has. So one copy crosses the WAN, through the
/// gateway, which alone is linked with other sites. Specified in the article `ContentProtocol`.
package struct ContentExchange: Sendable {
    /// What is to be done.
    package enum Effect: Sendable {
        /// Send a message on a link.
        case send(UInt64, ContentMessage)
        /// A release's manifest has come; the shelf is to make room and `began` to be called.
        case manifest(Digest, [UInt8])
        /// All chunks of a release are here.
        case complete(Digest)
        /// What came cannot be kept on this disk.
        case unwritable(Digest)
        /// A peer broke the protocol: close its link, with the reason.
        case close(UInt64, String)
    }

    struct Asked {
        let manifest: Digest
        let wanted: ContentMessage.Wanted
        let places: [Int]
        let base: [Int]
        let byteCount: Int
        let at: Instant
    }

    struct Peer {
        let certificate: Certificate
        let isNear: Bool
        /// What it told of each manifest; nil for all of it.
        var offers: [Digest: Places?] = [:]
        var asked: [UInt32: Asked] = [:]
        var inFlight = 0
        var window: Int
        var fastest: Duration?
        var strikes: [Digest: Int] = [:]
        /// What it had not when it was asked, until it may be asked again; -1 for the manifest.
        var lacks: [Digest: Set<Int>] = [:]
        var lacksUntil: Instant?
        /// Its answers are late: others need not wait for it.
        var isSlow = false
    }

    struct Held {
        let audience: Audience
        var isWhole: Bool
    }

    let tuning: ContentTuning
    var peers: [UInt64: Peer] = [:]
    var fetches: [Digest: Fetch] = [:]
    var held: [Digest: Held] = [:]
    var nextRequest: UInt32 = 1
    var nextTell: Instant
    var effects: [Effect] = []
    /// What was refused, late or over a limit, by a stable name.
    package internal(set) var counters: [String: UInt64] = [:]
    /// Bytes of chunks that came from other sites, and from this one.
    package internal(set) var farBytes: UInt64 = 0
    package internal(set) var nearBytes: UInt64 = 0
    /// Most offers of one peer that are kept, and most parts of what is not wanted yet.
    let offersMax = 1024
    let offersUnknownMax = 16
    /// Bytes a second that may come from other sites; nil for any. And whether now is the time.
    package var farBytesPerSecond: Int?
    package var isFarOpen = true
    var farBudget = 0
    var farFilled: Instant

    /// Begins with nobody and nothing.
    package init(tuning: ContentTuning = ContentTuning(), now: Instant) {
        self.tuning = tuning
        nextTell = now
        farFilled = now
    }

    mutating func count(_ name: String) { counters["content_" + name, default: 0] += 1 }

    /// What is to be done since this was last asked, in order.
    package mutating func takeEffects() -> [Effect] {
        defer { effects = [] }
        return effects
    }

    /// Whether nothing is wanted.
    package var isIdle: Bool { fetches.isEmpty }

    /// How far a fetch is: bytes here, and the fetch's manifest if it has come.
    package func progress(_ manifest: Digest) -> (bytes: UInt64, chunksMissing: Int)? {
        fetches[manifest].map { ($0.bytesHere, $0.layout == nil ? .max : $0.missing) }
    }

    /// Places of a release that are not here, in order.
    package func missing(_ manifest: Digest) -> [Range<Int>] {
        guard let fetch = fetches[manifest] else { return [] }
        return fetch.chunks.indices.filter { fetch.chunks[$0] != .here }.ranges
    }

    /// Chunks of a release that are missing and that no linked server has, so far as they told;
    /// none while anything of it is on its way.
    package func unfound(_ manifest: Digest) -> [Digest] {
        guard let fetch = fetches[manifest], let layout = fetch.layout,
            !fetch.chunks.contains(.asked)
        else { return [] }
        let sources = peers.values.filter { peer in
            peer.offers[manifest] != nil && peer.strikes[manifest, default: 0] < tuning.strikes
        }
        return fetch.chunks.indices.filter { place in
            fetch.chunks[place] == .missing
                && !sources.contains { peer in
                    let places = peer.offers[manifest] ?? nil
                    return (places?.contains(place) ?? true)
                        && peer.lacks[manifest]?.contains(place) != true
                }
        }.map { layout.chunks[$0].id }
    }

    // MARK: Links

    /// A link stands; it is told what is here that it may have.
    package mutating func linkUp(_ link: UInt64, _ certificate: Certificate, isNear: Bool) {
        peers[link] = Peer(
            certificate: certificate, isNear: isNear, window: tuning.farWindow)
        for manifest in held.keys.sorted() { offerAll(manifest, to: link) }
    }

    /// A link is gone; what was asked of it is asked of others.
    package mutating func linkDown(_ link: UInt64, now: Instant) {
        guard let peer = peers.removeValue(forKey: link) else { return }
        for asked in peer.asked.values { release(asked) }
        askAll(now)
    }

    func mayRead(_ peer: Peer, _ audience: Audience) -> Bool {
        peer.certificate.allows(.read, SignedRelease.scope(for: audience))
    }

    mutating func offerAll(_ manifest: Digest, to link: UInt64) {
        guard let peer = peers[link], let held = held[manifest], mayRead(peer, held.audience)
        else { return }
        if held.isWhole {
            effects.append(.send(link, .offer(manifest, .whole)))
        } else if let fetch = fetches[manifest], fetch.layout != nil {
            let here = fetch.chunks.indices.filter { fetch.chunks[$0] == .here }.ranges
            tell(here, of: manifest, to: link)
        }
    }

    mutating func tell(_ ranges: [Range<Int>], of manifest: Digest, to link: UInt64) {
        var rest = ranges[...]
        while !rest.isEmpty {
            let some = Array(rest.prefix(ContentMessage.rangesMax))
            rest = rest.dropFirst(some.count)
            effects.append(.send(link, .offer(manifest, .parts(some))))
        }
    }

    // MARK: Releases

    /// A release is whole on the shelf.
    package mutating func holds(_ manifest: Digest, audience: Audience) {
        let wasWhole = held[manifest]?.isWhole == true
        held[manifest] = Held(audience: audience, isWhole: true)
        fetches[manifest] = nil
        guard !wasWhole else { return }
        for link in peers.keys.sorted() { offerAll(manifest, to: link) }
    }

    /// A release is not on the shelf any more, or not wanted.
    package mutating func forget(_ manifest: Digest) {
        held[manifest] = nil
        fetches[manifest] = nil
    }

    /// A release is wanted.
    ///
    /// - Parameter old: a release on the shelf that may share most of it.
    package mutating func want(
        _ manifest: Digest, byteCount: Int, audience: Audience, old: Digest?, now: Instant
    ) {
        guard fetches[manifest] == nil, held[manifest]?.isWhole != true else { return }
        fetches[manifest] = Fetch(manifest, byteCount: byteCount, audience: audience, old: old)
        askAll(now)
    }

    /// The shelf has made room for a release.
    package mutating func began(_ manifest: Digest, _ shelf: some ContentShelf, now: Instant) {
        guard let layout = shelf.layout(manifest), let fetch = fetches[manifest] else { return }
        fetches[manifest]?.lay(layout, old: fetch.old.flatMap(shelf.layout)) {
            shelf.holds(manifest, $0)
        }
        held[manifest] = Held(audience: fetch.audience, isWhole: false)
        for link in peers.keys.sorted() where peers[link]?.isNear == true {
            offerAll(manifest, to: link)
        }
        if fetches[manifest]?.isComplete == true { effects.append(.complete(manifest)) }
        askAll(now)
    }

    /// A chunk came by another way: from a publisher, or a file.
    ///
    /// - Returns: whether it is the chunk of that place.
    package mutating func insert(
        _ manifest: Digest, _ place: Int, _ bytes: [UInt8], _ shelf: inout some ContentShelf
    ) -> Bool {
        if held[manifest]?.isWhole == true { return true }
        guard let fetch = fetches[manifest], let layout = fetch.layout,
            layout.chunks.indices.contains(place)
        else { return false }
        if fetch.chunks[place] == .here { return true }
        guard Manifest.id(of: bytes) == layout.chunks[place].id,
            shelf.write(manifest, place, bytes)
        else { return false }
        fetches[manifest]?.arrived(place)
        if fetches[manifest]?.isComplete == true { effects.append(.complete(manifest)) }
        return true
    }

    // MARK: Messages

    /// A peer said something.
    package mutating func receive(
        _ bytes: [UInt8], from link: UInt64, _ shelf: inout some ContentShelf, now: Instant
    ) {
        guard peers[link] != nil else { return count("late") }
        let message: ContentMessage
        do throws(WireError) { message = try ContentMessage(decoding: bytes) } catch {
            count("malformed")
            effects.append(.close(link, "a content message is malformed: \(error)"))
            return
        }
        switch message {
        case .offer(let manifest, let offer): heard(offer, of: manifest, from: link)
        case .get(let request, let manifest, let wanted):
            give(link, request, manifest, wanted, &shelf)
        case .give(let request, let given): take(given, request, from: link, &shelf, now)
        }
        askAll(now)
    }

    mutating func heard(
        _ offer: ContentMessage.Offer, of manifest: Digest, from link: UInt64
    ) {
        guard var peer = peers[link] else { return }
        if peer.offers[manifest] == nil, peer.offers.count >= offersMax {
            // What is neither wanted nor here is forgotten first.
            guard let old = peer.offers.keys.filter({ fetches[$0] == nil }).min() else {
                return count("offer_over_limit")
            }
            peer.offers[old] = nil
            peers[link]?.offers[old] = nil
        }
        switch offer {
        case .whole: peers[link]?.offers[manifest] = .some(nil)
        case .parts(let ranges):
            if case .some(.none) = peer.offers[manifest] { return }
            // What is not wanted yet may be, when its record comes; a few such are remembered.
            let strangers = peer.offers.count { $0.value != nil && fetches[$0.key] == nil }
            guard fetches[manifest] != nil || strangers < offersUnknownMax else {
                return count("offer_over_limit")
            }
            var places = (peer.offers[manifest] ?? nil) ?? Places()
            let most = fetches[manifest]?.layout?.chunks.count ?? ContentSpecification.chunksMax
            for range in ranges {
                guard range.upperBound <= most else { return count("offer_over_limit") }
                places.insert(range)
            }
            peers[link]?.offers[manifest] = places
        }
    }

    mutating func give(
        _ link: UInt64, _ request: UInt32, _ manifest: Digest, _ wanted: ContentMessage.Wanted,
        _ shelf: inout some ContentShelf
    ) {
        guard let peer = peers[link], let held = held[manifest], mayRead(peer, held.audience) else {
            count("request_refused")
            return effects.append(.send(link, .give(request, .lack)))
        }
        let given: ContentMessage.Given
        switch wanted {
        case .manifest(let offset):
            let bytes = shelf.manifestBytes(manifest) ?? []
            let part = bytes.dropFirst(offset).prefix(ContentMessage.givenBytesMax)
            given = part.isEmpty ? .lack : .bytes(Array(part))
        case .chunks(let ranges, let base):
            given = chunks(manifest, ranges, base, &shelf)
        }
        effects.append(.send(link, .give(request, given)))
    }

    mutating func chunks(
        _ manifest: Digest, _ ranges: [Range<Int>], _ base: ContentMessage.Base?,
        _ shelf: inout some ContentShelf
    ) -> ContentMessage.Given {
        guard let bytes = join(manifest, ranges.flatMap(Array.init), &shelf) else {
            count("chunk_lacking")
            return .lack
        }
        guard let base, held[base.manifest] != nil,
            let old = join(base.manifest, base.places.flatMap(Array.init), &shelf)
        else { return .bytes(bytes) }
        let patch = Patch(from: old, to: bytes)
        return patch.newByteCount + 16 * patch.steps.count < bytes.count
            ? .patch(patch) : .bytes(bytes)
    }

    func join(
        _ manifest: Digest, _ places: [Int], _ shelf: inout some ContentShelf
    ) -> [UInt8]? {
        guard let layout = shelf.layout(manifest) else { return nil }
        var bytes: [UInt8] = []
        for place in places {
            guard layout.chunks.indices.contains(place),
                bytes.count + Int(layout.chunks[place].byteCount) <= ContentMessage.givenBytesMax,
                let chunk = shelf.read(manifest, place)
            else { return nil }
            bytes += chunk
        }
        return bytes
    }
}
