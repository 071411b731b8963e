// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshDiscovery
package import MeshLink
package import MeshMembership
package import MeshReplication
package import MeshTrust

/// A link's number on this node, never used twice by one process.
package struct LinkID: Hashable, Comparable, Sendable {
    /// Counts up.
    package let number: UInt64

    /// Names a link.
    package init(_ number: UInt64) { self.number = number }

    /// Earlier is less.
    package static func < (lhs: LinkID, rhs: LinkID) -> Bool { lhs.number < rhs.number }
}

/// What happens to a node.
package enum Input: Sendable {
    /// A link stands; the peer has proven who it is.
    case linkUp(LinkID, LinkMachine.Peer, LinkOrigin)
    /// A link is gone.
    case linkDown(LinkID, reason: String)
    /// A peer said something.
    case message(LinkID, [UInt8])
    /// This node's own commits are durable.
    case committed([CommitsMessage])
    /// What a peer sent has been judged.
    case ingested(LinkID, IngestTicket, IngestOutcome)
    /// A comparison was taken one turn further.
    case compared(LinkID, SyncSession, ComparisonResult)
    /// Part of a stream was read.
    case chunk(LinkID, [CommitsMessage], rest: StreamRequest?)
    /// A certificate was verified and kept, or refused.
    case certificate(LinkID, Certificate?)
    /// Nodes were revoked: known before the start, or since.
    case revoked([Revocation])
    /// A revocation that a peer showed was judged.
    case heeded(LinkID, isGood: Bool)
    /// Nodes that were known before the start.
    case known([KnownNode])
    /// Nodes for which commits that lost their place are kept: known before the start.
    case keepsLosers(of: [NodeID])
    /// A datagram came, from an address without its port.
    case datagram([UInt8], from: String)
    /// The certificates of a node that a peer wants were looked up, the newest last.
    case shown(LinkID, [[UInt8]])
    /// An authentic beacon of another node was heard.
    case heard(NodeID, Incarnation, address: Address)
    /// A dial came to nothing.
    case dialFailed(address: Address, DialFailure)
    /// A write of an app is durable here, and is to be acknowledged once others hold it too.
    case acknowledge(Acknowledgements.Want)
    /// The patience of an app that wants such a write acknowledged has ended.
    case patienceEnded
    /// Where a log ends here was looked up, for a peer or (nil) for this node itself; nil where
    /// nothing can be said.
    case measured(LinkID?, LogName, HeldRun?)
    /// An operator asks for a comparison with everyone.
    case syncNow
    /// An interface or an address of this host has come.
    case networkChanged
    /// Where an address that a peer tells may be, for this node to dial it.
    case mayDial([IPNetwork])
    /// An operator wants to take this node out of the mesh. From before this until it is answered
    /// no app writes here. `scopes` is all of which something is held.
    case handOver(scopes: [Scope], isForced: Bool)
    /// It may go, but cannot, and stays.
    case stay
    /// This node is out of the mesh: all are told.
    case leave
    /// The records of this node are sealed under a key, which others are to keep.
    case sealed(under: StorageSeal)
    /// A peer's key is on disk, by its name; nil where it could not be written.
    case keptKey(LinkID, Digest?)
    /// A peer's key was looked up; nil if none of that name is kept for it.
    case foundKey(LinkID, Bytes32?)
    /// An operator has a locked server's key handed out, to that host.
    case unlock(NodeID, host: String)
    /// Time went by; the host's own clock shows so many milliseconds since 1970.
    case tick(wall: UInt64)
}

/// What is kept of a node over a restart.
package struct KnownNode: Sendable {
    /// Its certificate.
    package let certificate: Certificate
    /// Where it was last met; nil if never, or if it dialled.
    package let address: Address?
    /// The words with which it left; nil if it has not.
    package let farewell: [UInt8]?
    /// Certificates by earlier tickets.
    package let earlier: [Certificate]

    /// Describes a node.
    package init(
        _ certificate: Certificate, address: Address? = nil, farewell: [UInt8]? = nil,
        earlier: [Certificate] = []
    ) {
        self.earlier = earlier
        self.certificate = certificate
        self.address = address
        self.farewell = farewell
    }
}

/// How a link came about.
package struct LinkOrigin: Sendable {
    /// The other end, `host:port`.
    package let remote: String
    /// The address that was dialled; nil if the peer dialled.
    package let dialled: Address?
    /// Whether the peer is on a local segment.
    package let isLocal: Bool
    /// Whether that segment is one on which servers find each other: no tunnel, no loopback.
    package let isHere: Bool
    /// The interface of that segment; nil if the peer is on none.
    package let interface: String?
    /// The other end without its port, as it can be dialled; nil if it can't.
    package let host: String?
    /// A fresh random key, under which this node will receive the peer's datagrams.
    package let datagramKey: Bytes32

    /// Describes a link.
    package init(
        remote: String, dialled: Address?, isLocal: Bool, isHere: Bool = false,
        interface: String? = nil, host: String?, datagramKey: Bytes32
    ) {
        self.isHere = isHere
        self.remote = remote
        self.dialled = dialled
        self.isLocal = isLocal
        self.interface = interface
        self.host = host
        self.datagramKey = datagramKey
    }
}

