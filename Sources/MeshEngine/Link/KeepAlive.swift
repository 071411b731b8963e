// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshTrust

/// Links that stay: a ping where a peer is silent, an end where it stays so.
extension Engine {
    func isDue(_ id: LinkID, _ now: Instant) -> Bool {
        guard let link = links[id] else { return false }
        return link.isDue(isNear: link.site == own.ticket.site, tuning, now: now)
    }

    mutating func keepAlive(_ id: LinkID, _ now: Instant) {
        guard let link = links[id] else { return }
        let isNear = link.site == own.ticket.site
        if let reason = link.liveness.verdict(isNear: isNear, tuning, now: now) {
            return close(id, reason)
        }
        if let number = links[id]?.liveness.ping(isNear: isNear, tuning, &entropy, now: now) {
            send(id, .ping(number))
        }
    }
}
