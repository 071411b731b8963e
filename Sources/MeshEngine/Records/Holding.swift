// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshLink
internal import MeshMembership
internal import MeshReplication
internal import MeshTrust

/// What this node can say of its own disk, and who wants to hear it.
package struct Testimony {
    /// Where a log ends here.
    package struct End: Sendable, Equatable {
        /// How far it is held.
        package let through: UInt64
        /// The commit that ends there.
        package let commit: Digest

        /// Says where.
        package init(through: UInt64, commit: Digest) {
            self.through = through
            self.commit = commit
        }
    }

    /// Who wants to hear of this node's disk.
    var questions = HoldingQuestions<LinkID>()
    /// Who wants to hear of the centre's.
    var relays = HoldingQuestions<LinkID>()
    /// What is being looked up.
    var measuring: Set<LogName> = []
    /// The last word about a log, since several ask.
    var said: (log: LogName, holding: Holding)?

    mutating func forget(_ id: LinkID) {
        questions.forget(id)
        relays.forget(id)
    }
}

/// Who holds a write: asking, answering and passing on. The article `Acknowledgements`.
extension Engine {
    // MARK: Asking

    mutating func acknowledge(_ want: Acknowledgements.Want, _ now: Instant) {
        if let effects = acknowledgements.want(want, now: now) { return perform(effects) }
        counters.add(.ackOverLimit)
        emit(
            .acknowledged(
                want.number, acknowledgements.reached(want.log, want.through, want.level)))
    }

    mutating func perform(_ wanted: [Acknowledgements.Effect]) {
        for effect in wanted {
            switch effect {
            case .ask(let log, let through, let level): ask(log, through, level)
            case .measure(let log): emit(.measure(nil, log))
            case .answer(let number, let reached):
                counters.add(reached.isMet ? .ackMet : .ackLate)
                emit(.acknowledged(number, reached))
            }
        }
    }

    private mutating func ask(_ log: LogName, _ through: UInt64, _ level: AckLevel) {
        let holders = links.filter { $0.value.peer.certificate.allows(.read, log.scope) }
        let near = holders.filter { $0.value.site == own.ticket.site }.keys.sorted()
        switch level {
        case .local: break
        case .site:
            for id in near { send(id, .want(WantMessage(log, through, .receiver).encoded)) }
        case .central:
            let central = centralLinks(log.scope)
            for id in central { send(id, .want(WantMessage(log, through, .receiver).encoded)) }
            // Whoever keeps the site's links asks for this node.
            guard central.isEmpty else { return }
            for id in near { send(id, .want(WantMessage(log, through, .centre).encoded)) }
        }
    }

    private func centralLinks(_ scope: Scope) -> [LinkID] {
        links.filter {
            $0.value.peer.certificate.ticket.isCentral
                && $0.value.peer.certificate.allows(.read, scope)
        }.keys.sorted()
    }

    mutating func receive(_ id: LinkID, holding bytes: [UInt8], _ now: Instant) {
        let holding: Holding
        do throws(WireError) { holding = try Holding(decoding: bytes) } catch {
            return counters.add(.holdingMalformed)
        }
        guard holding.log.author.node == own.node else { return passOn(id, holding, now) }
        if acknowledgements.knows(holding) { return }
        guard let standing = standing(id, holding, now) else { return }
        let (verdict, effects) = acknowledgements.hear(holding, from: standing)
        if verdict == .otherCommit { counters.add(.holdingOther) }
        perform(effects)
    }

