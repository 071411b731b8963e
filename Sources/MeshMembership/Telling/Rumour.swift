// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// The first eight bytes of a node's identity: a name short enough for datagrams.
package typealias ShortID = UInt64

extension FixedBytes {
    /// The first eight bytes as a number.
    package var short: ShortID { array.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }
}

/// What members tell each other about members.
package enum Rumour: Hashable, Sendable {
    /// A member's own words, and where the teller has met it; empty if it has not.
    case presence(Presence, address: Address?)
    /// The accuser has not had an answer from the subject, which so far has said `version`.
    case suspect(ShortID, Presence.Version, by: ShortID)
    /// The accuser has given the subject up until it speaks again.
    case away(ShortID, Presence.Version, by: ShortID)
    /// A member knows at first hand of a member of another site, or does so no longer.
    case vouch(Vouch)

    private enum Tag: UInt8 {
        case presence = 1
        case suspect = 2
        case away = 3
        case vouch = 4
    }

    /// Whom it is about.
    package var subject: ShortID {
        switch self {
        case .presence(let presence, _): presence.node.short
        case .suspect(let node, _, _), .away(let node, _, _): node
        case .vouch(let vouch): vouch.subject.short
        }
    }

    /// Writes tag, length, fields.
    package func encode(to writer: inout WireWriter) {
        var fields = WireWriter()
        let tag: Tag
        switch self {
        case .presence(let presence, let address):
            tag = .presence
            fields.append(presence.encoded)
            // One that is too long for a datagram is not told.
            let text = address.map { Array($0.description.utf8) } ?? []
            fields.short(text.count <= MembershipSpecification.addressBytesMax ? text : [])
        case .suspect(let node, let version, let accuser):
            tag = .suspect
            Self.accusation(&fields, node, version, accuser)
        case .away(let node, let version, let accuser):
            tag = .away
            Self.accusation(&fields, node, version, accuser)
        case .vouch(let vouch):
            tag = .vouch
            fields.append(vouch.encoded)
        }
        writer.u8(tag.rawValue)
        writer.short(fields.bytes)
    }

    private static func accusation(
        _ writer: inout WireWriter, _ node: ShortID, _ version: Presence.Version,
        _ accuser: ShortID
    ) {
        writer.u64(node)
        writer.u64(version.incarnation)
        writer.u64(version.counter)
        writer.u64(accuser)
    }

    /// Bytes of the encoded rumour.
    package var byteCount: Int {
        var writer = WireWriter()
        encode(to: &writer)
        return writer.bytes.count
    }

    /// Writes a count and the rumours.
    package static func encode(_ rumours: [Rumour], to writer: inout WireWriter) {
        let some = rumours.prefix(MembershipSpecification.rumoursMax)
        writer.u8(UInt8(some.count))
        for rumour in some { rumour.encode(to: &writer) }
    }

    /// Reads a count and so many rumours; a kind that is not known is passed over by its length.
    package static func decode(from reader: inout WireReader) throws(WireError) -> [Rumour] {
        let count = Int(try reader.u8())
        guard count <= MembershipSpecification.rumoursMax else {
            throw .tooLong("rumours", count, limit: MembershipSpecification.rumoursMax)
        }
        var rumours: [Rumour] = []
        for _ in 0..<count {
            let tag = try reader.u8()
            var fields = WireReader(try reader.short())
            guard let tag = Tag(rawValue: tag) else { continue }
            switch tag {
            case .presence:
                let presence = try Presence(from: &fields)
                let text = try fields.short()
                guard text.count <= MembershipSpecification.addressBytesMax else {
                    throw .tooLong(
                        "address", text.count, limit: MembershipSpecification.addressBytesMax)
                }
                let address = Address(String(decoding: text, as: UTF8.self))
                guard address != nil || text.isEmpty else { throw .invalid("address") }
                rumours.append(.presence(presence, address: address))
            case .suspect, .away:
                let node = try fields.u64()
                let version = Presence.Version(
                    incarnation: try fields.u64(), counter: try fields.u64())
                let accuser = try fields.u64()
                rumours.append(
                    tag == .suspect
                        ? .suspect(node, version, by: accuser)
                        : .away(node, version, by: accuser))
            case .vouch: rumours.append(.vouch(try Vouch(from: &fields)))
            }
            try fields.finish()
        }
        return rumours
    }
}

/// What a datagram says.
package struct ProbeMessage: Hashable, Sendable {
    /// What is asked or answered.
    package enum Kind: UInt8, Sendable {
        /// Answer with an acknowledgement, if you are the one who is meant.
        case ping = 1
        /// Ping the one who is meant, and tell me.
        case pingRequest = 2
        /// The one who was meant is there.
        case ack = 3
        /// I am here; the one who was meant has not answered me.
        case nack = 4
    }

    /// What is asked or answered.
    package let kind: Kind
    /// Joins question and answer.
    package let sequence: UInt32
    /// Who is meant.
    package let target: ShortID
    /// What goes along.
    package var rumours: [Rumour]

    /// Fills in a message.
    package init(_ kind: Kind, _ sequence: UInt32, _ target: ShortID, rumours: [Rumour] = []) {
        self.kind = kind
        self.sequence = sequence
        self.target = target
        self.rumours = rumours
    }

    /// Bytes before the rumours.
    static let fixedByteCount = 14

    /// Kind, sequence, target, rumours.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        writer.u8(kind.rawValue)
        writer.u32(sequence)
        writer.u64(target)
        Rumour.encode(rumours, to: &writer)
        return writer.bytes
    }

    /// Reads all of `bytes`.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        guard let kind = Kind(rawValue: try reader.u8()) else { throw .invalid("kind") }
        self.kind = kind
        sequence = try reader.u32()
        target = try reader.u64()
        rumours = try Rumour.decode(from: &reader)
        try reader.finish()
    }
}
