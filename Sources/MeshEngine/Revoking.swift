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
        let node = revocation.node
        guard revoked[node] == nil else { return }
        revoked[node] = revocation.encoded
        counters.add("member_revoked")
        if node == own.node {
            emit(.note("this server was revoked: \(revocation.reason)", nil))
            for id in links.keys.sorted() { close(id, "this server was revoked") }
            return
        }
        holders = holders.filter { $0.value.node != node }
        membership.revoke(node, now: now)
        for id in links.filter({ $0.value.node == node }).keys.sorted() {
            turnAway(id, revocation.encoded)
        }
    }

    /// - Returns: whether a new link may stand.
    mutating func mayLink(_ id: LinkID, _ node: NodeID) -> Bool {
        if isRevoked {
            emit(.close(id, reason: "this server was revoked"))
            return false
        }
        guard let document = revoked[node] else { return true }
        turnAway(id, document)
        return false
    }

    private mutating func turnAway(_ id: LinkID, _ document: [UInt8]) {
        counters.add("link_revoked")
        send(id, .revocation(document))
        emit(.close(id, reason: "the peer was revoked"))
    }

    /// A peer shows a revocation, this node's own most likely: it is judged like any other, once a
    /// link.
    mutating func receive(_ id: LinkID, revocation bytes: [UInt8]) {
        guard let link = links[id], !link.hasShownRevocation else {
            return counters.add("revocation_over_limit")
        }
        links[id]?.hasShownRevocation = true
        emit(.heed(id, bytes))
    }
}
