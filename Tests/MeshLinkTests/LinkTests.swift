// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshLink
internal import MeshStore
import MeshTesting
import MeshTrust
import Testing

/// Fields of a vector file: `name: value` lines, in order, `#` for comments.
struct VectorFile {
    let fields: [(name: String, value: String)]

    init(_ name: String) throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("Vectors/\(name)")
        let text = try String(contentsOf: path, encoding: .utf8)
        fields = text.split(separator: "\n").filter { !$0.hasPrefix("#") }.compactMap { line in
            let parts = line.split(separator: ":", maxSplits: 1)
            return parts.count == 2
                ? (String(parts[0]), parts[1].trimmingCharacters(in: .whitespaces)) : nil
        }
    }

    func all(_ name: String) throws -> [[UInt8]] {
        try fields.filter { $0.name == name }.map { try #require(Hex.decode($0.value)) }
    }

    func bytes(_ name: String) throws -> [UInt8] { try #require(try all(name).first) }

    func key(_ name: String) throws -> AgreementKey {
        AgreementKey(secret: try #require(Bytes32(try bytes(name))))
    }
}

@Suite struct `The handshake` {
    @Test func `gives the bytes that an independent implementation gives`() throws {
        let vector = try VectorFile("xxpsk0.txt")
        let psk = try #require(Bytes32(try vector.bytes("psk")))
        let prologue = try vector.bytes("prologue")
        var first = NoiseHandshake(
            isInitiator: true, prologue: prologue, psk: psk,
            longTerm: try vector.key("init_static"), ephemeral: try vector.key("init_ephemeral"))
        var second = NoiseHandshake(
            isInitiator: false, prologue: prologue, psk: psk,
            longTerm: try vector.key("resp_static"), ephemeral: try vector.key("resp_ephemeral"))
        let (payloads, messages) = (try vector.all("payload"), try vector.all("message"))
        #expect(try first.writeFirst(payloads[0]) == messages[0])
        #expect(try second.readFirst(messages[0]) == payloads[0])
        #expect(try second.writeSecond(payloads[1]) == messages[1])
        #expect(try first.readSecond(messages[1]) == payloads[1])
        #expect(try first.writeThird(payloads[2]) == messages[2])
        #expect(try second.readThird(messages[2]) == payloads[2])
        #expect(first.handshakeHash == (try vector.bytes("handshake_hash")))
        #expect(second.handshakeHash == first.handshakeHash)
    }
}

/// Two ends of a link, with whatever lies between.
struct Pair: ~Copyable {
    var dialler: LinkMachine
    var listener: LinkMachine
    var heard: (dialler: [[UInt8]], listener: [[UInt8]]) = ([], [])
    var established = 0
    var taken: (dialler: RootDocument?, listener: RootDocument?) = (nil, nil)
    var ended: (dialler: LinkError?, listener: LinkError?) = (nil, nil)

    init(
        _ mesh: TestMesh, other: TestMesh? = nil, secret: MeshSecret? = nil, same: Bool = false,
        wrongKey: Bool = false, roots: (dialler: RootDocument, listener: RootDocument)? = nil,
        site: String = "s2", codecs: (dialler: Zstd?, listener: Zstd?) = (nil, nil)
    ) {
        let (a, b) = (mesh.identity("a", site: "s1"), (other ?? mesh).identity("b", site: site))
        func link(
            _ identity: DataDirectory.Identity, _ secret: MeshSecret, _ root: RootDocument? = nil
        ) -> LinkIdentity {
            LinkIdentity(
                certificate: identity.certificate, key: identity.linkKey,
                root: root ?? identity.root, secrets: MeshSecrets(secret), version: "9")
        }
        let thief = LinkIdentity(
            certificate: b.certificate, key: AgreementKey(secret: TestMesh.bytes(77, 77)),
            root: b.root,
            secrets: MeshSecrets(mesh.secret), version: "9")
        dialler = LinkMachine(
            identity: link(a, mesh.secret, roots?.dialler), isInitiator: true, expecting: nil,
            ephemeral: AgreementKey(secret: TestMesh.bytes(50, 1)), codec: codecs.dialler)
        let answering =
            same ? link(a, mesh.secret) : link(b, secret ?? mesh.secret, roots?.listener)
        listener = LinkMachine(
            identity: wrongKey ? thief : answering, isInitiator: false, expecting: nil,
            ephemeral: AgreementKey(secret: TestMesh.bytes(50, 2)), codec: codecs.listener)
    }

    /// Carries bytes both ways until nothing moves, changing them on the way if asked.
    mutating func run(change: (_ number: Int, _ bytes: inout [UInt8]) -> Void = { _, _ in })
        throws(LinkError)
    {
        var toListener = [dialler.opening()]
        var toDialler: [[UInt8]] = []
        var number = 0
        while !toListener.isEmpty || !toDialler.isEmpty {
            let (right, left) = (toListener, toDialler)
            (toListener, toDialler) = ([], [])
            for var bytes in right {
                change(number, &bytes)
                number += 1
                for event in try listener.receive(bytes) {
                    switch event {
                    case .send(let reply): toDialler.append(reply)
                    case .established: established += 1
                    case .message(let message): heard.listener.append(message)
                    case .settling: break
                    case .newRoot(let root): taken.listener = root
                    case .ended(let error): ended.listener = error
                    }
                }
            }
            for var bytes in left {
                change(number, &bytes)
                number += 1
                for event in try dialler.receive(bytes) {
                    switch event {
                    case .send(let reply): toListener.append(reply)
                    case .established: established += 1
                    case .message(let message): heard.dialler.append(message)
                    case .settling: break
                    case .newRoot(let root): taken.dialler = root
                    case .ended(let error): ended.dialler = error
                    }
                }
            }
        }
    }
}

@Suite struct `A link` {
    @Test func `stands when both ends are of one mesh`() throws {
        var pair = Pair(try TestMesh())
        try pair.run()
        #expect(pair.established == 2)
    }

    @Test func `carries messages of any length up to the limit`() throws {
        var pair = Pair(try TestMesh())
        try pair.run()
        for count in [0, 1, 65_518, 65_519, 200_000, LinkSpecification.messageBytesMax] {
            let message = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
            for event in try pair.listener.receive(try pair.dialler.seal(message)) {
                guard case .message(let received) = event else { continue }
                #expect(received == message)
            }
        }
    }

    @Test func `goes on through a change of key`() throws {
        var pair = Pair(try TestMesh())
        try pair.run()
        for number in 0..<(LinkSpecification.framesPerKey + 3) {
            let events = try pair.listener.receive(
                try pair.dialler.seal([UInt8(truncatingIfNeeded: number)]))
            #expect(events.count == 1)
        }
    }

    @Test func `fails when any byte of the handshake is changed`() throws {
        let mesh = try TestMesh()
        var lengths: [Int] = []
        var probe = Pair(mesh)
        try probe.run { _, bytes in lengths.append(bytes.count) }
        for (message, length) in lengths.enumerated() {
            for index in stride(from: 0, to: length, by: 7) {
                var pair = Pair(mesh)
                var failed = false
                do throws(LinkError) {
                    try pair.run { number, bytes in if number == message { bytes[index] ^= 0x40 } }
                } catch { failed = true }
                // A changed length leaves one end waiting; the deadline of five seconds closes it.
                #expect(failed || pair.established < 2)
            }
        }
    }

    @Test func `with another mesh fails before its certificate is shown`() throws {
        let other = try TestMesh(seed: 9)
        var pair = Pair(try TestMesh(), other: other)
        #expect(throws: LinkError.handshake(.notAuthentic)) { try pair.run() }
    }

    @Test func `with another secret fails at the first message`() throws {
        let secret = MeshSecret(epoch: 1, value: TestMesh.bytes(66, 6))
        var pair = Pair(try TestMesh(), secret: secret)
        #expect(throws: LinkError.handshake(.notAuthentic)) { try pair.run() }
    }

    @Test func `with a secret of another epoch says so`() throws {
        var pair = Pair(try TestMesh(), secret: MeshSecret(epoch: 9, value: TestMesh.bytes(66, 6)))
        #expect(throws: LinkError.unknownEpoch(1)) { try pair.run() }
    }

    @Test func `with oneself is recognised`() throws {
        var pair = Pair(try TestMesh(), same: true)
        #expect(throws: LinkError.selfConnect) { try pair.run() }
    }

    @Test func `with a stolen certificate fails for want of its key`() throws {
        var pair = Pair(try TestMesh(), wrongKey: true)
        #expect(throws: LinkError.keyMismatch) { try pair.run() }
    }

    @Test(arguments: ["GET / HTTP/1.1\r\n", "\u{16}\u{3}\u{1}\u{2}\u{0}"])
    func `is closed at the first bytes of another protocol`(text: String) throws {
        var pair = Pair(try TestMesh())
        #expect(throws: LinkError.notAPeer) { _ = try pair.listener.receive(Array(text.utf8)) }
    }

    @Test func `is closed when no version is common`() throws {
        var pair = Pair(try TestMesh())
        let bytes = LinkSpecification.magic + [7, 9, 1, 0, 0, 0, 0, 0]
        #expect(throws: LinkError.noCommonVersion(7, 9)) { _ = try pair.listener.receive(bytes) }
    }

    @Test func `is closed by a handshake message beyond its limit`() throws {
        var pair = Pair(try TestMesh())
        let preamble = LinkSpecification.magic + [1, 1, 1, 0, 0, 0, 0, 0]
        #expect(throws: LinkError.badLength(65_535)) {
            _ = try pair.listener.receive(preamble + [0xff, 0xff])
        }
    }

    @Test func `is closed by an ephemeral key of low order`() throws {
        // The first message must be authentic, so the attacker is an insider who knows the secret.
        let mesh = try TestMesh()
        var pair = Pair(mesh)
        var thrown: LinkError?
        do throws(LinkError) {
            try pair.run { number, bytes in
                guard number == 2 else { return }
                for index in 2..<34 { bytes[index] = 0 }
            }
        } catch { thrown = error }
        #expect(thrown != nil)
        #expect(AgreementKey(secret: TestMesh.bytes(1, 1)).agree(with: .zero) == nil)
    }

    @Test func `is closed by a frame that is changed, repeated, reordered or empty`() throws {
        for fault in 0..<4 {
            var pair = Pair(try TestMesh())
            try pair.run()
            let one = try pair.dialler.seal([1, 2, 3])
            let two = try pair.dialler.seal([4, 5, 6])
            let bytes: [UInt8]
            switch fault {
            case 0: bytes = one.dropLast() + [one[one.count - 1] ^ 1]
            case 1: bytes = one + one
            case 2: bytes = two + one
            default: bytes = [0, 0]
            }
            var thrown: LinkError?
            do throws(LinkError) { _ = try pair.listener.receive(bytes) } catch { thrown = error }
            #expect(thrown == (fault == 3 ? .badLength(0) : .badFrame))
            #expect(try pair.listener.receive(two).isEmpty)
        }
    }

    @Test func `takes a frame however it is cut`() throws {
        var pair = Pair(try TestMesh())
        try pair.run()
        let sealed = try pair.dialler.seal([1, 2, 3])
        var messages = 0
        for byte in sealed { messages += try pair.listener.receive([byte]).count }
        #expect(messages == 1)
    }

    @Test func `takes and gives no message before both have proven who they are`() throws {
        var pair = Pair(try TestMesh())
        #expect(throws: LinkError.unexpected("a message before the handshake")) {
            _ = try pair.dialler.seal([1])
        }
        // A frame that comes where the handshake should go on is no part of it.
        let frame: [UInt8] = [0, 64] + [UInt8](repeating: 7, count: 64)
        let opening = pair.dialler.opening()
        #expect(throws: LinkError.self) {
            _ = try pair.listener.receive(opening)
            _ = try pair.listener.receive(frame)
        }
    }
}

@Suite struct `A message on a link` {
    @Test(arguments: [
        LinkMessage.ping(7), .pong(.max), .goodbye, .syncTurn([1, 2]), .syncAnswer([]), .syncEnd,
        .syncPlease, .commits([9]), .credit(5), .certificate([1]), .wantCertificate(.zero),
        .datagramKey(.zero), .rumours([0]), .clock(9),
    ])
    func `is read as it was written`(message: LinkMessage) throws {
        #expect(try LinkMessage(decoding: message.encoded) == message)
    }

    @Test func `of an unknown even type is skipped, of an odd one closes`() throws {
        #expect(try LinkMessage(decoding: [200, 1, 2, 3]) == .unknown(200))
        #expect(throws: WireError.invalid("message type 201")) { try LinkMessage(decoding: [201]) }
    }

    @Test func `is refused empty, cut off or with bytes after its end`() {
        #expect(throws: WireError.self) { try LinkMessage(decoding: []) }
        #expect(throws: WireError.self) { try LinkMessage(decoding: [1, 2, 3]) }
        #expect(throws: WireError.trailing(1)) { try LinkMessage(decoding: [5, 0]) }
    }
}
