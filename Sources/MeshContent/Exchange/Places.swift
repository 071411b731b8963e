// SPDX-License-Identifier: Apache-2.0

/// A set of places of one manifest, a bit each.
struct Places: Sendable {
    private var words: [UInt64] = []

    func contains(_ place: Int) -> Bool {
        let word = place >> 6
        return word < words.count && words[word] >> UInt64(place & 63) & 1 == 1
    }

    /// - Parameter range: within the limits of a manifest, which the caller has checked.
    mutating func insert(_ range: Range<Int>) {
        let most = (range.upperBound + 63) >> 6
        if words.count < most { words += [UInt64](repeating: 0, count: most - words.count) }
        var place = range.lowerBound
        while place < range.upperBound {
            if place & 63 == 0, place + 64 <= range.upperBound {
                words[place >> 6] = .max
                place += 64
            } else {
                words[place >> 6] |= 1 << UInt64(place & 63)
                place += 1
            }
        }
    }
}
