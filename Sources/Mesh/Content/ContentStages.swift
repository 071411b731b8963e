// SPDX-License-Identifier: Apache-2.0

internal import MeshContent
internal import MeshCore
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// What central servers say: that a ring of a roll-out may begin, and that they are there.
extension ContentLane {
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
        guard let halt = try? Stage.key(name, release.number, ring: nil),
            !state.stages.contains(halt.description)
        else { return }
        let certificates = (try? store.certificates()) ?? []
        for ring in 1..<release.rings.count where !Self.isOpen(release, ring, state.stages) {
            let lines = certificates.filter {
                !state.gone.contains($0.node)
                    && release.ring(of: $0.ticket.site, groups: $0.ticket.groups) == ring - 1
            }.map { certificate in
                state.told[certificate.node]?.first { $0.channel == name }
            }
            // A full disk is waited for; who turned another release away says nothing of this one.
            if lines.contains(where: { $0?.phase == .refused && $0?.target == release.number }) {
                return write(halt)
            }
            guard let key = try? Stage.key(name, release.number, ring: ring) else { return }
            let isWell =
                !lines.isEmpty
                && lines.allSatisfy { line in
                    guard let line, line.phase == .active, let active = line.active else {
                        return false
                    }
                    return active >= release.number
                }
            guard isWell else {
                state.wellSince[key] = nil
                return
            }
            let now = around.now()
            let since = state.wellSince[key] ?? now
            state.wellSince[key] = since
            guard now.since(since) >= .seconds(Int64(release.holdSeconds)) else { return }
            state.wellSince[key] = nil
            write(key)
            return
        }
    }

    private func write(_ key: RecordKey) {
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
}
