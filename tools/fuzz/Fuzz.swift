// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshContent
import MeshCore
import MeshCrypto
import MeshDiscovery
import MeshLink
import MeshMembership
import MeshReplication
import MeshTrust

/// Decoders of bytes from outside, by name; `FUZZ_TARGET` chooses one.
///
/// None may trap on any bytes, and what is accepted must be written again as the same bytes.
private let targets: [String: @Sendable ([UInt8]) -> Void] = [
    "beacon": { _ = try? Beacon(decoding: $0, mesh: .zero, key: { _ in .zero }) },
    "root": { bytes in
        if let root = try? RootDocument(decoding: bytes) { check(root.encoded, bytes) }
    },
    "root-carried": { bytes in
        if let root = try? RootDocument(carried: bytes) { check(root.carried, bytes) }
    },
    "honours": { bytes in
        if let honours = try? Honours(decoding: bytes) { check(honours.encoded, bytes) }
    },
    "secret": { _ = try? SecretDocument(decoding: $0, root: Fixed.root) },
    "ticket": { _ = try? TicketFile(text: String(decoding: $0, as: UTF8.self)) },
    "ticket-body": { bytes in
        if let ticket = try? Ticket(decodingBody: bytes) { check(ticket.body, bytes) }
    },
    "certificate": { _ = try? Certificate(decoding: $0, root: Fixed.root) },
    "revocation": { _ = try? Revocation(decoding: $0, root: Fixed.root) },
    "link-message": { bytes in
        guard let message = try? LinkMessage(decoding: bytes) else { return }
        if case .unknown = message { return }
        check(message.encoded, bytes)
    },
    "link": { bytes in
        var machine = LinkMachine(
            identity: Fixed.link, isInitiator: false, expecting: nil,
            ephemeral: AgreementKey(secret: Blake2b.hash([1]).bytes))
        _ = try? machine.receive(bytes)
    },
    "packed": { bytes in
        guard let codec = Zstd() else { return }
        var packing = Packing(codec)
        let known = [15, 1, 97] + [UInt8](repeating: 7, count: 200)
        precondition((try? packing.unpack(packing.pack(known))) == known, "read as written")
        _ = try? packing.unpack([57, 2] + bytes)
        _ = try? packing.unpack([57] + bytes)
    },
    "record": { bytes in
        if let record = try? Record(decoding: bytes) { check(record.encoded, bytes) }
    },
    "commit-header": { bytes in
        if let header = try? CommitHeader(decoding: bytes) { check(header.encoded, bytes) }
    },
    "commits": { bytes in
        guard let message = try? CommitsMessage(decoding: bytes) else { return }
        check(message.encoded, bytes)
        for commit in message.commits { _ = commit.verifiedIDs(in: .zero) }
    },
    "policy": { bytes in
        if let policy = try? NamespacePolicy(decoding: bytes) { check(policy.encoded, bytes) }
        if let document = try? PolicyDocument(verified: bytes) { check(document.encoded, bytes) }
    },
    "turn": { bytes in
        if let turn = try? SyncTurn(decoding: bytes) { check(turn.encoded, bytes) }
    },
    "probe": { bytes in
        // A rumour of an unknown kind is passed over, so only what is understood is written again.
        guard let message = try? ProbeMessage(decoding: bytes) else { return }
        precondition((try? ProbeMessage(decoding: message.encoded)) == message, "read as written")
    },
    "membership": { bytes in
        let start = Instant(nanoseconds: 0)
        var members = Fixed.members
        members.receive(bytes, from: "h", now: start)
        guard let message = try? ProbeMessage(decoding: bytes) else { return }
        for rumour in message.rumours { members.hear(rumour, from: Fixed.author.node, start) }
        for second in 1...20 { members.tick(start.advanced(by: .seconds(second))) }
        _ = members.gateway
        _ = members.takeEffects()
    },
    "engine": { bytes in
        var script = EngineScript(bytes)
        script.run()
    },
    "manifest": { bytes in
        if let manifest = try? Manifest(decoding: bytes) {
            check(manifest.encoded, bytes)
            _ = Layout(manifest).bases(in: Layout(manifest))
        }
    },
    "release": { bytes in
        if let release = try? Release(decoding: bytes) { check(release.encoded, bytes) }
        _ = try? SignedRelease(decoding: bytes, root: Fixed.root)
    },
    "content": { bytes in
        if let message = try? ContentMessage(decoding: bytes) {
            check(message.encoded, bytes)
            if case .give(_, .patch(let patch)) = message {
                _ = patch.apply(to: [UInt8](repeating: 1, count: 999))
            }
        }
        _ = try? ChannelProgress.decode(bytes)
    },
    "patch": { bytes in
        let (base, new) = (
            Array(bytes.prefix(bytes.count / 2)), Array(bytes.suffix(bytes.count / 2))
        )
        check(Patch(from: base, to: new).apply(to: base) ?? [], new)
    },
    "session": { bytes in
        var session = SyncSession(role: .responder, salt: Salt([1])) { _ in true }
        guard let turn = try? SyncTurn(decoding: bytes) else { return }
        _ = try? session.answer(turn, Fixed())
        _ = try? session.answer(turn, Fixed())
    },
]

