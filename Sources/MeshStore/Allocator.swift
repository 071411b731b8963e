// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc

/// The C library's allocator: what it is told, so that a server which had a busy hour does not keep
/// the memory of that hour.
///
/// As it comes, glibc has eight heaps a core, and takes ever larger pieces from them instead of
/// from the system. A million records through HTTP left 17 MiB of such heaps in pieces; as it is
/// told here, 5 MiB. Other C libraries are left as they are.
package enum Allocator {
    // Names of mallopt(3), in no module of Swift's.
    private static let mmapThreshold: CInt = -3
    private static let arenaMax: CInt = -8

    /// Pieces above this come from the system, and go back to it at once.
    private static let largeByteCount: CInt = 128 << 10

    /// Sets the allocator up; to be called before there are threads.
    package static func configure() {
        typealias Option = @convention(c) (CInt, CInt) -> CInt
        guard let option = function("mallopt", as: Option.self) else { return }
        _ = option(mmapThreshold, largeByteCount)
        _ = option(arenaMax, CInt(clamping: ProcessInfo.processInfo.activeProcessorCount))
    }

    /// Gives free memory back to the system.
    static func giveBack() {
        typealias Trim = @convention(c) (Int) -> CInt
        _ = function("malloc_trim", as: Trim.self)?(0)
    }

    private static func function<Function>(_ name: String, as _: Function.Type) -> Function? {
        dlsym(nil, name).map { unsafeBitCast($0, to: Function.self) }
    }
}
