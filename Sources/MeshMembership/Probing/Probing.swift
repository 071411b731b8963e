// SPDX-License-Identifier: Apache-2.0

package import MeshCore

extension Membership {
    /// Time went by.
    package mutating func tick(_ now: Instant) {
        doubtSelf(now)
        chooseGateway()
        let unsettled = unsettled.sorted()
        // Questions that end come first: the next one to a suspect begins at once.
        for number in questions.numbers { advance(number, now) }
        for node in unsettled where table[node]?.state == .suspect { judge(node, now) }
        for request in requests.tick(now) { refuse(request) }
        for node in unsettled { retry(node, now) }
        if nextPeriod <= now {
            nextPeriod = now.advanced(by: entropy.jittered(health.patient(tuning.period), by: 0.1))
            if let target = nextTarget(now) { begin(.routine, target, now) }
            for stranger in strangers(now) { begin(.urgent, stranger, now) }
        }
    }

    /// Neighbours that are alive by hearsay alone: neither linked, nor heard, nor to be asked by a
    /// datagram. One that is gone for good would be taken for alive for ever, and for the gateway.
    private func strangers(_ now: Instant) -> [NodeID] {
        table.values.filter { member in
            isNear(member) && member.state == .alive && !member.isLinked && !canProbe(member)
                && isNeighbour(member.node) && now.since(member.since) > tuning.strangerMax
                && !member.evidence.isRecent(now, within: tuning.strangerMax)
        }.map(\.node).sorted()
    }

    /// A process that was stopped for a while has missed answers: its own fault, not its peers'.
    private mutating func doubtSelf(_ now: Instant) {
        let gap = now.since(lastTick)
        lastTick = now
        guard gap > tuning.pauseMax else { return }
        count(.paused)
        health.doubt()
        questions.forgetAll()
        requests.forgetAll()
        for node in table.keys {
            table[node]?.suspicion.shift(by: gap)
            table[node]?.evidence.shift(by: gap)
        }
    }

    func canProbe(_ member: Member) -> Bool {
        member.address != nil && keys.canSend(to: member.node)
    }

    /// Those just heard need not be asked, and suspects are asked all the time.
    private mutating func nextTarget(_ now: Instant) -> NodeID? {
        for _ in 0..<2 {
            while let node = turns.next() {
                if let member = table[node], isNear(member), canProbe(member),
                    member.state == .alive, !member.evidence.isRecent(now, within: tuning.period)
                {
                    return node
                }
            }
            turns.begin(table.values.filter { isNear($0) }.map(\.node).sorted(), &entropy)
        }
        return nil
    }

    mutating func begin(_ purpose: Questions.Purpose, _ target: NodeID, _ now: Instant) {
        guard let member = table[target], questions.makeRoom(for: target, purpose) else { return }
        let timeout = purpose == .urgent ? tuning.urgentTimeout : tuning.timeout
        let reaches = canProbe(member)
        let number = freshNumber()
        questions.begin(
            number, target, purpose, timeout: health.patient(timeout), reaches: reaches, now: now)
        if reaches {
            send(ProbeMessage(.ping, number, target.short), to: target)
        } else {
            advance(number, now)
        }
    }

    private mutating func freshNumber() -> UInt32 {
        lastNumber &+= 1
        return lastNumber
    }

    private mutating func advance(_ number: UInt32, _ now: Instant) {
        switch questions.advance(number, now) {
        case .wait: break
        case .failed(let question): failed(question, now)
        case .askOthers(let question): askOthers(number, question)
        }
    }

    private mutating func askOthers(_ number: UInt32, _ question: Questions.Question) {
        let target = question.target
        var others = table.values.filter {
            isNear($0) && $0.state == .alive && $0.node != target && canProbe($0)
        }.map(\.node).sorted()
        // In a large site only the suspect's own neighbours have keys for it.
        if isWide {
            let neighbours = overlay.neighbours(of: target)
            others.removeAll { !neighbours.contains($0) }
        }
        others.shuffle(using: &entropy)
        let relays = Array(others.prefix(tuning.relays))
        questions.ask(relays, number)
        // Where datagrams are blocked the link may still stand.
        if table[target]?.isLinked == true { effects.append(.ask(target)) }
        // The answer to a second ping may overtake the loss of the first.
        send(ProbeMessage(.ping, number, target.short), to: target)
        for node in relays { send(ProbeMessage(.pingRequest, number, target.short), to: node) }
    }

