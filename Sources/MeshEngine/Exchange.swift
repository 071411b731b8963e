// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshLink
package import MeshTrust

/// How far another node is, from what both proved to each other.
package struct Exchange: Sendable, Equatable {
    /// Its certificate.
    package let certificate: Certificate
    /// When both were last proven to hold the same.
    package private(set) var inStep: Instant?
    /// Records that it lacked at the last comparison; nil before the first.
    package private(set) var lacked: UInt64?
    /// Records for it that became known here since it was last linked; as of when it was asked for.
    package private(set) var since: UInt64 = 0
    /// What was known here when its last link ended; nil for one that was compared with since.
    private var mark: [Scope: UInt64]?
    /// Its program's version.
    package internal(set) var version: String

    init(_ peer: LinkMachine.Peer) {
        certificate = peer.certificate
        version = peer.version
    }

    /// Both were proven to hold the same.
    mutating func agreed(now: Instant) {
        inStep = now
        lacked = 0
        mark = nil
    }

    /// A comparison showed what the other lacks.
    mutating func compared(lacks count: UInt64) {
        lacked = count
        mark = nil
    }

    /// Its last link has ended: what becomes known from here on it lacks.
    mutating func ended(at totals: ScopeTotals) {
        if mark == nil { mark = totals.readable(by: certificate) }
    }

    /// The same with `since` as of now.
    func counted(by totals: ScopeTotals) -> Exchange {
        var exchange = self
        exchange.since = mark.map { totals.count(since: $0, for: certificate) } ?? 0
        return exchange
    }

    /// Records that it lacks, as far as can be known here; nil if nothing was ever compared.
    package var behind: UInt64? {
        lacked.map { lacked in
            let (sum, overflow) = lacked.addingReportingOverflow(since)
            return overflow ? .max : sum
        }
    }
}

/// How many records of each scope became known here since the start.
///
/// They are counted once, and not for each node that is away: what a commit costs must not grow
/// with the number of servers that are known.
struct ScopeTotals: Equatable {
    private var totals: [Scope: UInt64] = [:]

    mutating func add(_ count: UInt64, to scope: Scope) {
        let (sum, overflow) = totals[scope, default: 0].addingReportingOverflow(count)
        totals[scope] = overflow ? .max : sum
    }

    /// Those of the scopes that a server may hold.
    func readable(by certificate: Certificate) -> [Scope: UInt64] {
        totals.filter { certificate.allows(.read, $0.key) }
    }

    /// Records that a server may hold, beyond those of a mark.
    func count(since mark: [Scope: UInt64], for certificate: Certificate) -> UInt64 {
        totals.reduce(0) { sum, entry in
            let (scope, total) = entry
            guard total > mark[scope] ?? 0, certificate.allows(.read, scope) else { return sum }
            let (next, overflow) = sum.addingReportingOverflow(total - (mark[scope] ?? 0))
            return overflow ? .max : next
        }
    }
}

/// One linked peer as operators see it.
package struct PeerStatus: Sendable {
    /// Its certificate.
    package let certificate: Certificate
    /// Its program's version.
    package let version: String
    /// The other end of the link.
    package let origin: LinkOrigin
    /// Since when it is linked.
    package let since: Instant
    /// The last round trip.
    package let roundTrip: Duration?
    /// How far the peer's clock was before this host's; nil if it has not told.
    package let clockOffset: Duration?
    /// What comparisons showed, on this link and earlier ones.
    package let exchange: Exchange
    /// Records that were sent on this link.
    package let recordsSent: UInt64
    /// Whether a comparison or a stream is going on.
    package let isSyncing: Bool
}
