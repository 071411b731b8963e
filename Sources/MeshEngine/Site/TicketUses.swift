// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
package import MeshTrust

/// Which node used each ticket, and which tickets were revoked.
///
/// A ticket is for one node. Of two that used the same one, a copy was made: this server links with
/// the one that it knew first, and says so. Which of them is the thief only people can tell, and a
/// revocation names it.
struct TicketUses {
    /// What a ticket says of the node that shows it.
    enum Claim: Equatable {
        /// No other node has shown it here.
        case only
        /// Another was here first, with this certificate.
        case after(Certificate)
    }

    /// Most double uses that are remembered, to be shown.
    static let shownMax = 64

    private var first: [[UInt8]: Certificate] = [:]
    private var revocations: [[UInt8]: Revocation] = [:]
    /// Nodes that showed a ticket that another had used before, with the certificates of both.
    private(set) var doubles: [NodeID: TicketDouble] = [:]

    /// A node shows its certificate.
    ///
    /// - Returns: whether it is the only one with its ticket; whether that it is not is news.
    mutating func claim(_ card: Certificate) -> (claim: Claim, isNews: Bool) {
        guard let holder = first[card.ticket.serial], holder.node != card.node else {
            first[card.ticket.serial] = card
            return (.only, false)
        }
        let isNews = doubles[card.node] == nil && doubles.count < Self.shownMax
        if isNews { doubles[card.node] = TicketDouble(first: holder, second: card) }
        return (.after(holder), isNews)
    }

    /// A revocation names tickets: nobody is a member by them any more.
    ///
    /// - Returns: the nodes that are known to have used one.
    mutating func revoke(_ revocation: Revocation) -> [NodeID] {
        for serial in revocation.serials where revocations[serial] == nil {
            revocations[serial] = revocation
        }
        let named = Set(revocation.serials)
        return first.values.filter { named.contains($0.ticket.serial) }.map(\.node)
            + doubles.filter { named.contains($0.value.second.ticket.serial) }.map(\.key)
    }

    /// The revocation that names a ticket.
    func revocation(of ticket: Ticket) -> Revocation? { revocation(of: ticket.serial) }

    /// The revocation that names a ticket by its serial.
    func revocation(of serial: [UInt8]) -> Revocation? { revocations[serial] }

    /// A node was revoked: its tickets are another's who used them too.
    mutating func release(_ node: NodeID) {
        doubles[node] = nil
        for (serial, card) in first where card.node == node {
            let heirs = doubles.values.filter { $0.first.node == node }.map(\.second)
            first[serial] = heirs.filter { $0.ticket.serial == serial }
                .min { $0.node < $1.node }
        }
        doubles = doubles.filter { $0.value.first.node != node }
    }
}

/// Two nodes that used one ticket.
package struct TicketDouble: Hashable, Sendable {
    /// The one that this server knew first; it links with this one.
    package let first: Certificate
    /// The other.
    package let second: Certificate
}

extension TicketDouble: CustomStringConvertible {
    /// Both, by name and identity, for a person.
    package var description: String {
        let ticket = second.ticket
        return "two servers joined with the ticket of \(ticket.node) at \(ticket.site): "
            + "\(first.node.description.prefix(8)), known here first, "
            + "and \(second.node.description.prefix(8)), which gets no link"
    }
}
