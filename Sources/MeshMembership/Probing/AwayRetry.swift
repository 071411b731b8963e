// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// When a member that is away is tried: ever more seldom, and for ever.
struct AwayRetry: Sendable {
    private var next: Instant
    private var tries = 0

    /// A member that was never tried is tried at once.
    init(_ now: Instant) { next = now }

    /// The member has gone away just now.
    mutating func begin(_ now: Instant, _ tuning: MembershipTuning) {
        tries = 0
        next = now.advanced(by: tuning.awayPause)
    }

    func isDue(_ now: Instant) -> Bool { next <= now }

    /// It is tried; the pause after it is twice that before.
    mutating func advance(
        _ now: Instant, _ tuning: MembershipTuning, _ entropy: inout SeededGenerator
    ) {
        let pause = min(tuning.awayPause * (1 << tries), tuning.awayPauseMax)
        tries = min(tries + 1, 10)
        next = now.advanced(by: entropy.jittered(pause, by: 0.3))
    }
}
