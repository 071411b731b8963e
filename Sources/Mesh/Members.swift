// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
package import MeshEngine
internal import MeshMembership
package import MeshStore
internal import MeshTransport
internal import MeshTrust
internal import NIOCore
internal import Synchronization

extension MeshNode {
    func membership(_ port: Int, seed: UInt64) -> Membership {
        let identity = store.identity
        return Membership(
            Membership.Identity(
                key: identity.nodeKey, mesh: identity.root.meshID,
                site: identity.certificate.ticket.site,
                isCentral: identity.certificate.ticket.isCentral),
            incarnation: store.incarnation, port: UInt16(clamping: port),
            priority: UInt8(clamping: configuration.gatewayPriority), seed: seed,
            now: now)
    }

    /// Nobody is forgotten by time: all whose certificates were ever shown here.
    func knownNodes() -> [KnownNode] { Self.knownNodes(store) }

    /// What a store keeps of other nodes for the next start: of two with one ticket the one that
    /// was seen first comes first.
    package static func knownNodes(_ store: Store) -> [KnownNode] {
        let addresses = (try? store.addresses()) ?? [:]
        let farewells = (try? store.departures()) ?? [:]
        let firstUses = (try? store.firstUses()) ?? [:]
        let (isFirst, isLater) = (0, 1)
        func order(_ card: Certificate) -> (Int, NodeID) {
            (firstUses[card.ticket.serial] == card.node ? isFirst : isLater, card.node)
        }
        let all = Dictionary(grouping: (try? store.allCertificates()) ?? [], by: \.node)
        return ((try? store.certificates()) ?? []).sorted { order($0) < order($1) }.map { card in
            // A use that was noted by no earlier program is noted now.
            try? store.noteUse(card)
            return KnownNode(
                card, address: addresses[card.node], farewell: farewells[card.node],
                earlier: (all[card.node] ?? []).filter { $0 != card })
        }
    }

    func received(datagram: [UInt8], from source: SocketAddress) {
        guard let host = HostPort.host(source) else { return count("datagram_bad_source") }
        guard datagramBudget.withLock({ $0.take(at: ContinuousClock.now) }) else {
            return count("datagram_over_budget")
        }
        post(.datagram(datagram, from: host))
    }

    func send(_ datagram: [UInt8], to address: Address) {
        guard let address = HostPort.address(address.bareHost, port: Int(address.port)) else {
            return count("datagram_bad_address")
        }
        datagramPort.withLock { $0 }?.send(datagram, to: address)
    }
}
