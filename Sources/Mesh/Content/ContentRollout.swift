// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
internal import Logging
internal import MeshContent
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// From records to what is fetched, and from what is whole to what is served.
extension ContentLane {
    /// Reads all that the store holds of the mesh's own. What could not be read is read with the
    /// next tick.
    func readAll(_ state: inout State) {
        let end = store.lastPosition
        state.isUnread = true
        do {
            for scope in try store.scopes() where scope.isOfMesh {
                var after: RecordKey?
                while !isClosed {
                    let page = try store.states(scope, after: after, limit: 500)
                    for one in page {
                        for version in one.versions.reversed() { read(scope, version, &state) }
                    }
                    guard let last = page.last else { break }
                    after = last.key
                }
            }
            (state.position, state.isUnread) = (end, false)
        } catch {
            logger.error("Content cannot be read", metadata: ["error": "\(error)"])
        }
        stepAll(&state)
    }

    /// Reads a part of the feed; nothing of the mesh's own stands between it and the part before.
    func read(_ part: ClosedRange<FeedPosition>, _ state: inout State) {
        state.position = max(state.position, part.lowerBound)
        while !isClosed, state.position < part.upperBound {
            guard let (changes, position) = try? store.changes(after: state.position, limit: 500)
            else { return state.isUnread = true }
            guard position > state.position else { return }
            state.position = position
            for change in changes {
                if let version = change.version { read(change.scope, version, &state) }
            }
        }
    }

    /// Takes each channel a step further.
    func stepAll(_ state: inout State) {
        for name in state.channels.keys.sorted() { step(name, &state) }
    }

    private func read(_ scope: Scope, _ version: StoredVersion, _ state: inout State) {
        switch scope.namespace {
        case ContentSpecification.namespace:
            guard
                let signed = try? SignedRelease(
                    decoding: version.record.body, root: identity.root)
            else { return }
            let (name, number) = (signed.release.channel, signed.release.number)
            guard signed.charter.stands else {
                state.channels[name, default: Channel()].retired.insert(number)
                return
            }
            // Two releases of one number are their publishers' fault; all choose the same.
            if let other = state.channels[name]?.releases[number], other != signed {
                count("content_release_twice")
                guard Blake2b.hash(signed.encoded) < Blake2b.hash(other.encoded) else { return }
            }
            state.channels[name, default: Channel()].releases[number] = signed
        case ContentSpecification.statusNamespace:
            // Only what a server says of itself counts.
            guard let node = ChannelProgress.node(of: version.record.key),
                node == version.dot.author.node,
                let lines = try? ChannelProgress.decode(version.record.body)
            else { return }
            state.told[node] = lines
            state.toldAt[node] = version.record.stamp.milliseconds
        case ContentSpecification.freshNamespace:
            // Not by milliseconds: a clock that once stood ahead leaves many stamps of the same.
            let said = version.record.stamp
            if state.fresh.map({ said > $0.stamp }) ?? true { state.fresh = (said, around.now()) }
        case NamespacePolicy.meshNamespace:
            let key = version.record.key.description
            if key.hasPrefix("stage/") { state.stages.insert(key) }
        default: break
        }
    }

    /// Whether this site's turn has come.
    func isOpen(_ release: Release, _ state: State) -> Bool {
        let ticket = identity.certificate.ticket
        guard let ring = release.ring(of: ticket.site, groups: ticket.groups) else { return false }
        return Self.isOpen(release, ring, state.stages)
    }

    static func isOpen(_ release: Release, _ ring: Int, _ stages: Set<String>) -> Bool {
        if ring == 0 { return true }
        return stands(release, ring, stages) && !isHalted(release, stages)
    }

    /// Whether the centre has stopped a roll-out, since a server of an early ring was not well.
    static func isHalted(_ release: Release, _ stages: Set<String>) -> Bool {
        release.rings.count > 1 && stands(release, nil, stages)
    }

    private static func stands(_ release: Release, _ ring: Int?, _ stages: Set<String>) -> Bool {
        (try? Stage.key(release.channel, release.number, ring: ring)).map {
            stages.contains($0.description)
        } ?? false
    }

