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
    /// What each link has of the room for records.
    var linkPart: Int
    var dials: DialPlan
    /// Who is there.
    package internal(set) var membership: Membership
    private var clock = HostClock()
    var exchanges: [NodeID: Exchange] = [:]
    var totals = ScopeTotals()
    var names = NameHolders()
    var tickets = TicketUses()
    var waitingRoom = WaitingRoom()
    /// Connections on which an approval is handed over, and since when.
    var calls: [LinkID: Instant] = [:]
    var departed: Set<NodeID> = []
    /// The revocations that are known, to show them to whom they name.
    var revoked: [NodeID: [UInt8]] = [:]
    var heardLogs: HeardLogs
    /// Logs that cannot be taken further now.
    package internal(set) var waits: LogWaits
    /// Nodes for which commits that lost their place are kept here; each gets them as it links.
    var losersOf: Set<NodeID> = []
    /// Of how many of them peers were told.
    var losersTold: [NodeID: Int] = [:]
    var leaving = Leaving()
    var keeping = KeyKeeping()
    /// Writes of this node's apps that wait for other nodes.
    var acknowledgements: Acknowledgements
    /// What others want to know of this node's disk.
    var testimony = Testimony()
    /// Where an address that a peer tells may be; nil for anywhere.
    var networks: [IPNetwork]?
    var farPath = FarPath()
    private var beacons: BeaconTimer
    /// When links are looked at next, where there are very many.
    private var nextLook = Instant(nanoseconds: 0)
    /// When a revoked node dials again.
    var nextAsk: Instant?
    var effects: [Effect] = []
    /// What was dropped, refused or late.
    package internal(set) var counters = EngineCounters()

    /// The changes of the mesh's secret, for peers that have not heard of them.
    private let secrets: [SecretDocument]

    /// Begins a node with no links.
    ///
    /// - Parameter seed: decides every choice by chance.
    package init(
        own: Certificate, membership: Membership, seeds: [Address],
        secrets: [SecretDocument] = [],
        limits: EngineLimits = EngineLimits(),
        tuning: EngineTuning = EngineTuning(), dialling: DialPlan.Tuning = DialPlan.Tuning(),
        seed: UInt64, now: Instant
    ) {
        self.own = own
        self.secrets = secrets
        self.membership = membership
        self.limits = limits
        self.tuning = tuning
        entropy = SeededGenerator(seed: seed)
        linkPart = limits.bytesInFlight
        waits = LogWaits(limit: limits.logsHeld)
        heardLogs = HeardLogs(limit: limits.logsHeard)
        beacons = BeaconTimer(now: now)
        acknowledgements = Acknowledgements(
            own: own.node, isCentral: own.ticket.isCentral, mesh: membership.identity.mesh)
        _ = names.claim(own)
        _ = tickets.claim(own)
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
                for commit in message.commits { acknowledgements.wrote(commit.header) }
                push(message, from: nil, nil)
                advanced(message.log, to: message.through)
                if message.scope == NamespacePolicy.scope { policiesCame() }
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
        case .mayDial(let networks): self.networks = networks
        case .networkChanged:
            beacons.hurry(now: now)
            dials.hurry(now: now)
            for id in links.keys.sorted() { links[id]?.liveness.hurry(now: now) }
            nextLook = now
        case .handOver(let scopes, let isForced): handOver(scopes, isForced, now)
        case .stay: stay()
        case .leave: membership.declare(status: .left, now: now)
        case .sealed(let seal): self.seal(under: seal)
        case .keptKey(let id, let name):
            if let name, links[id] != nil { send(id, .deposited(name)) }
        case .foundKey(let id, let key): found(id, key, now)
        case .unlock(let node, let host): keeping.allow(node, host, now)
        case .acknowledge(let want): acknowledge(want, now)
        case .patienceEnded: perform(acknowledgements.tick(now: now))
        case .measured(let id, let log, let end): measured(id, log, end)
        case .syncNow: for id in links.keys.sorted() { wantSync(id) }
        case .tick(let wall):
            clock.shows(wall, now: now)
            tick(now)
        }
        performMembership(now)
        defer { effects = [] }
        return effects
    }

    mutating func emit(_ effect: Effect) { effects.append(effect) }

    mutating func send(_ id: LinkID, _ message: LinkMessage) { emit(.send(id, message)) }

    mutating func close(_ id: LinkID, _ reason: CloseReason) {
        guard links[id] != nil else { return }
        counters.add(.linkClosed)
        emit(.close(id, reason: reason))
    }

    private mutating func tick(_ now: Instant) {
        tickLeaving(now)
        endCalls(now)
        perform(acknowledgements.tick(now: now))
        if isRevoked {
            askAgain(now)
            return membership.tick(now)
        }
        steer(now)
        dial(now)
        trim(now)
        if let counter = beacons.due(
            siteSize: membership.siteSize, tuning, &entropy, now: now)
        {
            emit(.beacon(counter: counter))
        }
        membership.tick(now)
        guard links.count <= tuning.linksAtOnce || nextLook <= now else { return }
        nextLook = now.advanced(by: tuning.lookInterval)
        if let correction = clock.judge(links.values.compactMap(\.liveness.clockOffset)) {
            emit(.correctClock(by: correction))
        }
        for id in links.keys.sorted() where leaving.isHandingOver || isDue(id, now) {
            keepAlive(id, now)
            graft(id, now)
            dropParked(id, now)
            if leaving.isHandingOver { wantSync(id) }
            syncIfDue(id, now)
        }
    }

    private mutating func heard(
        _ node: NodeID, _ incarnation: Incarnation, _ address: Address, _ now: Instant
    ) {
        guard node != own.node, !isRevoked, revoked[node] == nil else { return }
        // Whoever has the mesh's secret could have this server knock at other services.
        guard address.port >= limits.beaconPortMin || address.port == membership.presence.port
        else {
            return counters.add(.beaconPortRefused)
        }
        guard let id = link(to: node) else {
            dials.hear(node, incarnation, at: address, now: now)
            return dial(now)
        }
        // A linked node that moved has left a dead link behind; a replay has not, and costs a ping.
        let entry = BeaconTrail.Entry(address: address, incarnation: incarnation, at: now)
        if links[id]?.beacons.note(entry, limit: limits.beaconsHeard) == true {
            links[id]?.liveness.hurry(now: now)
            keepAlive(id, now)
        }
    }
}

