// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// A permission to enrol one node, signed by an enrol key of the root document.
///
/// The ticket carries a key of its own. Whoever holds its secret can make one certificate with it,
/// with no network at all; every peer verifies the chain root → enrol → ticket → node.
package struct Ticket: Hashable, Sendable {
    /// Most groups of one node.
    package static let groupsMax = 8
    /// Most grants of one node.
    package static let grantsMax = 32

    /// Bytes of a serial.
    package static let serialByteCount = 16

    /// The ticket's own public key.
    package let key: Bytes32
    /// Sixteen bytes that name the ticket: when it was made, then chance. Of two nodes of one name
    /// at one site the one with the higher serial has the name.
    package let serial: [UInt8]
    /// The site the node will stand at.
    package let site: String
    /// What people will call the node.
    package let node: String
    /// Shown to people; rights come from the grants alone.
    package let isCentral: Bool
    /// The groups the node belongs to, ascending.
    package let groups: [String]
    /// What the node may do.
    package let grants: [Grant]
    /// Whether the node is a member only once an operator has approved its certificate.
    package let needsApproval: Bool

    /// Fills in a ticket; the caller has checked names and counts.
    package init(
        key: Bytes32, serial: [UInt8], site: String, node: String, isCentral: Bool,
        groups: [String], grants: [Grant], needsApproval: Bool = false
    ) {
        self.needsApproval = needsApproval
        self.key = key
        self.serial = serial
        self.site = site
        self.node = node
        self.isCentral = isCentral
        self.groups = groups.sorted()
        self.grants = grants
    }

    /// The time that the next ticket of an operator carries: after that of the one before, also
    /// where the clock was ahead then, so that a name can always be taken over.
    ///
    /// - Parameters:
    ///   - now: milliseconds since 1970.
    ///   - last: the time of the ticket before; nil if there was none.
    /// - Returns: nil if no later time fits into a serial.
    package static func time(now: UInt64, after last: UInt64?) -> UInt64? {
        let timeMax: UInt64 = (1 << 48) - 1
        guard let last else { return min(now, timeMax) }
        return last < timeMax ? min(max(now, last + 1), timeMax) : nil
    }

    /// A serial that is above all that were made at an earlier time.
    ///
    /// - Parameters:
    ///   - milliseconds: since 1970; the lower 48 bits count (as in UUIDs of version 7, RFC 9562).
    ///   - random: ten bytes.
    package static func serial(milliseconds: UInt64, random: [UInt8]) -> [UInt8] {
        let time = (0..<6).map { UInt8(truncatingIfNeeded: milliseconds >> (40 - 8 * $0)) }
        return time + random.prefix(10) + [UInt8](repeating: 0, count: max(0, 10 - random.count))
    }

    /// The bytes that the enrol key signs.
    package var body: [UInt8] {
        var writer = WireWriter()
        writer.append(key)
        writer.append(serial)
        writer.short(site.utf8)
        writer.short(node.utf8)
        writer.u8(isCentral ? 1 : 0)
        writer.u8(UInt8(groups.count))
        for group in groups { writer.short(group.utf8) }
        writer.u8(UInt8(grants.count))
        for grant in grants { grant.encode(to: &writer) }
        writer.u8(needsApproval ? 1 : 0)
        return writer.bytes
    }

    /// Whether a certificate by it, with an approval, is short enough.
    package var fits: Bool {
        let keysAndSignatures = 2 + 2 * 32 + 2 + 32 + 3 * Signature.byteCount
        let approval = 2 + 2 * 32 + Signature.byteCount
        return body.count + keysAndSignatures + approval <= Certificate.byteCountMax
    }

    package init(decodingBody bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        key = try reader.bytes32()
        serial = try reader.take(Self.serialByteCount)
        site = try reader.name("site")
        node = try reader.name("node")
        let central = try reader.u8()
        guard central <= 1 else { throw .invalid("role") }
        isCentral = central == 1
        let groupCount = Int(try reader.u8())
        guard groupCount <= Self.groupsMax else {
            throw .tooLong("groups", groupCount, limit: Self.groupsMax)
        }
        var groups: [String] = []
        for _ in 0..<groupCount {
            let group = try reader.name("group")
            if let last = groups.last, last >= group { throw .unordered("groups") }
            groups.append(group)
        }
        self.groups = groups
        let grantCount = Int(try reader.u8())
        guard grantCount <= Self.grantsMax else {
            throw .tooLong("grants", grantCount, limit: Self.grantsMax)
        }
        var grants: [Grant] = []
        for _ in 0..<grantCount { grants.append(try Grant(from: &reader)) }
        self.grants = grants
        let approval = try reader.u8()
        guard approval <= 1 else { throw .invalid("extension") }
        needsApproval = approval == 1
        try reader.finish()
    }
}

