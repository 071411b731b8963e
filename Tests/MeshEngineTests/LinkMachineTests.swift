// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshEngine
import MeshReplication
import Testing

private let start = Instant(nanoseconds: 0)
/// The macro of expectations calls nothing that mutates by itself.
private func value(_ result: Bool) -> Bool { result }
private let tuning = EngineTuning()
private let summary = SyncTurn([.summary([UInt8](repeating: 0, count: 16), .all)])

private func session(_ role: SyncSession.Role) -> SyncSession {
    SyncSession(role: role, salt: Salt([1]), mayShare: { _ in true })
}

private func outcome(
    _ reply: SyncTurn = SyncTurn(), isInStep: Bool = false, held: Int = 0
) -> SyncSession.Outcome {
    var outcome = SyncSession.Outcome()
    outcome.reply = reply
    outcome.isInStep = isInStep
    outcome.held = held
    return outcome
}

@Suite struct `The end that asks` {
    private var asking = Asking(now: start)
    private var entropy = SeededGenerator(seed: 1)

    /// Brings a round to where the peer's end is awaited.
    private mutating func sendAll() {
        asking.begin(now: start)
        #expect(
            asking.compared(session(.initiator), outcome(), areAllEqual: false) == .wait)
        asking.sentAll()
    }

    @Test mutating func `asks again with what an answer leads to, and rests where all is equal`() {
        asking.begin(now: start)
        let turn = asking.compared(session(.initiator), outcome(summary), areAllEqual: false)
        #expect(turn == .ask(summary))
        guard case .answer = asking.answered(now: start) else {
            Issue.record("the answer was asked for")
            return
        }
        let end = asking.compared(
            session(.initiator), outcome(isInStep: true), areAllEqual: true)
        #expect(end == .rest)
        asking.rest(tuning, &entropy, now: start)
        #expect(asking.isResting)
    }

    @Test mutating func `begins with the other windows at once where one is equal`() {
        asking.begin(now: start)
        let next = asking.compared(
            session(.initiator), outcome(isInStep: true), areAllEqual: false)
        #expect(next == .begin)
        asking.begin(now: start)
        #expect(asking.begun == 2)
    }

    @Test mutating func `takes no answer that it did not ask for, in any phase`() {
        func isUnasked() -> Bool {
            var copy = asking
            if case .unasked = copy.answered(now: start) { return true }
            return false
        }
        #expect(isUnasked())
        asking.begin(now: start)
        #expect(isUnasked())
        _ = asking.compared(session(.initiator), outcome(), areAllEqual: false)
        #expect(isUnasked())
        asking.sentAll()
        #expect(isUnasked())
    }

    @Test mutating func `takes an end only after its own, and once`() {
        #expect(!value(asking.heardEnd()))
        sendAll()
        #expect(value(asking.heardEnd()))
        #expect(!value(asking.heardEnd()))
    }

    @Test mutating func `goes on round by round while something comes, with a limit`() {
        var rounds = 0
        sendAll()
        asking.moved()
        #expect(value(asking.heardEnd()))
        while asking.judged(tuning) == .begin {
            rounds += 1
            sendAll()
            asking.moved()
            #expect(value(asking.heardEnd()))
        }
        #expect(rounds == tuning.roundsMax - 1)
    }

    @Test
    mutating func `rests ever longer while comparisons lead to nothing, and a limit ends that`() {
        var pauses: [Duration] = []
        for _ in 0..<12 {
            sendAll()
            #expect(value(asking.heardEnd()))
            #expect(asking.judged(tuning) == .rest)
            asking.rest(tuning, &entropy, now: start)
            var now = start
            while !asking.isDue(now: now) { now = now.advanced(by: .seconds(1)) }
            pauses.append(now.since(start))
        }
        #expect(pauses[0] <= tuning.syncInterval * 3)
        #expect(pauses[4] > pauses[0] * 4)
        #expect(pauses.allSatisfy { $0 <= tuning.syncIntervalMax * 2 })
    }

    @Test mutating func `does not rest longer for logs that are held`() {
        for _ in 0..<6 {
            asking.begin(now: start)
            _ = asking.compared(session(.initiator), outcome(held: 1), areAllEqual: false)
            asking.sentAll()
            #expect(value(asking.heardEnd()))
            #expect(asking.judged(tuning) == .rest)
            asking.rest(tuning, &entropy, now: start)
        }
        #expect(asking.isDue(now: start.advanced(by: tuning.syncInterval * 2)))
    }

    @Test mutating func `gives up what stays unanswered, and knows what comes late`() {
        let late = start.advanced(by: .seconds(31))
        asking.begin(now: start)
        #expect(!value(asking.giveUp(after: .seconds(30), now: late)), "the store is not the peer")
        _ = asking.compared(session(.initiator), outcome(summary), areAllEqual: false)
        #expect(value(asking.giveUp(after: .seconds(30), now: late)))
        asking.rest(tuning, &entropy, now: late)
        asking.begin(now: late)
        _ = asking.compared(session(.initiator), outcome(summary), areAllEqual: false)
        guard case .late = asking.answered(now: late) else {
            Issue.record("the first answer belongs to what was given up")
            return
        }
        guard case .answer = asking.answered(now: late) else {
            Issue.record("the second belongs to the turn that is out")
            return
        }
    }

    @Test mutating func `gives up an end that does not come, and takes its like for the next`() {
        let late = start.advanced(by: .seconds(31))
        sendAll()
        #expect(value(asking.giveUp(after: .seconds(30), now: late)))
        asking.rest(tuning, &entropy, now: late)
        sendAll()
        #expect(!value(asking.heardEnd()), "the end of what was given up")
        #expect(value(asking.heardEnd()))
    }
}

