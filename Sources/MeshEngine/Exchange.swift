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
    /// What was known here when its last link ended; nil while it is linked.
    private var mark: ScopeTotals.Mark?
    /// Records of earlier absences, of which no comparison has told yet.
    private var before: UInt64 = 0
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
        before = 0
    }

    /// A comparison showed what the other lacks.
    mutating func compared(lacks count: UInt64) {
        lacked = count
        before = 0
    }

    /// It is linked again: it is sent what becomes known from here on.
    mutating func began(at totals: ScopeTotals) {
        before = counted(by: totals).since
        mark = nil
    }

    /// Its last link has ended: what becomes known from here on it lacks.
    mutating func ended(at totals: ScopeTotals) { mark = totals.mark(for: certificate) }

    /// The same with `since` as of now.
    func counted(by totals: ScopeTotals) -> Exchange {
        var exchange = self
        let count = mark.map { totals.count(since: $0, for: certificate) } ?? 0
        let (sum, overflow) = before.addingReportingOverflow(count)
        exchange.since = overflow ? .max : sum
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
    /// Most scopes that are counted.
    static let scopesMax = 16_384

    /// What was counted at one moment, of what one server may hold.
    struct Mark: Equatable {
        fileprivate let totals: [Scope: UInt64]
        /// How many scopes were known: those that came later are in no mark.
        fileprivate let scopes: Int
    }

    private var totals: [Scope: UInt64] = [:]
    /// The scopes in the order in which they came.
    private var scopes: [Scope] = []

    /// - Returns: false where there are too many scopes.
    mutating func add(_ count: UInt64, to scope: Scope) -> Bool {
        if totals[scope] == nil {
            guard scopes.count < Self.scopesMax else { return false }
            scopes.append(scope)
        }
        let (sum, overflow) = totals[scope, default: 0].addingReportingOverflow(count)
        totals[scope] = overflow ? .max : sum
        return true
    }

    func mark(for certificate: Certificate) -> Mark {
        Mark(
            totals: totals.filter { certificate.allows(.read, $0.key) }, scopes: scopes.count)
    }

    /// Records that a server may hold, beyond those of a mark.
    func count(since mark: Mark, for certificate: Certificate) -> UInt64 {
        var count: UInt64 = 0
        func add(_ more: UInt64) {
            let (sum, overflow) = count.addingReportingOverflow(more)
            count = overflow ? .max : sum
        }
        for (scope, known) in mark.totals { add((totals[scope] ?? known) - known) }
        for scope in scopes.dropFirst(mark.scopes) where certificate.allows(.read, scope) {
            add(totals[scope] ?? 0)
        }
        return count
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
