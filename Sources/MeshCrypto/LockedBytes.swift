// SPDX-License-Identifier: Apache-2.0

internal import CSodium

/// A secret in memory of its own: never swapped out, between pages that nobody may touch, and
/// wiped when nobody needs it any more (`sodium_malloc`).
///
/// Where the system lets a process lock no memory, the rest holds all the same.
final class LockedBytes: Sendable {
    let count: Int
    // Written once, before anybody else knows of it.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer

    /// - Parameter fill: writes the secret to `count` bytes of zero.
    init(count: Int, _ fill: (UnsafeMutablePointer<UInt8>) -> Void) {
        guard sodium_init() >= 0, let base = sodium_malloc(count) else {
            preconditionFailure("no memory for a key")
        }
        sodium_memzero(base, count)
        let bytes = base.bindMemory(to: UInt8.self, capacity: count)
        fill(bytes)
        sodium_mprotect_readonly(base)
        self.base = base
        self.count = count
    }

    deinit { sodium_free(base) }

    /// Gives the bytes to a call into libsodium.
    func withBytes<T>(_ body: (UnsafePointer<UInt8>) -> T) -> T {
        body(UnsafePointer(base.assumingMemoryBound(to: UInt8.self)))
    }
}
