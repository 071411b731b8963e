// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// The datagram by which nodes on a segment find each other. Layout: the article `BeaconFormat`.
///
/// Authenticated with a key of the mesh, never answered by UDP: it permits one rate-limited dial to
/// the address the packet came from.
package struct Beacon: Hashable, Sendable {
    /// The first four bytes.
    package static let magic: [UInt8] = Array("MSHB".utf8)
    /// This program's version of the layout.
    package static let version: UInt8 = 1
    /// Longest beacon, in bytes; anything longer is dropped unread.
    package static let byteCountMax = 256
    private static let tagByteCount = 16

    /// Epoch of the mesh secret under which it is authenticated.
    package let epoch: UInt32
    /// Who sends it.
    package let node: NodeID
    /// The sender's incarnation.
    package let incarnation: Incarnation
    /// The TCP port it listens on.
    package let port: UInt16
    /// Counts the sender's beacons since its start.
    package let counter: UInt64

    /// Fills in a beacon.
    package init(
        epoch: UInt32, node: NodeID, incarnation: Incarnation, port: UInt16, counter: UInt64
    ) {
        self.epoch = epoch
        self.node = node
        self.incarnation = incarnation
        self.port = port
        self.counter = counter
    }

    /// The datagram: fields, then sixteen bytes of a keyed BLAKE2b over mesh and fields.
    package func encoded(mesh: MeshID, key: Bytes32) -> [UInt8] {
        var writer = WireWriter(reserving: 96)
        writer.append(Self.magic)
        writer.u8(Self.version)
        writer.u8(0)
        writer.append(Self.meshTag(mesh))
        writer.u32(epoch)
        writer.append(node)
        writer.u64(incarnation.value)
        writer.u16(port)
        writer.u64(counter)
        writer.append(Self.tag(writer.bytes, mesh: mesh, key: key))
        return writer.bytes
    }

    private static func meshTag(_ mesh: MeshID) -> [UInt8] { Array(mesh.array.prefix(8)) }

    private static func tag(_ bytes: [UInt8], mesh: MeshID, key: Bytes32) -> [UInt8] {
        Blake2b.keyed(mesh.array + bytes, key: key.array, count: tagByteCount)
    }

    /// Decodes and authenticates a datagram.
    ///
    /// - Parameter key: the key of an epoch; nil for one that is not known.
    package init(
        decoding datagram: [UInt8], mesh: MeshID, key: (_ epoch: UInt32) -> Bytes32?
    ) throws(BeaconRefusal) {
        guard datagram.count <= Self.byteCountMax else { throw .tooLong }
        do throws(WireError) {
            var reader = WireReader(datagram)
            guard try reader.take(4) == Self.magic else { throw .invalid("magic") }
            guard try reader.u8() == Self.version, try reader.u8() == 0 else {
                throw .invalid("version")
            }
            guard try reader.take(8) == Self.meshTag(mesh) else { throw .invalid("mesh") }
            epoch = try reader.u32()
            node = try reader.bytes32()
            incarnation = Incarnation(try reader.u64())
            port = try reader.u16()
            counter = try reader.u64()
            let body = Array(datagram[..<reader.offset])
            let tag = try reader.take(Self.tagByteCount)
            try reader.finish()
            guard let key = key(epoch) else { throw .invalid("epoch") }
            guard Sodium.equal(tag, Self.tag(body, mesh: mesh, key: key)) else {
                throw .invalid("tag")
            }
        } catch {
            switch error {
            case .invalid("mesh"), .invalid("magic"): throw .foreign
            case .invalid("epoch"): throw .unknownEpoch
            case .invalid("tag"): throw .notAuthentic
            case .invalid("version"): throw .unknownVersion
            default: throw .malformed
            }
        }
        guard port != 0 else { throw .malformed }
    }
}

/// Why a datagram was dropped; each is a counter, none is answered.
package enum BeaconRefusal: String, Error, CaseIterable, Sendable {
    /// More than `Beacon.byteCountMax` bytes.
    case tooLong = "too_long"
    /// Another mesh's, or not a beacon at all.
    case foreign
    /// A version of the layout that is not known here.
    case unknownVersion = "unknown_version"
    /// Cut off, too long by a field, or port 0.
    case malformed
    /// An epoch of the mesh's secret that is not known here: that server dials, once it hears this
    /// one.
    case unknownEpoch = "unknown_epoch"
    /// The tag is wrong: another secret, or changed bytes.
    case notAuthentic = "not_authentic"
    /// This node's own, looped back.
    case own
    /// A source that no dial may go to: multicast, broadcast, or not on a local segment.
    case badSource = "bad_source"
    /// More beacons than the budget of a second.
    case overBudget = "over_budget"
}
