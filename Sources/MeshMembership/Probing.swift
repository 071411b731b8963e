// SPDX-License-Identifier: Apache-2.0

package import MeshCore

extension Membership {
    /// Time went by.
    package mutating func tick(_ now: Instant) {
        doubtSelf(now)
        chooseGateway()
        let unsettled = unsettled.sorted()
        // Questions that end come first: the next one to a suspect begins at once.
        for sequence in probes.keys.sorted() { advance(sequence, now) }
        for node in unsettled where table[node]?.state == .suspect { judge(node, now) }
        for sequence in relayed.keys.sorted() { relay(sequence, now) }
        for node in unsettled { retry(node, now) }
        if nextPeriod <= now {
            nextPeriod = now.advanced(by: entropy.jittered(patient(tuning.period), by: 0.1))
            if let target = nextTarget(now) { begin(.routine, target, now) }
        }
    }

    /// A process that was stopped for a while has missed answers: its own fault, not its peers'.
    private mutating func doubtSelf(_ now: Instant) {
        let gap = now.since(lastTick)
        lastTick = now
        guard gap > tuning.pauseMax else { return }
        count("paused")
        health = tuning.healthMax
        probes = [:]
        relayed = [:]
        for (node, member) in table {
            table[node]?.suspectedAt = member.suspectedAt?.advanced(by: gap)
            table[node]?.reachingSince = member.reachingSince?.advanced(by: gap)
            table[node]?.challengedAt = member.challengedAt?.advanced(by: gap)
            table[node]?.provedAt = member.provedAt?.advanced(by: gap)
        }
    }

    func patient(_ pause: Duration) -> Duration { pause * (1 + health) }

    mutating func adjustHealth(by points: Int) {
        health = min(max(0, health + points), tuning.healthMax)
    }

    func canProbe(_ member: Member) -> Bool {
        member.address != nil && keys.canSend(to: member.node)
    }

    /// Goes through the members of the site in a new random order each time (SWIM, §4.3), but for
    /// those just heard, who need not be asked, and for suspects, who are asked all the time.
    private mutating func nextTarget(_ now: Instant) -> NodeID? {
        for _ in 0..<2 {
            while let node = round.popLast() {
                guard let member = table[node], isNear(member), canProbe(member),
                    member.state == .alive
                else { continue }
                if let heard = member.lastHeard, now.since(heard) < tuning.period { continue }
                return node
            }
            round = table.values.filter { isNear($0) }.map(\.node).sorted()
            round.shuffle(using: &entropy)
        }
        return nil
    }

    mutating func begin(_ purpose: Probe.Purpose, _ target: NodeID, _ now: Instant) {
        guard let member = table[target] else { return }
        let isFast = purpose == .urgent
        for (sequence, running) in probes where running.target == target {
            // An answer that was on its way already would prove nothing: it is asked anew.
            guard isFast, running.purpose == .routine || running.purpose == .awaiting else {
                return
            }
            probes[sequence] = nil
        }
        let timeout = patient(isFast ? tuning.urgentTimeout : tuning.timeout)
        let reaches = canProbe(member)
        let sequence = freshSequence()
        probes[sequence] = Probe(
            target: target, purpose: purpose, began: now,
            askOthers: reaches ? now.advanced(by: timeout) : now,
            ends: now.advanced(by: timeout * 2))
        if reaches { send(ProbeMessage(.ping, sequence, target.short), to: target) }
        if !reaches { advance(sequence, now) }
    }

    private mutating func freshSequence() -> UInt32 {
        nextSequence &+= 1
        return nextSequence
    }

    private mutating func advance(_ sequence: UInt32, _ now: Instant) {
        guard var probe = probes[sequence] else { return }
        if probe.ends <= now {
            probes[sequence] = nil
            return failed(probe, now)
        }
        guard probe.askOthers <= now, !probe.hasAsked, probe.purpose != .awaiting else { return }
        probe.hasAsked = true
        var others = table.values.filter {
            isNear($0) && $0.state == .alive && $0.node != probe.target && canProbe($0)
        }.map(\.node).sorted()
        // In a large site only the suspect's own neighbours have keys for it.
        if isWide {
            let neighbours = overlay.neighbours(of: probe.target)
            others.removeAll { !neighbours.contains($0) }
        }
        others.shuffle(using: &entropy)
        probe.relays = Set(others.prefix(tuning.relays))
        probes[sequence] = probe
        // Where datagrams are blocked the link may still stand.
        if table[probe.target]?.isLinked == true { effects.append(.ask(probe.target)) }
        // The answer to a second ping may overtake the loss of the first.
        send(ProbeMessage(.ping, sequence, probe.target.short), to: probe.target)
        for node in others.prefix(tuning.relays) {
            send(ProbeMessage(.pingRequest, sequence, probe.target.short), to: node)
        }
    }

