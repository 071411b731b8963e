// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// What is to happen, earliest first, and in the order of scheduling where times are equal.
struct EventQueue {
    struct Event {
        let at: Instant
        let number: UInt64
        let act: () -> Void
    }

    /// A binary heap.
    private var events: [Event] = []
    private var added: UInt64 = 0

    mutating func add(at time: Instant, _ act: @escaping () -> Void) {
        added += 1
        events.append(Event(at: time, number: added, act: act))
        var child = events.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard isEarlier(child, parent) else { break }
            events.swapAt(child, parent)
            child = parent
        }
    }

    private func isEarlier(_ one: Int, _ other: Int) -> Bool {
        (events[one].at, events[one].number) < (events[other].at, events[other].number)
    }

    /// Takes the first event that is due.
    mutating func next(by end: Instant) -> Event? {
        guard let first = events.first, first.at <= end else { return nil }
        events.swapAt(0, events.count - 1)
        events.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < events.count && isEarlier(child, least) { least = child }
            if least == parent { return first }
            events.swapAt(parent, least)
            parent = least
        }
    }
}
