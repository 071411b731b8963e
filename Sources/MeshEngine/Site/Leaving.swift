// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshTrust

/// A server that leaves for good hands over first: another must be proven to hold all it holds.
///
/// A proof counts only where the comparison began after the last write was taken here. The owner
/// takes no writes of apps from before it asks until it is answered.
struct Leaving {
    private enum Phase {
        /// Nobody asked, or nobody held everything.
        case stays
        /// Another server is looked for.
        case handsOver(scopes: [Scope], isForced: Bool, until: Instant)
    }

    private var phase = Phase.stays

    /// Whether another server is looked for.
    var isHandingOver: Bool { if case .handsOver = phase { true } else { false } }

    /// An operator wants this server to leave.
    ///
    /// - Parameters:
    ///   - scopes: everything of which something is held here.
    ///   - isForced: whether it leaves even where nobody holds all of it.
    mutating func begin(_ scopes: [Scope], isForced: Bool, until: Instant) {
        phase = .handsOver(scopes: scopes, isForced: isForced, until: until)
    }

    /// A peer was proven to hold the same of all that both may read.
    ///
    /// - Returns: whether it holds everything, so that this server may go.
    mutating func agreed(with peer: Certificate) -> Bool {
        guard case .handsOver(let scopes, _, _) = phase,
            scopes.allSatisfy({ peer.allows(.read, $0) })
        else { return false }
        phase = .stays
        return true
    }

    /// Time went by.
    ///
    /// - Returns: whether it may go without an heir; nil where that is not decided now.
    mutating func tick(now: Instant) -> Bool? {
        guard case .handsOver(_, let isForced, let until) = phase, until <= now else { return nil }
        phase = .stays
        return isForced
    }
}
