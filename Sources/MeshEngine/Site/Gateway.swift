// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshDiscovery
internal import MeshMembership
internal import MeshTrust

/// One node of a site carries its links to other sites; the others get everything from it.
extension Engine {
    /// Says how this node's path to other sites does, and gives way to the gateway once that works.
    mutating func steer(_ now: Instant) {
        tellFarPath(now)
        guard isRelieved else { return }
        let home = own.ticket.site
        let far = links.filter { $0.value.site != home }.keys.sorted()
        for id in far { close(id, .otherGateway) }
    }

    /// Says how this node's path to other sites does, where that has changed.
    mutating func tellFarPath(_ now: Instant) {
        let home = own.ticket.site
        let wan = farPath.judge(
            hasLink: links.contains { $0.value.site != home },
            isGateway: membership.gateway == own.node, hasAddress: hasFarAddresses, tuning,
            now: now)
        if let wan { membership.declare(wan: wan, now: now) }
    }

    /// Whether another server keeps the site's links to others. One whose records are sealed links
    /// with the centre all the same until that keeps its key: with the site's power off nobody else
    /// has it.
    private var isRelieved: Bool {
        membership.isRelieved && (keeping.own == nil || keeping.isWithCentre)
    }

    /// Whether a link is to stay, so that what is compared over it is not compared twice. One that
    /// is not is closed within a moment; one that stays after all is compared over then.
    func mayCompare(_ id: LinkID) -> Bool { links[id]?.site == own.ticket.site || !isRelieved }

    private var hasFarAddresses: Bool {
        let home = own.ticket.site
        for target in dials.known {
            if let node = target.node {
                if let member = membership.member(node), member.site != home { return true }
            } else if target.rung == .seed, target.lastFailure?.cause != .ownAddress {
                return true
            }
        }
        return false
    }

    /// Dials what is due; other sites only as their gateway, and each of them once.
    mutating func dial(_ now: Instant) {
        guard dials.mayBeDue(now: now) else { return }
        let isRelieved = isRelieved
        let home = own.ticket.site
        let (members, gone) = (membership, revoked)
        let linkedSites = Set(links.values.map(\.site).filter { $0 != home })
        let near = links.values.count { $0.site == home }
        let linked = Set(links.values.map(\.node))
        let due = dials.due(now: now, linked: linked, atMost: limits.dialsAtOnce) { node in
            if gone[node] != nil { return .never }
            let site = members.site(of: node)
            if let site, site != home {
                return isRelieved || linkedSites.contains(site) ? .notNow : .wanted
            }
            // Who has few links takes any; the others only their neighbours on the rings.
            if members.isNeighbour(node) || (site == nil && near < tuning.linksWanted) {
                return .wanted
            }
            return .later
        }
        for address in due { emit(.dial(address)) }
    }

    mutating func dialFailed(_ address: Address, _ failure: DialFailure, _ now: Instant) {
        guard let node = dials.failed(address, failure, now: now) else { return }
        membership.unreachable(node, isHostThere: failure.cause != .unreachable, now: now)
    }

    /// Closes a link of a large site that its rings do not ask for: a stranger's welcome, or a
    /// neighbour of before. Of two nodes the lower does it, one at a time.
    mutating func trim(_ now: Instant) {
        guard membership.isWide else { return }
        let home = own.ticket.site
        let near = links.filter { $0.value.site == home }
        guard near.count > MembershipSpecification.rings else { return }
        let idle = near.filter { _, link in
            own.node < link.node && now.since(link.since) > tuning.linkRest
                && !link.isSyncing
                && !membership.isNeighbour(link.node)
        }
        if let id = idle.keys.min() { close(id, .noNeighbour) }
    }
}
