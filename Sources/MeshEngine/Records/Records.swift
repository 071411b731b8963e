// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshMembership
internal import MeshReplication
internal import MeshTrust

extension Engine {
    mutating func receive(_ id: LinkID, commits bytes: [UInt8], _ now: Instant) {
        let message: CommitsMessage
        do throws(WireError) { message = try CommitsMessage(decoding: bytes) } catch {
            counters.add(.commitsMalformed)
            return close(id, .malformed(.records, error))
        }
        let ticket = IngestTicket(message: message, byteCount: bytes.count)
        // What is sent waits for credit; a peer that does not wait would fill this node's memory.
        guard links[id]?.credit.received(bytes.count) == true else {
            counters.add(.commitsOverCredit)
            return close(id, .overCredit)
        }
        links[id]?.asking?.progressed(now: now)
        // What follows a message that waits, waits behind it.
        if let need = links[id]?.parked.holds(message) {
            links[id]?.parked.add(ticket, need, now: now)
        } else {
            emit(.ingest(id, ticket))
        }
    }

    mutating func ingested(
        _ id: LinkID, _ ticket: IngestTicket, _ outcome: IngestOutcome, _ now: Instant
    ) {
        let message = ticket.message
        let isNews = outcome.stored > 0 || outcome.hasAdvanced
        if isNews { links[id]?.asking?.moved() }
        // Part of a message may be taken though the rest has to wait.
        if outcome.hasAdvanced { advanced(message.log, to: outcome.frontier) }
        if isNews, message.scope == NamespacePolicy.scope { policiesCame() }
        if message.isRun { vouch(id, message, outcome) }
        if let through = outcome.provenTo { proven(message.log, to: through) }
        if park(id, ticket, outcome, now) { return }
        settle(id, ticket)
        defer { finishRound(id, now) }
        if outcome.isFork { emit(.note(.fork, id)) }
        if isNews, outcome.frontier >= message.through {
            push(message, from: id, outcome.authorSite)
        }
        if let dependency = outcome.waits {
            counters.add(.logWaits)
            hold(message.log, .waits(dependency), now)
        }
        if let refusal = outcome.refusal { refused(id, message, refusal, now) }
        guard outcome.refusal == nil, outcome.waits == nil else { return }
        if !outcome.hasGap { know(message) }
        if outcome.isDuplicate {
            counters.add(.commitsDuplicate)
            spare(id)
        }
        if outcome.hasGap {
            counters.add(.commitsGap)
            // A log that is held is asked for when its time comes.
            if !waits.holds(message.log, now: now) { wantSync(id) }
        }
        for message in outcome.outvoted { tellLoser(message, from: id) }
        if !outcome.evidence.isEmpty {
            queue(id, outcome.evidence)
            pump(id)
        }
    }

    /// Tells peers of a commit that lost its place. Each server keeps only so many of one author,
    /// so what it was told and has let go would be news again, without end: it tells no more of
    /// them than it keeps.
    private mutating func tellLoser(_ message: CommitsMessage, from id: LinkID) {
        let author = message.author.node
        losersOf.insert(author)
        guard losersTold[author, default: 0] < limits.losersTold else {
            return counters.add(.losersOverLimit)
        }
        losersTold[author, default: 0] += 1
        let encoded = message.encoded
        for (other, link) in links.sorted(by: { $0.key < $1.key }) {
            // Its author may have sent what took the place, and not know what it took it from.
            if link.peer.certificate.node == author {
                // One reading tells of all that are kept by then.
                guard !link.outbox.waits(.losers(of: author)) else { continue }
                queue(other, [.losers(of: author)])
                pump(other)
            } else if other != id, link.peer.certificate.allows(.read, message.scope),
                link.credit.hasRoom
            {
                transmit(other, message, encoded: encoded)
            }
        }
    }

    private mutating func refused(
        _ id: LinkID, _ message: CommitsMessage, _ refusal: Refusal, _ now: Instant
    ) {
        counters.add(refused: refusal)
        if refusal.blocksLog { return hold(message.log, .blocked(refusal), now) }
        switch refusal {
        case .badSignature, .malformed: strike(id, .records, now)
        case .unavailable: wantSync(id)
        default: break
        }
    }

    /// A message that came before what it needs waits for it a while.
    ///
    /// - Returns: whether it waits.
    private mutating func park(
        _ id: LinkID, _ ticket: IngestTicket, _ outcome: IngestOutcome, _ now: Instant
    ) -> Bool {
        guard let link = links[id] else { return false }
        let author = ticket.message.author.node
        if outcome.refusal == .authorUnknown {
            // It was shown on this link and is not to be found: to ask again would not end.
            if link.introductions.hasShown(author) {
                counters.add(.certificateInVain)
                return false
            }
            if !link.parked.waits(for: .certificate(author)) {
                links[id]?.introductions.want(author, atMost: Certificate.perNodeMax)
                send(id, .wantCertificate(author))
            }
            links[id]?.parked.add(ticket, .certificate(author), now: now)
            return true
        }
        guard let dependency = outcome.waits else { return false }
        // One that has been held before is not on its way: it is fetched when its time comes.
        guard waits.all[ticket.message.log] == nil else { return false }
        links[id]?.parked.add(ticket, .other(dependency), now: now)
        return true
    }