/// A node's identity card: its two keys under a ticket, signed by the ticket's key and its own,
/// and approved by an enrol key where the ticket asks for that.
///
/// Never expires by a clock. Layout: the article `TrustDocuments`.
package struct Certificate: Hashable, Sendable {
    /// Most certificates of one node that are kept; the newest stay.
    package static let perNodeMax = 8
    /// Longest encoded certificate, in bytes.
    package static let byteCountMax = 2048

    /// The Ed25519 key that signs the node's records, its identity.
    package let node: NodeID
    /// The X25519 key that the node proves on every link.
    package let linkKey: Bytes32
    /// What the node was admitted for.
    package let ticket: Ticket
    /// Whether its ticket counts; false for one by a retired key that no list names.
    package let stands: Bool
    /// What an operator compares with what the box shows.
    package let fingerprint: Fingerprint
    /// The operator's word for it; nil where none came, or none is asked for.
    package let approval: SignedDocument?
    /// The certificate as it came.
    package let encoded: [UInt8]

    /// Makes a certificate on the new node itself, and signs it with the ticket and the node's key.
    package init(
        node: SigningKey, linkKey: Bytes32, ticket: Ticket, enrolKey: Bytes32,
        enrolSignature: Signature, ticketKey: SigningKey, mesh: MeshID
    ) {
        var writer = WireWriter()
        writer.append(node.publicKey.id)
        writer.append(linkKey)
        writer.medium(ticket.body)
        writer.append(enrolKey)
        writer.append(enrolSignature.bytes)
        let body = writer.bytes
        var whole = WireWriter()
        whole.medium(body)
        whole.append(ticketKey.sign(body, for: .certificate, in: mesh).bytes)
        whole.append(node.sign(body, for: .certificate, in: mesh).bytes)
        self.node = node.publicKey.node
        self.linkKey = linkKey
        self.ticket = ticket
        stands = true
        fingerprint = Fingerprint(ofBody: body, in: mesh)
        approval = nil
        encoded = whole.bytes
    }

    /// What a certificate may lack and be decoded all the same: a node starts with its own, and a
    /// box that waits is shown to the operator.
    package struct Lack: OptionSet, Sendable {
        /// One for each.
        package let rawValue: UInt8

        /// Joins them.
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Its ticket is by a key that was retired.
        package static let goodKey = Lack(rawValue: 1)
        /// Its ticket asks for approval, and none is there.
        package static let approval = Lack(rawValue: 2)
    }

    /// Whether it makes its node a member, as far as an operator's word is concerned.
    package var isApproved: Bool { approval != nil || !ticket.needsApproval }

    /// Decodes a certificate and verifies its whole chain up to `root`.
    ///
    /// - Parameter lack: what it need not have. An approval that is there and does not verify is
    ///   an error in any case.
    package init(
        decoding bytes: [UInt8], root: RootDocument, mayLack lack: Lack = []
    ) throws(TrustError) {
        let body: [UInt8]
        let approval: SignedDocument?
        let ticketBody: [UInt8]
        let enrolKey: Bytes32
        let signatures: (enrol: Signature, ticket: Signature, node: Signature)
        do throws(WireError) {
            guard bytes.count <= Self.byteCountMax else {
                throw .tooLong("certificate", bytes.count, limit: Self.byteCountMax)
            }
            var reader = WireReader(bytes)
            body = try reader.medium("certificate", limit: Self.byteCountMax)
            let ticketSignature = try reader.signature()
            let nodeSignature = try reader.signature()
            approval = try Self.approval(&reader)
            var fields = WireReader(body)
            node = try fields.bytes32()
            linkKey = try fields.bytes32()
            ticketBody = try fields.medium("ticket", limit: Self.byteCountMax)
            enrolKey = try fields.bytes32()
            signatures = (try fields.signature(), ticketSignature, nodeSignature)
            try fields.finish()
            ticket = try Ticket(decodingBody: ticketBody)
        } catch {
            throw .malformed("certificate", error)
        }
        let keys = (VerifyingKey(enrolKey), VerifyingKey(ticket.key), VerifyingKey(node))
        let standing = root.standing(of: enrolKey, as: .enrol, of: ticketBody, for: .ticket)
        guard let standing else { throw .unknownEnrolKey }
        stands = standing == .good
        guard stands || lack.contains(.goodKey) else { throw .retiredEnrolKey }
        guard keys.0.isValid, keys.1.isValid, keys.2.isValid else { throw .weakKey }
        let mesh = root.meshID
        guard keys.0.verify(signatures.enrol, of: ticketBody, for: .ticket, in: mesh) else {
            throw .badSignature("ticket")
        }
        guard keys.1.verify(signatures.ticket, of: body, for: .certificate, in: mesh),
            keys.2.verify(signatures.node, of: body, for: .certificate, in: mesh)
        else { throw .badSignature("certificate") }
        fingerprint = Fingerprint(ofBody: body, in: mesh)
        self.approval = approval
        encoded = bytes
        try judgeApproval(by: root, lack)
    }

    private static func approval(
        _ reader: inout WireReader
    ) throws(WireError) -> SignedDocument? {
        guard reader.left > 0 else { return nil }
        return try SignedDocument(
            decoding: try reader.take(reader.left), name: "approval", limit: 32)
    }

    private func judgeApproval(by root: RootDocument, _ lack: Lack) throws(TrustError) {
        guard let approval else {
            guard isApproved || lack.contains(.approval) else { throw .notApproved }
            return
        }
        // Of each certificate there is one form with an approval, and one without.
        guard ticket.needsApproval, approval.body == fingerprint.hash.array else {
            throw .badSignature("approval")
        }
        let standing = try approval.verify(
            "approval", .approval, by: .enrol, root: root, unknown: .unknownEnrolKey)
        guard standing == .good || lack.contains(.goodKey) else { throw .retiredEnrolKey }
    }

    /// The certificate with an operator's word for it.
    package func approved(by key: SigningKey, in mesh: MeshID) -> Certificate {
        precondition(ticket.needsApproval && approval == nil, "it waits for a word")
        return Certificate(self, approval: fingerprint.approval(by: key, in: mesh))
    }

    private init(_ other: Certificate, approval: SignedDocument) {
        (node, linkKey, ticket) = (other.node, other.linkKey, other.ticket)
        (stands, fingerprint) = (other.stands, other.fingerprint)
        self.approval = approval
        encoded = other.encoded + approval.encoded
    }

    /// Whether a certificate that was verified once is by a key that was retired since, or approved
    /// by one, and that is not among what stands. What is no certificate is not.
    package static func isRetired(_ bytes: [UInt8], root: RootDocument) -> Bool {
        var whole = WireReader(bytes)
        guard let body = try? whole.medium("certificate", limit: byteCountMax) else { return false }
        if (try? whole.take(2 * Signature.byteCount)) != nil, let approval = try? approval(&whole),
            root.standing(of: approval.key, as: .enrol, of: approval.body, for: .approval)
                == .retired
        {
            return true
        }
        var fields = WireReader(body)
        guard (try? fields.take(64)) != nil,
            let ticket = try? fields.medium("ticket", limit: byteCountMax),
            let key: Bytes32 = try? fields.bytes32()
        else { return false }
        return root.standing(of: key, as: .enrol, of: ticket, for: .ticket) == .retired
    }

    /// Whether a grant allows `verb` in `scope`.
    package func allows(_ verb: Verb, _ scope: Scope) -> Bool {
        ticket.grants.contains { $0.covers(verb, scope) }
    }
}

