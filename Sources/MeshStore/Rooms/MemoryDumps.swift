// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Dumps of the memory of a process that has keys in it.
package enum MemoryDumps {
    /// `PR_SET_DUMPABLE` (prctl(2)).
    private static let setDumpable: CInt = 4

    /// No dump is written when the process ends badly, and no other process of its user may look
    /// into it.
    package static func forbid() {
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
        // A collector of dumps that the kernel feeds itself does not look at the limit. Swift sees
        // no functions with variable arguments.
        typealias Control =
            @convention(c) (CInt, CUnsignedLong, CUnsignedLong, CUnsignedLong, CUnsignedLong)
            -> CInt
        guard let symbol = dlsym(nil, "prctl") else { return }
        _ = unsafeBitCast(symbol, to: Control.self)(setDumpable, 0, 0, 0, 0)
    }
}
