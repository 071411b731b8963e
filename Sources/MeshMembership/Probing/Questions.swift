// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// The questions that this node has asked members of its site and that have no answer yet: at most
/// one a member.
struct Questions: Sendable {
    /// Why a member is asked.
    enum Purpose {
        /// Its turn has come.
        case routine
        /// Something speaks against it.
        case urgent
        /// It is away.
        case awaiting
    }

    /// A question to one member.
    struct Question: Sendable {
        let target: NodeID
        let purpose: Purpose
        let began: Instant
        /// When others are asked to try.
        fileprivate let othersAt: Instant
        fileprivate let ends: Instant
        fileprivate(set) var phase = Phase.direct
    }

    /// How far a question has come.
    enum Phase: Sendable {
        /// Only the member itself was asked.
        case direct
        /// Others were asked too, and so many of them have said that they got no answer either.
        case indirect(relays: Set<NodeID>, refusals: Int)
    }

    /// What is to be done about a question now.
    enum Progress { case wait, askOthers(Question), failed(Question) }

    private var open: [UInt32: Question] = [:]

    /// Their numbers, ascending.
    var numbers: [UInt32] { open.keys.sorted() }

    /// Whether a member may be asked: an urgent question takes the place of one that is not, since
    /// an answer that was on its way already would prove nothing.
    mutating func makeRoom(for target: NodeID, _ purpose: Purpose) -> Bool {
        guard let (number, running) = open.first(where: { $0.value.target == target }) else {
            return true
        }
        guard purpose == .urgent, running.purpose != .urgent else { return false }
        open[number] = nil
        return true
    }

    /// A member is asked.
    ///
    /// - Parameters:
    ///   - timeout: how long its own answer may take; that of others may take as long again.
    ///   - reaches: whether it can be asked by a datagram; otherwise others are asked at once.
    mutating func begin(
        _ number: UInt32, _ target: NodeID, _ purpose: Purpose, timeout: Duration, reaches: Bool,
        now: Instant
    ) {
        precondition(!open.values.contains { $0.target == target }, "one question a member")
        open[number] = Question(
            target: target, purpose: purpose, began: now,
            othersAt: reaches ? now.advanced(by: timeout) : now,
            ends: now.advanced(by: timeout * 2))
    }

    mutating func advance(_ number: UInt32, _ now: Instant) -> Progress {
        guard let question = open[number] else { return .wait }
        if question.ends <= now {
            open[number] = nil
            return .failed(question)
        }
        guard case .direct = question.phase, question.othersAt <= now,
            question.purpose != .awaiting
        else { return .wait }
        open[number]?.phase = .indirect(relays: [], refusals: 0)
        return .askOthers(question)
    }

    /// Others are asked to try.
    mutating func ask(_ relays: [NodeID], _ number: UInt32) {
        open[number]?.phase = .indirect(relays: Set(relays), refusals: 0)
    }

    /// Whom a question is about, if this node asked the sender about it.
    func target(of number: UInt32, answeredBy sender: NodeID) -> NodeID? {
        guard let question = open[number] else { return nil }
        return sender == question.target || question.relays.contains(sender)
            ? question.target : nil
    }

    /// A question has its answer.
    mutating func end(_ number: UInt32) -> Question? { open.removeValue(forKey: number) }

    /// One that was asked to try got no answer either.
    mutating func refuse(_ number: UInt32, by sender: NodeID) {
        guard case .indirect(let relays, let refusals)? = open[number]?.phase,
            relays.contains(sender)
        else { return }
        open[number]?.phase = .indirect(relays: relays, refusals: refusals + 1)
    }

    /// Nothing is asked about a member any more.
    mutating func forget(_ target: NodeID) { open = open.filter { $0.value.target != target } }

    /// Nothing is asked any more.
    mutating func forgetAll() { open = [:] }
}

extension Questions.Question {
    /// Who was asked to try.
    var relays: Set<NodeID> {
        if case .indirect(let relays, _) = phase { return relays }
        return []
    }

    /// How many of those did not even say that they got no answer: they point at this node, not at
    /// the target (Lifeguard, §IV-A).
    var silentRelays: Int {
        guard case .indirect(let relays, let refusals) = phase else { return 0 }
        return max(0, relays.count - refusals)
    }
}
