// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshReplication
internal import MeshTrust

extension Engine {
    /// Begins a comparison; only the end that dialled does.
    mutating func beginSync(_ id: LinkID, _ now: Instant) {
        guard var link = links[id], link.isInitiator, link.initiated == nil, !link.isComparing
        else {
            return
        }
        link.comparisons += 1
        let session = session(with: link, .initiator, now)
        link.initiated = session
        link.isComparing = true
        link.isSyncWanted = false
        link.askedForSync = now
        link.hasMoved = false
        link.heldLogs = 0
        link.lastProgress = now
        link.isEndHeard = false
        links[id] = link
        emit(.compare(id, session, nil))
    }

    /// Gives up a comparison that the peer has left unanswered.
    private mutating func abandon(_ id: LinkID, _ now: Instant) {
        // Every turn is answered once and in order, however late: unless what is due is an end.
        if links[id]?.isTurnOut == true { links[id]?.answersLate += 1 }
        links[id]?.isTurnOut = false
        links[id]?.initiated = nil
        links[id]?.owesEnd = false
        links[id]?.rounds = 0
        links[id]?.fruitless += 1
        counters.add("sync_unanswered")
        postpone(id, now)
    }

    private func session(
        with link: LinkState, _ role: SyncSession.Role, _ now: Instant
    ) -> SyncSession {
        let (own, peer) = (own, link.peer.certificate)
        let held = waits.held(now: now)
        return SyncSession(
            role: role, salt: link.peer.salt, round: link.comparisons,
            isHeld: { held.contains($0) },
            mayShare: { own.allows(.read, $0) && peer.allows(.read, $0) })
    }

    /// Something is missing here: a comparison is wanted soon, but not one for each of many
    /// messages.
    mutating func wantSync(_ id: LinkID) { links[id]?.isSyncWanted = true }

    /// Begins a comparison that is due or wanted, or asks the peer to.
    mutating func syncIfDue(_ id: LinkID, _ now: Instant) {
        guard let link = links[id] else { return }
        if link.initiated != nil, !link.isComparing, !link.isStreaming, link.credit.judging == 0,
            now.since(link.lastProgress) > tuning.syncSilenceMax
        {
            return abandon(id, now)
        }
        let isRested = link.askedForSync.map { now.since($0) >= tuning.syncPause } ?? true
        let isWanted = link.isSyncWanted && isRested
        if link.isInitiator {
            if isWanted || link.nextSync <= now { beginSync(id, now) }
        } else if isWanted {
            links[id]?.isSyncWanted = false
            links[id]?.askedForSync = now
            send(id, .syncPlease)
        }
    }

    mutating func receive(_ id: LinkID, turn bytes: [UInt8], isAnswer: Bool, _ now: Instant) {
        guard var link = links[id] else { return }
        if isAnswer, link.answersLate > 0 {
            links[id]?.answersLate -= 1
            return counters.add("sync_late")
        }
        guard isAnswer == link.isInitiator, !isAnswer || link.initiated != nil else {
            counters.add("sync_unexpected")
            return close(id, .turnUnasked)
        }
        let turn: SyncTurn
        do throws(WireError) { turn = try SyncTurn(decoding: bytes) } catch {
            counters.add("sync_malformed")
            return close(id, .malformed(.turn, error))
        }
        guard link.waiting.count < limits.turnsWaiting else {
            counters.add("sync_over_limit")
            return close(id, .turnsTooMany)
        }
        if isAnswer { link.isTurnOut = false }
        link.waiting.append((turn, isAnswer))
        link.lastProgress = now
        links[id] = link
        compareNext(id, now)
    }

    private mutating func compareNext(_ id: LinkID, _ now: Instant) {
        guard var link = links[id], !link.isComparing, !link.waiting.isEmpty else { return }
        let (turn, isAnswer) = link.waiting.removeFirst()
        link.isComparing = true
        if !isAnswer, case .summary? = turn.parts.first {
            link.answering = session(with: link, .responder, now)
        }
        let current = isAnswer ? link.initiated : link.answering
        links[id] = link
        guard let current else {
            counters.add("sync_unexpected")
            return close(id, .turnTooEarly)
        }
        emit(.compare(id, current, turn))
    }