@Suite struct `The end that answers` {
    private var answering = Answering()
    private let limits = EngineLimits()

    @Test mutating func `wants a summary first`() {
        guard case .refused(.turnTooEarly) = answering.receive(SyncTurn(), limits: limits) else {
            Issue.record("nothing had begun")
            return
        }
        guard case .begins = answering.receive(summary, limits: limits) else {
            Issue.record("a summary begins")
            return
        }
    }

    @Test mutating func `answers turns one after the other, as many as its limit`() {
        _ = answering.receive(summary, limits: limits)
        for _ in 0..<limits.turnsWaiting {
            guard case .waits = answering.receive(SyncTurn(), limits: limits) else {
                Issue.record("there is room")
                return
            }
        }
        guard case .refused(.turnsTooMany) = answering.receive(SyncTurn(), limits: limits) else {
            Issue.record("there is no more room")
            return
        }
        for _ in 0..<limits.turnsWaiting {
            guard case .goesOn = answering.answered(session(.responder), limits: limits) else {
                Issue.record("the next turn had waited")
                return
            }
        }
        let last = answering.answered(nil, limits: limits)
        #expect(last.map { _ in false } ?? true)
        #expect(answering.isResting)
    }

    @Test mutating func `refuses what waited for a session that ended`() {
        _ = answering.receive(summary, limits: limits)
        _ = answering.receive(SyncTurn(), limits: limits)
        guard case .refused(.turnTooEarly)? = answering.answered(nil, limits: limits) else {
            Issue.record("the session had ended")
            return
        }
    }

    @Test mutating func `says as many ends as it heard, and not more than its limit`() {
        for _ in 0..<limits.turnsWaiting { #expect(value(answering.heardEnd(limits: limits))) }
        #expect(!value(answering.heardEnd(limits: limits)))
        #expect(answering.sentAll() == limits.turnsWaiting)
        #expect(answering.sentAll() == 0)
    }
}

@Suite struct `An outbox` {
    private let author = Author(node: .zero, life: Life(1))
    private func stream(_ scope: String, after: UInt64 = 0) -> StreamRequest {
        .tail(Scope(scope)!, author, after: after)
    }

    private func next(_ outbox: inout Outbox) -> Scope? {
        outbox.next { _ in false }.stream?.scope
    }

    @Test func `reads one stream at a time, to its end, before the next`() {
        var outbox = Outbox()
        let lost = outbox.add([stream("a@all"), stream("b@all")], limit: 9)
        #expect(lost == 0)
        let first = next(&outbox)
        #expect(first == Scope("a@all"))
        let none = next(&outbox)
        #expect(none == nil)
        outbox.read(rest: stream("a@all", after: 5))
        let again = next(&outbox)
        #expect(again == Scope("a@all"))
        outbox.read(rest: nil)
        let second = next(&outbox)
        #expect(second == Scope("b@all"))
        outbox.read(rest: nil)
        #expect(outbox.isEmpty)
    }

    @Test func `takes what it has room for, and passes over what the peer may not have`() {
        var outbox = Outbox()
        let many = ["a@all", "b@all", "c@all", "d@all"].map { stream($0) }
        let lost = [outbox.add(many, limit: 3), outbox.add(many, limit: 3)]
        #expect(lost == [1, 4])
        let next = outbox.next { $0.scope != Scope("c@all") }
        #expect(next.stream?.scope == Scope("c@all"))
        #expect(next.refused == 2)
        #expect(outbox.count == 0)
    }
}

@Suite struct `A branch` {
    private let log = LogName(scope: Scope("a@all")!, author: Author(node: .zero, life: Life(1)))
    private let late = start.advanced(by: .seconds(1))

    @Test func `is grafted for an announced commit that does not come, and for no other`() {
        var branch = Branch()
        var heard = HeardLogs(limit: 4)
        #expect(value(branch.prune()))
        #expect(!value(branch.prune()))
        #expect(value(branch.promise(log, through: 5, due: late, limit: 1)))
        #expect(!value(branch.promise(log, through: 6, due: late, limit: 1)))
        #expect(!value(branch.graft(heard, now: start)))
        #expect(value(branch.graft(heard, now: late)))
        #expect(value(branch.prune()), "commits come again, and may be spared again")
        #expect(value(branch.promise(log, through: 5, due: late, limit: 1)))
        #expect(value(heard.note(log, through: 5)))
        #expect(!value(branch.graft(heard, now: late)))
    }

    @Test func `sends what the peer asks for`() {
        var branch = Branch()
        #expect(branch.outgoing == .eager)
        branch.pruned()
        #expect(branch.outgoing == .lazy)
        branch.grafted()
        #expect(branch.outgoing == .eager)
    }

    @Test func `forgets all logs rather than remember one beyond its limit`() {
        var heard = HeardLogs(limit: 1)
        let other = LogName(scope: Scope("b@all")!, author: log.author)
        #expect(value(heard.note(log, through: 5)))
        #expect(value(heard.note(log, through: 3)))
        #expect(heard.has(log, through: 5))
        #expect(!value(heard.note(other, through: 1)))
        #expect(!heard.has(log, through: 1))
    }
}
