// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What is known of one node of the mesh.
package struct Member: Sendable {
    /// Where a member stands. There is no "dead": absence is a normal state, and never for ever.
    package enum State: String, Sendable {
        /// It answers, or somebody who would know says so.
        case alive
        /// It did not answer; it has time to refute that.
        case suspect
        /// It cannot be reached; it is tried for ever.
        case away
        /// It said that it left, or another has its name and place.
        case left
        /// The mesh's keys took it out; nothing that it says counts.
        case revoked
    }

    /// Whose member.
    package let node: NodeID
    /// Where it stands.
    package let site: String
    /// Whether it is the centre's.
    package let isCentral: Bool
    /// The newest thing it said of itself; nil if nothing was heard yet.
    package internal(set) var presence: Presence?
    /// Where it stands.
    package internal(set) var state = State.away
    /// Since when.
    package internal(set) var since: Instant
    /// Where it was last met, an address without a port; nil if that is not known.
    package internal(set) var host: String?
    /// The last round trip of a probe.
    package internal(set) var roundTrip: Duration?
    /// Where it is of another site: who says that it is there, linked or a neighbour.
    package internal(set) var vouchers: [NodeID] = []
    /// Linked nodes of other sites that say it is there.
    var tellers: Set<NodeID> = []
    /// What neighbours said of it last, where it is of another site, by who said so.
    var vouches: [NodeID: Vouch] = [:]
    /// What this node told its neighbours of it last.
    var ownVouch: Vouch?
    /// Whether it is linked with this node.
    package internal(set) var isLinked = false

    var isRetired = false

    var suspicion = Suspicion()
    var evidence = Evidence()
    var retry: AwayRetry
    /// When it was last told of an accusation that is unfounded here.
    var toldAt: Instant?

    init(_ node: NodeID, site: String, isCentral: Bool, now: Instant) {
        self.node = node
        self.site = site
        self.isCentral = isCentral
        since = now
        retry = AwayRetry(now)
    }

    /// When this node last heard it, or of an answer of its.
    package var lastHeard: Instant? { evidence.heard }

    /// Where datagrams and dials reach it; nil if that is not known.
    package var address: Address? {
        guard let host, let port = presence?.port else { return nil }
        return Address(host: host, port: port)
    }

    /// The address as another host may use it; nil if there is none, or only one of this segment.
    var tellable: Address? { address.flatMap { $0.isOfOneSegment ? nil : $0 } }

    var version: Presence.Version {
        presence?.version ?? Presence.Version(incarnation: 0, counter: 0)
    }
}

/// What membership wants done.
package enum MembershipEffect: Sendable {
    /// Send a sealed datagram to an address.
    case datagram(address: Address, [UInt8])
    /// Ask a linked member for a sign of life on its link.
    case ask(NodeID)
    /// Tell a linked member.
    case tell(NodeID, [Rumour])
    /// A member's state has changed.
    case changed(NodeID, Member.State)
    /// A rumour names a node whose certificate is not known; ask the linked member that told it.
    case wantCertificate(NodeID, from: NodeID)
    /// Somebody told where a member might be reached.
    case told(NodeID, address: Address)
    /// Dial a member whose suspicion ends and whom no datagram can ask; if that fails, tell
    /// `unreachable`.
    case reach(NodeID)
}
