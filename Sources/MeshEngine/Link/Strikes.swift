// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Messages of a peer that did not verify within the last minute.
struct Strikes {
    private var at: [Instant] = []

    /// One more.
    ///
    /// - Returns: how many there were in the last minute.
    mutating func add(now: Instant) -> Int {
        at = at.filter { now.since($0) < .seconds(60) } + [now]
        return at.count
    }
}
