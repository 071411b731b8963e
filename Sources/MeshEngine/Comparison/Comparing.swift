// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshReplication
internal import MeshTrust

/// Comparisons on links: what `Asking` and `Answering` decide is done here.
extension Engine {
    /// Begins a comparison, if none goes on; only the end that dialled does.
    mutating func beginSync(_ id: LinkID, _ now: Instant) {
        guard let link = links[id], let asking = link.asking, asking.isResting, mayCompare(id)
        else { return }
        links[id]?.asking?.begin(now: now)
        links[id]?.isProofTooOld = false
        links[id]?.wish.grant(now: now)
        emit(.compare(id, session(with: link, .initiator, round: asking.begun + 1, now), nil))
    }

    private func session(
        with link: LinkState, _ role: SyncSession.Role, round: Int, _ now: Instant
    ) -> SyncSession {
        let (own, peer) = (own, link.peer.certificate)
        return SyncSession(
            role: role, salt: link.peer.salt, round: round,
            held: waits.held(now: now),
            mayShare: { own.allows(.read, $0) && peer.allows(.read, $0) })
    }

    /// Something is missing here: a comparison is wanted soon, but not one for each of many
    /// messages.
    mutating func wantSync(_ id: LinkID) { links[id]?.wish.open() }

    /// Begins a comparison that is due or wanted, or asks the peer to.
    mutating func syncIfDue(_ id: LinkID, _ now: Instant) {
        guard let link = links[id] else { return }
        // Whoever has streams of ours or waits for our judgement need not speak.
        if link.outbox.isEmpty, link.credit.judging == 0,
            links[id]?.asking?.giveUp(after: tuning.syncSilenceMax, now: now) == true
        {
            counters.add(.syncUnanswered)
            links[id]?.coverage.restart()
            return rest(id, now)
        }
        let isWanted = link.wish.isDue(pause: tuning.syncPause, now: now)
        if let asking = link.asking {
            if isWanted || asking.isDue(now: now) { beginSync(id, now) }
        } else if isWanted {
            links[id]?.wish.grant(now: now)
            send(id, .syncPlease)
        }
    }

    private func decode(_ bytes: [UInt8]) -> Result<SyncTurn, WireError> {
        do throws(WireError) { return .success(try SyncTurn(decoding: bytes)) } catch {
            return .failure(error)
        }
    }

    /// A turn of the end that asks.
    mutating func receive(_ id: LinkID, turn bytes: [UInt8], _ now: Instant) {
        guard links[id]?.answering != nil else { return refuse(id, .turnUnasked) }
        switch decode(bytes) {
        case .failure(let error): refuse(id, .malformed(.turn, error))
        case .success(let turn):
            if let arrival = links[id]?.answering?.receive(turn, limits: limits) {
                answer(id, arrival, now)
            }
        }
    }

    /// An answer to a turn of this end.
    mutating func receive(_ id: LinkID, answer bytes: [UInt8], _ now: Instant) {
        switch links[id]?.asking?.answered(now: now) {
        case .late: counters.add(.syncLate)
        case .unasked, nil: refuse(id, .turnUnasked)
        case .answer(let session):
            switch decode(bytes) {
            case .failure(let error): refuse(id, .malformed(.turn, error))
            case .success(let turn): emit(.compare(id, session, turn))
            }
        }
    }

    private mutating func answer(_ id: LinkID, _ arrival: Answering.Arrival, _ now: Instant) {
        guard let link = links[id] else { return }
        switch arrival {
        case .begins(let turn):
            links[id]?.isProofTooOld = false
            emit(.compare(id, session(with: link, .responder, round: 0, now), turn))
        case .goesOn(let session, let turn): emit(.compare(id, session, turn))
        case .waits: break
        case .refused(let reason): refuse(id, reason)
        }
    }

    private mutating func refuse(_ id: LinkID, _ reason: CloseReason) {
        counters.add(.syncRefused)
        close(id, reason)
    }