/// Why a trust document was refused.
package enum TrustError: Error, Hashable {
    /// The bytes are not such a document.
    case malformed(String, WireError)
    /// A version of the root document that this program does not know.
    case unsupportedVersion(UInt32)
    /// The threshold is impossible, or not reached.
    case badThreshold
    /// A signature does not verify.
    case badSignature(String)
    /// The ticket was signed by a key that this mesh's root does not name: another mesh, or a
    /// retired key.
    case unknownEnrolKey
    /// The ticket was signed by a key that was taken out of the root document, and is not one of
    /// those that stand all the same.
    case retiredEnrolKey
    /// The ticket asks for an operator's approval, and the certificate has none.
    case notApproved
    /// The revocation was signed by a key that this mesh's root does not name.
    case unknownRevokeKey
    /// A version of the root document that does not follow the one before.
    case notASuccessor
    /// The list of what stands is not the one that the root document names.
    case wrongHonours
    /// More versions of the root document than one may have.
    case tooManyVersions
    /// A key of small order or not canonical.
    case weakKey
    /// Text that is not a ticket, or was cut off or mistyped.
    case notATicket(String)
}

extension TrustError: CustomStringConvertible {
    /// What is wrong, for a person.
    package var description: String {
        switch self {
        case .malformed(let what, let error): "the \(what) is malformed: \(error)"
        case .unsupportedVersion(let version): "root document version \(version) is not supported"
        case .badThreshold: "the root document is not signed by enough of its keys"
        case .badSignature(let what): "the \(what) has a signature that does not verify"
        case .unknownEnrolKey:
            "the ticket, or its approval, is by a key that this mesh does not know"
        case .retiredEnrolKey:
            "the ticket was issued by a key that the mesh has retired, and is not among those that stand"
        case .notApproved: "an operator has to approve it first (meshctl approve)"
        case .notASuccessor:
            "a version of the root document does not follow the one before"
        case .wrongHonours:
            "the list of what stands is not the one that the root document names"
        case .tooManyVersions:
            "the root document has more than \(RootDocument.versionsMax) versions"
        case .unknownRevokeKey:
            "the revocation is signed by a key that this mesh does not know"
        case .weakKey: "the certificate holds a key that is not safe"
        case .notATicket(let why): "not a ticket: \(why)"
        }
    }
}
