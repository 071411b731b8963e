// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshDiscovery
internal import MeshLink
package import MeshMembership
internal import MeshReplication
package import MeshTrust

/// A node as a value: inputs and the time come in, effects go out, in order.
///
/// It owns no socket, clock, disk or chance of its own, so the same seed and the same inputs give
/// the same effects: the real node and a simulator run this very code. One owner, never re-entered.
package struct Engine: ~Copyable {
    let own: Certificate
    let limits: EngineLimits
    let tuning: EngineTuning
    var entropy: SeededGenerator
    var links: [LinkID: LinkState] = [:]
    var dials: DialPlan
    /// Who is there.
    package internal(set) var membership: Membership
    /// What this host's clock showed, and when.
    var clock: (wall: UInt64, at: Instant)?
    var exchanges: [NodeID: Exchange] = [:]
    /// Who has each name of each site: the node of the newest ticket.
    var holders: [[String]: (serial: [UInt8], node: NodeID)] = [:]
    var departed: Set<NodeID> = []
    /// The revocations that are known, to show them to whom they name.
    var revoked: [NodeID: [UInt8]] = [:]
    var heardLogs: [LogName: UInt64] = [:]
    /// Logs that cannot be taken further now.
    package internal(set) var waits: LogWaits
    /// Nodes for which commits that lost their place are kept here; each gets them as it links.
    var losersOf: Set<NodeID> = []
    private var clockCheck = ClockCheck()
    var lackingWAN: Instant?
    var brokenWAN: Instant?
    var nextBeacon: Instant
    var beaconsSent: UInt64 = 0
    var effects: [Effect] = []
    /// What was dropped, refused or late.
    package internal(set) var counters = EngineCounters()

    /// Begins a node with no links.
    ///
    /// - Parameter seed: decides every choice by chance.
    package init(
        own: Certificate, membership: Membership, seeds: [String],
        limits: EngineLimits = EngineLimits(),
        tuning: EngineTuning = EngineTuning(), dialling: DialPlan.Tuning = DialPlan.Tuning(),
        seed: UInt64, now: Instant
    ) {
        self.own = own
        self.membership = membership
        self.limits = limits
        self.tuning = tuning
        entropy = SeededGenerator(seed: seed)
        waits = LogWaits(limit: limits.logsHeld)
        nextBeacon = now
        holders[Self.name(own)] = (own.ticket.serial, own.node)
        dials = DialPlan(
            own: own.node, seeds: seeds, tuning: dialling,
            entropy: SeededGenerator(seed: seed ^ 0x6469_616c), now: now)
    }

    /// Takes one input.
    ///
    /// - Returns: what to do, in order.
    package mutating func step(_ input: Input, at now: Instant) -> [Effect] {
        switch input {
        case .linkUp(let id, let peer, let origin): linkUp(id, peer, origin, now)
        case .linkDown(let id, let reason): linkDown(id, reason, now)
        case .message(let id, let bytes): receive(id, bytes, now)
        case .committed(let messages):
            for message in messages {
                know(message)
                push(message, from: nil, nil)
                advanced(message.log, to: message.through)
            }
        case .ingested(let id, let ticket, let outcome): ingested(id, ticket, outcome, now)
        case .compared(let id, let session, let result): compared(id, session, result, now)
        case .chunk(let id, let messages, let rest): chunk(id, messages, rest)
        case .certificate(let id, let card): certificate(id, card, now)
        case .revoked(let list): for revocation in list { heed(revocation, now) }
        case .heeded(let id, let isGood):
            if !isGood { strike(id, .revocations, now) }
        case .keepsLosers(let nodes): losersOf.formUnion(nodes)
        case .known(let nodes): for node in nodes { know(node, now) }
        case .datagram(let bytes, let host): membership.receive(bytes, from: host, now: now)
        case .shown(let id, let list): shown(id, list)
        case .heard(let node, let incarnation, let address): heard(node, incarnation, address, now)
        case .dialFailed(let address, let failure): dialFailed(address, failure, now)
        case .networkChanged:
            nextBeacon = now
            dials.hurry(now: now)
            for id in links.keys.sorted() { links[id]?.nextPing = now }
        case .leave: membership.declare(status: .left, now: now)
        case .syncNow: for id in links.keys.sorted() { wantSync(id) }
        case .tick(let wall):
            clock = (wall, now)
            tick(now)
        }
        performMembership(now)
        defer { effects = [] }
        return effects
    }

    /// The linked peers, by node.
    package var peers: [PeerStatus] {
        links.values.sorted { $0.node < $1.node }.map { link in
            PeerStatus(
                certificate: link.peer.certificate, version: link.peer.version,
                origin: link.origin, since: link.since, roundTrip: link.roundTrip,
                clockOffset: link.clockOffset,
                exchange: exchanges[link.node] ?? Exchange(link.peer),
                recordsSent: link.recordsSent,
                isSyncing: link.initiated != nil || link.answering != nil || link.isStreaming)
        }
    }

    /// Every address that was ever to be dialled, for operators.
    package var addresses: [DialPlan.Target] { dials.known }

    /// Which limit does not hold, for checks; nil if all do.
    package var brokenLimit: String? {
        if links.count > limits.links { return "links" }
        for link in links.values {
            if link.streams.count > limits.streams { return "streams" }
            if link.waiting.count > limits.turnsWaiting { return "turns" }
            if link.credit.unjudged > 2 * limits.bytesInFlight { return "bytes" }
            if link.showing > limits.certificatesWanted { return "certificates" }
        }
        return nil
    }

    /// What comparisons showed of every node that was ever linked.
    package var allExchanges: [NodeID: Exchange] { exchanges }

    private func wall(_ now: Instant) -> UInt64? {
        clock.map { $0.wall &+ UInt64(max(0, now.since($0.at).nanoseconds / 1_000_000)) }
    }

    /// Clocks of hosts may show anything; a difference beyond a century is a century.
    private static func difference(_ one: UInt64, _ other: UInt64) -> Duration {
        let most: UInt64 = 3_155_760_000_000
        let gap = min(one > other ? one - other : other - one, most)
        return .milliseconds(one > other ? Int64(gap) : -Int64(gap))
    }

    mutating func emit(_ effect: Effect) { effects.append(effect) }

    mutating func send(_ id: LinkID, _ message: LinkMessage) { emit(.send(id, message)) }

    mutating func close(_ id: LinkID, _ reason: CloseReason) {
        guard links[id] != nil else { return }
        counters.add("link_closed")
        emit(.close(id, reason: reason))
    }

    private mutating func tick(_ now: Instant) {
        if isRevoked { return membership.tick(now) }
        steer(now)
        dial(now)
        trim(now)
        if nextBeacon <= now {
            emit(.beacon(counter: beaconsSent))
            // Quick ones after a start, so that servers that start together are linked at once, and
            // a segment is complete within a second.
            // However many a segment has, it carries about three of them a second.
            let calm = max(tuning.beaconInterval, .milliseconds(300) * membership.siteSize)
            let quick = tuning.firstBeacons
            let pause = beaconsSent < quick.count ? quick[Int(beaconsSent)] : calm
            beaconsSent += 1
            nextBeacon = now.advanced(by: entropy.jittered(pause, by: 0.2))
        }
        membership.tick(now)
        if let correction = clockCheck.judge(links.values.compactMap(\.clockOffset)) {
            emit(.correctClock(by: correction))
        }
        for id in links.keys.sorted() {
            keepAlive(id, now)
            graft(id, now)
            dropParked(id, now)
            syncIfDue(id, now)
        }
    }

    private mutating func heard(
        _ node: NodeID, _ incarnation: Incarnation, _ address: String, _ now: Instant
    ) {
        guard node != own.node, !isRevoked, revoked[node] == nil else { return }
        guard let id = link(to: node) else {
            dials.hear(node, incarnation, at: address, now: now)
            return dial(now)
        }
        // A linked node that moved has left a dead link behind; a replay has not, and costs a ping.
        if links[id]?.noteBeacon(address, incarnation, now, limits) == true {
            links[id]?.nextPing = now
        }
    }
}