    /// The store took a comparison one turn further.
    mutating func compared(
        _ id: LinkID, _ session: SyncSession, _ result: ComparisonResult, _ now: Instant
    ) {
        guard links[id] != nil else { return }
        switch (result, session.role) {
        case (.refused(let refusal), _): return refuse(id, .sync(refusal))
        case (.outcome(let outcome), .initiator):
            // The first turn only asks.
            let areAllEqual = session.turns > 0 && note(id, outcome, now)
            if let next = links[id]?.asking?.compared(
                session, outcome, areAllEqual: areAllEqual)
            {
                follow(id, next, now)
            }
        case (.failed, .initiator):
            counters.add(.syncFailed)
            links[id]?.coverage.restart()
            if let next = links[id]?.asking?.failed() { follow(id, next, now) }
        case (.outcome(let outcome), .responder):
            _ = note(id, outcome, now)
            answered(id, outcome.isInStep ? nil : session, outcome.reply, now)
        case (.failed, .responder):
            counters.add(.syncFailed)
            links[id]?.coverage.restart()
            answered(id, nil, SyncTurn(), now)
        }
        pump(id)
    }

    private mutating func answered(
        _ id: LinkID, _ session: SyncSession?, _ reply: SyncTurn, _ now: Instant
    ) {
        send(id, .syncAnswer(reply.encoded))
        guard let waited = links[id]?.answering?.answered(session, limits: limits) else { return }
        answer(id, waited, now)
    }

    private mutating func follow(_ id: LinkID, _ next: Asking.Next, _ now: Instant) {
        switch next {
        case .wait: finishStreams(id)
        case .begin: beginSync(id, now)
        case .ask(let turn): send(id, .syncTurn(turn.encoded))
        case .rest: rest(id, now)
        }
    }

    private mutating func rest(_ id: LinkID, _ now: Instant) {
        links[id]?.asking?.rest(tuning, &entropy, now: now)
    }

    /// Takes from an outcome what both ends do alike.
    ///
    /// - Returns: whether all windows of scopes are equal.
    private mutating func note(
        _ id: LinkID, _ outcome: SyncSession.Outcome, _ now: Instant
    ) -> Bool {
        guard let node = links[id]?.node else { return false }
        var areAllEqual = false
        if links[id]?.isProofTooOld == true {
            links[id]?.coverage.restart()
        } else if outcome.isInStep {
            areAllEqual = links[id]?.coverage.add(of: outcome.windows) == true
            if areAllEqual { agreed(id, node, now) }
        } else if !outcome.reply.parts.isEmpty {
            links[id]?.coverage.restart()
            if outcome.theyLack > 0 { exchanges[node]?.compared(lacks: outcome.theyLack) }
        }
        queue(id, outcome.streams)
        return areAllEqual
    }

    /// Says that everything asked for was sent, once it was.
    mutating func finishStreams(_ id: LinkID) {
        guard let link = links[id], link.outbox.isEmpty else { return }
        if link.asking?.isSending == true {
            links[id]?.asking?.sentAll()
            send(id, .syncEnd)
        }
        for _ in 0..<(links[id]?.answering?.sentAll() ?? 0) { send(id, .syncEnd) }
    }

    /// The peer has sent all: the end that answers says when it has too; the one that asks is
    /// through with the round.
    mutating func receiveEnd(_ id: LinkID, _ now: Instant) {
        if links[id]?.asking?.heardEnd() == false { return counters.add(.syncLate) }
        if links[id]?.answering?.heardEnd(limits: limits) == false {
            return refuse(id, .turnsTooMany)
        }
        finishStreams(id)
        finishRound(id, now)
    }

    /// Ends a round once what the peer sent in it has been judged.
    mutating func finishRound(_ id: LinkID, _ now: Instant) {
        guard links[id]?.credit.judging == 0, let next = links[id]?.asking?.judged(tuning) else {
            return
        }
        if next == .rest { counters.add(.syncFruitless) }
        if next != .wait { follow(id, next, now) }
    }
}