    /// What a word counts for; nil where it is not its holder's, or he is not known.
    private mutating func standing(
        _ id: LinkID, _ holding: Holding, _ now: Instant
    ) -> Acknowledgements.Standing? {
        guard let link = links[id] else { return nil }
        // The link proves who said it.
        if link.node == holding.holder {
            return Acknowledgements.Standing(
                isNear: link.site == own.ticket.site,
                isCentral: link.peer.certificate.ticket.isCentral)
        }
        guard let member = membership.member(holding.holder) else {
            counters.add(.holdingUnknown)
            links[id]?.introductions.want(holding.holder, atMost: Certificate.perNodeMax)
            send(id, .wantCertificate(holding.holder))
            return nil
        }
        guard member.state != .revoked else {
            counters.add(.holdingUnknown)
            return nil
        }
        guard isAuthentic(holding, id, now) else { return nil }
        return Acknowledgements.Standing(
            isNear: member.site == own.ticket.site, isCentral: member.isCentral)
    }

    private mutating func isAuthentic(
        _ holding: Holding, _ id: LinkID, _ now: Instant
    ) -> Bool {
        if holding.isAuthentic(in: membership.identity.mesh) { return true }
        counters.add(.holdingForged)
        strike(id, .holdings, now)
        return false
    }

    // MARK: Answering

    mutating func receive(_ id: LinkID, want bytes: [UInt8]) {
        let want: WantMessage
        do throws(WireError) { want = try WantMessage(decoding: bytes) } catch {
            counters.add(.messageMalformed)
            return close(id, .malformed(.message, error))
        }
        guard let link = links[id], !isRevoked, mayAsk(link, want.log) else {
            return counters.add(.wantRefused)
        }
        if want.whose == .receiver || own.ticket.isCentral {
            guard testimony.questions.ask(want.log, through: want.through, by: id) else {
                return counters.add(.wantOverLimit)
            }
            if testimony.measuring.insert(want.log).inserted { emit(.measure(id, want.log)) }
        } else {
            guard testimony.relays.ask(want.log, through: want.through, by: id) else {
                return counters.add(.wantOverLimit)
            }
            let further = WantMessage(want.log, want.through, .receiver)
            for central in centralLinks(want.log.scope) where central != id {
                send(central, .want(further.encoded))
            }
        }
    }

    /// A server asks for its own writes; one that keeps its site's links asks for its neighbours'.
    private func mayAsk(_ link: LinkState, _ log: LogName) -> Bool {
        let isOfSite =
            link.node == log.author.node
            || membership.member(log.author.node)?.site == link.site
        return isOfSite && own.allows(.read, log.scope)
            && link.peer.certificate.allows(.read, log.scope)
    }

    mutating func measured(
        _ id: LinkID?, _ log: LogName, _ end: Testimony.End?, _ now: Instant
    ) {
        guard id != nil else {
            if let end { acknowledgements.ends(log, at: end.through, with: end.commit) }
            return
        }
        testimony.measuring.remove(log)
        if let end { holds(log, end) }
    }

    /// This node holds a log so far: whoever asked is told.
    mutating func holds(_ log: LogName, _ end: Testimony.End) {
        guard !testimony.questions.isEmpty else { return }
        let askers = testimony.questions.take(log, through: end.through)
        guard !askers.isEmpty else { return }
        let holding: Holding
        if let said = testimony.said, said.log == log, said.holding.through == end.through,
            said.holding.commit == end.commit
        {
            holding = said.holding
        } else {
            let identity = membership.identity
            holding = Holding(
                of: log, through: end.through, commit: end.commit, key: identity.key,
                mesh: identity.mesh)
            testimony.said = (log, holding)
        }
        for id in askers { send(id, .holding(holding.encoded)) }
    }

    // MARK: Passing on

    /// A word of the centre about a neighbour's log goes to whoever asked for it.
    private mutating func passOn(_ id: LinkID, _ holding: Holding, _ now: Instant) {
        guard let link = links[id], link.node == holding.holder,
            link.peer.certificate.ticket.isCentral, !testimony.relays.isEmpty
        else { return counters.add(.holdingUnasked) }
        let askers = testimony.relays.take(holding.log, through: holding.through)
        guard !askers.isEmpty else { return counters.add(.holdingUnasked) }
        guard isAuthentic(holding, id, now) else { return }
        for asker in askers { send(asker, .holding(holding.encoded)) }
    }
}
