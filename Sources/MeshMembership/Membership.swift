// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// Who is there: SWIM with Lifeguard inside a site, what others vouch for elsewhere.
///
/// Members of the same site are probed by datagrams, and nobody is given up on hearsay where
/// this node can ask for itself. Members of other sites are there while a linked node says so that
/// would know. What a member says of itself is signed; everything else is a hint. The protocol is
/// specified in the article `MembershipProtocol`.
package struct Membership: Sendable {
    /// Who this node is.
    package struct Identity: Sendable {
        /// What it signs with.
        package let key: SigningKey
        /// The mesh that it is of.
        package let mesh: MeshID
        let site: String
        let isCentral: Bool

        /// Joins the pieces.
        package init(key: SigningKey, mesh: MeshID, site: String, isCentral: Bool) {
            self.key = key
            self.mesh = mesh
            self.site = site
            self.isCentral = isCentral
        }
    }

    /// Who this node is.
    package let identity: Identity
    let own: NodeID
    let tuning: MembershipTuning
    var entropy: SeededGenerator
    var keys = DatagramKeys()
    /// What this node says of itself.
    package internal(set) var presence: Presence
    var table: [NodeID: Member] = [:]
    var overlay: Overlay
    /// Members that are linked, and those whom time must move: suspect or away.
    var linkedNodes: Set<NodeID> = []
    var unsettled: Set<NodeID> = []
    var knownGateway: NodeID?
    var named: [ShortID: NodeID] = [:]
    var early: EarlyWords
    var retellings: Retellings
    var questions = Questions()
    var requests: Requests
    var turns = Turns()
    var lastNumber: UInt32
    var nextPeriod: Instant
    var lastTick: Instant
    var lastRefute: Instant?
    var lastVouch: UInt64 = 0
    var health: LocalHealth
    var effects: [MembershipEffect] = []
    /// What was dropped or refused, and what else is counted.
    package internal(set) var counters = Counters<MembershipEvent>()

    /// Begins with nobody.
    package init(
        _ identity: Identity, incarnation: Incarnation, port: UInt16, priority: UInt8 = 0,
        tuning: MembershipTuning = MembershipTuning(), seed: UInt64, now: Instant
    ) {
        self.identity = identity
        self.tuning = tuning
        own = identity.key.publicKey.node
        overlay = Overlay(own: own, site: identity.site)
        entropy = SeededGenerator(seed: seed)
        early = EarlyWords(tuning)
        retellings = Retellings(most: tuning.rumoursWaiting)
        requests = Requests(most: tuning.relayedMax)
        health = LocalHealth(most: tuning.healthMax)
        lastNumber = UInt32(truncatingIfNeeded: entropy.next())
        nextPeriod = now
        lastTick = now
        presence = Presence(
            key: identity.key, mesh: identity.mesh,
            version: .init(incarnation: incarnation.value, counter: 1), status: .alive,
            wan: .untried, priority: priority, port: port)
    }

    /// Everybody but this node, by identity.
    package var members: [Member] { table.values.sorted { $0.node < $1.node } }

    /// Who of this site is there, and who of all will not be back.
    package struct Roll: Sendable {
        /// Members of this site that are alive or suspect.
        package var neighbours: [NodeID] = []
        /// Members that have left or are revoked.
        package var gone: Set<NodeID> = []
    }

    /// What content needs of the members: asked once a second, so that nothing is put in order that
    /// nobody shows.
    package var roll: Roll {
        var roll = Roll()
        for (node, member) in table {
            switch member.state {
            case .alive, .suspect: if member.site == identity.site { roll.neighbours.append(node) }
            case .left, .revoked: roll.gone.insert(node)
            default: break
            }
        }
        roll.neighbours.sort()
        return roll
    }

    /// Where a member stands; nil for nobody known.
    package func site(of node: NodeID) -> String? { table[node]?.site }

    /// One member.
    package func member(_ node: NodeID) -> Member? { table[node] }

    /// What is to be done since this was last asked, in order.
    package mutating func takeEffects() -> [MembershipEffect] {
        defer { effects = [] }
        return effects
    }

    mutating func count(_ event: MembershipEvent) { counters.add(event) }

    var logOfMembers: Double {
        var digits = 1.0
        var rest = Double(table.count + 1)
        // A logarithm by halving of the exponent would want Foundation; this is near enough.
        while rest >= 10 {
            rest /= 10
            digits += 1
        }
        return digits - 1 + (rest - 1) / 9
    }
}

