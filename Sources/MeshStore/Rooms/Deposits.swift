// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// Keys of other servers' sealed records, kept for the day that they start.
///
/// Where this server's own records are sealed these keys are too: whoever carries off all servers
/// of a site opens none.
package struct Deposits: Sendable {
    /// Most keys of one server, which has one for as long as it is that server. Where more come,
    /// the first stay: whoever has a copy of its disk pushes out none of them.
    package static let perNodeMax = 4

    private let notes: Notes
    private let seal: StorageSeal?

    init(_ notes: Notes, _ seal: StorageSeal?) { (self.notes, self.seal) = (notes, seal) }

    /// Keeps a key on disk.
    package func keep(_ key: Bytes32, of node: NodeID) throws {
        let name = StorageSeal.name(of: key)
        // One that has rotted is written anew.
        if try self.key(name, of: node) == key { return }
        let held = try notes.all(.deposit, of: node.array)
            .filter { $0.name != node.array + name.array }
            .sorted { Self.order($0.value) < Self.order($1.value) }
        var writer = WireWriter()
        writer.u64((held.last.map { Self.order($0.value) } ?? 0) &+ 1)
        writer.append(seal?.seal(key.array) ?? key.array)
        try notes.keep(.deposit, node.array + name.array, writer.bytes)
        for one in held.dropFirst(Self.perNodeMax - 1) { try notes.keep(.deposit, one.name, nil) }
    }

    /// Whether any key is kept for a server.
    package func isKept(for node: NodeID) throws -> Bool {
        try !notes.all(.deposit, of: node.array).isEmpty
    }

    /// The servers for which keys are kept.
    package func wards() throws -> Set<NodeID> {
        Set(try notes.all(.deposit).compactMap { NodeID(Array($0.name.prefix(32))) })
    }

    /// The key of a name that is kept for a server; nil if there is none, or it has rotted.
    package func key(_ name: Digest, of node: NodeID) throws -> Bytes32? {
        guard let value = try notes.all(.deposit, of: node.array + name.array).first?.value else {
            return nil
        }
        let bytes = Array(value.dropFirst(8))
        let key = Bytes32(seal.map { $0.open(bytes) ?? [] } ?? bytes)
        return key.flatMap { StorageSeal.name(of: $0) == name ? $0 : nil }
    }

    private static func order(_ value: [UInt8]) -> UInt64 {
        var reader = WireReader(value)
        return (try? reader.u64()) ?? 0
    }
}
