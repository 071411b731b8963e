// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Whether the other end of a link still answers, how fast, and what its clock shows.
struct Liveness {
    /// When anything came last.
    private(set) var lastHeard: Instant
    /// The last round trip; nil before the first.
    private(set) var roundTrip: Duration?
    /// How far the peer's clock is before this host's; nil if it has not told.
    private(set) var clockOffset: Duration?
    private var nextPing: Instant
    /// When a round trip was last measured, or begun to be.
    private var lastPing: Instant?
    private var unanswered: (number: UInt64, at: Instant)?

    init(now: Instant) {
        lastHeard = now
        nextPing = now
    }

    /// Anything came from the peer.
    mutating func heard(now: Instant) { lastHeard = now }

    /// Something makes it likely that the peer is gone: it is asked at once.
    mutating func hurry(now: Instant) {
        nextPing = now
        lastPing = nil
    }

    /// Why the link should end; nil if it should not.
    ///
    /// - Parameter isNear: whether the peer is of the same site. Neighbours are probed by datagrams
    ///   every second or so; their links need little more, but must answer a ping soon.
    func verdict(isNear: Bool, _ tuning: EngineTuning, now: Instant) -> CloseReason? {
        if now.since(lastHeard) > tuning.silenceMax * (isNear ? tuning.nearFactor : 1) {
            return .silence
        }
        if isNear, let unanswered, lastHeard < unanswered.at,
            now.since(unanswered.at) > tuning.nearPatience
        {
            return .endGone
        }
        return nil
    }

    /// Whether a ping or an end of the link is due.
    func isDue(isNear: Bool, _ tuning: EngineTuning, now: Instant) -> Bool {
        nextPing <= now || verdict(isNear: isNear, tuning, now: now) != nil
    }

    /// The number of a ping that is due now; nil if none is.
    ///
    /// A peer that was just heard is there, and its own pings show it as well as answers do; it is
    /// asked now and then how far it is.
    mutating func ping(
        isNear: Bool, _ tuning: EngineTuning, _ entropy: inout SeededGenerator, now: Instant
    ) -> UInt64? {
        guard nextPing <= now else { return nil }
        // What is unanswered on a link is not lost: to ask again would only forget since when.
        if let unanswered, lastHeard < unanswered.at { return nil }
        let pause = entropy.jittered(
            tuning.pingInterval * (isNear ? tuning.nearFactor : 1), by: 0.2)
        if let lastPing, now.since(lastHeard) < pause,
            now.since(lastPing) < pause * tuning.roundTripFactor
        {
            nextPing = lastHeard.advanced(by: pause)
            return nil
        }
        let number = entropy.next()
        unanswered = (number, now)
        lastPing = now
        nextPing = now.advanced(by: pause)
        return number
    }

    /// The peer answers a ping.
    ///
    /// - Returns: false if this end did not ask.
    mutating func pong(_ number: UInt64, now: Instant) -> Bool {
        guard let asked = unanswered, asked.number == number else { return false }
        roundTrip = now.since(asked.at)
        unanswered = nil
        return true
    }

    /// The peer says what its clock shows: milliseconds since 1970, as is this host's.
    mutating func clock(_ theirs: UInt64, ours: UInt64) {
        clockOffset = Self.difference(theirs, ours) + (roundTrip ?? .zero) / 2
    }

    /// Clocks of hosts may show anything; a difference beyond a century is a century.
    private static func difference(_ one: UInt64, _ other: UInt64) -> Duration {
        let most: UInt64 = 3_155_760_000_000
        let gap = min(one > other ? one - other : other - one, most)
        return .milliseconds(one > other ? Int64(gap) : -Int64(gap))
    }
}
