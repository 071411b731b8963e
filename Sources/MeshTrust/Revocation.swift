// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// The end of one node's membership, signed by a revoke key: what of its logs stands, and no more.
///
/// A log that is not named has nothing that stands, so a stolen key cannot write where the list
/// forgot to look. Layout: the article `TrustDocuments`.
package struct Revocation: Hashable, Sendable {
    /// Longest encoded revocation, in bytes.
    package static let byteCountMax = 48 << 10
    /// Most logs of which something stands.
    package static let cutsMax = 1024
    /// Most tickets that one names.
    package static let serialsMax = 16
    /// Longest reason, in bytes.
    package static let reasonBytesMax = 200
    /// The namespace whose records are revocations.
    package static let namespace = "_revoked"
    /// Where they are: every node holds all.
    package static let scope = Scope(namespace: namespace, audience: .all)
    /// The media type of such a record.
    package static let contentType = "application/vnd.mesh.revocation"

    /// The extension that names tickets.
    private static let ticketsTag: UInt8 = 1

    /// Where a log of the node ends.
    package struct Cut: Hashable, Comparable, Sendable {
        /// The log's scope.
        package let scope: Scope
        /// Which life of the node.
        package let life: Life
        /// The last sequence that stands, at least 1.
        package let through: UInt64

        /// Names a cut.
        package init(scope: Scope, life: Life, through: UInt64) {
            self.scope = scope
            self.life = life
            self.through = through
        }

        /// Orders by scope, then life.
        package static func < (lhs: Cut, rhs: Cut) -> Bool {
            (lhs.scope, lhs.life, lhs.through) < (rhs.scope, rhs.life, rhs.through)
        }
    }

    /// Who is no member any more.
    package let node: NodeID
    /// Milliseconds since 1970 by the signer's clock; shown, never judged by.
    package let created: UInt64
    /// What the operator said of it; may be empty.
    package let reason: String
    /// Where its logs end, ascending.
    package let cuts: [Cut]
    /// The serials of its tickets, ascending: nobody is a member by one of them any more, whatever
    /// identity was made with a copy of it.
    package let serials: [[UInt8]]
    /// Whether it counts; false for one by a retired key that no list names.
    package let stands: Bool
    /// The signed bytes.
    package let body: [UInt8]
    /// The document as it came.
    package let encoded: [UInt8]

    /// Makes and signs a revocation; the caller has checked that it `fits`.
    package init(
        of node: NodeID, created: UInt64, reason: String, cuts: [Cut], serials: [[UInt8]] = [],
        key: SigningKey, mesh: MeshID
    ) {
        precondition(Self.fits(reason: reason, cuts: cuts), "the caller checks the size")
        precondition(
            serials.count <= Self.serialsMax
                && serials.allSatisfy { $0.count == Ticket.serialByteCount },
            "a node has so many tickets at most")
        self.node = node
        self.created = created
        self.reason = reason
        self.cuts = cuts.sorted()
        self.serials = serials.sorted { $0.lexicographicallyPrecedes($1) }
        body = Self.body(
            of: node, created: created, reason: reason, cuts: self.cuts, serials: self.serials)
        stands = true
        encoded = SignedDocument(body, .revocation, key: key, mesh: mesh).encoded
    }

    /// Whether a revocation with these parts keeps to the limits.
    package static func fits(reason: String, cuts: [Cut]) -> Bool {
        guard cuts.count <= cutsMax, reason.utf8.count <= reasonBytesMax else { return false }
        let most = Array(
            repeating: [UInt8](repeating: 0, count: Ticket.serialByteCount), count: serialsMax)
        let body = body(of: .zero, created: 0, reason: reason, cuts: cuts, serials: most)
        return body.count + 2 + 32 + Signature.byteCount <= byteCountMax
    }

    private static func body(
        of node: NodeID, created: UInt64, reason: String, cuts: [Cut], serials: [[UInt8]]
    ) -> [UInt8] {
        var body = WireWriter()
        body.u8(1)
        body.append(node)
        body.u64(created)
        body.short(reason.utf8)
        body.u16(UInt16(cuts.count))
        for cut in cuts {
            body.scope(cut.scope)
            body.u64(cut.life.value)
            body.u64(cut.through)
        }
        body.u8(serials.isEmpty ? 0 : 1)
        if !serials.isEmpty {
            body.u8(ticketsTag)
            body.u8(UInt8(serials.count))
            for serial in serials { body.append(serial) }
        }
        return body.bytes
    }

    /// Decodes a revocation and verifies it against the root document.
    ///
    /// One by a retired key is a document still, since every server must keep the same records.
    /// What it says counts only if it `stands`.
    package init(decoding bytes: [UInt8], root: RootDocument) throws(TrustError) {
        let document: SignedDocument
        do throws(WireError) {
            document = try SignedDocument(
                decoding: bytes, name: "revocation", limit: Self.byteCountMax)
            var fields = WireReader(document.body)
            guard try fields.u8() == 1 else { throw .invalid("revocation version") }
            node = try fields.bytes32()
            created = try fields.u64()
            reason = try Self.reason(&fields)
            cuts = try Self.cuts(&fields)
            serials = try Self.serials(&fields)
            try fields.finish()
        } catch {
            throw .malformed("revocation", error)
        }
        let standing = try document.verify(
            "revocation", .revocation, by: .revoke, root: root, unknown: .unknownRevokeKey)
        stands = standing == .good
        body = document.body
        encoded = bytes
    }

    private static func reason(_ reader: inout WireReader) throws(WireError) -> String {
        let bytes = try reader.short()
        guard bytes.count <= reasonBytesMax else {
            throw .tooLong("reason", bytes.count, limit: reasonBytesMax)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .invalid("reason") }
        return text
    }

    /// The extensions: none, or the tickets.
    private static func serials(_ reader: inout WireReader) throws(WireError) -> [[UInt8]] {
        switch try reader.u8() {
        case 0: return []
        case 1: break
        default: throw .invalid("extensions")
        }
        guard try reader.u8() == ticketsTag else { throw .invalid("extension") }
        let count = Int(try reader.u8())
        guard count > 0 else { throw .invalid("serials") }
        guard count <= serialsMax else { throw .tooLong("serials", count, limit: serialsMax) }
        var list: [[UInt8]] = []
        for _ in 0..<count {
            let serial = try reader.take(Ticket.serialByteCount)
            guard list.last?.lexicographicallyPrecedes(serial) ?? true else {
                throw .unordered("serials")
            }
            list.append(serial)
        }
        return list
    }

    private static func cuts(_ reader: inout WireReader) throws(WireError) -> [Cut] {
        let count = Int(try reader.u16())
        guard count <= cutsMax else { throw .tooLong("cuts", count, limit: cutsMax) }
        var list: [Cut] = []
        for _ in 0..<count {
            let cut = Cut(
                scope: try reader.scope(), life: Life(try reader.u64()),
                through: try reader.sequence())
            if let last = list.last {
                guard (last.scope, last.life) < (cut.scope, cut.life) else {
                    throw .unordered("cuts")
                }
            }
            list.append(cut)
        }
        return list
    }

    /// The key of the record that carries it: the node's, then its own name.
    package var key: RecordKey {
        let name = Hex.encode(Blake2b.hash(encoded).array.prefix(16))
        // Hexadecimal digits and one slash are always a key.
        guard let key = try? RecordKey("\(node)/\(name)") else {
            preconditionFailure("a revocation has a name")
        }
        return key
    }
}

