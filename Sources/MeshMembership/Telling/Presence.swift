// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// What a member says of itself, under its own signature: nobody else can raise or bury it.
package struct Presence: Hashable, Sendable {
    /// Whether the member is there.
    package enum Status: UInt8, Sendable {
        /// It serves.
        case alive = 0
        /// It was stopped in good order and will be back.
        case stopped = 1
        /// It left the mesh for good; only a newer presence of its own revokes that.
        case left = 2
    }

    /// Which of two statements is the newer: the process's incarnation, then its count.
    package struct Version: Hashable, Comparable, Sendable {
        /// The node's incarnation.
        package let incarnation: UInt64
        /// Raised by the node itself, above all to refute a rumour.
        package let counter: UInt64

        /// Joins the two.
        package init(incarnation: UInt64, counter: UInt64) {
            self.incarnation = incarnation
            self.counter = counter
        }

        /// The next count; stays at the end of the range, which only this node's own signature
        /// can reach.
        var next: Version {
            Version(
                incarnation: incarnation, counter: counter == .max ? .max : counter + 1)
        }

        /// Earlier is less.
        package static func < (lhs: Version, rhs: Version) -> Bool {
            lhs.incarnation != rhs.incarnation
                ? lhs.incarnation < rhs.incarnation : lhs.counter < rhs.counter
        }
    }

    /// How the member's own path to other sites does.
    package enum WAN: UInt8, Sendable {
        /// It tried, and reaches nobody.
        case broken = 0
        /// It has had no reason to try.
        case untried = 1
        /// It holds a link with another site.
        case linked = 2
    }

    /// Who speaks.
    package let node: NodeID
    /// Which of its statements this is.
    package let version: Version
    /// Whether it is there.
    package let status: Status
    /// Its path to other sites.
    package let wan: WAN
    /// How much it wants to be its site's gateway; more is more.
    package let priority: UInt8
    /// Where it listens, TCP and UDP.
    package let port: UInt16
    /// Its signature.
    package let signature: Signature

    private static let bodyByteCount = 53

    /// Speaks for the node that holds `key`.
    package init(
        key: SigningKey, mesh: MeshID, version: Version, status: Status, wan: WAN,
        priority: UInt8, port: UInt16
    ) {
        node = key.publicKey.node
        self.version = version
        self.status = status
        self.wan = wan
        self.priority = priority
        self.port = port
        let body = Self.body(node, version, status, wan, priority, port)
        signature = key.sign(body, for: .presence, in: mesh)
    }

    private static func body(
        _ node: NodeID, _ version: Version, _ status: Status, _ wan: WAN, _ priority: UInt8,
        _ port: UInt16
    ) -> [UInt8] {
        var writer = WireWriter(reserving: bodyByteCount)
        writer.append(node)
        writer.u64(version.incarnation)
        writer.u64(version.counter)
        writer.u8(status.rawValue)
        writer.u8(wan.rawValue)
        writer.u8(priority)
        writer.u16(port)
        return writer.bytes
    }

    /// The signed fields, then the signature.
    package var encoded: [UInt8] {
        Self.body(node, version, status, wan, priority, port) + signature.bytes
    }

    /// Reads the fields; `isAuthentic` says whether the node said them.
    package init(from reader: inout WireReader) throws(WireError) {
        node = try reader.bytes32()
        version = Version(incarnation: try reader.u64(), counter: try reader.u64())
        guard let status = Status(rawValue: try reader.u8()) else { throw .invalid("status") }
        self.status = status
        guard let wan = WAN(rawValue: try reader.u8()) else { throw .invalid("wan") }
        self.wan = wan
        priority = try reader.u8()
        port = try reader.u16()
        guard port > 0 else { throw .invalid("port") }
        signature = try reader.signature()
    }

    /// Whether the node itself signed this, for this mesh.
    package func isAuthentic(in mesh: MeshID) -> Bool {
        let body = Self.body(node, version, status, wan, priority, port)
        return VerifyingKey(node).verify(signature, of: body, for: .presence, in: mesh)
    }
}
