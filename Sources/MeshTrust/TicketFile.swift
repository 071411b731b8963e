// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// A ticket as a person carries it: text with everything a new node needs, and a checksum.
package struct TicketFile: Sendable {
    /// What the text begins with.
    package static let prefix = "mesh-ticket-1:"
    /// Most seed addresses in one ticket.
    package static let seedsMax = 16

    /// The mesh to join.
    package let root: RootDocument
    /// What the node is admitted for.
    package let ticket: Ticket
    /// Which enrol key signed.
    package let enrolKey: Bytes32
    /// Its signature over the ticket's body.
    package let enrolSignature: Signature
    /// The secret of the ticket's key, used once and forgotten.
    package let ticketSeed: Bytes32
    /// The mesh's shared secret, in its last epochs.
    package let secrets: MeshSecrets
    /// Addresses to dial across the WAN, `host:port`.
    package let seeds: [String]

    /// Issues a ticket.
    package init(
        root: RootDocument, enrol: SigningKey, secrets: MeshSecrets, ticketSeed: Bytes32,
        ticket: Ticket, seeds: [String]
    ) {
        self.root = root
        self.ticket = ticket
        enrolKey = enrol.publicKey.id
        enrolSignature = enrol.sign(ticket.body, for: .ticket, in: root.meshID)
        self.ticketSeed = ticketSeed
        self.secrets = secrets
        self.seeds = seeds
    }

    /// The text, wrapped for a printer or a screen.
    package var text: String {
        var writer = WireWriter()
        writer.medium(root.encoded)
        writer.append(ticketSeed)
        writer.medium(ticket.body)
        writer.append(enrolKey)
        writer.append(enrolSignature.bytes)
        writer.u32(secrets.first.epoch)
        writer.append(secrets.first.value)
        writer.u8(UInt8(seeds.count))
        for seed in seeds { writer.short(seed.utf8) }
        if !secrets.changes.isEmpty { writer.u8(UInt8(secrets.changes.count)) }
        for change in secrets.changes { writer.medium(change.encoded) }
        let checksum = Blake2b.hash(writer.bytes).array.prefix(4)
        let characters = Array(Base32.encode(writer.bytes + checksum))
        let lines = stride(from: 0, to: characters.count, by: 64).map {
            String(characters[$0..<min($0 + 64, characters.count)])
        }
        return Self.prefix + "\n" + lines.joined(separator: "\n") + "\n"
    }

    /// Reads the text; white space is ignored, anything else that is wrong is named.
    package init(text: String) throws(TrustError) {
        guard text.hasPrefix(Self.prefix) else {
            throw .notATicket("it does not begin with '\(Self.prefix)'")
        }
        let payload = text.dropFirst(Self.prefix.count).filter { !$0.isWhitespace }
        guard let bytes = Base32.decode(payload), bytes.count > 4 else {
            throw .notATicket("it has characters that do not belong, or was cut off")
        }
        let body = Array(bytes.dropLast(4))
        guard Blake2b.hash(body).array.prefix(4).elementsEqual(bytes.suffix(4)) else {
            throw .notATicket("its checksum is wrong: it was cut off or mistyped")
        }
        let rootBytes: [UInt8]
        let ticketBody: [UInt8]
        let secret: MeshSecret
        var changes: [[UInt8]] = []
        do throws(WireError) {
            var reader = WireReader(body)
            rootBytes = try reader.medium("root document", limit: RootDocument.chainBytesMax)
            ticketSeed = try reader.bytes32()
            ticketBody = try reader.medium("ticket", limit: Certificate.byteCountMax)
            enrolKey = try reader.bytes32()
            enrolSignature = try reader.signature()
            secret = MeshSecret(epoch: try reader.u32(), value: try reader.bytes32())
            let count = Int(try reader.u8())
            guard count <= Self.seedsMax else {
                throw .tooLong("seeds", count, limit: Self.seedsMax)
            }
            var seeds: [String] = []
            for _ in 0..<count { seeds.append(String(decoding: try reader.short(), as: UTF8.self)) }
            self.seeds = seeds
            if reader.left > 0 { changes = try Self.changes(&reader) }
            try reader.finish()
            ticket = try Ticket(decodingBody: ticketBody)
        } catch {
            throw .malformed("ticket", error)
        }
        root = try RootDocument(decoding: rootBytes)
        guard root.standing(of: enrolKey, as: .enrol, of: ticketBody, for: .ticket) != nil else {
            throw .unknownEnrolKey
        }
        var known: [SecretDocument] = []
        for bytes in changes { known.append(try SecretDocument(decoding: bytes, root: root)) }
        secrets = MeshSecrets(secret, changes: known)
        let key = VerifyingKey(enrolKey)
        guard key.isValid, SigningKey(seed: ticketSeed).publicKey.id == ticket.key,
            key.verify(enrolSignature, of: ticketBody, for: .ticket, in: root.meshID)
        else { throw .badSignature("ticket") }
    }

    private static func changes(
        _ reader: inout WireReader
    ) throws(WireError) -> [[UInt8]] {
        let count = Int(try reader.u8())
        guard count > 0 else { throw .invalid("changes of the secret") }
        guard count <= MeshSecrets.epochsMax else {
            throw .tooLong("changes of the secret", count, limit: MeshSecrets.epochsMax)
        }
        var list: [[UInt8]] = []
        for _ in 0..<count {
            list.append(try reader.medium("mesh secret", limit: SecretDocument.byteCount))
        }
        return list
    }

    /// Uses the ticket: a certificate for the node whose keys these are.
    package func certificate(node: SigningKey, linkKey: Bytes32) -> Certificate {
        Certificate(
            node: node, linkKey: linkKey, ticket: ticket, enrolKey: enrolKey,
            enrolSignature: enrolSignature, ticketKey: SigningKey(seed: ticketSeed),
            mesh: root.meshID)
    }
}
