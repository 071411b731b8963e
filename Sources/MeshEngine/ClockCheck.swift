// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Whether this host's clock is wrong, by what its peers say of theirs.
///
/// Of two clocks neither is the judge of the other; where most of at least two peers agree that
/// this one is off, it is, and stamps follow theirs. Stamps break ties only, so a lie of many
/// moves nothing but the order of siblings.
struct ClockCheck {
    /// A difference that nobody needs to hear of.
    static let tolerance = Duration.seconds(120)

    private(set) var correction = Duration.zero

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
