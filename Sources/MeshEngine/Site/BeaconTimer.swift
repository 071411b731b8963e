// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// When the next beacon goes out, and which number it has.
///
/// The first follow each other quickly, so that servers that start together are linked at once and
/// a segment is complete within a second. However many servers a segment has, it carries about
/// three beacons a second.
struct BeaconTimer {
    private var next: Instant
    private var sent: UInt64 = 0

    init(now: Instant) { next = now }

    /// An interface or an address has come: it is told at once.
    mutating func hurry(now: Instant) { next = now }

    /// - Returns: the number of a beacon that is due; nil if none is.
    mutating func due(
        siteSize: Int, _ tuning: EngineTuning, _ entropy: inout SeededGenerator, now: Instant
    ) -> UInt64? {
        guard next <= now else { return nil }
        let calm = max(tuning.beaconInterval, .milliseconds(300) * siteSize)
        let quick = tuning.firstBeacons
        let pause = sent < quick.count ? quick[Int(sent)] : calm
        next = now.advanced(by: entropy.jittered(pause, by: 0.2))
        defer { sent += 1 }
        return sent
    }
}
