// SPDX-License-Identifier: Apache-2.0

package import MeshContent
package import MeshCore
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// Why an operator's wish about content was refused.
package enum ContentError: Error, Hashable {
    /// What was sent is not what it should be, in words.
    case refused(String)
    /// An equal or higher release stands already.
    case notNewer(highest: ReleaseNumber)
    /// There is no such channel or release.
    case unknown(String)
    /// Chunks are missing yet.
    case incomplete(Int)
    /// It does not fit on the disk.
    case noRoom(String)
}

/// What a server knows of one channel.
package struct ChannelReport: Sendable {
    /// The channel.
    package let channel: String
    /// Where this server stands.
    package let own: ChannelProgress
    /// The releases known, newest last; whether their files are here, whether this site's turn has
    /// come, and whether the centre has stopped the roll-out.
    package let releases: [(release: Release, isHere: Bool, isOpen: Bool, isHalted: Bool)]
    /// Bytes a second that come now.
    package let rate: Double
    /// What other servers said last, by node, with the writer's clock.
    package let others: [(node: NodeID, line: ChannelProgress, milliseconds: UInt64)]
}

/// What operators and publishers ask of the lane.
extension ContentLane {
    /// Everything known of every channel.
    package func report() async throws -> [ChannelReport] {
        try await ask { state in
            state.channels.keys.sorted().compactMap { name in
                guard let channel = state.channels[name],
                    let own = self.line(name, channel, state)
                else { return nil }
                let releases = channel.releases.sorted { $0.key < $1.key }.map { _, signed in
                    (
                        release: signed.release,
                        isHere: state.shelf.isWhole(signed.release.manifest),
                        isOpen: self.isOpen(signed.release, state),
                        isHalted: Self.isHalted(signed.release, state.stages)
                    )
                }
                let target = channel.target.flatMap { channel.releases[$0]?.release.manifest }
                let others = state.told.keys.sorted().compactMap { node in
                    state.told[node]?.first { $0.channel == name }.map {
                        (node: node, line: $0, milliseconds: state.toldAt[node] ?? 0)
                    }
                }
                return ChannelReport(
                    channel: name, own: own, releases: releases,
                    rate: target.flatMap { state.rates[$0]?.perSecond } ?? 0, others: others)
            }
        }
    }

    /// How old the centre's last word is, by its clock against this host's where they agree, and
    /// never younger than since it came; nil if it was never heard.
    package func freshness(wall milliseconds: UInt64) async throws -> Duration? {
        try await ask { state in
            guard let fresh = state.fresh else { return nil }
            let here = self.around.now().since(fresh.at)
            let said = fresh.stamp.milliseconds
            let told = milliseconds > said ? milliseconds - said : 0
            return max(here, .milliseconds(Int64(min(told, 315_360_000_000))))
        }
    }

    /// The latest release of a channel, with its charter.
    package func latest(_ channel: String) async throws -> SignedRelease? {
        try await ask { state in
            guard let channel = state.channels[channel] else { return nil }
            return channel.releases.keys.max().flatMap { channel.releases[$0] }
        }
    }

    /// A release of a channel as it was signed; nil where it is not known here.
    package func release(_ number: ReleaseNumber, of channel: String) async throws -> SignedRelease?
    {
        try await ask { $0.channels[channel]?.releases[number] }
    }

    /// A manifest that is here.
    package func manifest(_ manifest: Digest) async throws -> [UInt8]? {
        try await ask { $0.shelf.manifestBytes(manifest) }
    }

    /// A publisher begins: what it has signed is checked, room is made, and what is here already is
    /// used.
    ///
    /// - Returns: the places of the manifest's chunks that are to be sent.
    package func beginPublication(
        _ signed: [UInt8], manifest bytes: [UInt8]
    ) async throws -> [Range<Int>] {
        let signed = try verified(signed)
        let release = signed.release
        guard Manifest.id(ofManifest: bytes) == release.manifest,
            bytes.count == Int(release.manifestBytes)
        else { throw ContentError.refused("the manifest is not the one that was signed") }
        let manifest: Manifest
        do throws(ContentRefusal) { manifest = try Manifest(decoding: bytes) } catch {
            throw ContentError.refused("\(error)")
        }
        guard manifest.channel == release.channel, manifest.byteCount == release.totalBytes,
            manifest.files.count == Int(release.files)
        else { throw ContentError.refused("the manifest's sizes are not those that were signed") }
        return try await ask { state in
            try self.refuseOld(signed, state)
            if state.shelf.isWhole(release.manifest) {
                // What has rotted here may be brought anew by who has it still.
                self.mend(release.manifest, &state)
                return state.exchange.missing(release.manifest)
            }
            state.publishing[release.manifest] = signed
            let old = state.channels[release.channel]?.active.flatMap {
                state.channels[release.channel]?.releases[$0]?.release.manifest
            }
            do throws(StoreError) {
                try state.shelf.begin(release.manifest, bytes, channel: release.channel)
            } catch {
                throw ContentError.noRoom("\(error)")
            }
            let now = self.around.now()
            state.exchange.want(
                release.manifest, byteCount: bytes.count, audience: release.audience, old: old,
                now: now)
            state.exchange.began(release.manifest, state.shelf, now: now)
            return state.exchange.missing(release.manifest)
        }
    }