// MARK: Who there is

extension Membership {
    /// A node whose certificate was verified belongs to the mesh, here or away.
    package mutating func admit(_ node: NodeID, site: String, isCentral: Bool, now: Instant) {
        guard node != own, table[node] == nil else { return }
        guard named[node.short] == nil, node.short != own.short else {
            return count(.nameCollision)
        }
        table[node] = Member(node, site: site, isCentral: isCentral, now: now)
        named[node.short] = node
        unsettled.insert(node)
        let (said, vouches) = early.take(node)
        for words in said { hear(words.presence, words.address, from: words.teller, now) }
        for one in vouches { hear(one.vouch, from: one.teller, now) }
    }

    /// Another node has this member's name and place: it has left, whatever it says.
    package mutating func retire(_ node: NodeID, now: Instant) {
        guard table[node]?.isRetired == false else { return }
        set(node, .left, now)
        table[node]?.isRetired = true
    }

    /// A member was taken out of the mesh: whatever it says, it is no member again.
    package mutating func revoke(_ node: NodeID, now: Instant) {
        guard let member = table[node], member.state != .revoked else { return }
        table[node]?.isRetired = false
        set(node, .revoked, now)
        table[node]?.isRetired = true
        keys.forget(node)
        retellings.forget(node.short)
        questions.forget(node)
        for other in table.keys.sorted() where table[other]?.tellers.remove(node) != nil {
            settle(other, now)
        }
    }

    /// A member whose ticket was revoked has shown a later one: it may be admitted anew.
    package mutating func forgetRevoked(_ node: NodeID) {
        guard table[node]?.state == .revoked else { return }
        table[node] = nil
        named[node.short] = nil
    }

    /// This node is no member any more: it hears no datagram, and sends none.
    package mutating func withdraw() { keys = DatagramKeys() }

    /// A member is linked; it is told who is there.
    ///
    /// - Parameter host: where it was met, as an address without a port; nil if that can't be told.
    package mutating func linked(_ node: NodeID, host: String?, now: Instant) {
        guard let member = table[node] else { return }
        table[node]?.isLinked = true
        _ = table[node]?.suspicion.endDial()
        linkedNodes.insert(node)
        table[node]?.evidence.hear(now)
        table[node]?.evidence.prove(now)
        if let host { table[node]?.host = host }
        if member.state != .left { set(node, .alive, now) }
        settle(node, now)
        for part in parts(of: everyone(for: node)) { effects.append(.tell(node, part)) }
    }

    /// A member's last link is gone.
    ///
    /// - Parameter isOrderly: whether it said goodbye.
    package mutating func unlinked(_ node: NodeID, isOrderly: Bool, now: Instant) {
        guard let member = table[node] else { return }
        table[node]?.isLinked = false
        linkedNodes.remove(node)
        if isNear(member) {
            if isOrderly, member.state != .left {
                set(node, .away, now)
            } else if member.state == .alive {
                begin(.urgent, node, now)
            }
        } else {
            settle(node, now)
        }
        for other in table.keys.sorted() where table[other]?.tellers.remove(node) != nil {
            settle(other, now)
        }
    }

    /// A member was heard on a link.
    package mutating func heard(_ node: NodeID, now: Instant) {
        table[node]?.evidence.prove(now)
        isThere(node, now)
    }

    /// A member is there: this node heard it, or one that may be believed did.
    mutating func isThere(_ node: NodeID, _ now: Instant) {
        guard let member = table[node] else { return }
        table[node]?.evidence.hear(now)
        let isBack = member.state == .suspect || member.state == .away
        if isBack, member.presence?.status ?? .alive == .alive { set(node, .alive, now) }
    }

