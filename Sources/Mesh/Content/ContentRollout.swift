// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
internal import Logging
internal import MeshContent
internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import Synchronization

/// From records to what is fetched, and from what is whole to what is served.
extension ContentLane {
    /// Reads what the store has got since.
    func readRecords(_ state: inout State) {
        while let (changes, position) = try? store.changes(
            after: state.position, scopes: nil, limit: 500), position > state.position
        {
            state.position = position
            for change in changes { read(change.scope, change.version, &state) }
        }
        for name in state.channels.keys.sorted() { step(name, &state) }
    }

    private func read(_ scope: Scope, _ version: StoredVersion, _ state: inout State) {
        switch scope.namespace {
        case ContentSpecification.namespace:
            guard
                let signed = try? SignedRelease(
                    decoding: version.record.body, root: identity.root)
            else { return }
            state.channels[signed.release.channel, default: Channel()]
                .releases[signed.release.number] = signed
        case ContentSpecification.statusNamespace:
            // Only what a server says of itself counts.
            guard let node = ChannelProgress.node(of: version.record.key),
                node == version.dot.author.node,
                let lines = try? ChannelProgress.decode(version.record.body)
            else { return }
            state.told[node] = lines
            state.toldAt[node] = version.record.stamp.milliseconds
        case ContentSpecification.freshNamespace:
            let said = version.record.stamp.milliseconds
            if said > state.fresh?.milliseconds ?? 0 { state.fresh = (said, around.now()) }
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
        func stands(_ ring: Int?) -> Bool {
            (try? Stage.key(release.channel, release.number, ring: ring)).map {
                stages.contains($0.description)
            } ?? false
        }
        if ring == 0 { return true }
        return stands(ring) && !stands(nil)
    }

    /// Takes one channel a step further.
    func step(_ name: String, _ state: inout State) {
        guard var channel = state.channels[name] else { return }
        defer { state.channels[name] = channel }
        for (_, signed) in channel.releases.sorted(by: { $0.key < $1.key })
        where state.shelf.isWhole(signed.release.manifest) {
            state.exchange.holds(signed.release.manifest, audience: signed.release.audience)
        }
        let open = channel.releases.filter { isOpen($0.value.release, state) }
        guard let target = open.keys.max(), let signed = open[target] else { return }
        // Never backwards: what is served was the highest once.
        guard target > (channel.active ?? ReleaseNumber(epoch: 0, version: 0)) else { return }
        if channel.target != target {
            channel.target = target
            channel.readySince = nil
            channel.failure = nil
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
        let before = channel.active
        do throws(StoreError) {
            try state.shelf.activate(name, release.number, release.manifest)
        } catch {
            channel.failure = "\(error)"
            return
        }
        channel.active = release.number
        channel.readySince = nil
        state.statusDue = around.now()
        logger.notice(
            "A release is active",
            metadata: [
                "content.channel": "\(name)", "content.release": "\(release.number)",
            ])
        collect(name, channel, &state)
        state.channels[name] = channel
        show(state)
        if let probe = tuning.probe { check(probe, name, release, before) }
    }

    /// Keeps the releases that may be served again, and lets the others' files go.
    private func collect(_ name: String, _ channel: Channel, _ state: inout State) {
        guard let active = channel.active else { return }
        let past = channel.releases.keys.filter { $0 <= active }.sorted().suffix(tuning.keep)
        var numbers = Set(channel.releases.keys.filter { $0 > active }).union(past)
        numbers.insert(active)
        // The files of a way back that was signed beforehand stay too.
        let manifests = numbers.flatMap { number -> [Digest] in
            guard let signed = channel.releases[number] else { return [] }
            return [signed.release.manifest, signed.back?.release.manifest].compactMap(\.self)
        }
        let known = Set(manifests)
        for manifest in Set(channel.releases.values.map(\.release.manifest))
        where !known.contains(manifest) { state.exchange.forget(manifest) }
        state.shelf.collect(name, keeping: known, numbers: numbers)
    }

    /// Asks the site's own command whether the release is well; if it is not, the one before is
    /// served again, here, and the centre hears of it.
    private func check(
        _ probe: String, _ name: String, _ release: Release, _ before: ReleaseNumber?
    ) {
        DispatchQueue.global().async {
            var isWell = false
            for _ in 0..<5 where !isWell {
                let process = Process()
                process.executableURL = URL(fileURLWithPath: "/bin/sh")
                process.arguments = ["-c", probe]
                process.environment = ProcessInfo.processInfo.environment.merging([
                    "MESH_CHANNEL": name, "MESH_RELEASE": "\(release.number)",
                ]) { $1 }
                process.standardOutput = FileHandle.nullDevice
                process.standardError = FileHandle.nullDevice
                isWell = (try? process.run()) != nil
                if isWell {
                    process.waitUntilExit()
                    isWell = process.terminationStatus == 0
                }
                if !isWell { usleep(1_000_000) }
            }
            if isWell { return }
            self.perform { self.withdraw(name, release, before, &$0) }
        }
    }

    private func withdraw(
        _ name: String, _ release: Release, _ before: ReleaseNumber?, _ state: inout State
    ) {
        guard state.channels[name]?.active == release.number else { return }
        state.channels[name]?.refused = release.number
        state.channels[name]?.failure = "the probe failed after release \(release.number)"
        count("content_probe_failed")
        guard let before, let manifest = state.channels[name]?.releases[before]?.release.manifest,
            state.shelf.isWhole(manifest),
            (try? state.shelf.activate(name, before, manifest)) != nil
        else { return }
        state.channels[name]?.active = before
        show(state)
        tellStatus(&state, isUrgent: true)
    }

    // MARK: Telling

    func line(_ name: String, _ channel: Channel, _ state: State) -> ChannelProgress? {
        guard let highest = channel.releases.keys.max() else { return nil }
        let target = channel.target ?? highest
        let release = channel.releases[max(target, channel.active ?? target)]?.release
        let all = release?.totalBytes ?? 0
        var (phase, here) = (ChannelProgress.Phase.active, all)
        if channel.failure != nil {
            phase = .failed
        } else if let active = channel.active, active >= target {
            phase = active == highest || channel.target != nil ? .active : .held
        } else if channel.target == nil {
            (phase, here) = (.held, 0)
        } else if let manifest = channel.releases[target]?.release.manifest {
            phase = state.shelf.isWhole(manifest) ? .ready : .fetching
            if phase == .fetching { here = state.exchange.progress(manifest)?.bytes ?? 0 }
        }
        return ChannelProgress(
            channel: name, active: channel.active, target: target, phase: phase,
            bytesHere: here, bytesAll: all, reason: channel.failure ?? "")
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
        store.write(WriteRequest(scope: scope, writes: [write])) { _ in }
    }

    func measure(_ state: inout State, _ now: Instant) {
        for channel in state.channels.values {
            guard let target = channel.target, channel.active.map({ $0 < target }) ?? true,
                let manifest = channel.releases[target]?.release.manifest,
                let bytes = state.exchange.progress(manifest)?.bytes
            else { continue }
            let last = state.rates[manifest] ?? (now, bytes, 0)
            let passed = now.since(last.at).seconds
            guard passed >= 1 || state.rates[manifest] == nil else { continue }
            let rate = passed > 0 ? Double(bytes - min(bytes, last.bytes)) / passed : 0
            state.rates[manifest] = (now, bytes, last.perSecond * 0.5 + rate * 0.5)
        }
    }

    // MARK: Stages

    /// At the centre: opens the next ring of a roll-out once the one before is well, or stops it.
    func advanceStages(_ state: inout State) {
        guard identity.certificate.allows(.govern, NamespacePolicy.scope) else { return }
        for (name, channel) in state.channels {
            guard let release = channel.releases[channel.releases.keys.max() ?? .zero]?.release,
                release.rings.count > 1
            else { continue }
            advance(name, release, &state)
        }
    }

    private func advance(_ name: String, _ release: Release, _ state: inout State) {
        let certificates = (try? store.certificates()) ?? []
        for ring in 1..<release.rings.count where !Self.isOpen(release, ring, state.stages) {
            let before = certificates.filter {
                release.ring(of: $0.ticket.site, groups: $0.ticket.groups) == ring - 1
            }
            let lines = before.map { certificate in
                (
                    line: state.told[certificate.node]?.first { $0.channel == name },
                    at: state.toldAt[certificate.node] ?? .max
                )
            }
            if lines.contains(where: { $0.line?.phase == .failed }) {
                return write(try? Stage.key(name, release.number, ring: nil))
            }
            let wall = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
            let isWell =
                !lines.isEmpty
                && lines.allSatisfy { line, at in
                    guard let active = line?.active, active >= release.number else { return false }
                    return at &+ UInt64(release.holdSeconds) * 1000 <= wall
                }
            guard isWell else { return }
            write(try? Stage.key(name, release.number, ring: ring))
        }
    }

    private func write(_ key: RecordKey?) {
        guard let key else { return }
        let write = Write(.put, key, contentType: "text/plain", body: [])
        store.write(WriteRequest(scope: NamespacePolicy.scope, writes: [write])) { _ in }
    }

    /// At the centre: says every quarter of an hour that it is there.
    func sayFresh(_ state: inout State, _ now: Instant) {
        let scope = Scope(namespace: ContentSpecification.freshNamespace, audience: .all)
        guard state.nextFresh <= now, identity.certificate.allows(.govern, scope),
            let key = try? RecordKey("time")
        else { return }
        state.nextFresh = now.advanced(by: .seconds(900))
        store.write(
            WriteRequest(scope: scope, writes: [Write(.put, key, contentType: "text/plain")])
        ) { _ in }
    }

    // MARK: Scrub

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

extension ReleaseNumber {
    static let zero = ReleaseNumber(epoch: 0, version: 0)
}
