// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshRules

/// The states of keys that were read lately, as long as nothing changes them.
///
/// What a read began to look up before a change is not remembered after it: each change has a
/// number, and a read says how many it had seen.
struct KeyCache {
    /// Bytes of all that is remembered; beyond it, everything is forgotten.
    static let byteCountMax = 4 << 20
    /// Most keys of which is known when they changed last.
    private static let changedMax = 8192

    private var states: [KeyName: KeyState] = [:]
    private var byteCount = 0
    /// How many transactions there were.
    private(set) var generation: UInt64 = 0
    private var changed: [KeyName: UInt64] = [:]
    /// Reads that began before it are not remembered.
    private var floor: UInt64 = 0

    subscript(name: KeyName) -> KeyState? { states[name] }

    mutating func note(_ state: KeyState, of name: KeyName, read seen: UInt64) {
        guard seen >= floor, changed[name] ?? 0 <= seen, states[name] == nil else { return }
        let size = state.versions.reduce(512) { $0 + $1.record.body.count + 256 }
        guard size <= Self.byteCountMax / 16 else { return }
        if byteCount + size > Self.byteCountMax { (states, byteCount) = ([:], 0) }
        states[name] = state
        byteCount += size
    }

    mutating func forget(_ touched: TouchedKeys) {
        generation += 1
        if touched.areUnknown || touched.areMany || changed.count > Self.changedMax {
            (states, byteCount, changed, floor) = ([:], 0, [:], generation)
            return
        }
        for name in touched.names {
            changed[name] = generation
            // Its bytes count on until all is forgotten.
            states[name] = nil
        }
    }
}