    /// A log has shown how far it goes, though it waits or what stood there is lost: what waited
    /// for that need not wait for more.
    private mutating func proven(_ log: LogName, to through: UInt64) {
        retry { need in
            if case .other(.place(log, let sequence)) = need { return sequence <= through }
            return false
        }
        let isFreed = waits.free { _, cause in
            if case .waits(.place(log, let sequence)) = cause { return sequence <= through }
            return false
        }
        if isFreed { for id in links.keys.sorted() { wantSync(id) } }
    }

    private mutating func hold(_ log: LogName, _ cause: LogWaits.Cause, _ now: Instant) {
        if !waits.hold(log, cause, now: now) { counters.add(.logsHeldOverLimit) }
    }

    /// A log is known further: what waited for that is tried, here and on every link.
    mutating func advanced(_ log: LogName, to frontier: UInt64) {
        let isFreed = waits.advanced(log, to: frontier)
        retry { need in
            if case .other(.place(log, let sequence)) = need { return sequence <= frontier }
            return false
        }
        if isFreed { for id in links.keys.sorted() { wantSync(id) } }
    }

    /// A namespace was defined, here or by another, or a lost definition was sent again.
    mutating func policiesCame() {
        let isFreed = waits.free { _, cause in
            if case .waits(.policy) = cause { return true }
            return false
        }
        retry { need in
            if case .other(.policy) = need { return true }
            return false
        }
        if isFreed { for id in links.keys.sorted() { wantSync(id) } }
    }

    private mutating func retry(_ isReady: (ParkedMessages.Need) -> Bool) {
        for id in links.keys.sorted() where links[id]?.parked.isEmpty == false {
            for ticket in links[id]?.parked.take(where: isReady) ?? [] { emit(.ingest(id, ticket)) }
        }
    }

    /// - Parameter encoded: the message's bytes, where it goes to several.
    mutating func transmit(
        _ id: LinkID, _ message: CommitsMessage, encoded: [UInt8]? = nil
    ) {
        let bytes = encoded ?? message.encoded
        links[id]?.credit.sent(bytes.count)
        links[id]?.recordsSent += message.recordCount
        send(id, .commits(bytes))
    }

    /// Has streams sent to a peer, after those that wait.
    mutating func queue(_ id: LinkID, _ streams: [StreamRequest]) {
        guard let lost = links[id]?.outbox.add(streams, limit: limits.streams), lost > 0 else {
            return
        }
        counters.add(.streamOverLimit, UInt64(lost))
    }

    /// Reads the next part of the first stream that waits, while the peer has room.
    mutating func pump(_ id: LinkID) {
        guard let link = links[id] else { return }
        let peer = link.peer.certificate
        guard link.outbox.isEmpty || link.credit.hasRoom else { return }
        let next = links[id]?.outbox.next { request in
            request.scope.map { !peer.allows(.read, $0) } ?? false
        }
        if let next, next.refused > 0 { counters.add(.streamNotGranted, UInt64(next.refused)) }
        if let stream = next?.stream { emit(.read(id, stream)) } else { finishStreams(id) }
    }

    mutating func chunk(_ id: LinkID, _ messages: [CommitsMessage], _ rest: StreamRequest?) {
        guard links[id] != nil else { return }
        links[id]?.outbox.read(rest: rest)
        for message in messages { transmit(id, message) }
        pump(id)
    }

    /// A certificate came; only as many are verified as were asked for.
    mutating func receive(_ id: LinkID, certificate bytes: [UInt8]) {
        guard links[id]?.introductions.came() == true else {
            return counters.add(.certificateUnasked)
        }
        emit(.keep(id, bytes))
    }

    /// A certificate was judged; what waited for it is judged again.
    mutating func certificate(_ id: LinkID, _ card: Certificate?, _ now: Instant) {
        links[id]?.introductions.judged(card?.node)
        guard let card else {
            counters.add(.certificateRefused)
            return strike(id, .certificates, now)
        }
        admit(card, now)
        guard links[id] != nil else { return }
        let node = card.node
        let ready = links[id]?.parked.take { $0 == .certificate(node) } ?? []
        for ticket in ready { emit(.ingest(id, ticket)) }
        // What one certificate did not allow another may: they add up.
        let isFreed = waits.free { log, cause in
            if case .blocked = cause { return log.author.node == node }
            return false
        }
        if isFreed { wantSync(id) }
    }

    mutating func dropParked(_ id: LinkID, _ now: Instant) {
        guard let link = links[id], !link.parked.isEmpty else { return }
        let late =
            links[id]?.parked.takeLate(
                now: now, certificates: tuning.parkedMax, others: tuning.parkedPlaceMax) ?? []
        if late.isEmpty { return }
        for parked in late {
            switch parked.need {
            case .certificate(let node):
                counters.add(refused: .authorUnknown)
                links[id]?.introductions.giveUp(node)
            case .other(let dependency):
                counters.add(.logWaits)
                hold(parked.log, .waits(dependency), now)
            }
            settle(id, parked.ticket)
        }
        finishRound(id, now)
    }

    /// A message was judged: the peer gets its room back.
    private mutating func settle(_ id: LinkID, _ ticket: IngestTicket) {
        guard links[id] != nil else { return }
        links[id]?.credit.judged(ticket.byteCount)
        send(id, .credit(UInt32(clamping: ticket.byteCount)))
    }
}
