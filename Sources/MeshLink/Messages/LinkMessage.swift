// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What two linked nodes say to each other. Layout: the article `LinkProtocol`.
///
/// The first byte is the type; a type that is not known is skipped if even and closes the link if
/// odd.
package enum LinkMessage: Hashable, Sendable {
    /// The peer should answer with the same number: for round-trip time and silence.
    case ping(UInt64)
    /// The answer to a ping.
    case pong(UInt64)
    /// The sender closes in good order.
    case goodbye
    /// A turn of the session that the sender began.
    case syncTurn([UInt8])
    /// The answer to a turn of the session that the receiver began.
    case syncAnswer([UInt8])
    /// Everything that the comparison asked of the sender has been sent.
    case syncEnd
    /// The sender has seen a gap and asks the initiator to compare.
    case syncPlease
    /// Records.
    case commits([UInt8])
    /// So many bytes of records have been stored or refused: room for as many more.
    case credit(UInt32)
    /// A certificate that was asked for.
    case certificate([UInt8])
    /// The certificate of a node is wanted.
    case wantCertificate(NodeID)
    /// The key under which the sender receives datagrams from the receiver.
    case datagramKey(Bytes32)
    /// What the sender knows of members.
    case rumours([UInt8])
    /// The sender's clock, in milliseconds since 1970: for operators, never for order.
    case clock(UInt64)
    /// The sender has a log as far as `through`, and sends it where it is asked to.
    case have(LogName, through: UInt64)
    /// The receiver's commits come by another way already: announce them from now on.
    case prune
    /// Commits are to be sent at once again.
    case graft
    /// A revocation: of the receiver, most likely, whose links end with it.
    case revocation([UInt8])
    /// The root document with its list, for a peer that has an older one.
    case root([UInt8])
    /// A change of the mesh's secret that the receiver has not heard of.
    case secret([UInt8])
    /// The sender is to leave the mesh for good, or stays after all.
    case leaving(Bool)
    /// The key of the sender's records, to be kept for it.
    case deposit(Bytes32)
    /// The key of that name is kept, on disk.
    case deposited(Digest)
    /// The sender is locked, and wants its key of that name back.
    case wantKey(Digest)
    /// The key that was wanted.
    case key(Bytes32)
    /// It is not handed out now.
    case noKey(KeyRefusal)
    /// So many bytes of records may be on their way to the sender and not judged yet.
    case window(UInt32)
    /// Whether the receiver holds a log is to be said, or whether the centre does.
    case want([UInt8])
    /// A server's word that it holds a log.
    case holding([UInt8])
    /// A type of a later version that may be skipped.
    case unknown(UInt8)

    /// Why a key is not handed out.
    package enum KeyRefusal: UInt8, Sendable {
        /// No key of that name is kept for the sender.
        case notKept = 1
        /// An operator has to allow it.
        case operatorsWord = 2
    }

    enum Tag: UInt8 {
        case ping = 1
        case pong = 3
        case goodbye = 5
        case syncTurn = 7
        case syncAnswer = 9
        case syncEnd = 11
        case syncPlease = 13
        case commits = 15
        case credit = 17
        case certificate = 19
        case wantCertificate = 21
        case datagramKey = 22
        case rumours = 24
        case clock = 26
        case have = 28
        case prune = 30
        case graft = 32
        case revocation = 40
        case root = 42
        case secret = 44
        case leaving = 46
        case deposit = 48
        case deposited = 50
        case wantKey = 52
        case key = 54
        case noKey = 56
        case window = 58
        case want = 60
        case holding = 62
    }

    /// The type byte and the fields.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        switch self {
        case .ping(let number): Self.put(&writer, .ping) { $0.u64(number) }
        case .pong(let number): Self.put(&writer, .pong) { $0.u64(number) }
        case .goodbye: Self.put(&writer, .goodbye) { _ in }
        case .syncTurn(let turn): Self.put(&writer, .syncTurn) { $0.append(turn) }
        case .syncAnswer(let turn): Self.put(&writer, .syncAnswer) { $0.append(turn) }
        case .syncEnd: Self.put(&writer, .syncEnd) { _ in }
        case .syncPlease: Self.put(&writer, .syncPlease) { _ in }
        case .commits(let bytes): Self.put(&writer, .commits) { $0.append(bytes) }
        case .credit(let count): Self.put(&writer, .credit) { $0.u32(count) }
        case .certificate(let bytes): Self.put(&writer, .certificate) { $0.append(bytes) }
        case .wantCertificate(let node): Self.put(&writer, .wantCertificate) { $0.append(node) }
        case .datagramKey(let key): Self.put(&writer, .datagramKey) { $0.append(key) }
        case .rumours(let bytes): Self.put(&writer, .rumours) { $0.append(bytes) }
        case .clock(let wall): Self.put(&writer, .clock) { $0.u64(wall) }
        case .have(let log, let through):
            Self.put(&writer, .have) {
                $0.scope(log.scope)
                $0.author(log.author)
                $0.u64(through)
            }
        case .prune: Self.put(&writer, .prune) { _ in }
        case .graft: Self.put(&writer, .graft) { _ in }
        case .revocation(let bytes): Self.put(&writer, .revocation) { $0.append(bytes) }
        case .root(let bytes): Self.put(&writer, .root) { $0.append(bytes) }
        case .secret(let bytes): Self.put(&writer, .secret) { $0.append(bytes) }
        case .leaving(let isLeaving): Self.put(&writer, .leaving) { $0.u8(isLeaving ? 1 : 0) }
        case .deposit(let key): Self.put(&writer, .deposit) { $0.append(key) }
        case .deposited(let name): Self.put(&writer, .deposited) { $0.append(name) }
        case .wantKey(let name): Self.put(&writer, .wantKey) { $0.append(name) }
        case .key(let key): Self.put(&writer, .key) { $0.append(key) }
        case .noKey(let reason): Self.put(&writer, .noKey) { $0.u8(reason.rawValue) }
        case .window(let count): Self.put(&writer, .window) { $0.u32(count) }
        case .want(let bytes): Self.put(&writer, .want) { $0.append(bytes) }
        case .holding(let bytes): Self.put(&writer, .holding) { $0.append(bytes) }
        case .unknown(let tag): writer.u8(tag)
        }
        return writer.bytes
    }

    private static func put(
        _ writer: inout WireWriter, _ tag: Tag, _ fields: (inout WireWriter) -> Void
    ) {
        writer.u8(tag.rawValue)
        fields(&writer)
    }

    /// Decodes the envelope; the bytes of turns, records and certificates are decoded where they
    /// are used.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        let type = try reader.u8()
        guard let tag = Tag(rawValue: type) else {
            guard type.isMultiple(of: 2) else { throw .invalid("message type \(type)") }
            self = .unknown(type)
            return
        }
        switch tag {
        case .ping: self = .ping(try reader.u64())
        case .pong: self = .pong(try reader.u64())
        case .goodbye: self = .goodbye
        case .syncTurn: self = .syncTurn(try reader.take(reader.left))
        case .syncAnswer: self = .syncAnswer(try reader.take(reader.left))
        case .syncEnd: self = .syncEnd
        case .syncPlease: self = .syncPlease
        case .commits: self = .commits(try reader.take(reader.left))
        case .credit: self = .credit(try reader.u32())
        case .certificate: self = .certificate(try reader.take(reader.left))
        case .wantCertificate: self = .wantCertificate(try reader.bytes32())
        case .datagramKey: self = .datagramKey(try reader.bytes32())
        case .rumours: self = .rumours(try reader.take(reader.left))
        case .clock: self = .clock(try reader.u64())
        case .have:
            self = .have(
                LogName(scope: try reader.scope(), author: try reader.author()),
                through: try reader.u64())
        case .prune: self = .prune
        case .graft: self = .graft
        case .revocation: self = .revocation(try reader.take(reader.left))
        case .root: self = .root(try reader.take(reader.left))
        case .secret: self = .secret(try reader.take(reader.left))
        case .leaving:
            let flag = try reader.u8()
            guard flag <= 1 else { throw .invalid("leaving") }
            self = .leaving(flag == 1)
        case .deposit: self = .deposit(try reader.bytes32())
        case .deposited: self = .deposited(try reader.bytes32())
        case .wantKey: self = .wantKey(try reader.bytes32())
        case .key: self = .key(try reader.bytes32())
        case .window: self = .window(try reader.u32())
        case .want: self = .want(try reader.take(reader.left))
        case .holding: self = .holding(try reader.take(reader.left))
        case .noKey:
            guard let reason = KeyRefusal(rawValue: try reader.u8()) else {
                throw .invalid("reason")
            }
            self = .noKey(reason)
        }
        try reader.finish()
    }
}
