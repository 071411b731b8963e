// SPDX-License-Identifier: Apache-2.0

package import MeshCore

extension Membership {
    /// A member told something, by datagram or on its link.
    package mutating func hear(_ rumour: Rumour, from teller: NodeID, _ now: Instant) {
        switch rumour {
        case .presence(let presence, let address):
            hear(presence, address, from: teller, now)
        case .suspect(let subject, let version, let accuser):
            hearAccusation(rumour, subject, version, accuser, from: teller, now)
        case .away(let subject, let version, let accuser):
            if named[subject] == nil { early.forget(subject, from: teller) }
            if let node = named[subject], let member = table[node], !isNear(member) {
                guard version >= member.version else { return count(.rumourOld) }
                table[node]?.tellers.remove(teller)
                settle(node, now)
            } else {
                hearAccusation(rumour, subject, version, accuser, from: teller, now)
            }
        case .vouch(let vouch): hear(vouch, from: teller, now)
        }
    }

    mutating func hear(
        _ said: Presence, _ address: Address?, from teller: NodeID, _ now: Instant
    ) {
        if said.node == own { return hearOwn(said, now) }
        guard let member = table[said.node] else {
            let words = EarlyWords.Said(presence: said, address: address, teller: teller)
            guard table[teller]?.isLinked == true, early.keep(words) else {
                return count(.rumourUnknown)
            }
            effects.append(.wantCertificate(said.node, from: teller))
            return
        }
        guard member.state != .revoked else { return count(.rumourRevoked) }
        let isNearTeller = table[teller].map(isNear) == true
        let isNearby = isNear(member)
        if !isNearby, !isNearTeller, table[teller]?.isLinked == true, teller != said.node,
            said.status == .alive
        {
            table[said.node]?.tellers.insert(teller)
        }
        guard said.version >= member.version else {
            correct(member, teller)
            return settle(said.node, now)
        }
        let isNew = said.version > member.version || member.presence == nil
        if isNew {
            guard said.isAuthentic(in: identity.mesh) else { return count(.presenceForged) }
            table[said.node]?.presence = said
            table[said.node]?.evidence.prove(now)
            knownGateway = nil
            let isAnew = member.presence.map {
                said.version.incarnation > $0.version.incarnation
            }
            if isAnew == true || said.status != .alive, !member.isLinked {
                keys.forgetSending(to: said.node)
            }
            // Its link stands, and another has spoken as a later life of it: a copy of its machine.
            // What it says itself counts again once it has gone on from there.
            if isAnew == true, member.isLinked, teller != said.node {
                effects.append(.tell(said.node, [.presence(said, address: nil)]))
            }
        }
        if teller == said.node {
            // What it says of itself says nothing of where it is reached.
        } else if let address, member.host == nil {
            table[said.node]?.host = address.host
            effects.append(.told(said.node, address: address))
        }
        switch said.status {
        case .left: set(said.node, .left, now)
        case .stopped: if !member.isLinked || isNew { set(said.node, .away, now) }
        case .alive: if isNew, isNearby || member.state == .left { set(said.node, .alive, now) }
        }
        // Words that are not new go no further, or they would go round for ever.
        if isNew, let current = table[said.node], isNearTeller || knows(current) {
            // Another site that brought a neighbour's words does not know yet that it is there.
            let isBroughtBack = isNearby && !isNearTeller
            spread(
                .presence(said, address: current.tellable), except: isBroughtBack ? nil : teller)
        }
        if isNearby, said.version.incarnation > member.version.incarnation {
            settleVouched(by: said.node, now)
        }
        settle(said.node, now)
    }

    /// Old words are answered with the newer ones: so a member that does not know how far it once
    /// counted hears of it, and speaks up.
    private mutating func correct(_ member: Member, _ teller: NodeID) {
        count(.rumourOld)
        guard let newer = member.presence, let peer = table[teller], peer.isLinked,
            mayKnow(peer, member) || teller == member.node
        else { return }
        effects.append(.tell(teller, [.presence(newer, address: member.tellable)]))
    }

    /// Somebody has heard of an earlier life of this node that had counted further.
    private mutating func hearOwn(_ said: Presence, _ now: Instant) {
        guard said.version > presence.version || said.version == presence.version,
            said != presence
        else { return }
        guard said.isAuthentic(in: identity.mesh) else { return count(.presenceForged) }
        let next = max(said.version, presence.version).next
        speak(next, presence.status, presence.wan)
        vouchAnew(now)
    }

    private mutating func hearAccusation(
        _ rumour: Rumour, _ subject: ShortID, _ version: Presence.Version, _ accuser: ShortID,
        from teller: NodeID, _ now: Instant
    ) {
        if subject == own.short { return refute(version, now) }
        guard let node = named[subject], let member = table[node], isNear(member),
            accuser != subject
        else { return count(.rumourUnknown) }
        guard version == member.version, member.state == .alive || member.state == .suspect else {
            return count(.rumourOld)
        }
        if canProbe(member), member.evidence.isRecent(now, within: tuning.timeout) {
            count(.accusationUnfounded)
            return passOn(rumour, to: member, now)
        }
        let isNews = member.suspicion.isNews(accuser, tuning)
        if canProbe(member), !member.suspicion.hasFailedHere {
            // Where one can ask, hearsay is a reason to ask and no more.
            _ = table[node]?.suspicion.accuse(by: accuser, tuning)
            begin(.urgent, node, now)
        } else {
            accuse(node, by: accuser, now)
        }
        if isNews { spread(rumour, except: teller) }
    }

