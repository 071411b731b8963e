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
        for place in range { words[place >> 6] |= 1 << UInt64(place & 63) }
    }
}