// MARK: Links

extension Engine {
    private mutating func linkUp(
        _ id: LinkID, _ peer: LinkMachine.Peer, _ origin: LinkOrigin, _ now: Instant
    ) {
        guard mayLink(id, peer.certificate, origin, now) else {
            // Whoever is turned away is not dialled again at once.
            if let address = origin.dialled {
                let reason =
                    own.isApproved
                    ? "who answers there is turned away" : "this server waits to be approved"
                let failure = DialFailure(.certificateRefused, reason)
                dials.met(peer.certificate.node, at: address)
                dials.failed(address, failure, now: now)
            }
            return
        }
        if let address = origin.dialled {
            dials.linked(address, to: peer.certificate.node, now: now)
        }
        guard links.count < limits.links else {
            counters.add(.linkOverLimit)
            emit(.close(id, reason: .tooMany))
            return
        }
        let twins = links.filter { $0.value.node == peer.certificate.node }.keys.sorted()
        for other in twins where !resolve(id, origin, other) { return }
        links[id] = LinkState(peer, origin, limits: limits, now: now)
        exchanges[peer.certificate.node, default: Exchange(peer)].version = peer.version
        exchanges[peer.certificate.node]?.began(at: totals)
        share(with: id)
        // It may be back with another disk: it says anew what it holds.
        acknowledgements.forget(peer.certificate.node)
        join(id, peer.certificate, origin, now)
        // Its own, and that of a node that has its ticket too.
        links[id]?.introductions.want(peer.certificate.node, atMost: 2)
        receive(id, certificate: peer.certificate.encoded)
        for change in secrets where change.secret.epoch > peer.epoch {
            send(id, .secret(change.encoded))
        }
        if leaving.isLeaving { send(id, .leaving(true)) }
        if losersOf.contains(peer.certificate.node) {
            queue(id, [.losers(of: peer.certificate.node)])
            pump(id)
        }
        // The neighbours hear at once that there is a link, before they compare over one of theirs.
        if links[id]?.site != own.ticket.site { tellFarPath(now) }
        if origin.dialled != nil { beginSync(id, now) }
    }