private func check(_ written: [UInt8], _ read: [UInt8]) {
    precondition(written == read, "what was accepted is written as other bytes")
}

/// A mesh and an index that stand still, for the decoders that need one.
private struct Fixed: RecordIndex {
    static let scope = Scope(namespace: "a", audience: .all)
    static let author = Author(node: NodeID(Blake2b.hash([1]).bytes), life: Life(1))
    static let key = SigningKey(seed: Blake2b.hash([9]).bytes)
    static let root = RootDocument(
        name: "fuzz", created: 0, threshold: 1, roots: [key], enrol: [key.publicKey.id],
        revoke: [key.publicKey.id])
    static let link: LinkIdentity = {
        let agreement = AgreementKey(secret: Blake2b.hash([3]).bytes)
        let secret = MeshSecret(epoch: 1, value: Blake2b.hash([4]).bytes)
        let ticket = Ticket(
            key: key.publicKey.id, serial: [UInt8](repeating: 0, count: 16), site: "s", node: "n",
            isCentral: true, groups: [], grants: Grant.central)
        let file = TicketFile(
            root: root, enrol: key, secrets: MeshSecrets(secret), ticketSeed: key.seed,
            ticket: ticket, seeds: [])
        return LinkIdentity(
            certificate: file.certificate(node: key, linkKey: agreement.publicKey), key: agreement,
            root: root, secrets: MeshSecrets(secret), version: "1")
    }()

    static let members: Membership = {
        var members = Membership(
            .init(key: key, mesh: .zero, site: "s", isCentral: true),
            incarnation: Incarnation(1), port: 1, seed: 1, now: Instant(nanoseconds: 0))
        let peer = author.node
        let now = Instant(nanoseconds: 0)
        members.admit(peer, site: "s", isCentral: false, now: now)
        members.admit(NodeID(Blake2b.hash([2]).bytes), site: "t", isCentral: false, now: now)
        members.keyed(peer, sends: .zero, receives: .zero)
        members.linked(peer, host: "h", now: now)
        return members
    }()

    func scopes() -> [Scope] { [Self.scope] }
    func trie(of scope: Scope) -> AuthorTrie {
        AuthorTrie([LogState(author: Self.author, frontier: 5000, root: Blake2b.hash([2]))])
    }
    func children(of author: Author, in scope: Scope, level: Int, index: UInt64) -> [Digest] {
        [Digest](repeating: Blake2b.hash([UInt8(level & 255)]), count: 16)
    }
    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) -> LeafBits { LeafBits(leaf) }
}

private let chosen: @Sendable ([UInt8]) -> Void = {
    let name = ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? ""
    guard let target = targets[name] else { preconditionFailure("FUZZ_TARGET names no target") }
    try? Sodium.start()
    return target
}()

/// What libFuzzer calls with each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    chosen(Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
}
