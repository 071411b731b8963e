// SPDX-License-Identifier: Apache-2.0

internal import MeshReplication

/// The comparisons that the peer begins on a link, since it dialled it: this end answers each turn
/// once, in order, and each end once what it was asked for is sent.
struct Answering {
    private enum Phase {
        /// No comparison goes on.
        case resting
        /// The index is read for an answer; turns that came meanwhile wait.
        case reading(waiting: [SyncTurn])
        /// An answer went out, and another turn or an end is to come.
        case answered(SyncSession)
    }

    /// What a turn is.
    enum Arrival {
        /// The first of a comparison.
        case begins(SyncTurn)
        /// The next of one.
        case goesOn(SyncSession, SyncTurn)
        /// It waits for the turn before it.
        case waits
        /// The peer breaks the protocol.
        case refused(CloseReason)
    }

    private var phase = Phase.resting
    /// Ends of the peer that are not answered yet.
    private var endsDue = 0

    /// Whether no comparison goes on.
    var isResting: Bool { if case .resting = phase { true } else { false } }

    /// A turn came.
    mutating func receive(_ turn: SyncTurn, limits: EngineLimits) -> Arrival {
        switch phase {
        case .reading(var waiting):
            guard waiting.count < limits.turnsWaiting else { return .refused(.turnsTooMany) }
            waiting.append(turn)
            phase = .reading(waiting: waiting)
            return .waits
        case .resting:
            guard turn.isFirst else { return .refused(.turnTooEarly) }
            phase = .reading(waiting: [])
            return .begins(turn)
        case .answered(let session):
            phase = .reading(waiting: [])
            return turn.isFirst ? .begins(turn) : .goesOn(session, turn)
        }
    }

    /// An answer is ready.
    ///
    /// - Parameter session: goes on with the next turn; nil if none is to come.
    /// - Returns: the turn that waited for it; nil if none did.
    mutating func answered(_ session: SyncSession?, limits: EngineLimits) -> Arrival? {
        guard case .reading(let waiting) = phase else {
            preconditionFailure("what was compared was asked for")
        }
        phase = session.map(Phase.answered) ?? .resting
        guard let first = waiting.first else { return nil }
        let arrival = receive(first, limits: limits)
        if case .reading = phase { phase = .reading(waiting: Array(waiting.dropFirst())) }
        return arrival
    }

    /// The peer has sent everything, and wants to hear when this end has.
    ///
    /// - Returns: false if as many ends are due already as turns may wait.
    mutating func heardEnd(limits: EngineLimits) -> Bool {
        if case .answered = phase { phase = .resting }
        guard endsDue < limits.turnsWaiting else { return false }
        endsDue += 1
        return true
    }

    /// All that the peer asked for went out.
    ///
    /// - Returns: how many ends are to be said.
    mutating func sentAll() -> Int {
        defer { endsDue = 0 }
        return endsDue
    }
}