    mutating func compared(
        _ id: LinkID, _ session: SyncSession, _ result: ComparisonResult, _ now: Instant
    ) {
        guard var link = links[id] else { return }
        link.isComparing = false
        switch result {
        case .failed:
            counters.add("sync_failed")
            links[id] = link
            if session.role == .responder { return send(id, .syncAnswer([])) }
            links[id]?.initiated = nil
            return postpone(id, now)
        case .refused(let refusal):
            counters.add("sync_refused")
            links[id] = link
            link.fruitless += 4
            return close(id, .sync(refusal))
        case .outcome(let outcome):
            note(outcome, session.role, &link, now)
            links[id] = link
            switch session.role {
            case .responder:
                links[id]?.answering = outcome.isInStep ? nil : session
                send(id, .syncAnswer(outcome.reply.encoded))
            case .initiator: proceed(id, session, outcome, now)
            }
        }
        pump(id)
        compareNext(id, now)
    }

    private mutating func note(
        _ outcome: SyncSession.Outcome, _ role: SyncSession.Role, _ link: inout LinkState,
        _ now: Instant
    ) {
        if outcome.isInStep {
            link.windowsInStep += 1
            if link.windowsInStep >= outcome.windows {
                link.windowsInStep = 0
                exchanges[link.node]?.inStep = now
                exchanges[link.node]?.lacked = 0
                exchanges[link.node]?.since = 0
            }
            if role == .responder { link.answering = nil }
        } else if !outcome.reply.parts.isEmpty {
            link.windowsInStep = 0
            if outcome.theyLack > 0 {
                exchanges[link.node]?.lacked = outcome.theyLack
                exchanges[link.node]?.since = 0
            }
        }
        if !outcome.streams.isEmpty { link.hasMoved = true }
        link.heldLogs += outcome.held
        let room = max(0, limits.streams - link.streams.count)
        if outcome.streams.count > room {
            counters.add("stream_over_limit", UInt64(outcome.streams.count - room))
        }
        link.streams += outcome.streams.prefix(room)
    }

    private mutating func proceed(
        _ id: LinkID, _ session: SyncSession, _ outcome: SyncSession.Outcome, _ now: Instant
    ) {
        links[id]?.initiated = session
        if outcome.isInStep {
            links[id]?.initiated = nil
            links[id]?.rounds = 0
            links[id]?.fruitless = 0
            // The other windows follow at once.
            if links[id]?.windowsInStep != 0 { return beginSync(id, now) }
            postpone(id, now)
        } else if outcome.reply.parts.isEmpty {
            if links[id]?.owesEnd == false {
                links[id]?.owesEnd = true
                finishStreams(id)
            }
        } else {
            links[id]?.isTurnOut = true
            send(id, .syncTurn(outcome.reply.encoded))
        }
    }

    /// Says that everything asked for was sent, once it was.
    mutating func finishStreams(_ id: LinkID) {
        guard let link = links[id], link.owesEnd, !link.isStreaming else { return }
        links[id]?.owesEnd = false
        send(id, .syncEnd)
    }

    /// The responder answers an end with its own; at the initiator the round is over.
    mutating func receiveEnd(_ id: LinkID, _ now: Instant) {
        guard let link = links[id] else { return }
        guard link.isInitiator else {
            links[id]?.answering = nil
            links[id]?.owesEnd = true
            return finishStreams(id)
        }
        guard link.initiated != nil, !link.isComparing else { return counters.add("sync_late") }
        links[id]?.isEndHeard = true
        finishRound(id, now)
    }

    /// Ends a round once what the peer sent in it has been judged.
    mutating func finishRound(_ id: LinkID, _ now: Instant) {
        guard let link = links[id], link.isEndHeard, link.credit.judging == 0 else { return }
        links[id]?.isEndHeard = false
        links[id]?.initiated = nil
        links[id]?.rounds += 1
        if link.hasMoved, link.rounds + 1 < tuning.roundsMax {
            beginSync(id, now)
        } else {
            links[id]?.rounds = 0
            // Logs that are held have a back-off of their own: the others do not wait with them.
            if link.heldLogs > 0 { links[id]?.fruitless = 0 } else { links[id]?.fruitless += 1 }
            counters.add("sync_fruitless")
            postpone(id, now)
        }
    }

    /// The next comparison comes after the interval, and later the more of them led to nothing.
    private mutating func postpone(_ id: LinkID, _ now: Instant) {
        guard let link = links[id] else { return }
        let doublings = min(link.fruitless, 10)
        let pause = min(tuning.syncInterval * (1 << doublings), tuning.syncIntervalMax)
        links[id]?.nextSync = now.advanced(by: entropy.jittered(pause, by: 0.3))
    }
}
