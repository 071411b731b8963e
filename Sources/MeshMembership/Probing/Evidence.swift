// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// By what this node takes a member to be there.
struct Evidence: Sendable {
    /// When this node last heard it, or of an answer of its.
    private(set) var heard: Instant?
    /// When it last proved that it is there: heard by this node itself, or by a new presence.
    private(set) var proved: Instant?
    /// When it was last asked for a new presence, because only others had heard it.
    private var challenged: Instant?

    /// Whether another is believed that the member answers it.
    enum Belief { case believed, challenge, refused }

    mutating func hear(_ now: Instant) { heard = now }

    mutating func prove(_ now: Instant) { proved = now }

    mutating func challenge(_ now: Instant) { challenged = now }

    /// This process stood still for a while, which is no fault of the member's.
    mutating func shift(by gap: Duration) {
        proved = proved?.advanced(by: gap)
        challenged = challenged?.advanced(by: gap)
    }

    /// Whether it was heard so short a time ago.
    func isRecent(_ now: Instant, within pause: Duration) -> Bool {
        heard.map { now.since($0) < pause } ?? false
    }

    /// Whether it gave any sign after an instant.
    func isLater(than instant: Instant) -> Bool {
        [heard, proved].compactMap(\.self).contains { $0 > instant }
    }

    /// One that lies could keep a dead gateway alive. So who is heard by others alone is asked, by
    /// way of one of them, for a presence that it alone can sign; if none comes, it is a suspect.
    func belief(_ now: Instant, _ tuning: MembershipTuning) -> Belief {
        guard let proved else { return .refused }
        guard now.since(proved) > tuning.relayTrust else { return .believed }
        guard let challenged, challenged > proved else { return .challenge }
        return now.since(challenged) <= tuning.proofPatience ? .believed : .refused
    }
}
