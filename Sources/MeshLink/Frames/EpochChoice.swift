// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// By which epoch of the mesh's secret an address is dialled.
///
/// The newest at first. Where that came to nothing, the next time one before it, round and round:
/// the other side may know another secret of that epoch, or none. Whoever answers is told by a link
/// what it has not heard of.
package struct EpochChoice: Sendable {
    /// Most addresses that are remembered; beyond it all begin with the newest again.
    package static let addressesMax = 1024

    private var failures: [Address: Int] = [:]

    /// Every address is dialled by the newest.
    package init() {}

    /// How many epochs before the newest the next dial names.
    ///
    /// - Parameter known: how many epochs there are, at least 1.
    package func back(_ address: Address, of known: Int) -> Int {
        known > 1 ? (failures[address] ?? 0) % known : 0
    }

    /// A dial came to an end: with a link, or why not.
    package mutating func ended(_ address: Address, _ error: LinkError?) {
        switch error {
        case .turnedAway, .unknownEpoch, .handshake:
            if failures.count >= Self.addressesMax { failures = [:] }
            failures[address, default: 0] &+= 1
        default: failures[address] = nil
        }
    }
}
