// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshTrust

/// Who has each name of each site: of those with a ticket for it the one with the newest.
struct NameHolders {
    private struct Name: Hashable {
        let site: String
        let node: String

        init(_ ticket: Ticket) {
            site = ticket.site
            node = ticket.node
        }
    }

    private struct Claim {
        let serial: [UInt8]
        let node: NodeID

        func isEarlier(than other: Claim) -> Bool {
            serial.lexicographicallyPrecedes(other.serial)
        }
    }

    private var holders: [Name: Claim] = [:]
    /// The newest ticket that each node has shown: what it was called before is free.
    private var newest: [NodeID: [UInt8]] = [:]

    /// A member shows its ticket.
    ///
    /// - Returns: the node that has lost its name to another, now or before; nil if none has.
    mutating func claim(_ card: Certificate) -> NodeID? {
        if let known = newest[card.node], known != card.ticket.serial {
            if card.ticket.serial.lexicographicallyPrecedes(known) { return nil }
            release(card.node)
        }
        newest[card.node] = card.ticket.serial
        let claim = Claim(serial: card.ticket.serial, node: card.node)
        let name = Name(card.ticket)
        guard let holder = holders[name], holder.node != claim.node else {
            holders[name] = claim
            return nil
        }
        guard holder.isEarlier(than: claim) else { return claim.node }
        holders[name] = claim
        return holder.node
    }

    /// Whether a certificate is by a later ticket than all that its node has shown.
    func isNewer(_ card: Certificate) -> Bool {
        newest[card.node].map { $0.lexicographicallyPrecedes(card.ticket.serial) } ?? true
    }

    /// Whether the newest ticket that a node has shown is none of these.
    func hasNewer(_ node: NodeID, than serials: [[UInt8]]) -> Bool {
        newest[node].map { !serials.contains($0) } ?? false
    }

    /// A node may have no name any more.
    mutating func release(_ node: NodeID) {
        holders = holders.filter { $0.value.node != node }
        newest[node] = nil
    }

    /// The node that has a node's name now; nil if it has it itself, or nobody has.
    func successor(of card: Certificate) -> NodeID? {
        guard let holder = holders[Name(card.ticket)], holder.node != card.node else { return nil }
        return holder.node
    }
}
