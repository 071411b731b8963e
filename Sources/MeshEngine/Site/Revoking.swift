// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshMembership
internal import MeshTrust

/// A revoked node has no links; it is shown why, and nothing more: the article `TrustDocuments`.
extension Engine {
    /// Whether this very node was revoked: it keeps to itself then.
    package var isRevoked: Bool { revoked[own.node] != nil }

    /// A revocation is durable here.
    mutating func heed(_ revocation: Revocation, _ now: Instant) {
        revoke(revocation.node, by: revocation, now)
        // Who has shown a later ticket is a member by that one.
        for node in tickets.revoke(revocation).sorted()
        where node == own.node || !names.hasNewer(node, than: revocation.serials) {
            revoke(node, by: revocation, now)
        }
    }

    private mutating func revoke(
        _ node: NodeID, by revocation: Revocation, _ now: Instant
    ) {
        guard revoked[node] == nil else { return }
        tickets.settle(node)
        revoked[node] = revocation.encoded
        counters.add(.memberRevoked)
        if node == own.node {
            emit(.note(.revoked(revocation.reason), nil))
            // Nobody is to take it for alive, and wait for it to carry a site's links.
            membership.withdraw()
            for id in links.keys.sorted() {
                send(id, .revocation(revocation.encoded))
                close(id, .selfRevoked)
            }
            return
        }
        names.release(node)
        membership.revoke(node, now: now)
        for id in links.filter({ $0.value.node == node }).keys.sorted() {
            turnAway(id, revocation.encoded)
        }
    }

    /// - Returns: whether a new link may stand.
    mutating func mayLink(_ id: LinkID, _ card: Certificate, _ now: Instant) -> Bool {
        if let document = revoked[own.node] {
            // A peer that has not heard of it would dial again and again.
            send(id, .revocation(document))
            emit(.close(id, reason: .selfRevoked))
            return false
        }
        if let revocation = tickets.revocation(of: card.ticket) {
            revoke(card.node, by: revocation, now)
        }
        if let document = revoked[card.node] {
            turnAway(id, document)
            return false
        }
        guard case .after(let holder) = uses(card) else { return true }
        counters.add(.linkTicketUsed)
        // The certificate of the other is the proof.
        send(id, .certificate(holder.encoded))
        emit(.close(id, reason: .ticketUsed))
        return false
    }

    /// A node shows its ticket; that another has used it before is told to the operator.
    mutating func uses(_ card: Certificate) -> TicketUses.Claim {
        let (claim, isNews) = tickets.claim(card)
        if isNews, let double = tickets.doubles[card.node] {
            counters.add(.ticketUsedTwice)
            emit(.note(.ticketUsedTwice(double), nil))
        }
        return claim
    }

    private mutating func turnAway(_ id: LinkID, _ document: [UInt8]) {
        counters.add(.linkRevoked)
        send(id, .revocation(document))
        emit(.close(id, reason: .peerRevoked))
    }

    /// Tells a peer at once who of its own site was revoked: a thief there that keeps the site's
    /// links to itself would not pass that on.
    mutating func warn(_ id: LinkID, _ site: String) {
        let neighbours = revoked.keys.filter { membership.site(of: $0) == site }.sorted()
        for node in neighbours.prefix(limits.revocationsShown) {
            if let document = revoked[node] { send(id, .revocation(document)) }
        }
    }

    /// A peer shows a revocation, of this node or of a neighbour: it is judged like any other.
    mutating func receive(_ id: LinkID, revocation bytes: [UInt8]) {
        guard let link = links[id], link.revocationsShown < limits.revocationsShown else {
            return counters.add(.revocationOverLimit)
        }
        links[id]?.revocationsShown += 1
        emit(.heed(id, bytes))
    }
}
