// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshMembership
internal import MeshReplication
internal import MeshTrust

/// How a new commit crosses the mesh: pushed along a tree, announced beside it.
///
/// In a site whose members all link with each other the author tells everyone. In a larger one each
/// node sends on what is news; a link over which news came twice is pruned and carries
/// announcements, and one that announced what did not come is grafted again (Leitão, Pereira,
/// Rodrigues, "Epidemic Broadcast Trees", SRDS 2007).
extension Engine {
    /// Sends a commit on at once to those who hold its scope and do not get it from someone nearer.
    ///
    /// Whoever hears it from a neighbour tells other sites, if it has links with any (the gateway);
    /// whoever hears it from another site tells its own and further ones. What this misses the next
    /// comparison brings.
    mutating func push(_ message: CommitsMessage, from source: LinkID?, _ authorSite: String?) {
        guard message.through > message.after else { return }
        if !totals.add(message.recordCount, to: message.scope) { counters.add(.scopesOverLimit) }
        let home = own.ticket.site
        let sourceSite = source.flatMap { links[$0]?.site }
        let isWide = membership.isWide
        var encoded: [UInt8]?
        for id in links.keys.sorted() where id != source {
            guard let link = links[id], link.node != message.author.node,
                link.peer.certificate.allows(.read, message.scope)
            else { continue }
            if source != nil {
                let isWanted =
                    link.site == home
                    ? sourceSite != home || isWide
                    : link.site != authorSite && link.site != sourceSite
                guard isWanted else { continue }
            }
            if isWide, link.branch.outgoing == .lazy {
                let log = LogName(scope: message.scope, author: message.author)
                send(id, .have(log, through: message.through))
                continue
            }
            guard link.credit.hasRoom else {
                counters.add(.pushOverLimit)
                continue
            }
            counters.add(.commitsPushed)
            let bytes = encoded ?? message.encoded
            encoded = bytes
            transmit(id, message, encoded: bytes)
        }
    }

    /// Remembers how far a log was heard.
    mutating func know(_ message: CommitsMessage) {
        let log = LogName(scope: message.scope, author: message.author)
        if !heardLogs.note(log, through: message.through) { counters.add(.logsHeardOverLimit) }
    }

    /// A commit came that was here already: its link need not carry what another carries sooner.
    mutating func spare(_ id: LinkID) {
        guard membership.isWide, let link = links[id], link.site == own.ticket.site,
            !link.isComparing, links[id]?.branch.prune() == true
        else { return }
        send(id, .prune)
    }

    mutating func prune(_ id: LinkID) {
        guard links[id]?.site == own.ticket.site else { return counters.add(.pruneRefused) }
        links[id]?.branch.pruned()
    }

    /// A peer announced a commit: it should come by another way, and soon.
    mutating func hear(_ id: LinkID, _ log: LogName, _ through: UInt64, _ now: Instant) {
        guard !heardLogs.has(log, through: through), own.allows(.read, log.scope) else { return }
        let due = now.advanced(by: tuning.promisePatience)
        let hasRoom = links[id]?.branch.promise(
            log, through: through, due: due, limit: limits.promises)
        if hasRoom == false { counters.add(.promiseOverLimit) }
    }

    /// What was announced and did not come is asked for, and so is all that follows.
    mutating func graft(_ id: LinkID, _ now: Instant) {
        guard links[id]?.branch.graft(heardLogs, now: now) == true else { return }
        counters.add(.linkGrafted)
        send(id, .graft)
        wantSync(id)
    }
}