    private mutating func failed(_ question: Questions.Question, _ now: Instant) {
        let target = question.target
        guard question.purpose != .awaiting, let member = table[target] else { return }
        if question.purpose == .routine { health.adjust(by: question.silentRelays) }
        // To have heard it since is better evidence than lost datagrams; in doubt, ask again.
        if member.evidence.isLater(than: question.began) {
            if question.purpose != .routine { begin(question.purpose, target, now) }
            return
        }
        guard member.state == .alive || member.state == .suspect else { return }
        table[target]?.suspicion.fail()
        accuse(target, by: own.short, now)
        if hasRunOut(member, now) { set(target, .away, now) }
    }

    private mutating func succeeded(_ number: UInt32, by sender: NodeID, _ now: Instant) {
        guard let target = questions.target(of: number, answeredBy: sender) else {
            return count(.ackUnasked)
        }
        guard sender == target || believes(sender, about: target, now) else {
            return count(.ackUnproved)
        }
        guard let question = questions.end(number) else { return }
        // Suspects are asked so often that their answers would outweigh all routine.
        if question.purpose == .routine { health.adjust(by: -1) }
        if sender == target, case .direct = question.phase {
            table[target]?.roundTrip = now.since(question.began)
        }
        isThere(target, now)
        if table[target]?.state == .alive { table[target]?.suspicion.acquit() }
    }

    /// Whether another is believed that a member answered it.
    private mutating func believes(
        _ relay: NodeID, about node: NodeID, _ now: Instant
    ) -> Bool {
        guard let member = table[node] else { return false }
        switch member.evidence.belief(now, tuning) {
        case .believed: return true
        case .refused: return false
        case .challenge:
            table[node]?.evidence.challenge(now)
            count(.challenged)
            tell(.suspect(node.short, member.version, by: own.short), to: relay)
            return true
        }
    }

    /// Tries a member that is away.
    private mutating func retry(_ node: NodeID, _ now: Instant) {
        guard let member = table[node], member.state == .away, isNear(member),
            member.retry.isDue(now), canProbe(member)
        else { return }
        table[node]?.retry.advance(now, tuning, &entropy)
        begin(.awaiting, node, now)
    }

    private mutating func refuse(_ request: Requests.Request) {
        send(ProbeMessage(.nack, request.number, request.target.short), to: request.asker)
    }
}

// MARK: Datagrams

extension Membership {
    /// A datagram came.
    ///
    /// - Parameter host: its source, an address without the port.
    package mutating func receive(_ datagram: [UInt8], from host: String, now: Instant) {
        let sender: NodeID
        let payload: [UInt8]
        do throws(DatagramKeys.Refusal) {
            (sender, payload) = try keys.open(datagram)
        } catch { return count(MembershipEvent(error)) }
        let message: ProbeMessage
        do throws(WireError) { message = try ProbeMessage(decoding: payload) } catch {
            return count(.datagramMalformed)
        }
        if let before = table[sender]?.host, before != host, table[sender]?.isLinked == true {
            // It has another address now: its link may hang on the old one.
            effects.append(.ask(sender))
        }
        table[sender]?.host = host
        heard(sender, now: now)
        for rumour in message.rumours { hear(rumour, from: sender, now) }
        switch message.kind {
        case .ping:
            guard message.target == own.short else { return count(.pingAstray) }
            send(ProbeMessage(.ack, message.sequence, message.target), to: sender)
        case .pingRequest: probe(for: sender, message, now)
        case .ack:
            if let request = requests.answer(message.sequence, by: sender) {
                let answer = ProbeMessage(.ack, request.number, request.target.short)
                send(answer, to: request.asker)
            } else {
                succeeded(message.sequence, by: sender, now)
            }
        case .nack: questions.refuse(message.sequence, by: sender)
        }
    }

    private mutating func probe(for asker: NodeID, _ message: ProbeMessage, _ now: Instant) {
        guard let target = named[message.target], let member = table[target], isNear(member),
            canProbe(member), !requests.isFull
        else {
            count(.requestRefused)
            return send(ProbeMessage(.nack, message.sequence, message.target), to: asker)
        }
        let number = freshNumber()
        requests.begin(number, target, for: asker, under: message.sequence, tuning, now: now)
        send(ProbeMessage(.ping, number, target.short), to: target)
    }

    /// Tells one member something, on its link or along with a ping.
    mutating func tell(_ rumour: Rumour, to node: NodeID) {
        if table[node]?.isLinked == true { return effects.append(.tell(node, [rumour])) }
        send(ProbeMessage(.ping, freshNumber(), node.short), to: node, telling: rumour)
    }

    mutating func send(_ message: ProbeMessage, to node: NodeID, telling rumour: Rumour? = nil) {
        guard let member = table[node], let address = member.address else { return }
        var message = message
        message.rumours = rumour.map { [$0] } ?? rumours(for: member)
        guard let datagram = keys.seal(message.encoded, to: node) else { return }
        effects.append(.datagram(address: address, datagram))
    }
}
