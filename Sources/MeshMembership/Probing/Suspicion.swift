// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// What speaks against one member, and since when it is a suspect for it.
struct Suspicion: Sendable {
    /// Who has had no answer from it, this node among them.
    private(set) var accusers: Set<ShortID> = []
    /// Whether it did not answer this node itself.
    private(set) var hasFailedHere = false
    /// Since when it is a suspect.
    private var began: Instant?
    /// When it was dialled, because no datagram can ask it.
    private var dialled: Instant?

    /// Notes an accuser.
    ///
    /// - Returns: whether that is news; more than bring a suspicion to its shortest never are.
    mutating func accuse(by accuser: ShortID, _ tuning: MembershipTuning) -> Bool {
        guard accusers.count <= tuning.accusers else { return false }
        return accusers.insert(accuser).inserted
    }

    /// Whether an accuser would be news.
    func isNews(_ accuser: ShortID, _ tuning: MembershipTuning) -> Bool {
        !accusers.contains(accuser) && accusers.count <= tuning.accusers
    }

    /// From now on the member is a suspect.
    mutating func begin(_ now: Instant) { began = now }

    /// It did not answer this node.
    mutating func fail() { hasFailedHere = true }

    /// It has answered: who accuses it is wrong.
    mutating func acquit() { accusers = [] }

    /// Whether nobody has refuted the suspicion for as long as it lasts.
    func hasRunOut(_ now: Instant, lasting: Duration) -> Bool {
        began.map { $0.advanced(by: lasting) <= now } ?? false
    }

    /// This process stood still for a while, which is no fault of the member's.
    mutating func shift(by gap: Duration) {
        began = began?.advanced(by: gap)
        dialled = dialled?.advanced(by: gap)
    }

    /// How long a suspicion lasts: the shorter the more accuse independently, logarithmically
    /// (Lifeguard, §IV-B).
    ///
    /// - Parameters:
    ///   - scale: the logarithm of the members.
    ///   - witnesses: how many others there are that could accuse.
    func timeout(scale: Double, witnesses: Int, _ tuning: MembershipTuning) -> Duration {
        let least = tuning.suspicion * max(1, scale)
        let most = least * tuning.suspicionFactor
        let wanted = min(tuning.accusers, witnesses)
        guard wanted > 0 else { return least }
        let shares = [0.0, 0.5, 0.79, 1.0]
        let others = max(0, accusers.count - 1)
        return most - (most - least) * shares[min(3, others * 3 / wanted)]
    }

    // MARK: Dialling

    /// What a dial to the suspect has led to so far.
    enum Dial { case none, underway, inVain }

    func dial(_ now: Instant, _ tuning: MembershipTuning) -> Dial {
        guard let dialled else { return .none }
        return now.since(dialled) > tuning.reachMax ? .inVain : .underway
    }

    /// The suspect is dialled.
    mutating func beginDial(_ now: Instant) { dialled = now }

    /// The dial has ended.
    ///
    /// - Returns: whether one was under way.
    mutating func endDial() -> Bool {
        defer { dialled = nil }
        return dialled != nil
    }
}
