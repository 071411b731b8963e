// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshDiscovery
package import MeshLink
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
    case heard(NodeID, Incarnation, address: String)
    /// A dial came to nothing.
    case dialFailed(address: String, DialFailure)
    /// An operator asks for a comparison with everyone.
    case syncNow
    /// An interface or an address of this host has come.
    case networkChanged
    /// An operator takes this node out of the mesh.
    case leave
    /// Time went by; the host's own clock shows so many milliseconds since 1970.
    case tick(wall: UInt64)
}

/// What is kept of a node over a restart.
package struct KnownNode: Sendable {
    /// Its certificate.
    package let certificate: Certificate
    /// Where it was last met; nil if never, or if it dialled.
    package let address: String?
    /// The words with which it left; nil if it has not.
    package let farewell: [UInt8]?

    /// Describes a node.
    package init(_ certificate: Certificate, address: String? = nil, farewell: [UInt8]? = nil) {
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
    package let dialled: String?
    /// Whether the peer is on a local segment.
    package let isLocal: Bool
    /// The interface of that segment; nil if the peer is on none.
    package let interface: String?
    /// The other end without its port, as it can be dialled; nil if it can't.
    package let host: String?
    /// A fresh random key, under which this node will receive the peer's datagrams.
    package let datagramKey: Bytes32

    /// Describes a link.
    package init(
        remote: String, dialled: String?, isLocal: Bool, interface: String? = nil, host: String?,
        datagramKey: Bytes32
    ) {
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
    case dial(String)
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
    case datagram(address: String, [UInt8])
    /// Keep for the next start where a node was met.
    case remember(NodeID, address: String)
    /// Keep for the next start that a node has left, in its own words; nil if it is back.
    case depart(NodeID, [UInt8]?)
    /// Send a beacon on every interface.
    case beacon(counter: UInt64)
    /// Give stamps by a clock that is so much behind this host's.
    case correctClock(by: Duration)
    /// Something an operator should see in the log.
    case note(String, LinkID?)
}

/// Limits of a node; each has a counter where it bites.
package struct EngineLimits: Sendable {
    /// Most links.
    package var links = 256
    /// Most logs that are remembered as held.
    package var logsHeld = 10_000
    /// Bytes of records that may be on their way to one peer.
    package var bytesInFlight = 4 << 20
    /// Streams that wait for one peer.
    package var streams = 65_536
    /// Dials that begin at once.
    package var dialsAtOnce = 8
    /// Announcements of one peer that wait to be fetched.
    package var promises = 256
    /// Logs of which is remembered how far they were heard.
    package var logsHeard = 4096
    /// Certificates that are looked up for one peer at once.
    package var certificatesWanted = 64
    /// Addresses from which beacons of one linked peer came; the oldest goes first.
    package var beaconsHeard = 4
    /// Revocations that are shown to one peer, and looked at of one, while it is linked.
    package var revocationsShown = 64
    /// Turns of a peer that wait while one is compared.
    package var turnsWaiting = 4
    /// Messages of a peer that break its own signatures before its link is closed.
    package var strikes = 3

    /// The defaults.
    package init() {}
}

/// When a node does things by itself.
package struct EngineTuning: Sendable {
    /// The pause between comparisons with one peer, give or take 30 %.
    package var syncInterval = Duration.seconds(15)
    /// The least pause between comparisons that are wanted because something is missing.
    package var syncPause = Duration.milliseconds(500)
    /// Silence in a comparison after which it is given up, so that another can begin.
    package var syncSilenceMax = Duration.seconds(30)
    /// The longest pause where comparisons lead to nothing.
    package var syncIntervalMax = Duration.seconds(600)
    /// Rounds that follow each other at once.
    package var roundsMax = 32
    /// The pause between pings.
    package var pingInterval = Duration.seconds(5)
    /// Silence after which a link is taken for dead.
    package var silenceMax = Duration.seconds(20)
    /// How many times longer both are for a peer of the same site, which is probed by datagrams.
    package var nearFactor = 4
    /// How long a neighbour may take to answer on its link.
    package var nearPatience = Duration.seconds(5)
    /// How long a gateway may be without a link to another site before it says so.
    package var gatewayPatience = Duration.seconds(3)
    /// How long a node that is not the gateway takes its broken path for broken.
    package var gatewayPenance = Duration.seconds(60)
    /// A node of a large site with fewer links takes any neighbour.
    package var linksWanted = 4
    /// How old a link must be before it is closed because the rings do not ask for it.
    package var linkRest = Duration.seconds(10)
    /// How long an announced commit may take to come by itself.
    package var promisePatience = Duration.milliseconds(500)
    /// The pause between beacons, give or take 20 %.
    package var beaconInterval = Duration.seconds(10)
    /// How old a beacon may be for its node to be dialled there when its link ends.
    package var beaconTrust = Duration.seconds(60)
    /// The pauses after the first beacons of a life.
    package var firstBeacons: [Duration] = [100, 100, 300, 300].map { .milliseconds($0) }
    /// How long messages of an unknown author wait for its certificate.
    package var parkedMax = Duration.seconds(30)
    /// How long messages wait for a place in another log that is on its way.
    package var parkedPlaceMax = Duration.seconds(2)

    /// The defaults.
    package init() {}
}

/// What the engine counts, for metrics.
package struct EngineCounters: Sendable, Equatable {
    /// Messages that were dropped, refused or late, by a stable name.
    package private(set) var events: [String: UInt64] = [:]

    /// Nothing happened yet.
    package init() {}

    mutating func add(_ name: String, _ count: UInt64 = 1) { events[name, default: 0] += count }
}

/// How far another node is, from what both proved to each other.
package struct Exchange: Sendable, Equatable {
    /// Its certificate.
    package let certificate: Certificate
    /// When both were last proven to hold the same.
    package internal(set) var inStep: Instant?
    /// Records that it lacked at the last comparison; nil before the first.
    package internal(set) var lacked: UInt64?
    /// Records for it that became known here since it was last linked.
    package internal(set) var since: UInt64 = 0
    /// Its program's version.
    package internal(set) var version: String

    init(_ peer: LinkMachine.Peer) {
        certificate = peer.certificate
        version = peer.version
    }

    mutating func note(more count: UInt64) {
        let (sum, overflow) = since.addingReportingOverflow(count)
        since = overflow ? .max : sum
    }

    /// Records that it lacks, as far as can be known here; nil if nothing was ever compared.
    package var behind: UInt64? {
        lacked.map { lacked in
            let (sum, overflow) = lacked.addingReportingOverflow(since)
            return overflow ? .max : sum
        }
    }
}

/// One linked peer as operators see it.
package struct PeerStatus: Sendable {
    /// Its certificate.
    package let certificate: Certificate
    /// Its program's version.
    package let version: String
    /// The other end of the link.
    package let origin: LinkOrigin
    /// Since when it is linked.
    package let since: Instant
    /// The last round trip.
    package let roundTrip: Duration?
    /// How far the peer's clock was before this host's; nil if it has not told.
    package let clockOffset: Duration?
    /// What comparisons showed, on this link and earlier ones.
    package let exchange: Exchange
    /// Records that were sent on this link.
    package let recordsSent: UInt64
    /// Whether a comparison or a stream is going on.
    package let isSyncing: Bool
}
