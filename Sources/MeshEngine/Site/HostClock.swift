// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// What this host's clock shows, and whether its peers say that it is wrong.
///
/// Of two clocks neither is the judge of the other; where most of at least two peers agree that
/// this one is off, it is, and stamps follow theirs. Stamps break ties only, so a lie of many
/// moves nothing but the order of siblings.
struct HostClock {
    /// A difference that nobody needs to hear of.
    static let tolerance = Duration.seconds(120)

    private var shown: (wall: UInt64, at: Instant)?
    private var correction = Duration.zero

    /// The host's clock shows so many milliseconds since 1970.
    mutating func shows(_ wall: UInt64, now: Instant) { shown = (wall, now) }

    /// What it shows now; nil if it was never read.
    func wall(now: Instant) -> UInt64? {
        shown.map { $0.wall &+ UInt64(now.since($0.at).nanoseconds / 1_000_000) }
    }

    /// Judges this host's clock.
    ///
    /// - Parameter offsets: how far each peer's clock is before this host's.
    /// - Returns: the correction, where it has changed by more than a second.
    mutating func judge(_ offsets: [Duration]) -> Duration? {
        let sorted = offsets.sorted()
        let off = sorted.count { $0 > Self.tolerance || $0 < .zero - Self.tolerance }
        let isOff = sorted.count >= 2 && off * 2 > sorted.count
        let wanted = isOff ? .zero - sorted[sorted.count / 2] : .zero
        let change = wanted - correction
        guard change > .seconds(1) || change < .seconds(-1) else { return nil }
        correction = wanted
        return wanted
    }
}
