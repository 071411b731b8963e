// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshReplication
internal import MeshTrust

/// What the engine keeps of one link: a machine for each matter that the link is about.
struct LinkState {
    let peer: LinkMachine.Peer
    let origin: LinkOrigin
    let since: Instant

    var liveness: Liveness
    var beacons = BeaconTrail()
    var strikes = Strikes()
    var introductions = Introductions()
    var revocationsShown = 0
    var secretsShown = 0
    var keysTaken = 0
    var keysWanted = 0
    /// The peer said goodbye.
    var isLeaving = false
    /// The peer is to leave the mesh for good: nobody else may rely on it.
    var isToLeave = false

    /// Of each link one end asks: the one that dialled it.
    var asking: Asking?
    var answering: Answering?
    var wish = Wish()
    var coverage = Coverage()
    /// Whether the comparison that goes on began before the last write was taken, so that it is no
    /// proof for a node that leaves.
    var isProofTooOld = false

    var outbox = Outbox()
    var credit: CreditWindow
    var parked = ParkedMessages()
    var branch = Branch()
    var recordsSent: UInt64 = 0

    init(_ peer: LinkMachine.Peer, _ origin: LinkOrigin, limits: EngineLimits, now: Instant) {
        self.peer = peer
        self.origin = origin
        since = now
        liveness = Liveness(now: now)
        credit = CreditWindow(limit: limits.bytesInFlight)
        if origin.dialled == nil { answering = Answering() } else { asking = Asking(now: now) }
    }

    var node: NodeID { peer.certificate.node }
    var site: String { peer.certificate.ticket.site }

    /// Whether time alone gives this end something to do: of very many links few have anything.
    func isDue(isNear: Bool, _ tuning: EngineTuning, now: Instant) -> Bool {
        liveness.isDue(isNear: isNear, tuning, now: now) || branch.isAwaiting || !parked.isEmpty
            || wish.isDue(pause: tuning.syncPause, now: now)
            || asking?.isResting == false || asking?.isDue(now: now) == true
    }

    var isComparing: Bool { asking?.isResting == false || answering?.isResting == false }
    var isSyncing: Bool { isComparing || !outbox.isEmpty }
}