/// What stands of the logs of revoked nodes, from all revocations that are known.
package struct RevokedLogs: Sendable {
    private var cuts: [NodeID: [Log: UInt64]] = [:]
    private var serials: Set<[UInt8]> = []

    private struct Log: Hashable {
        let scope: Scope
        let life: Life
    }

    /// Nobody is revoked.
    package init() {}

    /// Adds a revocation; each log ends at the least of all cuts.
    package mutating func add(_ revocation: Revocation) {
        serials.formUnion(revocation.serials)
        var logs: [Log: UInt64] = [:]
        for cut in revocation.cuts {
            logs[Log(scope: cut.scope, life: cut.life)] = cut.through
        }
        guard let known = cuts[revocation.node] else { return cuts[revocation.node] = logs }
        cuts[revocation.node] = known.reduce(into: [:]) { least, log in
            if let other = logs[log.key] { least[log.key] = min(log.value, other) }
        }
    }

    /// Takes out a node whose enrol key the mesh has retired: nothing that it wrote stands.
    package mutating func retire(_ node: NodeID) { cuts[node] = [:] }

    /// Whether a node is no member any more.
    package func contains(_ node: NodeID) -> Bool { cuts[node] != nil }

    /// Whether nobody is a member by a ticket any more.
    package func contains(_ ticket: Ticket) -> Bool { serials.contains(ticket.serial) }

    /// The last sequence of a log that stands, 0 if nothing does; nil where nothing is cut.
    package func end(of author: Author, in scope: Scope) -> UInt64? {
        guard let logs = cuts[author.node] else { return nil }
        return logs[Log(scope: scope, life: author.life)] ?? 0
    }
}