    /// Tells a member of which it is accused, now and then: who accuses it may not reach it.
    private mutating func passOn(_ rumour: Rumour, to member: Member, _ now: Instant) {
        guard member.toldAt.map({ now.since($0) >= tuning.period }) ?? true else { return }
        table[member.node]?.toldAt = now
        tell(rumour, to: member.node)
    }

    /// Answers a rumour about this node with newer words of its own.
    private mutating func refute(_ version: Presence.Version, _ now: Instant) {
        guard version == presence.version, presence.status == .alive else {
            return count(.accusedOfThePast)
        }
        if let last = lastRefute, now.since(last) < tuning.refutePause {
            return count(.refuteOverLimit)
        }
        lastRefute = now
        count(.refuted)
        health.adjust(by: 1)
        speak(presence.version.next, .alive, presence.wan)
    }

    mutating func accuse(_ node: NodeID, by accuser: ShortID, _ now: Instant) {
        guard let member = table[node] else { return }
        if member.state == .alive {
            set(node, .suspect, now)
            table[node]?.suspicion.begin(now)
        }
        guard table[node]?.suspicion.accuse(by: accuser, tuning) == true else { return }
        if accuser == own.short {
            spread(.suspect(node.short, member.version, by: accuser), except: nil)
        }
    }

    /// Asks a suspect until its suspicion ends, and ends it with a question that got no answer:
    /// never on the word of others alone where one can ask.
    ///
    /// The whole suspicion is spent asking: on a bad line two questions in a row are easily lost.
    mutating func judge(_ node: NodeID, _ now: Instant) {
        guard let member = table[node], member.state == .suspect else { return }
        if hasRunOut(member, now), member.suspicion.hasFailedHere,
            !member.isLinked || !canProbe(member)
        {
            set(node, .away, now)
        } else if canProbe(member) {
            begin(.urgent, node, now)
        } else if hasRunOut(member, now) {
            reach(member, now)
        }
    }

    /// Whether a suspicion was refuted by nobody for as long as it lasts.
    func hasRunOut(_ member: Member, _ now: Instant) -> Bool {
        guard member.state == .suspect else { return false }
        // Who is there, but for the suspect and this node.
        let witnesses = max(0, overlay.count - 2)
        let lasting = member.suspicion.timeout(
            scale: logOfMembers, witnesses: witnesses, tuning)
        return member.suspicion.hasRunOut(now, lasting: lasting)
    }

    /// Dials a suspect that no datagram can ask; a dial of which nothing is heard was in vain.
    private mutating func reach(_ member: Member, _ now: Instant) {
        switch member.suspicion.dial(now, tuning) {
        case .underway: break
        case .inVain: unreachable(member.node, isHostThere: false, now: now)
        case .none:
            table[member.node]?.suspicion.beginDial(now)
            effects.append(.reach(member.node))
        }
    }

    /// A member that was to be reached was dialled in vain.
    ///
    /// - Parameter isHostThere: whether somebody answered who was too busy, or somebody else.
    package mutating func unreachable(_ node: NodeID, isHostThere: Bool, now: Instant) {
        guard table[node]?.suspicion.endDial() == true, table[node]?.state == .suspect else {
            return
        }
        if isHostThere {
            table[node]?.suspicion.begin(now)
        } else {
            table[node]?.suspicion.fail()
            judge(node, now)
        }
    }

    // MARK: Telling

    /// Tells a rumour at once to every linked member that may know, and along with datagrams.
    mutating func spread(_ rumour: Rumour, except teller: NodeID?) {
        let subject = named[rumour.subject].flatMap { table[$0] }
        for peer in linkedNodes.sorted() where peer != teller {
            guard let member = table[peer], mayKnow(member, subject),
                peer != subject?.node || rumour.isAccusation,
                concerns(rumour, subject, member)
            else { continue }
            effects.append(.tell(peer, [rumour]))
        }
        // In a large site probes carry only what is urgent; links are enough for the rest.
        guard !isWide || rumour.isAccusation || rumour.subject == own.short else { return }
        if !retellings.add(rumour) { count(.rumourOverLimit) }
    }

    /// Accusations are an affair of the accused's own site; others hear what this node concluded.
    private func concerns(_ rumour: Rumour, _ subject: Member?, _ peer: Member) -> Bool {
        guard rumour.isAccusation else { return true }
        if isNear(peer) { return subject.map(isNear) != false }
        if case .away(_, _, let accuser) = rumour { return accuser == own.short }
        return false
    }

    /// What goes along with a datagram: what the receiver must refute, then what was told least.
    mutating func rumours(for member: Member) -> [Rumour] {
        var room =
            MembershipSpecification.payloadBytesMax - ProbeMessage.fixedByteCount
        var picked: [Rumour] = []
        if member.state == .suspect {
            picked.append(.suspect(member.node.short, member.version, by: own.short))
            room -= picked[0].byteCount
        }
        // News is told a few times only: not to those who may be gone.
        guard member.state == .alive else { return picked }
        let times = tuning.retellings * (1 + Int(logOfMembers))
        for rumour in retellings.inOrder {
            guard picked.count < MembershipSpecification.rumoursMax else { break }
            let about = named[rumour.subject].flatMap { table[$0] }
            let size = rumour.byteCount
            guard size <= room, rumour.subject == own.short || about != nil,
                mayKnow(member, about),
                rumour.subject != member.node.short || rumour.isAccusation
            else { continue }
            room -= size
            picked.append(rumour)
            retellings.tell(rumour.subject, times: times)
        }
        return picked
    }
}

extension Rumour {
    var isAccusation: Bool {
        switch self {
        case .presence, .vouch: false
        case .suspect, .away: true
        }
    }
}