    /// Takes one channel a step further.
    func step(_ name: String, _ state: inout State) {
        guard var channel = state.channels[name] else { return }
        defer { state.channels[name] = channel }
        for (_, signed) in channel.releases.sorted(by: { $0.key < $1.key })
        where state.shelf.isWhole(signed.release.manifest)
            && state.shelf.damaged(signed.release.manifest).isEmpty
            && state.exchange.progress(signed.release.manifest) == nil
        {
            state.exchange.holds(signed.release.manifest, audience: signed.release.audience)
        }
        if let failed = channel.failedAt, around.now().since(failed) > .seconds(60) {
            channel.failedAt = nil
            let goal = channel.target ?? channel.active
            channel.failure = channel.refused.flatMap { $0 == goal ? Self.probeFailure($0) : nil }
        }
        let open = channel.releases.filter { isOpen($0.value.release, state) }
        guard let target = open.keys.max(), let signed = open[target] else { return }
        // Never backwards: what is served was the highest once. But for one by root keys that were
        // retired since: any that stands takes its place.
        let active = channel.active.flatMap { channel.retired.contains($0) ? nil : $0 } ?? .zero
        let isOther =
            target == active && state.shelf.activeTree(name) != signed.release.manifest
        guard target > active || isOther else { return }
        if channel.target != target {
            if let old = channel.target.flatMap({ channel.releases[$0]?.release.manifest }),
                !state.shelf.isWhole(old), state.publishing[old] == nil
            {
                state.exchange.forget(old)
                // What was fetched of it takes room that the new one may need.
                if old != signed.release.manifest { state.shelf.dropUnfinished(old) }
            }
            channel.target = target
            channel.obstacle = nil
            channel.readySince = nil
            channel.failure = channel.refused == target ? Self.probeFailure(target) : nil
        }
        guard channel.refused.map({ target > $0 }) ?? true else { return }
        let release = signed.release
        guard state.shelf.isWhole(release.manifest) else {
            guard channel.failure == nil else { return }
            let old = channel.active.flatMap { channel.releases[$0]?.release.manifest }
            return state.exchange.want(
                release.manifest, byteCount: Int(release.manifestBytes),
                audience: release.audience, old: old, now: around.now())
        }
        let now = around.now()
        if channel.readySince == nil {
            channel.readySince = now
            state.statusDue = now
        }
        let others = state.neighbours.map { node in
            state.told[node]?.first { $0.channel == name }
        }
        guard
            Activation.isDue(
                release, readyFor: now.since(channel.readySince ?? now), patience: tuning.patience,
                localTime: Self.localTime(), neighbours: others)
        else { return }
        activate(name, &channel, signed, &state)
    }

    /// The site's clock as publishers write it.
    static func localTime() -> String {
        var seconds = time(nil)
        var parts = tm()
        localtime_r(&seconds, &parts)
        return String(
            format: "%04d-%02d-%02dT%02d:%02d", parts.tm_year + 1900, parts.tm_mon + 1,
            parts.tm_mday, parts.tm_hour, parts.tm_min)
    }

    private func activate(
        _ name: String, _ channel: inout Channel, _ signed: SignedRelease, _ state: inout State
    ) {
        let release = signed.release
        // Only what was proved is gone back to.
        if channel.probed == nil { channel.fallback = channel.active }
        let before = channel.fallback
        // Noted before: no cut of the power leaves a release served whose probe is forgotten.
        if tuning.probe != nil { state.shelf.mark(name, .unproven, release.number) }
        do throws(StoreError) {
            try state.shelf.activate(name, release.number, release.manifest)
        } catch {
            channel.failure = "\(error)"
            channel.failedAt = around.now()
            return
        }
        channel.active = release.number
        channel.readySince = nil
        (channel.failure, channel.failedAt) = (nil, nil)
        channel.probed = tuning.probe == nil ? nil : release.number
        state.statusDue = around.now()
        logger.notice(
            "A release is active",
            metadata: [
                "content.channel": "\(name)", "content.release": "\(release.number)",
            ])
        collect(name, channel, before, &state)
        state.channels[name] = channel
        show(state)
        if let probe = tuning.probe { check(probe, name, release, before) }
    }

    /// After a start: what the last process had no time to let go. Not where the records are not
    /// those of what is served: nothing is removed for want of knowledge.
    func collectLeftovers(_ name: String, _ state: inout State) {
        guard let channel = state.channels[name], let active = channel.active,
            channel.releases[active] != nil, channel.probed == nil
        else { return }
        collect(name, channel, nil, sparesUnfinished: true, &state)
    }

    /// Keeps the releases that may be served again, and lets the others' files go.
    private func collect(
        _ name: String, _ channel: Channel, _ before: ReleaseNumber?,
        sparesUnfinished: Bool = false, _ state: inout State
    ) {
        guard let active = channel.active else { return }
        let shelf = state.shelf
        let past = channel.releases.filter {
            $0.key <= active && shelf.isWhole($0.value.release.manifest)
        }.keys.sorted().suffix(tuning.keep)
        var numbers = Set(channel.releases.keys.filter { $0 > active }).union(past)
        numbers.insert(active)
        // If the probe says no, the one before is served again.
        if let before { numbers.insert(before) }
        var manifests: Set<Digest> = []
        for number in numbers {
            guard let signed = channel.releases[number] else { continue }
            manifests.insert(signed.release.manifest)
            // The files of a way back that was signed beforehand stay too.
            if let back = signed.back { manifests.insert(back.release.manifest) }
        }
        if let served = shelf.activeTree(name) { manifests.insert(served) }
        for (manifest, signed) in state.publishing where signed.release.channel == name {
            manifests.insert(manifest)
        }
        for manifest in Set(channel.releases.values.map(\.release.manifest))
        where !manifests.contains(manifest) { state.exchange.forget(manifest) }
        shelf.collect(
            name, keeping: manifests, numbers: numbers, sparesUnfinished: sparesUnfinished)
    }