    /// Of two links with one peer both ends keep the one that the lower identity dialled.
    ///
    /// - Returns: whether the new one stays.
    private mutating func resolve(
        _ id: LinkID, _ origin: LinkOrigin, _ other: LinkID
    ) -> Bool {
        guard let old = links[other] else { return true }
        counters.add(.linkDuplicate)
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
        calls[id] = nil
        guard let link = links.removeValue(forKey: id) else { return }
        testimony.forget(id)
        exchanges[link.node]?.ended(at: totals)
        share()
        emit(.note(.linkEnded(reason), id))
        for beacon in link.beacons.entries where now.since(beacon.at) < tuning.beaconTrust {
            dials.hear(link.node, beacon.incarnation, at: beacon.address, now: now)
        }
        // A peer that knows another node by this one's ticket closes every link at once.
        if !tickets.doubles.isEmpty, let address = link.origin.dialled,
            tickets.doubles.values.contains(where: { $0.first.node == own.node }),
            now.since(link.since) < tuning.shortLink
        {
            dials.failed(
                address,
                DialFailure(.certificateRefused, "another server joined with this one's ticket"),
                now: now)
        }
        part(link, now)
    }

    private mutating func receive(_ id: LinkID, _ bytes: [UInt8], _ now: Instant) {
        guard links[id] != nil else {
            if !hear(call: id, bytes) { counters.add(.messageLate) }
            return
        }
        links[id]?.liveness.heard(now: now)
        if let node = links[id]?.node { membership.heard(node, now: now) }
        let message: LinkMessage
        do throws(WireError) { message = try LinkMessage(decoding: bytes) } catch {
            counters.add(.messageMalformed)
            return close(id, .malformed(.message, error))
        }
        switch message {
        case .ping(let number):
            send(id, .pong(number))
            if let wall = clock.wall(now: now) { send(id, .clock(wall)) }
        case .pong(let number):
            if links[id]?.liveness.pong(number, now: now) == false { counters.add(.pongUnasked) }
        case .goodbye:
            links[id]?.isLeaving = true
            close(id, .goodbye)
        case .syncTurn(let turn): receive(id, turn: turn, now)
        case .syncAnswer(let turn): receive(id, answer: turn, now)
        case .syncEnd: receiveEnd(id, now)
        case .syncPlease: wantSync(id)
        case .commits(let bytes): receive(id, commits: bytes, now)
        case .credit(let count):
            links[id]?.credit.returned(Int(count))
            links[id]?.asking?.progressed(now: now)
            pump(id)
        case .certificate(let bytes): receive(id, certificate: bytes)
        case .wantCertificate(let node): show(id, node)
        case .revocation(let bytes): receive(id, revocation: bytes)
        case .datagramKey(let key):
            if let node = links[id]?.node { membership.keyed(node, sends: key, receives: nil) }
        case .rumours(let bytes): receive(id, rumours: bytes, now)
        case .have(let log, let through): hear(id, log, through, now)
        case .prune: prune(id)
        case .graft: links[id]?.branch.grafted()
        case .clock(let theirs):
            if let ours = clock.wall(now: now) {
                links[id]?.liveness.clock(theirs, ours: ours)
            }
        case .secret(let bytes): receive(id, secret: bytes)
        case .window(let count):
            links[id]?.credit.told(Int(count))
            pump(id)
        case .leaving(let isToLeave): links[id]?.isToLeave = isToLeave
        case .deposit(let key): receive(id, deposit: key)
        case .deposited(let name): receive(id, deposited: name)
        case .wantKey(let name): receive(id, wantKey: name)
        case .want(let bytes): receive(id, want: bytes)
        case .holding(let bytes): receive(id, holding: bytes, now)
        // The root document is settled before a link is one.
        case .root, .key, .noKey, .unknown: counters.add(.messageUnknown)
        }
    }

    private mutating func show(_ id: LinkID, _ node: NodeID) {
        guard links[id]?.introductions.asked(limit: limits.certificatesWanted) == true else {
            return counters.add(.certificateOverLimit)
        }
        emit(.show(id, node))
    }

    private mutating func shown(_ id: LinkID, _ certificates: [[UInt8]]) {
        guard links[id] != nil else {
            if calls[id] != nil { answer(call: id, certificates) }
            return
        }
        links[id]?.introductions.shown()
        for certificate in certificates { send(id, .certificate(certificate)) }
    }

    /// Three messages in a minute that break their own signatures close a link.
    mutating func strike(_ id: LinkID, _ forgery: CloseReason.Forgery, _ now: Instant) {
        guard let count = links[id]?.strikes.add(now: now) else { return }
        if count >= limits.strikes { close(id, .strikes(forgery)) }
    }
}
