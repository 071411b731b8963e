// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshLink
import MeshMembership
import MeshReplication
import MeshStore
import MeshTransport
import MeshTrust
import NIOCore
import NIOPosix
import Synchronization

/// A peer with a valid certificate that does not keep to any rule: `evilpeer DATA PORT SECONDS
/// LIE…`. It links with the node at that port of this host, again and again, and lies to it.
///
/// Ends with one line of what it did, so that a test can tell that it did anything.
@main
struct EvilPeer {
    enum Lie: String, CaseIterable {
        /// Messages of chance bytes: every one may close the link.
        case garbage
        /// Accuses every member of everything, in the names of all.
        case accuse
        /// Says what only others could sign.
        case forge
        /// Asks for and tells more than anybody reads.
        case flood
        /// Claims logs that it does not have, and answers comparisons with nonsense.
        case claim
        /// Says that it has come further in many logs of its own than numbers add up to, and signs
        /// commits there.
        case boast
    }

    static func main() async throws {
        let words = Array(CommandLine.arguments.dropFirst())
        guard words.count >= 4, let address = Address("127.0.0.1:\(words[1])"),
            let seconds = Double(words[2])
        else {
            print("usage: evilpeer DATA PORT SECONDS LIE…")
            exit(64)
        }
        try Sodium.start()
        let identity = try DataDirectory(words[0]).identity()
        let evil = Evil(identity, words.dropFirst(3).compactMap(Lie.init))
        let end = Date().addingTimeInterval(seconds)
        let link = LinkPort(
            group: MultiThreadedEventLoopGroup.singleton,
            identity: LinkIdentity(
                certificate: identity.certificate, key: identity.linkKey, root: identity.root,
                secrets: identity.secrets, version: "666"),
            callbacks: evil.callbacks)
        while Date() < end {
            if evil.connection == nil {
                try? await link.dial(address, known: nil)
                try await Task.sleep(for: .milliseconds(100))
            } else {
                evil.speak()
                try await Task.sleep(for: .milliseconds(5))
            }
        }
        print(evil.account)
    }
}

/// What the evil peer has heard so far, and what it makes of that.
final class Evil: Sendable {
    private struct State {
        var connection: LinkConnection?
        var links = 0
        var said = 0
        var heard: [NodeID: Presence] = [:]
        var random = SeededGenerator(seed: 666)
    }

    private let identity: DataDirectory.Identity
    private let lies: [EvilPeer.Lie]
    private let state = Mutex(State())

    init(_ identity: DataDirectory.Identity, _ lies: [EvilPeer.Lie]) {
        self.identity = identity
        self.lies = lies
    }

    var connection: LinkConnection? { state.withLock { $0.connection } }
    var account: String { state.withLock { "links \($0.links) lies \($0.said)" } }

    var callbacks: LinkCallbacks {
        LinkCallbacks(
            established: { connection, _ in
                self.state.withLock { state in
                    state.connection = connection
                    state.links += 1
                }
                connection.send([
                    LinkMessage.datagramKey(Bytes32(Sodium.random(32)) ?? .zero).encoded
                ])
            },
            message: { _, bytes in self.hear(bytes) },
            closed: { connection, _, _ in
                self.state.withLock { state in
                    if state.connection === connection { state.connection = nil }
                }
            }, newRoot: { _ in })
    }

    /// Learns who there is, to lie about them with what they have really said.
    private func hear(_ bytes: [UInt8]) {
        guard case .rumours(let list)? = try? LinkMessage(decoding: bytes) else { return }
        var reader = WireReader(list)
        for rumour in (try? Rumour.decode(from: &reader)) ?? [] {
            if case .presence(let presence, _) = rumour {
                state.withLock { $0.heard[presence.node] = presence }
            }
        }
    }

    func speak() {
        state.withLock { state in
            guard let connection = state.connection else { return }
            for lie in lies {
                let messages = tell(lie, &state)
                state.said += messages.count
                connection.send(messages)
            }
        }
    }

