// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication

/// The comparisons that this end begins on a link, since it dialled it.
///
/// A comparison is rounds that follow each other while they bring something. In a round this end
/// asks turn by turn until nothing is left to ask; then each end sends what the other lacks and
/// says when it has; the round is over once what came has been judged.
struct Asking {
    private enum Phase {
        /// No comparison goes on; the next begins then by itself.
        case resting(until: Instant)
        /// The index is read for this end's next turn.
        case reading
        /// A turn went out, and its answer has not come.
        case asked(SyncSession)
        /// Nothing is left to ask; what the peer lacks goes out.
        case sending
        /// All of that went out; the peer is still sending.
        case ending
        /// The peer has sent everything; part of it is not judged yet.
        case judging
    }

    /// What follows.
    enum Next: Equatable {
        /// This end waits: for the peer, the store or its own streams.
        case wait
        /// The next round begins.
        case begin
        /// A turn goes to the peer.
        case ask(SyncTurn)
        /// No comparison goes on any more.
        case rest
    }

    /// What a message of the peer is.
    enum Arrival {
        /// The answer to the turn that is out.
        case answer(to: SyncSession)
        /// An answer to what was given up.
        case late
        /// Nothing had asked for it.
        case unasked
    }

    private var phase: Phase
    private var rounds = 0
    /// Comparisons in a row that led to nothing.
    private var fruitless = 0
    private var hasMoved = false
    private var hasHeldLogs = false
    /// Answers and ends that are still to come for what was given up: each turn is answered once
    /// and in order, and so is each end.
    private var late = (answers: 0, ends: 0)
    private var lastProgress: Instant
    /// How many rounds were begun on this link.
    private(set) var begun = 0

    init(now: Instant) {
        phase = .resting(until: now)
        lastProgress = now
    }

    /// Whether no comparison goes on.
    var isResting: Bool { if case .resting = phase { true } else { false } }

    /// Whether what the peer lacks goes out, after which this end is to say so.
    var isSending: Bool { if case .sending = phase { true } else { false } }

    /// Whether a comparison is due by itself.
    func isDue(now: Instant) -> Bool {
        if case .resting(let until) = phase { until <= now } else { false }
    }

    /// Begins a round.
    mutating func begin(now: Instant) {
        precondition(isResting, "one comparison at a time")
        phase = .reading
        begun += 1
        hasMoved = false
        hasHeldLogs = false
        lastProgress = now
    }

    /// Something of the peer came, or room for it: it is at work.
    mutating func progressed(now: Instant) { lastProgress = now }

    /// Records came that were new here.
    mutating func moved() { hasMoved = true }

    /// An answer came; one to the turn that is out is to be compared.
    mutating func answered(now: Instant) -> Arrival {
        if late.answers > 0 {
            late.answers -= 1
            return .late
        }
        guard case .asked(let session) = phase else { return .unasked }
        phase = .reading
        lastProgress = now
        return .answer(to: session)
    }

    /// The index was read, and the session says what it leads to.
    ///
    /// - Parameter areAllEqual: whether all windows of scopes are equal, this one the last of them.
    mutating func compared(
        _ session: SyncSession, _ outcome: SyncSession.Outcome, areAllEqual: Bool
    ) -> Next {
        precondition(isReading, "what was compared was asked for")
        if !outcome.streams.isEmpty { hasMoved = true }
        if outcome.held > 0 { hasHeldLogs = true }
        if outcome.isInStep {
            rounds = 0
            fruitless = 0
            // The other windows follow at once.
            return areAllEqual ? .rest : over(.begin)
        }
        guard !outcome.reply.parts.isEmpty else {
            phase = .sending
            return .wait
        }
        phase = .asked(session)
        return .ask(outcome.reply)
    }

    /// The index could not be read.
    mutating func failed() -> Next {
        precondition(isReading, "what failed was asked for")
        return .rest
    }

    /// All that the peer lacks went out.
    mutating func sentAll() {
        precondition(isSending, "what was sent was to be sent")
        phase = .ending
    }

    /// The peer has sent everything that was asked for.
    ///
    /// - Returns: whether that was to be expected now.
    mutating func heardEnd() -> Bool {
        if late.ends > 0 {
            late.ends -= 1
            return false
        }
        guard case .ending = phase else { return false }
        phase = .judging
        return true
    }

    /// Everything that came has been judged.
    mutating func judged(_ tuning: EngineTuning) -> Next {
        guard case .judging = phase else { return .wait }
        rounds += 1
        if hasMoved, rounds < tuning.roundsMax { return over(.begin) }
        rounds = 0
        // Logs that are held have a back-off of their own: the others do not wait with them.
        fruitless = hasHeldLogs ? 0 : fruitless + 1
        return .rest
    }

    /// Gives up a comparison that the peer leaves unanswered.
    ///
    /// - Returns: whether one was given up.
    mutating func giveUp(after silence: Duration, now: Instant) -> Bool {
        guard now.since(lastProgress) > silence else { return false }
        switch phase {
        case .asked: late.answers += 1
        case .ending: late.ends += 1
        case .resting, .reading, .sending, .judging: return false
        }
        rounds = 0
        fruitless += 1
        return true
    }

    /// Rests: longer the more comparisons led to nothing.
    mutating func rest(
        _ tuning: EngineTuning, _ entropy: inout SeededGenerator, now: Instant
    ) {
        let pause = min(tuning.syncInterval * (1 << min(fruitless, 10)), tuning.syncIntervalMax)
        phase = .resting(until: now.advanced(by: entropy.jittered(pause, by: 0.3)))
    }

    private var isReading: Bool { if case .reading = phase { true } else { false } }

    private mutating func over(_ next: Next) -> Next {
        phase = .resting(until: lastProgress)
        return next
    }
}
