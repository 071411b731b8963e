// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshReplication

/// Logs that cannot be taken further now: each waits alone, with a back-off of its own.
///
/// While a log is held it is not asked for, and peers are asked not to send it; every other log of
/// the scope goes on. It is tried again when what it waits for has come, or when its time is up.
package struct LogWaits: Sendable {
    /// Why a log does not go on.
    package enum Cause: Hashable, Sendable {
        /// Something that will come by itself.
        case waits(Dependency)
        /// Something that only another certificate or a newer program changes.
        case blocked(Refusal)
    }

    /// A log that is held.
    package struct Entry: Sendable {
        /// Why.
        package let cause: Cause
        /// Since when.
        package let since: Instant
        /// How often it was tried.
        package let tries: Int
        /// When it is tried again at the latest.
        package let due: Instant
    }

    /// How long a log is held after each try.
    struct Tuning {
        var first = Duration.seconds(1)
        var waitsMax = Duration.seconds(300)
        var blockedFirst = Duration.seconds(60)
        var blockedMax = Duration.seconds(3600)
    }

    private var entries: [LogName: Entry] = [:]
    private let limit: Int
    private let tuning: Tuning

    init(limit: Int, tuning: Tuning = Tuning()) {
        self.limit = limit
        self.tuning = tuning
    }

    /// The logs that are held, with why.
    package var all: [LogName: Entry] { entries }

    /// Notes that a log could not be taken further.
    ///
    /// - Returns: whether there was room to note it; without, it is asked for again and again.
    mutating func hold(_ log: LogName, _ cause: Cause, now: Instant) -> Bool {
        let old = entries[log]
        guard old != nil || entries.count < limit else { return false }
        if let old, now < old.due {
            // It came by itself while the log is held: that is no try of this node's.
            entries[log] = Entry(cause: cause, since: old.since, tries: old.tries, due: old.due)
            return true
        }
        let tries = (old?.tries ?? 0) + 1
        let pause: Duration
        switch cause {
        case .waits: pause = Self.pause(tuning.first, tries, tuning.waitsMax)
        case .blocked: pause = Self.pause(tuning.blockedFirst, tries, tuning.blockedMax)
        }
        entries[log] = Entry(
            cause: cause, since: old?.since ?? now, tries: tries,
            due: now.advanced(by: pause))
        return true
    }

    private static func pause(_ first: Duration, _ tries: Int, _ most: Duration) -> Duration {
        min(first * (1 << min(tries - 1, 16)), most)
    }

    /// A log went on: nothing holds it any more, and what waited for it may go on too.
    ///
    /// - Returns: whether logs are to be asked for that were held.
    mutating func advanced(_ log: LogName, to frontier: UInt64) -> Bool {
        entries[log] = nil
        var freed = false
        for (held, entry) in entries {
            if case .waits(.place(log, let sequence)) = entry.cause, sequence <= frontier {
                entries[held] = nil
                freed = true
            }
        }
        return freed
    }

    /// Something came that may be what logs wait for: a policy, a certificate, a revocation.
    ///
    /// - Returns: whether logs are to be asked for that were held.
    mutating func free(where isFree: (LogName, Cause) -> Bool) -> Bool {
        let count = entries.count
        entries = entries.filter { !isFree($0.key, $0.value.cause) }
        return entries.count != count
    }

    /// The logs that are not to be asked for now.
    func held(now: Instant) -> Set<LogName> {
        Set(entries.filter { $0.value.due > now }.keys)
    }

    /// Whether a log is not to be asked for now.
    func holds(_ log: LogName, now: Instant) -> Bool {
        entries[log].map { $0.due > now } ?? false
    }
}