// MARK: Links

extension Engine {
    private mutating func linkUp(
        _ id: LinkID, _ peer: LinkMachine.Peer, _ origin: LinkOrigin, _ now: Instant
    ) {
        if let address = origin.dialled {
            dials.linked(address, to: peer.certificate.node, now: now)
        }
        guard mayLink(id, peer.certificate.node) else { return }
        guard links.count < limits.links else {
            counters.add("link_over_limit")
            emit(.close(id, reason: .tooMany))
            return
        }
        let twins = links.filter { $0.value.node == peer.certificate.node }.keys.sorted()
        for other in twins where !resolve(id, origin, other) { return }
        links[id] = LinkState(peer, origin, limits: limits, now: now)
        exchanges[peer.certificate.node, default: Exchange(peer)].version = peer.version
        join(id, peer.certificate, origin, now)
        links[id]?.askedFor.insert(peer.certificate.node)
        receive(id, certificate: peer.certificate.encoded)
        if losersOf.contains(peer.certificate.node) {
            links[id]?.streams.append(.losers(of: peer.certificate.node))
            pump(id)
        }
        if origin.dialled != nil { beginSync(id, now) }
    }

    /// Of two links with one peer both ends keep the one that the lower identity dialled.
    ///
    /// - Returns: whether the new one stays.
    private mutating func resolve(
        _ id: LinkID, _ origin: LinkOrigin, _ other: LinkID
    ) -> Bool {
        guard let old = links[other] else { return true }
        counters.add("link_duplicate")
        let isSameDirection = (old.origin.dialled == nil) == (origin.dialled == nil)
        let lowerDialled = (own.node < old.node) == (origin.dialled != nil)
        // A peer that dials again has lost the first link, whatever this end still thinks of it.
        if isSameDirection || lowerDialled {
            links[other] = nil
            emit(.close(other, reason: .twin))
            return true
        }
        emit(.close(id, reason: .twin))
        return false
    }

