// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshMembership
internal import MeshReplication
internal import MeshTrust

/// What this node can say of its own disk, and who wants to hear it.
package struct Testimony {
    /// Most logs of which is remembered what came.
    static let logsMax = 1024

    /// What came whole, of each log without a break.
    private(set) var ends: [LogName: HeldRun] = [:]
    /// Own logs whose end is being looked up.
    var measuringOwn: Set<LogName> = []

    /// Who wants to hear of this node's disk.
    var questions = HoldingQuestions<LinkID>()
    /// Who wants to hear of the centre's.
    var relays = HoldingQuestions<LinkID>()
    /// What is being looked up.
    var measuring: Set<LogName> = []
    /// The last word about a log, since several ask.
    var said: Holding?

    /// Part of a log came: whole, or with records left out.
    ///
    /// - Returns: what is held without a break; nil where something was left out.
    mutating func came(
        _ log: LogName, from before: UInt64, through: UInt64, _ commit: Digest?, isWhole: Bool
    ) -> HeldRun? {
        guard isWhole, let commit, through > before else {
            if through > before { ends[log] = nil }
            return nil
        }
        let known = ends[log].flatMap { $0.through == before ? $0.after : nil }
        if ends[log] == nil, ends.count >= Self.logsMax { ends = [:] }
        let end = HeldRun(after: known ?? before, through: through, commit: commit)
        ends[log] = end
        return end
    }

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
            case .measure(let log):
                if testimony.measuringOwn.insert(log).inserted { emit(.measure(nil, log, 0)) }
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
            counters.add(.messageMalformed)
            return close(id, .malformed(.message, error))
        }
        guard holding.log.author.node == own.node else { return passOn(id, holding, now) }
        if acknowledgements.knows(holding) { return }
        guard acknowledgements.isWaiting(holding.log), revoked[holding.holder] == nil else {
            return counters.add(.holdingUnasked)
        }
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
            if let end = testimony.ends[want.log], end.holds(want.through) {
                holds(want.log, end)
            } else if testimony.measuring.insert(want.log).inserted {
                emit(.measure(id, want.log, want.through))
            }
        } else {
            let centre = centralLinks(want.log.scope).filter { $0 != id }
            guard !centre.isEmpty else { return counters.add(.wantRefused) }
            guard testimony.relays.ask(want.log, through: want.through, by: id) else {
                return counters.add(.wantOverLimit)
            }
            let further = WantMessage(want.log, want.through, .receiver)
            for central in centre { send(central, .want(further.encoded)) }
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
        _ id: LinkID?, _ log: LogName, _ end: HeldRun?
    ) {
        guard id != nil else {
            testimony.measuringOwn.remove(log)
            if let end { acknowledgements.ends(log, at: end.through, with: end.commit) }
            return
        }
        testimony.measuring.remove(log)
        if let end { holds(log, end) }
    }

    /// A run of a log was judged. What it leaves out its sender says that others have replaced, and
    /// nobody but the author is taken at that word: a log that goes on without its records is not
    /// vouched for.
    mutating func vouch(_ id: LinkID, _ message: CommitsMessage, _ outcome: IngestOutcome) {
        guard outcome.hasAdvanced else { return }
        let isAuthors = links[id]?.node == message.author.node
        var next = outcome.before + 1
        let isWhole = message.commits.allSatisfy { commit in
            let header = commit.header
            if header.last < next { return true }
            defer { next = header.last + 1 }
            return header.first <= next
                && (isAuthors || commit.records.count == header.count)
        }
        let end = testimony.came(
            message.log, from: outcome.before, through: outcome.frontier, outcome.commit,
            isWhole: isWhole && message.through == outcome.frontier)
        if let end { holds(message.log, end) }
    }

    /// This node holds a log so far: whoever asked is told.
    mutating func holds(_ log: LogName, _ end: HeldRun) {
        guard !testimony.questions.isEmpty else { return }
        let askers = testimony.questions.take(log, through: end.through)
        guard !askers.isEmpty else { return }
        let holding: Holding
        if let said = testimony.said, said.log == log, said.run == end {
            holding = said
        } else {
            let identity = membership.identity
            holding = Holding(
                of: log, end, key: identity.key, mesh: identity.mesh)
            testimony.said = holding
        }
        for id in askers { send(id, .holding(holding.encoded)) }
    }

    // MARK: Passing on

    /// A word of the centre about a neighbour's log goes to whoever asked for it.
    private mutating func passOn(_ id: LinkID, _ holding: Holding, _ now: Instant) {
        guard let link = links[id], link.node == holding.holder,
            link.peer.certificate.ticket.isCentral, !testimony.relays.isEmpty
        else { return counters.add(.holdingUnasked) }
        guard isAuthentic(holding, id, now) else { return }
        let askers = testimony.relays.take(holding.log, through: holding.run.through)
        guard !askers.isEmpty else { return counters.add(.holdingUnasked) }
        for asker in askers { send(asker, .holding(holding.encoded)) }
    }
}
