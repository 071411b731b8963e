// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshDiscovery
internal import MeshLink
internal import MeshMembership
package import MeshTrust

extension Engine {
    /// A node that was kept is a member, here, away or gone.
    mutating func know(_ known: KnownNode, _ now: Instant) {
        let node = known.certificate.node
        guard node != own.node else { return }
        if revoked[node] == nil { for card in known.earlier { _ = uses(card) } }
        admit(known.certificate, now)
        if let address = known.address {
            dials.tell(node, at: address, rung: .remembered, now: now)
        }
        guard let bytes = known.farewell else { return }
        var reader = WireReader(bytes)
        if let words = try? Presence(from: &reader) {
            membership.hear(.presence(words, address: nil), from: node, now)
        }
    }

    /// A certificate was verified: its node belongs to the mesh, and has its name unless a later
    /// ticket was made for it.
    mutating func admit(_ card: Certificate, _ now: Instant) {
        guard card.node != own.node else { return }
        waitingRoom.leave(card.node)
        // A revoked node has no ticket that another could not have.
        guard revoked[card.node] != nil || uses(card) == .only else { return }
        let isOut = tickets.revocation(of: card.ticket) != nil
        if revoked[card.node] == nil, !isOut, names.isNewer(card) {
            membership.forgetRevoked(card.node)
        }
        membership.admit(
            card.node, site: card.ticket.site, isCentral: card.ticket.isCentral, now: now)
        // What a name stands for is no affair of one who may not use it.
        if revoked[card.node] != nil { return membership.revoke(card.node, now: now) }
        if let nameless = names.claim(card) { membership.retire(nameless, now: now) }
        if isOut, !names.hasNewer(card.node, than: [card.ticket.serial]) {
            membership.revoke(card.node, now: now)
        }
    }

    /// The node that has a node's place now, by a later ticket under the same name; nil for most.
    package func successor(of card: Certificate) -> NodeID? { names.successor(of: card) }

    /// Nodes that joined with one ticket, in the order of their names.
    package var doubles: [TicketDouble] {
        tickets.doubles.sorted { $0.key < $1.key }.map(\.value)
    }

    mutating func join(
        _ id: LinkID, _ card: Certificate, _ origin: LinkOrigin, _ now: Instant
    ) {
        admit(card, now)
        membership.keyed(card.node, sends: nil, receives: origin.datagramKey)
        if card.ticket.site != own.ticket.site { warn(id, card.ticket.site) }
        send(id, .datagramKey(origin.datagramKey))
        offerKey(id, card)
        membership.linked(card.node, host: origin.host, now: now)
        if let address = origin.dialled { emit(.remember(card.node, address: address)) }
    }

    /// A link is gone; its peer with it, unless another link has taken its place.
    mutating func part(_ link: LinkState, _ now: Instant) {
        guard !links.values.contains(where: { $0.node == link.node }) else { return }
        membership.unlinked(link.node, isOrderly: link.isLeaving, now: now)
    }

    mutating func receive(_ id: LinkID, rumours bytes: [UInt8], _ now: Instant) {
        guard let node = links[id]?.node else { return }
        do throws(WireError) {
            var reader = WireReader(bytes)
            let rumours = try Rumour.decode(from: &reader)
            try reader.finish()
            for rumour in rumours { membership.hear(rumour, from: node, now) }
        } catch {
            counters.add(.rumoursMalformed)
            close(id, .malformed(.rumours, error))
        }
    }

    mutating func performMembership(_ now: Instant) {
        for effect in membership.takeEffects() {
            switch effect {
            case .datagram(let address, let bytes): emit(.datagram(address: address, bytes))
            case .ask(let node):
                // Whoever is asked over its link has little time to answer.
                if let id = link(to: node) {
                    links[id]?.liveness.hurry(now: now)
                    keepAlive(id, now)
                }
            case .tell(let node, let rumours):
                guard let id = link(to: node) else { continue }
                var writer = WireWriter()
                Rumour.encode(rumours, to: &writer)
                send(id, .rumours(writer.bytes))
            case .changed(let node, let state):
                emit(.note(.member(node, state), nil))
                if state == .away { counters.add(.memberAway) }
                noteDeparture(node, state)
                // Nothing answers there: the link need not wait for its own silence.
                if state == .away, let id = link(to: node) { close(id, .away) }
            case .wantCertificate(let node, let teller):
                guard let id = link(to: teller) else { continue }
                links[id]?.introductions.want(node, atMost: Certificate.perNodeMax)
                send(id, .wantCertificate(node))
            case .told(let node, let address):
                guard mayDial(address) else {
                    counters.add(.toldOutside)
                    continue
                }
                dials.tell(node, at: address, rung: .told, now: now)
            case .reach(let node):
                if let address = membership.member(node)?.address, mayDial(address) {
                    dials.reach(node, at: address, now: now)
                } else {
                    membership.unreachable(node, isHostThere: false, now: now)
                }
            }
        }
    }

    /// Who left stays gone over restarts of this node, until it speaks again itself.
    private mutating func noteDeparture(_ node: NodeID, _ state: Member.State) {
        let words = membership.member(node)?.presence
        if state == .left, words?.status == .left {
            departed.insert(node)
            emit(.depart(node, words?.encoded))
        } else if departed.remove(node) != nil {
            emit(.depart(node, nil))
        }
    }

    /// Whether an address may be dialled because a peer says that a node is there. A lie could have
    /// every server of the mesh dial a host of somebody else, or look up a name that betrays it.
    private func mayDial(_ address: Address) -> Bool {
        guard let networks, !dials.knows(address) else { return true }
        guard let host = IPAddress(address.bareHost) else { return false }
        return networks.contains { $0.contains(host) }
    }

    func link(to node: NodeID) -> LinkID? {
        links.filter { $0.value.node == node }.keys.min()
    }
}