    private mutating func linkDown(_ id: LinkID, _ reason: String, _ now: Instant) {
        guard let link = links.removeValue(forKey: id) else { return }
        emit(.note(reason, id))
        for beacon in link.beacons where now.since(beacon.at) < tuning.beaconTrust {
            dials.hear(link.node, beacon.incarnation, at: beacon.address, now: now)
        }
        part(link, now)
    }

    private mutating func keepAlive(_ id: LinkID, _ now: Instant) {
        guard var link = links[id] else { return }
        // Neighbours are probed by datagrams every second or so; their links need little more.
        let factor = link.site == own.ticket.site ? tuning.nearFactor : 1
        if now.since(link.lastHeard) > tuning.silenceMax * factor {
            return close(id, .silence)
        }
        if link.site == own.ticket.site, let pinged = link.pinged, link.lastHeard < pinged.at,
            now.since(pinged.at) > tuning.nearPatience
        {
            return close(id, .endGone)
        }
        guard link.nextPing <= now else { return }
        // What is unanswered on a link is not lost: to ask again would only forget since when.
        if let pinged = link.pinged, link.lastHeard < pinged.at { return }
        let number = entropy.next()
        link.pinged = (number, now)
        link.nextPing = now.advanced(by: entropy.jittered(tuning.pingInterval * factor, by: 0.2))
        links[id] = link
        send(id, .ping(number))
    }

    private mutating func receive(_ id: LinkID, _ bytes: [UInt8], _ now: Instant) {
        guard links[id] != nil else { return counters.add("message_late") }
        links[id]?.lastHeard = now
        if let node = links[id]?.node { membership.heard(node, now: now) }
        let message: LinkMessage
        do throws(WireError) { message = try LinkMessage(decoding: bytes) } catch {
            counters.add("message_malformed")
            return close(id, .malformed(.message, error))
        }
        switch message {
        case .ping(let number):
            send(id, .pong(number))
            if let wall = wall(now) { send(id, .clock(wall)) }
        case .pong(let number):
            if let pinged = links[id]?.pinged, pinged.number == number {
                links[id]?.roundTrip = now.since(pinged.at)
                links[id]?.pinged = nil
            } else {
                counters.add("pong_unasked")
            }
        case .goodbye:
            links[id]?.isLeaving = true
            close(id, .goodbye)
        case .syncTurn(let turn): receive(id, turn: turn, isAnswer: false, now)
        case .syncAnswer(let turn): receive(id, turn: turn, isAnswer: true, now)
        case .syncEnd: receiveEnd(id, now)
        case .syncPlease: wantSync(id)
        case .commits(let bytes): receive(id, commits: bytes, now)
        case .credit(let count):
            links[id]?.credit.returned(Int(count))
            links[id]?.lastProgress = now
            pump(id)
        case .certificate(let bytes): receive(id, certificate: bytes)
        case .wantCertificate(let node): show(id, node)
        case .revocation(let bytes): receive(id, revocation: bytes)
        case .datagramKey(let key):
            if let node = links[id]?.node { membership.keyed(node, sends: key, receives: nil) }
        case .rumours(let bytes): receive(id, rumours: bytes, now)
        case .have(let log, let through): hear(id, log, through, now)
        case .prune: prune(id)
        case .graft: links[id]?.isLazy = false
        case .clock(let theirs):
            let trip = (links[id]?.roundTrip ?? .zero) / 2
            if let ours = wall(now) {
                links[id]?.clockOffset = Self.difference(theirs, ours) + trip
            }
        case .unknown: counters.add("message_unknown")
        }
    }

    private mutating func show(_ id: LinkID, _ node: NodeID) {
        guard let link = links[id], link.showing < limits.certificatesWanted else {
            return counters.add("certificate_over_limit")
        }
        links[id]?.showing += 1
        emit(.show(id, node))
    }

    private mutating func shown(_ id: LinkID, _ certificates: [[UInt8]]) {
        guard links[id] != nil else { return }
        links[id]?.showing -= 1
        for certificate in certificates { send(id, .certificate(certificate)) }
    }

    /// Three messages in a minute that break their own signatures close a link.
    mutating func strike(_ id: LinkID, _ forgery: CloseReason.Forgery, _ now: Instant) {
        guard var link = links[id] else { return }
        link.strikes = link.strikes.filter { now.since($0) < .seconds(60) } + [now]
        links[id] = link
        if link.strikes.count >= limits.strikes { close(id, .strikes(forgery)) }
    }
}
