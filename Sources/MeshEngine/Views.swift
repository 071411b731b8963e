// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshDiscovery
internal import MeshLink

/// What an engine shows of itself.
extension Engine {
    /// The linked peers, by node.
    package var peers: [PeerStatus] {
        links.values.sorted { $0.node < $1.node }.map { link in
            PeerStatus(
                certificate: link.peer.certificate, version: link.peer.version,
                origin: link.origin, since: link.since, roundTrip: link.liveness.roundTrip,
                clockOffset: link.liveness.clockOffset,
                exchange: exchanges[link.node]?.counted(by: totals) ?? Exchange(link.peer),
                recordsSent: link.recordsSent, isSyncing: link.isSyncing)
        }
    }

    /// Every address that was ever to be dialled, for operators.
    package var addresses: [DialPlan.Target] { dials.known }

    /// Which limit does not hold, for checks; nil if all do.
    package var brokenLimit: String? {
        if links.count > limits.links || calls.count > limits.links { return "links" }
        for link in links.values {
            if link.outbox.count > limits.streams { return "streams" }
            if link.credit.unjudged > 2 * limits.bytesInFlight { return "bytes" }
            if link.introductions.showing > limits.certificatesWanted { return "certificates" }
        }
        return nil
    }

    /// What comparisons showed of every node that was ever linked.
    package var allExchanges: [NodeID: Exchange] { exchanges.mapValues { $0.counted(by: totals) } }
}
