// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink
internal import MeshReplication
internal import MeshTrust

/// A server that leaves for good hands over first: another must be proven to hold all it holds.
///
/// A proof counts only where the comparison began after the last write was taken here. The owner
/// takes no writes of apps from before it asks until it is told to stay. A server that is to leave
/// says so on its links before it compares, and is nobody's heir: of two that leave together each
/// could rely on the other.
struct Leaving {
    private enum Phase {
        /// Nobody asked, or nobody held everything.
        case stays
        /// Another server is looked for.
        case handsOver(scopes: [Scope], isForced: Bool, until: Instant)
        /// It may go.
        case goes
    }

    private var phase = Phase.stays

    /// Whether another server is looked for.
    var isHandingOver: Bool { if case .handsOver = phase { true } else { false } }

    /// Whether it is to leave, so that nobody may rely on it.
    var isLeaving: Bool { if case .stays = phase { false } else { true } }

    /// An operator wants this server to leave.
    ///
    /// - Parameters:
    ///   - scopes: everything of which something is held here.
    ///   - isForced: whether it leaves even where nobody holds all of it.
    mutating func begin(_ scopes: [Scope], isForced: Bool, until: Instant) {
        phase = .handsOver(scopes: scopes, isForced: isForced, until: until)
    }

    /// It stays after all.
    mutating func stay() { phase = .stays }

    /// A peer was proven to hold the same of all that both may read.
    ///
    /// - Returns: whether it holds everything, so that this server may go.
    mutating func agreed(_ own: Certificate, _ peer: Certificate) -> Bool {
        guard case .handsOver(let scopes, _, _) = phase,
            scopes.allSatisfy({ own.allows(.read, $0) && peer.allows(.read, $0) })
        else { return false }
        phase = .goes
        return true
    }

    /// Time went by.
    ///
    /// - Returns: whether it may go without an heir; nil where that is not decided now.
    mutating func tick(now: Instant) -> Bool? {
        guard case .handsOver(_, let isForced, let until) = phase, until <= now else { return nil }
        phase = isForced ? .goes : .stays
        return isForced
    }
}

extension Engine {
    /// Looks for a peer that holds all that this node holds. What was compared so far shows
    /// nothing: something may have been written since.
    mutating func handOver(_ scopes: [Scope], _ isForced: Bool, _ now: Instant) {
        leaving.begin(
            scopes, isForced: isForced, until: now.advanced(by: tuning.handOverMax))
        for id in links.keys.sorted() {
            send(id, .leaving(true))
            links[id]?.coverage.restart()
            let isComparing = links[id]?.isComparing == true
            links[id]?.isProofTooOld = isComparing
            // What lost its place is in no digest, and the only copy of it may be here.
            queue(id, losersOf.sorted().map { .losers(of: $0) })
            wantSync(id)
            pump(id)
        }
    }

    /// All that both may read was proven to be equal.
    mutating func agreed(_ id: LinkID, _ node: NodeID, _ now: Instant) {
        exchanges[node]?.agreed(now: now)
        guard let link = links[id], !link.isToLeave else { return }
        if leaving.agreed(own, link.peer.certificate) { emit(.handedOver(.to(node))) }
    }

    mutating func tickLeaving(_ now: Instant) {
        guard let mayGo = leaving.tick(now: now) else { return }
        emit(.handedOver(mayGo ? .toNobody : .refused))
        if !mayGo { stay() }
    }

    /// This node stays in the mesh after all.
    mutating func stay() {
        leaving.stay()
        for id in links.keys.sorted() { send(id, .leaving(false)) }
    }
}