    private func verified(_ bytes: [UInt8]) throws -> SignedRelease {
        let signed: SignedRelease
        do throws(ContentRefusal) {
            signed = try SignedRelease(decoding: bytes, root: identity.root)
        } catch {
            throw ContentError.refused("\(error)")
        }
        guard signed.charter.stands else {
            throw ContentError.refused("root keys that the mesh has retired signed its charter")
        }
        return signed
    }

    /// A release that is known already may be brought once more, with its files: from a disk that
    /// somebody carried.
    private func refuseOld(_ signed: SignedRelease, _ state: State) throws {
        let known = state.channels[signed.release.channel]?.releases ?? [:]
        if known[signed.release.number] == signed { return }
        if let highest = known.keys.max(), highest >= signed.release.number {
            throw ContentError.notNewer(highest: highest)
        }
    }

    /// A publisher sends chunks, one after the other, for the given places.
    package func insert(
        _ manifest: Digest, _ places: [Range<Int>], _ bytes: [UInt8]
    ) async throws {
        try await ask { state in
            guard let layout = state.shelf.layout(manifest) else {
                throw ContentError.unknown("no publication of this manifest has begun")
            }
            var offset = 0
            for place in places.joined() {
                guard layout.chunks.indices.contains(place) else {
                    throw ContentError.refused("there is no chunk \(place)")
                }
                let end = offset + Int(layout.chunks[place].byteCount)
                guard end <= bytes.count else {
                    throw ContentError.refused("the body ends within chunk \(place)")
                }
                var shelf = state.shelf
                let chunk = Array(bytes[offset..<end])
                guard state.exchange.insert(manifest, place, chunk, &shelf) else {
                    throw ContentError.refused("chunk \(place) does not have its hash")
                }
                offset = end
            }
        }
    }

    /// Chunks that are here, one after the other; nil where one is not, or all are too many.
    package func chunks(_ manifest: Digest, _ places: [Range<Int>]) async throws -> [UInt8]? {
        try await ask { state in
            guard let layout = state.shelf.layout(manifest) else { return nil }
            var bytes: [UInt8] = []
            for place in places.joined() {
                guard layout.chunks.indices.contains(place), bytes.count < 8 << 20,
                    let chunk = state.shelf.read(manifest, place)
                else { return nil }
                bytes += chunk
            }
            return bytes
        }
    }

    /// A publisher ends: all chunks are here, and the release goes out.
    package func commitPublication(_ bytes: [UInt8]) async throws -> ReleaseNumber {
        let signed = try verified(bytes)
        let release = signed.release
        let isKnown = try await ask { state in
            try self.refuseOld(signed, state)
            guard state.shelf.isWhole(release.manifest) else {
                let missing = state.exchange.missing(release.manifest)
                throw ContentError.incomplete(missing.reduce(0) { $0 + $1.count })
            }
            state.publishing[release.manifest] = nil
            // One before it that was broken off holds its room no longer.
            let known = state.channels[release.channel]?.releases.values.map(\.release.manifest)
            for (manifest, other) in state.publishing
            where other.release.channel == release.channel
                && other.release.number <= release.number && known?.contains(manifest) != true
            {
                state.publishing[manifest] = nil
                state.exchange.forget(manifest)
                state.shelf.dropUnfinished(manifest)
            }
            return state.channels[release.channel]?.releases[release.number] == signed
        }
        if !isKnown { try await write(signed) }
        return release.number
    }

    private func write(_ signed: SignedRelease) async throws {
        let release = signed.release
        let scope = SignedRelease.scope(for: release.audience)
        guard identity.certificate.allows(.read, scope) else {
            throw ContentError.refused(
                "this server does not hold \(scope): publish through another")
        }
        let write = Write(
            .put, try SignedRelease.key(release.channel, release.number),
            contentType: ContentSpecification.contentType, body: signed.encoded)
        do {
            _ = try await store.write(WriteRequest(scope: scope, writes: [write]))
        } catch StoreError.exists {
            throw ContentError.notNewer(highest: release.number)
        }
    }

    /// Goes back to the files of the release before the latest, with what its publisher signed
    /// beforehand: needs no key and no line.
    ///
    /// - Returns: the new, higher release.
    package func rollBack(_ channel: String) async throws -> Release {
        guard let latest = try await latest(channel) else {
            throw ContentError.unknown("there is no channel '\(channel)'")
        }
        guard let back = latest.back else {
            throw ContentError.refused(
                "release \(latest.release.number) has no way back that was signed beforehand; publish a rollback with the keys"
            )
        }
        try await write(back)
        return back.release
    }

    /// Reads every chunk of what a channel serves.
    ///
    /// - Returns: how many chunks were read, and how many had changed; these are fetched anew.
    package func verify(_ channel: String) async throws -> (chunks: Int, damaged: Int) {
        try await ask { state in
            guard let known = state.channels[channel], let active = known.active,
                let manifest = known.releases[active]?.release.manifest,
                let layout = state.shelf.layout(manifest)
            else { throw ContentError.unknown("nothing of '\(channel)' is served here") }
            let (rest, damaged) = state.shelf.scrub(manifest, from: 0, budget: .max)
            if !damaged.isEmpty { self.mend(manifest, &state) }
            if rest != nil {
                throw StoreError.unusable("its files cannot be opened now; try again")
            }
            return (layout.chunks.count, damaged.count)
        }
    }
}
