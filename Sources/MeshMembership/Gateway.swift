// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

extension Membership {
    /// The node of this site that carries its links to other sites: this one, or a neighbour.
    ///
    /// Whose path is broken comes last; then the highest priority; then who holds such a link
    /// already, so that a gateway that does its work is not relieved; then a hash of site and node
    /// (rendezvous hashing, Thaler and Ravishankar, 1998). Two gateways at once, while neighbours
    /// do not know of each other, cost bytes and nothing else.
    package var gateway: NodeID { knownGateway ?? chosenGateway }

    /// Remembers the choice until something changes that it depends on.
    mutating func chooseGateway() { if knownGateway == nil { knownGateway = chosenGateway } }

    private var chosenGateway: NodeID {
        let neighbours = table.values.filter { isNear($0) && $0.state == .alive }
            .compactMap(\.presence).filter { $0.status == .alive }
        let best = (neighbours + [presence]).min { rank($0) < rank($1) }
        return best?.node ?? own
    }

    /// Whether the gateway is another node, and says that it holds a link with another site.
    package var isRelieved: Bool {
        let gateway = gateway
        return gateway != own && table[gateway]?.presence?.wan == .linked
    }

    private func rank(_ presence: Presence) -> (Int, Int, Int, Digest) {
        let name = Array(identity.site.utf8) + [0] + presence.node.array
        return (
            presence.wan == .broken ? 1 : 0, -Int(presence.priority),
            presence.wan == .linked ? 0 : 1, Blake2b.hash(name)
        )
    }
}
