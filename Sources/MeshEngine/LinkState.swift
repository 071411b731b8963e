// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshReplication
internal import MeshTrust

/// What the engine knows of one link.
struct LinkState {
    let peer: LinkMachine.Peer
    let origin: LinkOrigin
    let since: Instant

    // Life
    var lastHeard: Instant
    var nextPing: Instant
    var pinged: (number: UInt64, at: Instant)?
    var roundTrip: Duration?
    var clockOffset: Duration?
    /// Where its last beacons came from, each address once.
    var beacons: [(address: String, incarnation: Incarnation, at: Instant)] = []
    var strikes: [Instant] = []
    var isLeaving = false
    var revocationsShown = 0

    // Comparison
    var initiated: SyncSession?
    var answering: SyncSession?
    var isComparing = false
    var waiting: [(turn: SyncTurn, isAnswer: Bool)] = []
    var nextSync: Instant
    var rounds = 0
    var comparisons = 0
    var windowsInStep = 0
    var fruitless = 0
    var hasMoved = false
    /// Logs that differ and that one end cannot take further now.
    var heldLogs = 0
    var owesEnd = false
    /// Answers that are still to come to turns that were given up.
    var answersLate = 0
    var isTurnOut = false
    var isSyncWanted = false
    var askedForSync: Instant?
    var isEndHeard = false
    var lastProgress: Instant

    // Records
    var streams: [StreamRequest] = []
    var isReading = false
    var credit: CreditWindow
    var recordsSent: UInt64 = 0
    var askedFor: Set<NodeID> = []
    /// Nodes whose certificates were shown on this link and are kept.
    var certified: Set<NodeID> = []
    var certificatesDue = 0
    var showing = 0
    /// The peer gets announcements and no commits; others send it those.
    var isLazy = false
    /// The peer was asked for announcements.
    var isSpared = false
    var promises: [(log: LogName, through: UInt64, due: Instant)] = []
    var parked = ParkedMessages()

    init(_ peer: LinkMachine.Peer, _ origin: LinkOrigin, limits: EngineLimits, now: Instant) {
        credit = CreditWindow(limit: limits.bytesInFlight)
        self.peer = peer
        self.origin = origin
        since = now
        lastHeard = now
        nextPing = now
        nextSync = now
        lastProgress = now
    }

    /// Remembers where a beacon came from.
    ///
    /// - Returns: whether that is news.
    mutating func noteBeacon(
        _ address: String, _ incarnation: Incarnation, _ now: Instant, _ limits: EngineLimits
    ) -> Bool {
        let count = beacons.count
        beacons.removeAll { $0.address == address }
        let isNew = beacons.count == count
        if beacons.count >= limits.beaconsHeard { beacons.removeFirst() }
        beacons.append((address, incarnation, now))
        return isNew
    }

    var node: NodeID { peer.certificate.node }
    var site: String { peer.certificate.ticket.site }
    /// The end that dialled asks; the other answers.
    var isInitiator: Bool { origin.dialled != nil }
    var isStreaming: Bool { isReading || !streams.isEmpty }
}
