// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A wall clock that a test moves.
final class SharedClock: @unchecked Sendable {
    private let lock = NSLock()
    private var time: UInt64

    init(_ time: UInt64) { self.time = time }

    var now: UInt64 {
        get { lock.withLock { time } }
        set { lock.withLock { time = newValue } }
    }
}