    private mutating func failed(_ probe: Probe, _ now: Instant) {
        guard probe.purpose != .awaiting, let member = table[probe.target] else { return }
        // Relays that do not even say no point at this node, not at the target (Lifeguard, §IV-A).
        if probe.purpose == .routine {
            adjustHealth(by: max(0, probe.relays.count - probe.nacks))
        }
        // To have heard it since is better evidence than lost datagrams; in doubt, ask again.
        let signs = [member.lastHeard, member.provedAt].compactMap(\.self)
        if let last = signs.max(), last > probe.began {
            if probe.purpose != .routine { begin(probe.purpose, probe.target, now) }
            return
        }
        guard member.state == .alive || member.state == .suspect else { return }
        table[probe.target]?.hasFailedHere = true
        accuse(probe.target, by: own.short, now)
        if hasRunOut(member, now) { set(probe.target, .away, now) }
    }

    private mutating func succeeded(_ sequence: UInt32, by sender: NodeID, _ now: Instant) {
        guard let probe = probes[sequence],
            sender == probe.target || probe.relays.contains(sender)
        else { return count("ack_unasked") }
        guard sender == probe.target || believes(sender, about: probe.target, now) else {
            return count("ack_unproved")
        }
        probes[sequence] = nil
        // Suspects are asked so often that their answers would outweigh all routine.
        if probe.purpose == .routine { adjustHealth(by: -1) }
        if sender == probe.target, !probe.hasAsked {
            table[probe.target]?.roundTrip = now.since(probe.began)
        }
        isThere(probe.target, now)
        if table[probe.target]?.state == .alive { table[probe.target]?.accusers = [] }
    }

    /// Whether another is believed that a member answered it.
    ///
    /// One that lies could keep a dead gateway alive. So who is heard by others alone is asked, by
    /// way of one of them, for a presence that it alone can sign; if none comes, it is a suspect.
    private mutating func believes(
        _ relay: NodeID, about node: NodeID, _ now: Instant
    ) -> Bool {
        guard let member = table[node], let proved = member.provedAt else { return false }
        guard now.since(proved) > tuning.relayTrust else { return true }
        if let challenged = member.challengedAt, challenged > proved {
            return now.since(challenged) <= tuning.proofPatience
        }
        table[node]?.challengedAt = now
        count("challenged")
        tell(.suspect(node.short, member.version, by: own.short), to: relay)
        return true
    }

    /// Tries a member that is away, ever more seldom and for ever.
    private mutating func retry(_ node: NodeID, _ now: Instant) {
        guard let member = table[node], member.state == .away, isNear(member),
            member.nextTry <= now, canProbe(member)
        else { return }
        let pause = min(
            tuning.awayPause * (1 << min(member.tries, 10)), tuning.awayPauseMax)
        table[node]?.tries = min(member.tries + 1, 10)
        table[node]?.nextTry = now.advanced(by: entropy.jittered(pause, by: 0.3))
        begin(.awaiting, node, now)
    }

    private mutating func relay(_ sequence: UInt32, _ now: Instant) {
        guard let asked = relayed[sequence] else { return }
        if !asked.hasNacked, asked.nackAt <= now {
            relayed[sequence]?.hasNacked = true
            send(ProbeMessage(.nack, asked.sequence, asked.target.short), to: asked.asker)
        }
        if asked.ends <= now { relayed[sequence] = nil }
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
        } catch { return count("datagram_\(error.rawValue)") }
        let message: ProbeMessage
        do throws(WireError) { message = try ProbeMessage(decoding: payload) } catch {
            return count("datagram_malformed")
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
            guard message.target == own.short else { return count("ping_astray") }
            send(ProbeMessage(.ack, message.sequence, message.target), to: sender)
        case .pingRequest: probe(for: sender, message, now)
        case .ack:
            if let asked = relayed[message.sequence], asked.target == sender {
                relayed[message.sequence] = nil
                send(ProbeMessage(.ack, asked.sequence, asked.target.short), to: asked.asker)
            } else {
                succeeded(message.sequence, by: sender, now)
            }
        case .nack:
            if probes[message.sequence]?.relays.contains(sender) == true {
                probes[message.sequence]?.nacks += 1
            }
        }
    }

    private mutating func probe(for asker: NodeID, _ message: ProbeMessage, _ now: Instant) {
        guard let target = named[message.target], let member = table[target], isNear(member),
            canProbe(member), relayed.count < tuning.relayedMax
        else {
            count("request_refused")
            return send(ProbeMessage(.nack, message.sequence, message.target), to: asker)
        }
        let sequence = freshSequence()
        relayed[sequence] = Relayed(
            asker: asker, sequence: message.sequence, target: target,
            nackAt: now.advanced(by: tuning.urgentTimeout),
            ends: now.advanced(by: tuning.period * 2))
        send(ProbeMessage(.ping, sequence, target.short), to: target)
    }

    /// Tells one member something, on its link or along with a ping.
    mutating func tell(_ rumour: Rumour, to node: NodeID) {
        if table[node]?.isLinked == true { return effects.append(.tell(node, [rumour])) }
        send(ProbeMessage(.ping, freshSequence(), node.short), to: node, telling: rumour)
    }

    mutating func send(_ message: ProbeMessage, to node: NodeID, telling rumour: Rumour? = nil) {
        guard let member = table[node], let address = member.address else { return }
        var message = message
        message.rumours = rumour.map { [$0] } ?? rumours(for: member)
        guard let datagram = keys.seal(message.encoded, to: node) else { return }
        effects.append(.datagram(address: address, datagram))
    }
}