    // MARK: Telling

    func line(_ name: String, _ channel: Channel, _ state: State) -> ChannelProgress? {
        guard let highest = channel.releases.keys.max() else { return nil }
        let target = channel.target ?? highest
        let release = channel.releases[max(target, channel.active ?? target)]?.release
        let all = release?.totalBytes ?? 0
        var (phase, here) = (ChannelProgress.Phase.active, all)
        if channel.failure != nil {
            phase = channel.refused == target ? .refused : .failed
        } else if let active = channel.active, active >= target {
            phase = active == highest || channel.target != nil ? .active : .held
            // Nobody counts on a release before its probe has ended well.
            if channel.probed == active { phase = .ready }
        } else if channel.target == nil {
            (phase, here) = (.held, 0)
        } else if let manifest = channel.releases[target]?.release.manifest {
            phase = state.shelf.isWhole(manifest) ? .ready : .fetching
            if phase == .fetching { here = state.exchange.progress(manifest)?.bytes ?? 0 }
        }
        return ChannelProgress(
            channel: name, active: channel.active, target: target, phase: phase,
            bytesHere: here, bytesAll: all,
            reason: channel.failure
                ?? (phase == .fetching || channel.probed != nil ? channel.obstacle : nil) ?? "")
    }

    /// Tells the site and the centre how far this server is: at once where a phase changed, every
    /// few seconds while bytes come, and never twice the same.
    func tellStatus(_ state: inout State, isUrgent: Bool) {
        let now = around.now()
        guard isUrgent || state.statusDue <= now else { return }
        state.statusDue = now.advanced(by: .seconds(5))
        let lines = state.channels.keys.sorted().compactMap { name in
            state.channels[name].flatMap { line(name, $0, state) }
        }
        let body = ChannelProgress.encode(lines)
        guard !lines.isEmpty, body != state.lastStatus,
            let key = try? ChannelProgress.key(of: identity.certificate.node)
        else { return }
        state.lastStatus = body
        state.told[identity.certificate.node] = lines
        let scope = Scope(namespace: ContentSpecification.statusNamespace, audience: .site(site))
        let write = Write(.put, key, contentType: "application/octet-stream", body: body)
        store.write(WriteRequest(scope: scope, writes: [write])) { result in
            // What could not be written, on a full disk, is told again later.
            guard case .failure = result else { return }
            self.count("content_status_unwritten")
            self.perform { $0.lastStatus = [] }
        }
    }

    func measure(_ state: inout State, _ now: Instant) {
        for (name, channel) in state.channels {
            guard let target = channel.target, channel.active.map({ $0 < target }) ?? true,
                let manifest = channel.releases[target]?.release.manifest,
                let bytes = state.exchange.progress(manifest)?.bytes
            else { continue }
            let last = state.rates[manifest] ?? (now, bytes, 0)
            let passed = now.since(last.at).seconds
            guard passed >= 1 || state.rates[manifest] == nil else { continue }
            let obstacle = obstacle(channel, manifest, hasMoved: bytes > last.bytes, state)
            state.channels[name]?.obstacle = obstacle
            let rate = passed > 0 ? Double(bytes - min(bytes, last.bytes)) / passed : 0
            state.rates[manifest] = (now, bytes, last.perSecond * 0.5 + rate * 0.5)
        }
    }

    /// What nobody has keeps a release from being served, and the one before stays.
    private func obstacle(
        _ channel: Channel, _ manifest: Digest, hasMoved: Bool, _ state: State
    ) -> String? {
        if hasMoved { return nil }
        let lost = state.exchange.unfound(manifest)
        guard let first = lost.first else { return channel.obstacle }
        return
            "incomplete: \(lost.count) chunks are on no linked server, \("\(first)".prefix(16)) among them"
    }
}

extension ReleaseNumber {
    static let zero = ReleaseNumber(epoch: 0, version: 0)
}

/// The parts of the feed in which something of the mesh's own came, until they are read.
struct ContentNews {
    private static let partsMax = 64
    private var parts: [ClosedRange<FeedPosition>] = []

    /// - Returns: whether nothing waited before.
    mutating func add(_ news: FeedNews) -> Bool {
        defer {
            // Joined to the last one, they take with them what apps wrote in between.
            if let last = parts.last,
                last.upperBound == news.after || parts.count == Self.partsMax
            {
                parts[parts.count - 1] = last.lowerBound...news.through
            } else {
                parts.append(news.after...news.through)
            }
        }
        return parts.isEmpty
    }

    mutating func take() -> [ClosedRange<FeedPosition>] {
        defer { parts = [] }
        return parts
    }
}
