// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Who wants to hear how far logs are held here, or by the centre.
package struct HoldingQuestions<Asker: Hashable & Comparable & Sendable>: Sendable {
    /// Most logs that one asks about.
    package static var logsMax: Int { 64 }

    /// The least and the furthest place that were asked for: each step in between is an answer, so
    /// that whoever asks on and on hears something.
    private struct Range {
        var low: UInt64
        var high: UInt64
    }

    private var questions: [LogName: [Asker: Range]] = [:]
    private var counts: [Asker: Int] = [:]

    /// Nobody asks.
    package init() {}

    /// Whether nobody asks.
    package var isEmpty: Bool { questions.isEmpty }

    /// Somebody asks.
    ///
    /// - Returns: false where he asks about too many logs.
    package mutating func ask(_ log: LogName, through: UInt64, by asker: Asker) -> Bool {
        if let known = questions[log]?[asker] {
            questions[log]?[asker] = Range(
                low: min(known.low, through), high: max(known.high, through))
            return true
        }
        guard counts[asker, default: 0] < Self.logsMax else { return false }
        counts[asker, default: 0] += 1
        questions[log, default: [:]][asker] = Range(low: through, high: through)
        return true
    }

    /// A log is held so far.
    ///
    /// - Returns: who is to hear it.
    package mutating func take(_ log: LogName, through: UInt64) -> [Asker] {
        guard let all = questions[log] else { return [] }
        let told = all.filter { $0.value.low <= through }.keys.sorted()
        for asker in told {
            if let high = all[asker]?.high, high > through {
                questions[log]?[asker] = Range(low: through + 1, high: high)
            } else {
                remove(log, asker)
            }
        }
        return told
    }

    /// Somebody is gone.
    package mutating func forget(_ asker: Asker) {
        guard counts[asker] != nil else { return }
        for (log, all) in questions where all[asker] != nil { remove(log, asker) }
    }

    private mutating func remove(_ log: LogName, _ asker: Asker) {
        guard questions[log]?.removeValue(forKey: asker) != nil else { return }
        if questions[log]?.isEmpty == true { questions[log] = nil }
        let left = counts[asker, default: 1] - 1
        counts[asker] = left > 0 ? left : nil
    }
}
