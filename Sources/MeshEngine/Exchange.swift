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
    /// Records for it that became known here since it was last linked.
    package private(set) var since: UInt64 = 0
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
        since = 0
    }

    /// A comparison showed what the other lacks.
    mutating func compared(lacks count: UInt64) {
        lacked = count
        since = 0
    }

    /// More for it became known here.
    mutating func note(more count: UInt64) {
        let (sum, overflow) = since.addingReportingOverflow(count)
        since = overflow ? .max : sum
    }

    /// Records that it lacks, as far as can be known here; nil if nothing was ever compared.
    package var behind: UInt64? {
        lacked.map { lacked in
            let (sum, overflow) = lacked.addingReportingOverflow(since)
            return overflow ? .max : sum
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
