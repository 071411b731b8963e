// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Mesh

/// Hands the key of sealed records to the process that takes this one's place, in a pipe: its bytes
/// lie in the kernel's memory, which is never swapped out.
enum KeyHandover {
    /// No setting, so it does not begin as those do.
    private static let variable = "HOLDFAST_KEY_DESCRIPTOR"
    private static let byteCount = 32

    /// Puts the key where `execv` carries it.
    static func leave(_ key: UnlockedKey) {
        var ends: [CInt] = [-1, -1]
        guard pipe(&ends) == 0 else { return }
        let bytes = key.bytes
        _ = write(ends[1], bytes, bytes.count)
        close(ends[1])
        setenv(variable, "\(ends[0])", 1)
    }

    /// Takes what the process before has left; nil where there was none, or it left nothing.
    static func take() -> UnlockedKey? {
        guard let text = ProcessInfo.processInfo.environment[variable] else { return nil }
        unsetenv(variable)
        guard let descriptor = CInt(text) else { return nil }
        var bytes = [UInt8](repeating: 0, count: byteCount)
        let count = read(descriptor, &bytes, byteCount)
        close(descriptor)
        return count == byteCount ? UnlockedKey(bytes) : nil
    }
}
