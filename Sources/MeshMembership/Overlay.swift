// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// Whom a member of a large site links with: its two neighbours on each of four rings.
///
/// Every member knows every other, so neighbours need not be negotiated: a hash places each member
/// on each ring, and all who know the same members agree. Four rings in random order together are
/// an expander (Law and Siu, "Distributed Construction of Random Expander Networks", INFOCOM 2003):
/// eight links a member, few hops between any two, and a member that goes changes only its
/// neighbours' links.
struct Overlay: Sendable {
    private struct Place: Sendable {
        let position: UInt64
        let node: NodeID

        func isBefore(_ position: UInt64, _ node: NodeID) -> Bool {
            self.position != position ? self.position < position : self.node < node
        }
    }

    private let own: NodeID
    private let site: String
    private var rings: [[Place]]
    private var positions: [NodeID: [UInt64]] = [:]
    /// This node's own neighbours.
    private(set) var neighbours: Set<NodeID> = []

    init(own: NodeID, site: String) {
        self.own = own
        self.site = site
        rings = Array(repeating: [], count: MembershipSpecification.rings)
        insert(own)
    }

    /// Members on the rings, this one among them.
    var count: Int { positions.count }

    /// Whether the members are more than would all link with each other.
    var isWide: Bool { count > MembershipSpecification.fullMeshMax }

    private func places(of node: NodeID) -> [UInt64] {
        if let known = positions[node] { return known }
        let hash = Blake2b.hash(Array(site.utf8) + [0] + node.array).array
        return (0..<MembershipSpecification.rings).map { ring in
            hash[(8 * ring)..<(8 * ring + 8)].reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    mutating func insert(_ node: NodeID) {
        guard positions[node] == nil else { return }
        let places = places(of: node)
        positions[node] = places
        for (ring, position) in places.enumerated() {
            let index = index(ring, position, node)
            rings[ring].insert(Place(position: position, node: node), at: index)
        }
        neighbours = neighbours(of: own)
    }

    mutating func remove(_ node: NodeID) {
        guard node != own, let places = positions.removeValue(forKey: node) else { return }
        for (ring, position) in places.enumerated() {
            let index = index(ring, position, node)
            if index < rings[ring].count, rings[ring][index].node == node {
                rings[ring].remove(at: index)
            }
        }
        neighbours = neighbours(of: own)
    }

    /// Whether this node and another, there or not, are neighbours.
    func isNeighbour(_ node: NodeID) -> Bool {
        if positions[node] != nil { return neighbours.contains(node) }
        return neighbours(of: node).contains(own)
    }

    /// The first place on a ring that is not before a node's.
    private func index(_ ring: Int, _ position: UInt64, _ node: NodeID) -> Int {
        var (low, high) = (0, rings[ring].count)
        while low < high {
            let middle = (low + high) / 2
            if rings[ring][middle].isBefore(position, node) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }

    /// The neighbours of a node, or those that it would have if it were there.
    func neighbours(of node: NodeID) -> Set<NodeID> {
        var found: Set<NodeID> = []
        for (ring, position) in places(of: node).enumerated() {
            let places = rings[ring]
            guard !places.isEmpty else { continue }
            let index = index(ring, position, node)
            let isThere = index < places.count && places[index].node == node
            found.insert(places[(index + places.count - 1) % places.count].node)
            found.insert(places[(isThere ? index + 1 : index) % places.count].node)
        }
        found.remove(node)
        return found
    }
}

extension Membership {
    /// Whether this site has too many members for all to link with each other.
    package var isWide: Bool { overlay.isWide }

    /// Members of this site that are there, this one among them.
    package var siteSize: Int { overlay.count }

    /// Whether this node links with another of its site, known or not.
    package func isNeighbour(_ node: NodeID) -> Bool {
        !overlay.isWide || overlay.isNeighbour(node)
    }
}
