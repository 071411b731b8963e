// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshEngine
internal import MeshLink
internal import MeshOracle
internal import MeshReplication
internal import MeshStore
internal import MeshTrust

/// What a server with a valid key can sign, or say, that is not so.
///
/// Each is made here from the formats alone, and sent over links as the server's own engine would.
package enum Lie: String, CaseIterable, Sendable {
    /// A value that has seen a place of an honest server which nobody has written yet.
    case future
    /// A value that has seen a life which never was.
    case invention
    /// A life that inherits more of the server's own than there is.
    case inheritance
    /// A log that begins near the end of all numbers.
    case jump
    /// Two histories of one life, one for each half of the peers.
    case fork
    /// One key, written in more lives than a key may have values.
    case crowd
    /// A value under a definition of its namespace that nobody has signed.
    case policy
    /// A value where only the centre may write.
    case grant
    /// A record that does not match what is signed.
    case forgery
    /// A log of an honest server that goes further than it does.
    case frontier
    /// Bytes that are no message.
    case noise
}

extension Simulation {
    func tell(_ lie: Lie, from node: SimulatedNode) {
        guard node.isUp, let store = node.store else { return }
        guard let writer = Liar(node, store, life: random.next()) else { return }
        mark(.lied)
        // One that is never revoked: what names a revoked node's places is not waited for.
        let honest = nodes[0]
        let author = honest.store?.author ?? Author(node: honest.id, life: Life(1))
        let key = random.next() % 6
        switch lie {
        case .future:
            let far = Dot(author: author, sequence: 1 << 20)
            spread(writer.notes(key, seen: [far]), from: node)
        case .invention:
            let nobody = Author(node: honest.id, life: Life(random.next()))
            spread(writer.notes(key, seen: [Dot(author: nobody, sequence: 1)]), from: node)
        case .inheritance:
            let own = Inheritance(life: store.author.life, through: 1 << 20)
            spread(writer.notes(key, inherits: [own]), from: node)
        case .jump: spread(writer.notes(key, first: 1 << 62), from: node)
        case .fork: fork(node, writer)
        case .crowd: crowd(node, store, key)
        case .policy: spread(writer.notes(key, policy: Blake2b.hash([9])), from: node)
        case .grant:
            guard !node.identity.certificate.ticket.isCentral else { return }
            spread(writer.prices(key), from: node)
        case .forgery: spread(writer.forgery(key), from: node)
        case .frontier:
            let log = LogName(scope: Liar.scope, author: author)
            for id in links(of: node) { send(node, id, .have(log, through: 1 << 30)) }
        case .noise: makeNoise(node)
        }
    }

    private func links(of node: SimulatedNode) -> [LinkID] {
        node.ends.keys.sorted().filter { node.ends[$0]?.isEstablished == true }
            .map { LinkID($0) }
    }

    private func spread(_ message: CommitsMessage?, from node: SimulatedNode) {
        guard let message else { return }
        for id in links(of: node) { send(node, id, .commits(message.encoded)) }
    }

    /// Both histories are well signed: it is the business of all others to keep the same one.
    private func fork(_ node: SimulatedNode, _ writer: Liar) {
        let keys = (random.next() % 6, random.next() % 6)
        for key in [keys.0, keys.1] {
            apps.oracle.spoil(Apps.cell(Liar.scope, Liar.key(key)))
        }
        let (one, other) = (writer.notes(keys.0), writer.notes(keys.1))
        for (place, id) in links(of: node).enumerated() {
            guard let message = place.isMultiple(of: 2) ? one : other else { continue }
            send(node, id, .commits(message.encoded))
        }
    }

    /// Each life is well signed, and none has seen another.
    private func crowd(_ node: SimulatedNode, _ store: Store, _ key: UInt64) {
        apps.oracle.spoil(Apps.cell(Liar.scope, Liar.key(key)))
        for _ in 0..<230 { spread(Liar(node, store, life: random.next())?.notes(key), from: node) }
    }

    private func makeNoise(_ node: SimulatedNode) {
        for id in links(of: node) {
            let bytes = (0..<40).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let message: LinkMessage =
                switch random.next() % 6 {
                case 0: .syncTurn(bytes)
                case 1: .syncAnswer(bytes)
                case 2: .commits(bytes)
                case 3: .rumours(bytes)
                case 4: .credit(UInt32(truncatingIfNeeded: random.next()))
                default: .syncEnd
                }
            send(node, id, message)
        }
    }
}

/// Signs with a server's key in a life that its store knows nothing of.
private struct Liar {
    static let scope = Scope(namespace: "notes", audience: .all)

    private let node: SimulatedNode
    private let author: Author
    private let policies: [String: PolicyID]
    private var mesh: MeshID { node.identity.root.meshID }

    init?(_ node: SimulatedNode, _ store: Store, life: UInt64) {
        self.node = node
        author = Author(node: node.id, life: Life(life))
        let mesh = node.identity.root.meshID
        policies = Apps.namespaces.reduce(into: [:]) { all, entry in
            all[entry.key] = entry.value.id(for: entry.key, in: mesh)
        }
    }

    static func key(_ number: UInt64) -> RecordKey {
        guard let key = try? RecordKey("k/\(number)") else {
            preconditionFailure("'k/\(number)' is a key")
        }
        return key
    }

    private func record(_ key: UInt64, _ seen: [Dot]) -> Record {
        Record(
            kind: .put, stamp: HybridTime(1 << 62), key: Self.key(key), context: Context(seen),
            contentType: "", body: Array("lie".utf8))
    }

    private func message(
        _ scope: Scope, _ record: Record, first: UInt64, policy: PolicyID,
        inherits: [Inheritance] = []
    ) -> CommitsMessage {
        let bytes = record.encoded
        let commit = Commit(
            signing: [bytes], ids: [Record.id(of: bytes, in: mesh)], scope: scope, author: author,
            first: first, previous: first == 1 ? .zero : Blake2b.hash([1]), policy: policy,
            inherits: inherits, key: node.identity.nodeKey, mesh: mesh)
        return CommitsMessage(
            scope: scope, author: author, after: first - 1, through: first, commits: [commit])
    }

    func notes(
        _ key: UInt64, seen: [Dot] = [], first: UInt64 = 1, inherits: [Inheritance] = [],
        policy: Digest? = nil
    ) -> CommitsMessage? {
        guard let known = policies["notes"] else { return nil }
        return message(
            Self.scope, record(key, seen), first: first,
            policy: policy.map { PolicyID($0) } ?? known, inherits: inherits)
    }

    func prices(_ key: UInt64) -> CommitsMessage? {
        guard let known = policies["prices"] else { return nil }
        return message(
            Scope(namespace: "prices", audience: .all), record(key, []), first: 1, policy: known)
    }

    /// The header of one record, with another in its place.
    func forgery(_ key: UInt64) -> CommitsMessage? {
        guard let good = notes(key), let commit = good.commits.first else { return nil }
        let forged = Commit(
            header: commit.header, signature: commit.signature, proof: commit.proof,
            records: [record(key &+ 1, []).encoded])
        return CommitsMessage(
            scope: good.scope, author: good.author, after: good.after, through: good.through,
            commits: [forged])
    }
}
