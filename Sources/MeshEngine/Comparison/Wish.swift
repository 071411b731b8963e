// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// A comparison that is wanted since something is missing: soon, but one for many such messages.
struct Wish {
    private var isOpen = false
    private var granted: Instant?

    /// Something is missing.
    mutating func open() { isOpen = true }

    /// Whether a comparison is to begin for it.
    func isDue(pause: Duration, now: Instant) -> Bool {
        isOpen && (granted.map { now.since($0) >= pause } ?? true)
    }

    /// One begins.
    mutating func grant(now: Instant) {
        isOpen = false
        granted = now
    }
}

/// How many of the windows that cover all scopes were equal, one after the other.
struct Coverage {
    private var equal = 0

    /// A window is equal.
    ///
    /// - Returns: whether all are.
    mutating func add(of windows: Int) -> Bool {
        equal += 1
        guard equal >= windows else { return false }
        equal = 0
        return true
    }

    /// A window differs.
    mutating func restart() { equal = 0 }
}
