// SPDX-License-Identifier: Apache-2.0

internal import CSodium

/// A secret that is wiped when nobody needs it any more; if so asked, in memory of its own, never
/// swapped out, between pages that nobody may touch (`sodium_malloc`).
///
/// Such memory costs four mappings a key, of which a process has 65,530: enough for the keys of a
/// server, and not for those of a simulation. Where the system lets a process lock none, the rest
/// holds all the same.
final class LockedBytes: Sendable {
    /// Where they lie: written once, before anybody else knows of it.
    private let address: UInt
    private let count: Int
    private let isGuarded: Bool

    /// - Parameter fill: writes the secret to `count` bytes of zero.
    init(count: Int, isGuarded: Bool, _ fill: (UnsafeMutablePointer<UInt8>) -> Void) {
        precondition(sodium_init() >= 0, "the library starts")
        let guarded = isGuarded ? sodium_malloc(count) : nil
        let base = guarded ?? .allocate(byteCount: count, alignment: 16)
        sodium_memzero(base, count)
        fill(base.bindMemory(to: UInt8.self, capacity: count))
        if guarded != nil { sodium_mprotect_readonly(base) }
        address = UInt(bitPattern: base)
        self.count = count
        self.isGuarded = guarded != nil
    }

    deinit {
        guard let base = UnsafeMutableRawPointer(bitPattern: address) else { return }
        if isGuarded { return sodium_free(base) }
        sodium_memzero(base, count)
        base.deallocate()
    }

    /// Gives the bytes to a call into libsodium.
    func withBytes<T>(_ body: (UnsafePointer<UInt8>) -> T) -> T {
        guard let base = UnsafeRawPointer(bitPattern: address) else {
            preconditionFailure("a key lies somewhere")
        }
        return body(base.assumingMemoryBound(to: UInt8.self))
    }
}
