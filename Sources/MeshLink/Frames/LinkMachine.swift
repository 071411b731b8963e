// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshTrust

/// One end of a link: bytes in, bytes and messages out; no socket, no clock, no chance of its own.
///
/// A connection is a preamble of 12 bytes each way, three handshake messages, then sealed frames.
/// Every failure throws once and leaves the machine closed.
package struct LinkMachine: ~Copyable {
    /// What came of some bytes.
    package enum Event: Sendable {
        /// Bytes for the socket.
        case send([UInt8])
        /// The peer has proven who it is.
        case established(Peer)
        /// A whole message.
        case message([UInt8])
        /// The peer holds the mesh's secret, and one end has a root document for the other: it may
        /// take its time over a thin line.
        case settling
        /// The peer has sent a root document that goes on where this node's ends.
        case newRoot(RootDocument)
        /// Nothing more comes; what was to be sent is sent first.
        case ended(LinkError)
    }

    /// The other end.
    package struct Peer: Sendable {
        /// Its certificate, verified up to the root.
        package let certificate: Certificate
        /// Its program's version.
        package let version: String
        /// The salt under which both ends compare short hashes.
        package let salt: Salt
        /// The epoch of the mesh's secret by which the link stands: later ones may be unknown to
        /// the peer, or others than here.
        package let epoch: UInt32

        /// Describes a peer to an engine that is run without links, as in a simulation.
        package init(certificate: Certificate, version: String, salt: Salt, epoch: UInt32 = 1) {
            self.certificate = certificate
            self.version = version
            self.salt = salt
            self.epoch = epoch
        }
    }

    private enum Phase {
        case preamble
        case first
        case second
        case third
        case waitingForRoot
        case open
        case closed
    }

    private let identity: LinkIdentity
    private let isInitiator: Bool
    private let expected: NodeID?
    private var handshake: NoiseHandshake?
    private let ephemeral: AgreementKey
    private var phase = Phase.preamble
    /// How many epochs of the mesh's secret before the newest a dialler names.
    private let epochsBack: Int
    /// The epoch whose secret the two ends use.
    private var epoch: UInt32 = 0
    private var received: [UInt8] = []
    private var consumed = 0
    private var sending: CipherState?
    private var receiving: CipherState?
    private var partial: [UInt8] = []
    /// What packs messages; nil where this end does not.
    private let codec: Zstd?
    private var peerPacks = false
    private var packing: Packing?

    /// Begins one end.
    ///
    /// - Parameters:
    ///   - expected: the node that was dialled, where it is known.
    ///   - ephemeral: a key pair for this link alone.
    ///   - epochsBack: see `EpochChoice`.
    ///   - codec: packs messages to a peer of another site that does so too; nil for never.
    package init(
        identity: LinkIdentity, isInitiator: Bool, expecting expected: NodeID?,
        ephemeral: AgreementKey, epochsBack: Int = 0, codec: Zstd? = nil
    ) {
        self.codec = codec
        self.epochsBack = epochsBack
        self.identity = identity
        self.isInitiator = isInitiator
        self.expected = expected
        self.ephemeral = ephemeral
    }

    /// What to send as soon as the connection stands.
    package func opening() -> [UInt8] { isInitiator ? preamble() : [] }

    private var named: UInt32 {
        let all = identity.secrets.all
        let place = isInitiator ? min(max(0, epochsBack), all.count - 1) : 0
        return all.indices.contains(place) ? all[place].epoch : identity.secrets.newest.epoch
    }

    private func preamble() -> [UInt8] {
        var writer = WireWriter(reserving: LinkSpecification.preambleByteCount)
        writer.append(LinkSpecification.magic)
        writer.u8(LinkSpecification.versions.lowerBound)
        writer.u8(LinkSpecification.versions.upperBound)
        writer.u32(named)
        writer.u16(codec == nil ? 0 : PackingSpecification.offer)
        return writer.bytes
    }

    /// Takes bytes from the socket.
    package mutating func receive(_ bytes: [UInt8]) throws(LinkError) -> [Event] {
        guard phase != .closed else { return [] }
        received += bytes
        var events: [Event] = []
        do throws(LinkError) {
            while try step(&events) {}
        } catch {
            phase = .closed
            received = []
            throw error
        }
        if consumed > 0 {
            received.removeFirst(consumed)
            consumed = 0
        }
        return events
    }

    private mutating func step(_ events: inout [Event]) throws(LinkError) -> Bool {
        switch phase {
        case .preamble: try readPreamble(&events)
        case .first, .second, .third: try readHandshake(&events)
        case .waitingForRoot: try readRoot(&events)
        case .open: try readFrame(&events)
        case .closed: false
        }
    }

    private mutating func take(_ count: Int) -> [UInt8]? {
        guard received.count - consumed >= count else { return nil }
        defer { consumed += count }
        return Array(received[consumed..<consumed + count])
    }

    private mutating func readPreamble(_ events: inout [Event]) throws(LinkError) -> Bool {
        let seen = received[consumed...].prefix(LinkSpecification.magic.count)
        guard LinkSpecification.magic.starts(with: seen) else { throw .notAPeer }
        guard let bytes = take(LinkSpecification.preambleByteCount) else { return false }
        let (low, high) = (bytes[4], bytes[5])
        guard low <= high, LinkSpecification.versions.overlaps(low...high) else {
            throw .noCommonVersion(low, high)
        }
        var reader = WireReader(Array(bytes[6..<12]))
        let epoch = (try? reader.u32()) ?? 0
        peerPacks = ((try? reader.u16()) ?? 0) & PackingSpecification.offer != 0
        // The newest that both may know; a change of either preamble on the way fails below.
        self.epoch = min(epoch, named)
        guard let secret = identity.secrets[self.epoch] else { throw .unknownEpoch(epoch) }
        // Both preambles are part of what the handshake proves, so neither can be changed on the
        // way.
        let own = preamble()
        var prologue = SigningContext.link.label + identity.root.meshID.array
        prologue += isInitiator ? own + bytes : bytes + own
        handshake = NoiseHandshake(
            isInitiator: isInitiator, prologue: prologue, psk: secret.linkKey,
            longTerm: identity.key, ephemeral: ephemeral)
        if isInitiator {
            try send(&events) { handshake throws(NoiseError) in try handshake.writeFirst([]) }
            phase = .second
        } else {
            events.append(.send(own))
            phase = .first
        }
        return true
    }

    private mutating func send(
        _ events: inout [Event], _ write: (inout NoiseHandshake) throws(NoiseError) -> [UInt8]
    ) throws(LinkError) {
        guard var current = handshake else { throw .unexpected("a handshake message") }
        do throws(NoiseError) {
            let message = try write(&current)
            handshake = current
            var writer = WireWriter()
            writer.append([UInt8(truncatingIfNeeded: message.count >> 8)])
            writer.u8(UInt8(truncatingIfNeeded: message.count))
            writer.append(message)
            events.append(.send(writer.bytes))
        } catch {
            throw .handshake(error)
        }
    }

    private mutating func readHandshake(_ events: inout [Event]) throws(LinkError) -> Bool {
        guard received.count - consumed >= 2 else { return false }
        let count = Int(received[consumed]) << 8 | Int(received[consumed + 1])
        guard count <= LinkSpecification.handshakeBytesMax else { throw .badLength(count) }
        guard let message = take(2 + count)?.dropFirst(2) else { return false }
        guard var current = handshake else { throw .unexpected("a handshake message") }
        let payload: [UInt8]
        do throws(NoiseError) {
            switch phase {
            case .first: payload = try current.readFirst(Array(message))
            case .second: payload = try current.readSecond(Array(message))
            default: payload = try current.readThird(Array(message))
            }
        } catch {
            throw .handshake(error)
        }
        handshake = current
        let card = LinkHello(identity).encoded
        switch phase {
        case .first:
            try send(&events) { handshake throws(NoiseError) in try handshake.writeSecond(card) }
            phase = .third
        default: try conclude(try LinkHello(decoding: payload), current.peerKey, &events)
        }
        return true
    }

    /// The peer is proven to hold its link key and the mesh's secret. By whose root document it is
    /// judged is settled before it is judged: a certificate may be by a key that only the newer
    /// one names, or may have ceased to stand with it.
    private mutating func conclude(
        _ hello: LinkHello, _ provenKey: Bytes32?, _ events: inout [Event]
    ) throws(LinkError) {
        let certificate: Certificate?
        let root = identity.root
        if hello.rootVersion == root.version, let tag = hello.rootTag, tag != root.tag {
            throw .root("it is another version \(root.version) than this node's")
        }
        let isOlder = (hello.rootVersion, hello.isRootWhole ? 1 : 0) < (root.version, 1)
        let isNewer = (root.version, root.isWhole ? 1 : 0) < (hello.rootVersion, 1)
        let (givesRoot, takesRoot) = (isOlder && root.isWhole, isNewer && hello.isRootWhole)
        certificate = givesRoot || takesRoot ? nil : try judge(hello, provenKey)
        if phase == .second {
            let card = LinkHello(identity).encoded
            try send(&events) { handshake throws(NoiseError) in try handshake.writeThird(card) }
        }
        guard let salt = split() else { return }
        if let certificate {
            phase = .open
            // Between neighbours the line is wide, and the time to pack is dearer.
            if peerPacks, certificate.ticket.site != identity.certificate.ticket.site {
                packing = codec.map { Packing($0) }
            }
            let peer = Peer(
                certificate: certificate, version: hello.version, salt: salt, epoch: epoch)
            return events.append(.established(peer))
        }
        events.append(.settling)
        guard givesRoot else { return phase = .waitingForRoot }
        phase = .open
        events.append(.send(try seal(LinkMessage.root(root.carried).encoded)))
        events.append(.ended(.rootIsOlder(hello.rootVersion)))
        phase = .closed
    }

    /// The peer's root document is newer than this node's: it sends it, and nothing before.
    private mutating func readRoot(_ events: inout [Event]) throws(LinkError) -> Bool {
        var frames: [Event] = []
        let isRead = try readFrame(&frames)
        guard case .message(let bytes)? = frames.first else { return isRead }
        guard let message = try? LinkMessage(decoding: bytes), case .root(let carried) = message
        else { throw .unexpected("another message than the root document") }
        let root: RootDocument
        do throws(TrustError) {
            root = try RootDocument(carried: carried, of: identity.root.meshID)
        } catch {
            throw .root("\(error)")
        }
        guard identity.root.isSucceeded(by: root) else {
            throw .root("it does not go on where this node's ends")
        }
        events.append(.newRoot(root))
        events.append(.ended(.rootWasTaken(root.version)))
        phase = .closed
        return false
    }

    private func judge(
        _ hello: LinkHello, _ provenKey: Bytes32?
    ) throws(LinkError) -> Certificate {
        let certificate: Certificate
        do throws(TrustError) {
            // Who waits for an operator's word proves itself like any other, and gets no further
            // than to be told that it came.
            certificate = try Certificate(
                decoding: hello.certificate, root: identity.root, mayLack: .approval)
        } catch {
            throw .certificate("\(error)")
        }
        guard certificate.linkKey == provenKey else { throw .keyMismatch }
        guard certificate.node != identity.certificate.node else { throw .selfConnect }
        if let expected, certificate.node != expected {
            throw .certificate("another node answers at this address")
        }
        return certificate
    }

    /// The handshake ends in the keys of both directions.
    ///
    /// - Returns: the salt under which both ends compare short hashes.
    private mutating func split() -> Salt? {
        guard let handshake else { return nil }
        let keys = handshake.split()
        sending = keys.sending
        receiving = keys.receiving
        self.handshake = nil
        return Salt(handshake.handshakeHash)
    }

    private mutating func readFrame(_ events: inout [Event]) throws(LinkError) -> Bool {
        guard received.count - consumed >= 2 else { return false }
        let count = Int(received[consumed]) << 8 | Int(received[consumed + 1])
        guard count > ChaChaPoly.tagByteCount else { throw .badLength(count) }
        guard let frame = take(2 + count)?.dropFirst(2) else { return false }
        let plain: [UInt8]
        do throws(NoiseError) {
            plain = try receiving?.open(Array(frame)) ?? []
            if let messages = receiving?.messages, messages % LinkSpecification.framesPerKey == 0 {
                receiving?.rekey()
            }
        } catch {
            throw .badFrame
        }
        guard let flag = plain.first, flag <= 1 else { throw .badFrame }
        partial += plain.dropFirst()
        guard partial.count <= LinkSpecification.messageBytesMax else {
            throw .badLength(partial.count)
        }
        if flag == 0 {
            events.append(.message(try packing?.unpack(partial) ?? partial))
            partial = []
        }
        return true
    }

    /// Packs a message where that is agreed on, and seals it into as many frames as it needs; a
    /// frame's flag says whether more follow.
    package mutating func seal(_ message: [UInt8]) throws(LinkError) -> [UInt8] {
        guard phase == .open else { throw .unexpected("a message before the handshake") }
        guard message.count <= LinkSpecification.messageBytesMax else {
            throw .badLength(message.count)
        }
        let message = packing?.pack(message) ?? message
        var out: [UInt8] = []
        out.reserveCapacity(message.count + 64)
        var offset = 0
        repeat {
            let count = min(LinkSpecification.fragmentBytesMax, message.count - offset)
            let hasMore = offset + count < message.count
            let plain = [hasMore ? 1 : 0] + message[offset..<offset + count]
            do throws(NoiseError) {
                let sealed = try sending?.seal(Array(plain)) ?? []
                out.append(UInt8(truncatingIfNeeded: sealed.count >> 8))
                out.append(UInt8(truncatingIfNeeded: sealed.count))
                out += sealed
                if let messages = sending?.messages, messages % LinkSpecification.framesPerKey == 0
                {
                    sending?.rekey()
                }
            } catch {
                throw .badFrame
            }
            offset += count
        } while offset < message.count
        return out
    }
}
