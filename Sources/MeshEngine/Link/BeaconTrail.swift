// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Where the beacons of a linked peer came from, each address once: where to dial it if its link
/// ends.
struct BeaconTrail {
    /// One address, and when it was heard.
    struct Entry {
        let address: Address
        let incarnation: Incarnation
        let at: Instant
    }

    /// The oldest first.
    private(set) var entries: [Entry] = []

    /// Remembers where a beacon came from; beyond the limit the oldest address is forgotten.
    ///
    /// - Returns: whether the address is news.
    mutating func note(_ entry: Entry, limit: Int) -> Bool {
        let count = entries.count
        entries.removeAll { $0.address == entry.address }
        let isNew = entries.count == count
        if entries.count >= limit { entries.removeFirst() }
        entries.append(entry)
        return isNew
    }
}