/// A peer's message on its way through the store.
package struct IngestTicket: Sendable {
    /// What was sent.
    package let message: CommitsMessage
    /// Its bytes as they came, to give back as credit.
    package let byteCount: Int
}

/// How a turn of a comparison ended.
package enum ComparisonResult: Sendable {
    /// As the protocol says.
    case outcome(SyncSession.Outcome)
    /// The peer broke the protocol.
    case refused(SyncRefusal)
    /// The index could not be read; nothing follows.
    case failed
}

/// What a node does: performed by the shell, in order.
package enum Effect: Sendable {
    /// Say something to a peer.
    case send(LinkID, LinkMessage)
    /// Close a link, once what was said has gone out.
    case close(LinkID, reason: CloseReason)
    /// Dial an address.
    case dial(Address)
    /// Take a comparison one turn further; nil begins it.
    case compare(LinkID, SyncSession, SyncTurn?)
    /// Have the store judge a message.
    case ingest(LinkID, IngestTicket)
    /// Read part of a stream.
    case read(LinkID, StreamRequest)
    /// Verify and keep a certificate.
    case keep(LinkID, [UInt8])
    /// Look up the certificate of a node for a peer.
    case show(LinkID, NodeID)
    /// Verify and keep a revocation that a peer shows.
    case heed(LinkID, [UInt8])
    /// Send a datagram to `host:port`.
    case datagram(address: Address, [UInt8])
    /// Verify a change of the mesh's secret, and begin anew by it.
    case adopt([UInt8])
    /// Keep a peer's key, and say so once it is on disk.
    case keepKey(LinkID, NodeID, Bytes32)
    /// Look up the commit in which a place of a log is, whole on this disk; 0 is the log's end.
    case measure(LinkID?, LogName, UInt64)
    /// A write waits no longer for other nodes.
    case acknowledged(UInt64, Acknowledgements.Reached)
    /// Look up a peer's key by its name.
    case findKey(LinkID, NodeID, Digest)
    /// A peer keeps this node's key: where it was met, for a start that needs it.
    case keeper(Address?)
    /// Verify this node's own certificate with an operator's word for it, and begin anew by it.
    case enrol([UInt8])
    /// Keep for the next start where a node was met.
    case remember(NodeID, address: Address)
    /// Keep for the next start that a node has left, in its own words; nil if it is back.
    case depart(NodeID, [UInt8]?)
    /// Send a beacon on every interface.
    case beacon(counter: UInt64)
    /// Give stamps by a clock that is so much behind this host's.
    case correctClock(by: Duration)
    /// The answer to `handOver`.
    case handedOver(HandOver)
    /// Something an operator should see in the log.
    case note(Notice, LinkID?)
}

/// Whether a node may leave the mesh.
package enum HandOver: Sendable, Equatable {
    /// A peer was proven to hold everything that this node holds.
    case to(NodeID)
    /// No peer was, and the operator wants it to leave even so.
    case toNobody
    /// No peer was: what is only here would be lost.
    case refused
}

/// Something an operator should see in the log.
package enum Notice: Sendable, CustomStringConvertible {
    /// A link has ended, for a reason that its transport tells.
    case linkEnded(String)
    /// An author wrote two things in one place of its log.
    case fork
    /// A member is in another state.
    case member(NodeID, Member.State)
    /// This server was revoked, for a reason that the operator gave.
    case revoked(String)
    /// Two nodes have joined with one ticket.
    case ticketUsedTwice(TicketDouble)
    /// A box has called that waits to be approved.
    case waitsForApproval(Certificate)
    /// A locked server has got its key.
    case keyHanded(Certificate)

    /// For a person.
    package var description: String {
        switch self {
        case .linkEnded(let reason): reason
        case .fork: "an author wrote two things in one place"
        case .member(let node, let state):
            "member \(node.description.prefix(8)) is \(state.rawValue)"
        case .revoked(let reason): "this server was revoked: \(reason)"
        case .ticketUsedTwice(let double): double.description
        case .keyHanded(let card):
            "\(card.ticket.site)/\(card.ticket.node) was locked, and has got the key of its records"
        case .waitsForApproval(let card):
            "\(card.ticket.site)/\(card.ticket.node) waits to be approved (run: meshctl approve)"
        }
    }
}
