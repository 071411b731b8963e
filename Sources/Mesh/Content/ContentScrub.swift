// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import MeshContent
internal import MeshCore
internal import MeshStore

/// Files that change on disk are found, not served, and fetched anew.
extension ContentLane {
    /// Reads everything that is served again and again, slowly; what has changed is fetched anew.
    func scrub(_ state: inout State, _ now: Instant) {
        guard state.nextScrub <= now else { return }
        state.nextScrub = now.advanced(by: .seconds(1))
        let trees = state.shelf.wholeTrees
        guard let first = trees.first else { return }
        let (manifest, place) = state.scrub ?? (first, 0)
        let (next, damaged) = state.shelf.scrub(manifest, from: place, budget: tuning.scrubBytes)
        if !damaged.isEmpty { mend(manifest, &state) }
        if let next {
            state.scrub = (manifest, next)
        } else {
            let later = trees.first { $0 > manifest }
            state.scrub = later.map { ($0, 0) }
            // All is read: the next round begins in a day.
            if later == nil { state.nextScrub = now.advanced(by: .seconds(86_400)) }
        }
    }

    /// Has damaged chunks fetched from others; their files are not served meanwhile.
    func mend(_ manifest: Digest, _ state: inout State) {
        let damaged = state.shelf.damaged(manifest)
        guard !damaged.isEmpty, let name = channelName(of: manifest, state),
            let release = release(of: manifest, name, state)
        else { return }
        count("content_damaged")
        logger.error(
            "Files have changed on disk",
            metadata: ["content.channel": "\(name)", "content.chunks": "\(damaged.count)"])
        show(state)
        let now = around.now()
        state.exchange.forget(manifest)
        state.exchange.want(
            manifest, byteCount: Int(release.manifestBytes), audience: release.audience, old: nil,
            now: now)
        state.exchange.began(manifest, state.shelf, now: now)
    }

    func release(of manifest: Digest, _ channel: String, _ state: State) -> Release? {
        state.channels[channel]?.releases.values.first { $0.release.manifest == manifest }?.release
    }

    func channelName(of manifest: Digest, _ state: State) -> String? {
        state.channels.filter {
            $0.value.releases.values.contains { $0.release.manifest == manifest }
        }.keys.min()
    }
}
