// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// What stands of the signatures of keys that a root document has retired.
///
/// Nobody can tell by a signature when it was made. So whoever retires a key, because it was stolen
/// or because its time has come, names what it had signed until then. Anything else of it, whenever
/// it turns up, counts nowhere. The root document holds the list's hash, so both change together.
/// Layout: the article `TrustDocuments`.
package struct Honours: Hashable, Sendable {
    /// Most entries.
    package static let countMax = 16_384

    private let entries: Set<Digest>

    /// The hash that a root document names; of an empty list too.
    package let hash: Digest

    /// Makes a list; the caller has checked the count.
    package init(_ entries: some Sequence<Digest>) {
        self.entries = Set(entries)
        precondition(self.entries.count <= Self.countMax, "the caller checks the count")
        hash = Blake2b.hash(Self.encode(self.entries))
    }

    /// Decodes a list: its entries ascending, and nothing else.
    package init(decoding bytes: [UInt8]) throws(TrustError) {
        guard bytes.count <= Self.countMax * 32 else {
            throw .malformed(
                "list of what stands", .tooLong("entries", bytes.count / 32, limit: Self.countMax))
        }
        var list: Set<Digest> = []
        do throws(WireError) {
            var reader = WireReader(bytes)
            var last: Digest?
            while reader.left > 0 {
                let entry: Digest = try reader.bytes32()
                if let last, last >= entry { throw .unordered("entries") }
                list.insert(entry)
                last = entry
            }
        } catch {
            throw .malformed("list of what stands", error)
        }
        entries = list
        hash = Blake2b.hash(bytes)
    }

    /// What a signed body is called in a list: the hash of what is signed, without the mesh.
    package static func name(of body: [UInt8], for context: SigningContext) -> Digest {
        Blake2b.hash(context.message(mesh: .zero, body: body))
    }

    /// How many entries there are.
    package var count: Int { entries.count }

    /// Whether something stands.
    package func contains(_ name: Digest) -> Bool { entries.contains(name) }

    /// The list as it is stored and carried.
    package var encoded: [UInt8] { Self.encode(entries) }

    /// A list with more entries.
    package func adding(_ more: some Sequence<Digest>) -> Set<Digest> { entries.union(more) }

    private static func encode(_ entries: Set<Digest>) -> [UInt8] {
        var writer = WireWriter()
        for entry in entries.sorted() { writer.append(entry) }
        return writer.bytes
    }
}
