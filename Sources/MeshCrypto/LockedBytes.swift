// SPDX-License-Identifier: Apache-2.0

internal import CSodium

/// A secret in memory of its own: never swapped out, between pages that nobody may touch, and
/// wiped when nobody needs it any more (`sodium_malloc`).
///
/// Where the system lets a process lock no memory, the rest holds all the same.
final class LockedBytes: Sendable {
    /// Where they lie: written once, before anybody else knows of it.
    private let address: UInt

    /// - Parameter fill: writes the secret to `count` bytes of zero.
    init(count: Int, _ fill: (UnsafeMutablePointer<UInt8>) -> Void) {
        guard sodium_init() >= 0, let base = sodium_malloc(count) else {
            preconditionFailure("no memory for a key")
        }
        sodium_memzero(base, count)
        fill(base.bindMemory(to: UInt8.self, capacity: count))
        sodium_mprotect_readonly(base)
        address = UInt(bitPattern: base)
    }

    deinit { sodium_free(UnsafeMutableRawPointer(bitPattern: address)) }

    /// Gives the bytes to a call into libsodium.
    func withBytes<T>(_ body: (UnsafePointer<UInt8>) -> T) -> T {
        guard let base = UnsafeRawPointer(bitPattern: address) else {
            preconditionFailure("a key lies somewhere")
        }
        return body(base.assumingMemoryBound(to: UInt8.self))
    }
}
