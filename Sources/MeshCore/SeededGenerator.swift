// SPDX-License-Identifier: Apache-2.0

/// A small generator whose whole future is its seed, so that a run can be replayed.
///
/// For jitter and choice among equals, never for keys. Source: SplitMix64, Steele et al., OOPSLA
/// 2014.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// Starts from `seed`.
    public init(seed: UInt64) { state = seed }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// A duration between `fraction` below and above `base`, evenly.
    public mutating func jittered(_ base: Duration, by fraction: Double) -> Duration {
        let unit = Double(next() >> 11) / Double(1 << 53)
        return .nanoseconds(Int64(Double(base.nanoseconds) * (1 + fraction * (2 * unit - 1))))
    }
}