    /// Keys for datagrams were exchanged on a link.
    package mutating func keyed(_ node: NodeID, sends: Bytes32?, receives: Bytes32?) {
        guard table[node] != nil else { return }
        if let sends { keys.send(to: node, under: sends) }
        if let receives { keys.receive(from: node, under: receives) }
    }

    /// Says something new of this node: that it stops or leaves, or how its path to others does.
    package mutating func declare(
        status: Presence.Status? = nil, wan: Presence.WAN? = nil, now: Instant
    ) {
        let (status, wan) = (status ?? presence.status, wan ?? presence.wan)
        guard status != presence.status || wan != presence.wan else { return }
        speak(presence.version.next, status, wan)
    }

    mutating func speak(
        _ version: Presence.Version, _ status: Presence.Status, _ wan: Presence.WAN
    ) {
        presence = Presence(
            key: identity.key, mesh: identity.mesh, version: version, status: status, wan: wan,
            priority: presence.priority, port: presence.port)
        knownGateway = nil
        spread(.presence(presence, address: nil), except: nil)
    }

    func isNear(_ member: Member) -> Bool { member.site == identity.site }

    /// Whether what is known of a member is worth telling on: not where a third site told it.
    func knows(_ member: Member) -> Bool {
        isNear(member) || member.isLinked || member.vouches.values.contains(where: holds)
            || member.tellers.contains { table[$0]?.site == member.site }
    }

    /// What a site's members are doing goes to that site and to the centre; what the centre's do,
    /// to all.
    func mayKnow(_ peer: Member, _ subject: Member?) -> Bool {
        guard let subject else {
            return peer.site == identity.site || peer.isCentral || identity.isCentral
        }
        return peer.site == subject.site || peer.isCentral || subject.isCentral
    }

    private func everyone(for node: NodeID) -> [Rumour] {
        guard let peer = table[node] else { return [] }
        var rumours: [Rumour] = []
        if mayKnow(peer, nil) { rumours.append(.presence(presence, address: nil)) }
        for member in members where mayKnow(peer, member) || member.node == node {
            guard let presence = member.presence, member.state != .revoked else { continue }
            let isWorthIt = member.state != .away || presence.status != .alive
            if member.node == node || (isWorthIt && knows(member)) {
                rumours.append(.presence(presence, address: member.tellable))
            }
            guard isNear(peer), !isNear(member) else { continue }
            let vouches = member.vouches.values.sorted { $0.node < $1.node }
            rumours += ([member.ownVouch].compactMap(\.self) + vouches).map(Rumour.vouch)
        }
        return rumours
    }

    private func parts(of rumours: [Rumour]) -> [[Rumour]] {
        let size = MembershipSpecification.rumoursMax
        return stride(from: 0, to: rumours.count, by: size).map {
            Array(rumours[$0..<min($0 + size, rumours.count)])
        }
    }

    mutating func set(_ node: NodeID, _ state: Member.State, _ now: Instant) {
        guard let old = table[node], !old.isRetired else { return }
        if state != .suspect { table[node]?.suspicion = Suspicion() }
        guard old.state != state else { return }
        table[node]?.state = state
        table[node]?.since = now
        settlePlace(node, old, state, now)
        if state == .away {
            table[node]?.retry.begin(now, tuning)
            questions.forget(node)
            if old.state != .left, old.presence?.status ?? .alive == .alive {
                spread(.away(node.short, old.version, by: own.short), except: nil)
            }
        }
        if state == .alive, old.state == .away, isNear(old), let member = table[node] {
            tellOthers(member)
        }
        effects.append(.changed(node, state))
    }

    private mutating func settlePlace(
        _ node: NodeID, _ member: Member, _ state: Member.State, _ now: Instant
    ) {
        let isThere = state == .alive || state == .suspect
        if state == .suspect || state == .away {
            unsettled.insert(node)
        } else {
            unsettled.remove(node)
        }
        guard isNear(member) else { return }
        knownGateway = nil
        if isThere { overlay.insert(node) } else { overlay.remove(node) }
        settleVouched(by: node, now)
    }
}