    private func tell(_ lie: EvilPeer.Lie, _ state: inout State) -> [[UInt8]] {
        let targets = state.heard.values.sorted { $0.node < $1.node }
        switch lie {
        case .garbage:
            let count = Int(state.random.next() % 200) + 1
            return [(0..<count).map { _ in UInt8(truncatingIfNeeded: state.random.next()) }]
        case .accuse:
            var rumours: [Rumour] = []
            for target in targets {
                for accuser in targets {
                    let name = accuser.node.short
                    rumours.append(.suspect(target.node.short, target.version, by: name))
                    rumours.append(.away(target.node.short, target.version, by: name))
                }
            }
            return [told(rumours)]
        case .forge: return [told(forgeries(targets))]
        case .flood:
            let nobody = NodeID(Sodium.random(32)) ?? .zero
            return (0..<50).flatMap { _ in
                [
                    LinkMessage.ping(1).encoded, LinkMessage.wantCertificate(nobody).encoded,
                    LinkMessage.syncPlease.encoded, LinkMessage.credit(.max).encoded,
                    LinkMessage.certificate(nobody.array).encoded, LinkMessage.prune.encoded,
                ]
            }
        case .boast: return boasts()
        case .claim:
            guard let scope = Scope("_mesh@all"), let victim = targets.first else {
                return []
            }
            let log = LogName(
                scope: scope,
                author: Author(
                    node: victim.node, life: Life(victim.version.incarnation)))
            return [
                LinkMessage.have(log, through: .max).encoded,
                LinkMessage.syncTurn([1, 2, 3]).encoded,
                LinkMessage.commits([UInt8](repeating: 9, count: 500)).encoded,
            ]
        }
    }

    /// Well-signed ends of logs without beginnings, as far as sequences go.
    private func boasts() -> [[UInt8]] {
        guard let scope = Scope("menu@all"), let key = try? RecordKey("boast") else { return [] }
        let record = Record(
            kind: .put, stamp: HybridTime(1), key: key, context: .empty, contentType: "",
            body: [1]
        ).encoded
        let mesh = identity.root.meshID
        return (1...8 as ClosedRange<UInt64>).flatMap { life -> [[UInt8]] in
            let author = Author(node: identity.certificate.node, life: Life(life))
            let last = Dot.sequenceMax - 1
            let commit = Commit(
                signing: [record], ids: [Record.id(of: record, in: mesh)], scope: scope,
                author: author, first: last, previous: Blake2b.hash([1]), policy: .builtIn,
                key: identity.nodeKey, mesh: mesh)
            let message = CommitsMessage(
                scope: scope, author: author, after: last - 1, through: last, commits: [commit])
            return [
                LinkMessage.have(LogName(scope: scope, author: author), through: last).encoded,
                LinkMessage.commits(message.encoded).encoded,
            ]
        }
    }

    /// Others' words with other content, under this node's signature or with theirs kept.
    private func forgeries(_ targets: [Presence]) -> [Rumour] {
        targets.flatMap { target -> [Rumour] in
            let version = Presence.Version(incarnation: .max, counter: .max)
            let left = Presence(
                key: identity.nodeKey, mesh: identity.root.meshID, version: version, status: .left,
                wan: .broken, priority: 255, port: 1)
            var bytes = left.encoded
            bytes.replaceSubrange(0..<32, with: target.node.array)
            var reader = WireReader(bytes)
            let vouch = Vouch(
                key: identity.nodeKey, mesh: identity.root.meshID, version: version,
                subject: target.node, isThere: true)
            let forged = (try? Presence(from: &reader)).map { [Rumour.presence($0, address: nil)] }
            return (forged ?? []) + [.vouch(vouch)]
        }
    }

    private func told(_ rumours: [Rumour]) -> [UInt8] {
        var writer = WireWriter()
        Rumour.encode(rumours, to: &writer)
        return LinkMessage.rumours(writer.bytes).encoded
    }
}
