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
            counters.add("commits_malformed")
            return close(id, "records are malformed: \(error)")
        }
        let ticket = IngestTicket(message: message, byteCount: bytes.count)
        // What is sent waits for credit; a peer that does not wait would fill this node's memory.
        let unjudged = (links[id]?.unjudged ?? 0) + bytes.count
        guard unjudged <= 2 * limits.bytesInFlight else {
            counters.add("commits_over_credit")
            return close(id, "the peer sends more than it has credit for")
        }
        links[id]?.unjudged = unjudged
        links[id]?.judging += 1
        links[id]?.lastProgress = now
        // What follows a message that waits for a certificate waits behind it.
        if links[id]?.parked.contains(where: { $0.author == message.author.node }) == true {
            links[id]?.parked.append((message.author.node, ticket, now))
        } else {
            emit(.ingest(id, ticket))
        }
    }

    mutating func ingested(
        _ id: LinkID, _ ticket: IngestTicket, _ outcome: IngestOutcome, _ now: Instant
    ) {
        if outcome.refusal == .authorUnknown, let link = links[id] {
            let author = ticket.message.author.node
            if !link.parked.contains(where: { $0.author == author }) {
                links[id]?.askedFor.insert(author)
                send(id, .wantCertificate(author))
            }
            links[id]?.parked.append((author, ticket, now))
            return
        }
        settle(id, ticket)
        defer { finishRound(id, now) }
        if outcome.isFork { emit(.note("an author wrote two things in one place", id)) }
        if let refusal = outcome.refusal {
            counters.add("refused_\(refusal.rawValue)")
            switch refusal {
            case .badSignature, .malformed: strike(id, "records that do not verify", now)
            case .policyUnknown, .unavailable: wantSync(id)
            default: break
            }
            return
        }
        if !outcome.hasGap { know(ticket.message) }
        if outcome.isDuplicate {
            counters.add("commits_duplicate")
            spare(id)
        }
        if outcome.hasGap {
            counters.add("commits_gap")
            wantSync(id)
        }
        if outcome.stored > 0 || outcome.hasAdvanced {
            links[id]?.hasMoved = true
            push(ticket.message, from: id, outcome.authorSite)
        }
        if !outcome.evidence.isEmpty, let link = links[id] {
            let room = max(0, limits.streams - link.streams.count)
            links[id]?.streams += outcome.evidence.prefix(room)
            pump(id)
        }
    }

    mutating func transmit(_ id: LinkID, _ message: CommitsMessage) {
        let bytes = message.encoded
        links[id]?.inFlight += bytes.count
        links[id]?.recordsSent += message.recordCount
        send(id, .commits(bytes))
    }

    /// Reads the next part of the first stream that waits, while the peer has room.
    mutating func pump(_ id: LinkID) {
        guard var link = links[id], !link.isReading else { return }
        guard !link.streams.isEmpty else { return finishStreams(id) }
        guard link.inFlight < limits.bytesInFlight else { return }
        let request = link.streams.removeFirst()
        guard link.peer.certificate.allows(.read, request.scope) else {
            links[id] = link
            counters.add("stream_not_granted")
            return pump(id)
        }
        link.isReading = true
        links[id] = link
        emit(.read(id, request))
    }

    mutating func chunk(_ id: LinkID, _ messages: [CommitsMessage], _ rest: StreamRequest?) {
        guard links[id] != nil else { return }
        links[id]?.isReading = false
        if let rest { links[id]?.streams.insert(rest, at: 0) }
        for message in messages { transmit(id, message) }
        pump(id)
    }

    /// A certificate came; only as many are verified as were asked for.
    mutating func receive(_ id: LinkID, certificate bytes: [UInt8]) {
        guard let link = links[id], link.certificatesDue < link.askedFor.count else {
            counters.add("certificate_unasked")
            return
        }
        links[id]?.certificatesDue += 1
        emit(.keep(id, bytes))
    }

    /// A certificate was judged; what waited for it is judged again.
    mutating func certificate(_ id: LinkID, _ card: Certificate?, _ now: Instant) {
        links[id]?.certificatesDue -= 1
        guard let card else {
            counters.add("certificate_refused")
            return strike(id, "certificates that do not verify", now)
        }
        guard let link = links[id] else { return }
        let node = card.node
        admit(card, now)
        links[id]?.askedFor.remove(node)
        let ready = link.parked.filter { $0.author == node }
        links[id]?.parked.removeAll { $0.author == node }
        for parked in ready { emit(.ingest(id, parked.ticket)) }
    }

    mutating func dropParked(_ id: LinkID, _ now: Instant) {
        guard let link = links[id], !link.parked.isEmpty else { return }
        let late = link.parked.filter { now.since($0.at) > tuning.parkedMax }
        if late.isEmpty { return }
        counters.add("refused_author_unknown", UInt64(late.count))
        for parked in late { links[id]?.askedFor.remove(parked.author) }
        links[id]?.parked.removeAll { now.since($0.at) > tuning.parkedMax }
        for parked in late { settle(id, parked.ticket) }
        finishRound(id, now)
    }

    /// A message was judged: the peer gets its room back.
    private mutating func settle(_ id: LinkID, _ ticket: IngestTicket) {
        guard let link = links[id] else { return }
        links[id]?.judging = max(0, link.judging - 1)
        links[id]?.unjudged = max(0, link.unjudged - ticket.byteCount)
        send(id, .credit(UInt32(clamping: ticket.byteCount)))
    }
}
