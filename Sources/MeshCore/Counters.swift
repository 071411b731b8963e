// SPDX-License-Identifier: Apache-2.0

/// What one part of the program counts: an event is a case, so that none is misspelt.
///
/// A count stands at its highest number rather than beginning anew.
package struct Counters<Event: Hashable & Sendable & RawRepresentable>: Sendable, Equatable
where Event.RawValue == String {
    private var counts: [Event: UInt64] = [:]

    /// Nothing has happened yet.
    package init() {}

    /// How often something happened.
    package subscript(event: Event) -> UInt64 { counts[event] ?? 0 }

    /// Something happened, so many times.
    package mutating func add(_ event: Event, _ count: UInt64 = 1) {
        let (sum, overflow) = self[event].addingReportingOverflow(count)
        counts[event] = overflow ? .max : sum
    }

    /// What happened at least once, by its stable name, for metrics.
    package var named: [String: UInt64] {
        Dictionary(uniqueKeysWithValues: counts.map { ($0.key.rawValue, $0.value) })
    }
}
