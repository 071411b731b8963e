// SPDX-License-Identifier: Apache-2.0

/// A point on a node's monotonic clock, in nanoseconds since some start of its own.
public struct Instant: Hashable, Comparable, Sendable {
    /// Nanoseconds since the clock's start.
    public let nanoseconds: Int64

    /// Names a point.
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// The point `duration` later, held at the ends of the range.
    public func advanced(by duration: Duration) -> Instant {
        let (sum, overflow) = nanoseconds.addingReportingOverflow(duration.nanoseconds)
        guard overflow else { return Instant(nanoseconds: sum) }
        return Instant(nanoseconds: duration < .zero ? .min : .max)
    }

    /// How long from `earlier` to here.
    public func since(_ earlier: Instant) -> Duration {
        .nanoseconds(nanoseconds.subtractingReportingOverflow(earlier.nanoseconds).partialValue)
    }

    /// Earlier is less.
    public static func < (lhs: Instant, rhs: Instant) -> Bool { lhs.nanoseconds < rhs.nanoseconds }
}

extension Duration {
    /// The duration in whole nanoseconds, held at the ends of the range.
    public var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, carry) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        guard !overflow, !carry else { return seconds < 0 ? .min : .max }
        return sum
    }

    /// The duration in seconds, for a metric or a message.
    public var seconds: Double { Double(nanoseconds) / 1e9 }
}

/// A hybrid logical clock's stamp: 48 bits of milliseconds since 1970, then a 16-bit counter.
///
/// It orders siblings for display and breaks ties between concurrent writes; no rule of validity
/// reads it. Source: Kulkarni et al., "Logical Physical Clocks", 2014.
public struct HybridTime: Hashable, Comparable, Sendable {
    /// `milliseconds << 16 | counter`.
    public let value: UInt64

    /// Takes the number as it stands in a record.
    public init(_ value: UInt64) { self.value = value }

    /// Milliseconds since 1970 by the writer's clock.
    public var milliseconds: UInt64 { value >> 16 }

    /// How far stamps may go before the wall clock, in milliseconds: what a clock that is stepped
    /// back a little asks for, and no more.
    public static let leadMax: UInt64 = 60_000

    /// The next stamp after this one for a wall clock that reads `wall` milliseconds.
    ///
    /// It does not fall where a clock is stepped back a little. A clock that stood years ahead and
    /// was mended is believed at once: causes order the versions of a key, stamps break ties only.
    public func next(wall: UInt64) -> HybridTime {
        let clamped = min(wall, UInt64.max >> 16)
        let now = HybridTime(clamped << 16)
        guard value != .max, milliseconds <= clamped + Self.leadMax else { return now }
        return max(now, HybridTime(value + 1))
    }

    /// Earlier is less.
    public static func < (lhs: HybridTime, rhs: HybridTime) -> Bool { lhs.value < rhs.value }
}
