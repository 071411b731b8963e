// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshDiscovery
internal import MeshLink
internal import MeshMembership
internal import MeshTrust

extension Engine {
    /// A node of which a certificate was kept is a member, here or away.
    mutating func know(_ card: Certificate, _ address: String?, _ now: Instant) {
        guard card.node != own.node else { return }
        membership.admit(
            card.node, site: card.ticket.site, isCentral: card.ticket.isCentral, now: now)
        if let address { dials.tell(card.node, at: address, rung: .remembered, now: now) }
    }

    mutating func join(
        _ id: LinkID, _ card: Certificate, _ origin: LinkOrigin, _ now: Instant
    ) {
        know(card, nil, now)
        membership.keyed(card.node, sends: nil, receives: origin.datagramKey)
        send(id, .datagramKey(origin.datagramKey))
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
            counters.add("rumours_malformed")
            close(id, "rumours are malformed: \(error)")
        }
    }

    mutating func performMembership(_ now: Instant) {
        for effect in membership.takeEffects() {
            switch effect {
            case .datagram(let address, let bytes): emit(.datagram(address: address, bytes))
            case .ask(let node):
                if let id = link(to: node) { links[id]?.nextPing = now }
            case .tell(let node, let rumours):
                guard let id = link(to: node) else { continue }
                var writer = WireWriter()
                Rumour.encode(rumours, to: &writer)
                send(id, .rumours(writer.bytes))
            case .changed(let node, let state):
                emit(.note("member \(node.description.prefix(8)) is \(state.rawValue)", nil))
                // Nothing answers there: the link need not wait for its own silence.
                if state == .away, let id = link(to: node) { close(id, "the peer is away") }
            case .wantCertificate(let node, let teller):
                guard let id = link(to: teller) else { continue }
                links[id]?.askedFor.insert(node)
                send(id, .wantCertificate(node))
            case .told(let node, let address):
                dials.tell(node, at: address, rung: .told, now: now)
            }
        }
    }

    private func link(to node: NodeID) -> LinkID? {
        links.filter { $0.value.node == node }.keys.min()
    }
}
