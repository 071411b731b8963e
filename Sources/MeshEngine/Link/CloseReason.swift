// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshReplication

/// Why an engine closes a link.
package enum CloseReason: Hashable, Sendable {
    /// This server was revoked.
    case selfRevoked
    /// The peer was revoked.
    case peerRevoked
    /// Another node used the peer's ticket, and was known here before.
    case ticketUsed
    /// An operator has to approve one of the two.
    case notApproved
    /// Nothing has come for too long.
    case silence
    /// Neighbours do not reach the peer, though its end of the link has not closed.
    case endGone
    /// The peer closes in good order.
    case goodbye
    /// The members of the site take the peer for away.
    case away
    /// The same two servers have another link.
    case twin
    /// There is no room for one more.
    case tooMany
    /// Another server of this site keeps the site's links.
    case otherGateway
    /// Nothing makes the two neighbours any more.
    case noNeighbour
    /// A message could not be decoded.
    case malformed(Part, WireError)
    /// The peer sends more records than it has room for.
    case overCredit
    /// A turn came that nobody had asked for.
    case turnUnasked
    /// A turn came before the one that begins a session.
    case turnTooEarly
    /// More turns came than a session has at once.
    case turnsTooMany
    /// The peer does not keep to the protocol of comparisons.
    case sync(SyncRefusal)
    /// The peer keeps sending what does not verify.
    case strikes(Forgery)

    /// Whether the peer is taken for gone: what waits for it is thrown away. The system would send
    /// it all once the line is back, though nobody listens, and the next link sends it again.
    package var isOfGonePeer: Bool {
        switch self {
        case .silence, .endGone, .away: true
        default: false
        }
    }

    /// What could not be decoded.
    package enum Part: String, Sendable {
        case message = "a message"
        case records
        case rumours
        case turn = "a turn"
    }

    /// What does not verify.
    package enum Forgery: String, Sendable {
        case records, certificates, revocations, holdings
    }
}

extension CloseReason: CustomStringConvertible {
    /// For a person.
    package var description: String {
        switch self {
        case .selfRevoked: "this server was revoked"
        case .peerRevoked: "the peer was revoked"
        case .ticketUsed: "another server joined with the peer's ticket before"
        case .notApproved: "it waits to be approved"
        case .silence: "the peer fell silent"
        case .endGone: "the peer's end of the link is gone"
        case .goodbye: "the peer said goodbye"
        case .away: "the peer is away"
        case .twin: "another link with the same peer"
        case .tooMany: "too many links"
        case .otherGateway: "another server is this site's gateway"
        case .noNeighbour: "the peer is no neighbour any more"
        case .malformed(let part, let error): "\(part.rawValue) cannot be decoded: \(error)"
        case .overCredit: "the peer sends more than it has credit for"
        case .turnUnasked: "a turn was not asked for"
        case .turnTooEarly: "a turn came before its summary"
        case .turnsTooMany: "too many turns at once"
        case .sync(let refusal): "the peer breaks the sync protocol: \(refusal)"
        case .strikes(let forgery): "the peer keeps sending \(forgery.rawValue) that do not verify"
        }
    }
}
