// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshDiscovery
internal import MeshLink
internal import MeshMembership
internal import MeshTrust

/// A revoked node has no links; it is shown why, and nothing more: the article `TrustDocuments`.
extension Engine {
    /// Whether this very node was revoked: it keeps to itself then.
    package var isRevoked: Bool { ownRevocation != nil }

    private var ownRevocation: [UInt8]? {
        revoked[own.node] ?? tickets.revocation(of: own.ticket)?.encoded
    }

    /// A revocation is durable here.
    mutating func heed(_ revocation: Revocation, _ now: Instant) {
        let wasOut = isRevoked
        if revoked[revocation.node] == nil {
            revoked[revocation.node] = revocation.encoded
            counters.add(.memberRevoked)
            names.release(revocation.node)
            tickets.release(revocation.node)
            takeOut(revocation.node, by: revocation, now)
        }
        // Who has shown a later ticket is a member by that one.
        for node in tickets.revoke(revocation).sorted()
        where !names.hasNewer(node, than: revocation.serials) {
            takeOut(node, by: revocation, now)
        }
        guard isRevoked, !wasOut else { return }
        emit(.note(.revoked(revocation.reason), nil))
        // Nobody is to take it for alive, and wait for it to carry a site's links.
        membership.withdraw()
        for id in links.keys.sorted() {
            send(id, .revocation(revocation.encoded))
            close(id, .selfRevoked)
        }
    }

    /// A revoked node dials one address now and then: a newer root document may have taken the
    /// revocation back, and is shown at the start of a link.
    mutating func askAgain(_ now: Instant) {
        guard let next = nextAsk else {
            return nextAsk = now.advanced(by: tuning.revokedAskFirst)
        }
        guard next <= now else { return }
        nextAsk = now.advanced(by: entropy.jittered(tuning.revokedAsk, by: 0.2))
        for address in dials.due(now: now, linked: [], atMost: 1) { emit(.dial(address)) }
    }

    private mutating func takeOut(
        _ node: NodeID, by revocation: Revocation, _ now: Instant
    ) {
        guard node != own.node else { return }
        membership.revoke(node, now: now)
        for id in links.filter({ $0.value.node == node }).keys.sorted() {
            turnAway(id, revocation.encoded)
        }
    }

    /// - Returns: whether a new link may stand.
    mutating func mayLink(
        _ id: LinkID, _ card: Certificate, _ origin: LinkOrigin, _ now: Instant
    ) -> Bool {
        if let document = ownRevocation {
            // A peer that has not heard of it would dial again and again.
            send(id, .revocation(document))
            emit(.close(id, reason: .selfRevoked))
            return false
        }
        if let document = revoked[card.node] ?? tickets.revocation(of: card.ticket)?.encoded {
            turnAway(id, document)
            return false
        }
        guard own.isApproved else {
            listen(on: id, to: card, now)
            return false
        }
        guard card.isApproved else {
            letWait(id, card, origin, now)
            return false
        }
        let isKnown = tickets.doubles[card.node] != nil
        guard case .after(let holder) = uses(card) else { return true }
        counters.add(.linkTicketUsed)
        // By the certificate that is kept an operator can revoke it.
        if !isKnown, tickets.doubles[card.node] != nil { emit(.keep(id, card.encoded)) }
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

    /// A peer shows a change of the mesh's secret: the shell verifies it and begins anew by it.
    mutating func receive(_ id: LinkID, secret bytes: [UInt8]) {
        guard let link = links[id], link.secretsShown < MeshSecrets.epochsMax else {
            return counters.add(.secretOverLimit)
        }
        links[id]?.secretsShown += 1
        emit(.adopt(bytes))
    }
}
