// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// Keys of other servers' sealed records, kept for the day that they start.
///
/// Where this server's own records are sealed these keys are too: whoever carries off all servers
/// of a site opens none.
package struct Deposits: Sendable {
    /// Most keys of one server; the oldest goes.
    package static let perNodeMax = 4

    private let notes: Notes
    private let seal: StorageSeal?

    init(_ notes: Notes, _ seal: StorageSeal?) { (self.notes, self.seal) = (notes, seal) }

    /// Keeps a key on disk.
    package func keep(_ key: Bytes32, of node: NodeID) throws {
        let name = node.array + StorageSeal.name(of: key).array
        let held = try notes.all(.deposit).filter { $0.name.starts(with: node.array) }
        if held.contains(where: { $0.name == name }) { return }
        let oldest = held.sorted { Self.order($0.value) < Self.order($1.value) }
        let last = oldest.last.map { Self.order($0.value) } ?? 0
        var writer = WireWriter()
        writer.u64(last &+ 1)
        writer.append(seal?.seal(key.array) ?? key.array)
        try notes.keep(.deposit, name, writer.bytes)
        for one in oldest.dropLast(Self.perNodeMax - 1) {
            try notes.keep(.deposit, one.name, nil)
        }
    }

    /// Whether any key is kept for a server.
    package func isKept(for node: NodeID) throws -> Bool {
        try notes.all(.deposit).contains { $0.name.starts(with: node.array) }
    }

    /// The key of a name that is kept for a server; nil if there is none, or it has rotted.
    package func key(_ name: Digest, of node: NodeID) throws -> Bytes32? {
        let wanted = node.array + name.array
        guard let value = try notes.all(.deposit).first(where: { $0.name == wanted })?.value else {
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
