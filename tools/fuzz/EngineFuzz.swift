// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshDiscovery
import MeshEngine
import MeshLink
import MeshMembership
import MeshReplication
import MeshTrust

/// A whole engine under a script of bytes: peers with good certificates link, say well-formed things
/// in any order, and leave; its store, of which nothing is real here, answers late or never.
///
/// The bytes choose what happens and in which order, so that a coverage-guided fuzzer finds its way
/// through the machines. Nothing may trap, no limit may be broken, and time goes on.
struct EngineScript: ~Copyable {
    private var script: ArraySlice<UInt8>
    private var engine: Engine
    private var now = Instant(nanoseconds: 0)
    private var links: [LinkID] = []
    private var linkCount: UInt64 = 0
    private var asked: [Effect] = []
    /// Whether the node is to leave, and waits to hear whether it may.
    private var isLeaving = false

    init(_ bytes: [UInt8]) {
        script = bytes[...]
        let own = Self.people[0]
        let membership = Membership(
            .init(key: own.key, mesh: .zero, site: "s", isCentral: false),
            incarnation: Incarnation(1), port: 7374, seed: 1, now: now)
        engine = Engine(
            own: own.certificate, membership: membership, seeds: [Self.seed], seed: 1,
            now: now)
    }

    mutating func run() {
        while let op = script.popFirst() {
            happen(op)
            if let broken = engine.brokenLimit { preconditionFailure("broken: \(broken)") }
        }
        for _ in 0..<20 { tick(seconds: 3) }
        precondition(!isLeaving, "whoever asked is never answered")
        _ = (engine.peers, engine.addresses, engine.doubles, engine.membership.members)
    }

    private mutating func byte() -> UInt8 { script.popFirst() ?? 0 }
    private mutating func number() -> UInt64 {
        let byte = byte()
        return [UInt64(byte), UInt64(byte) << 32, .max - UInt64(byte), 1 << 62][Int(byte & 3)]
    }

    private mutating func give(_ input: Input) {
        for effect in engine.step(input, at: now) {
            switch effect {
            case .close(let id, _):
                links.removeAll { $0 == id }
                give(.linkDown(id, reason: "closed"))
            case .compare, .ingest, .read, .keep, .show, .heed:
                asked.append(effect)
            case .handedOver:
                precondition(isLeaving, "nobody asked whether this node may leave")
                isLeaving = false
            default: break
            }
        }
    }

    private mutating func tick(seconds: Int) {
        now = now.advanced(by: .milliseconds(200 + 1000 * seconds))
        give(.tick(wall: 1_700_000_000_000 &+ UInt64(now.nanoseconds / 1_000_000)))
    }

    private mutating func happen(_ op: UInt8) {
        switch op % 16 {
        case 0: tick(seconds: Int(byte() % 32))
        case 1: link()
        case 2:
            guard let id = anyLink() else { return }
            links.removeAll { $0 == id }
            give(.linkDown(id, reason: "gone"))
        case 3...5: answer()
        case 6: own()
        case 7:
            switch byte() % 8 {
            case 0: give(.syncNow)
            case 1: give(.networkChanged)
            case 2:
                let isForced = byte() & 1 == 1
                if isLeaving { return }
                isLeaving = true
                give(.handOver(scopes: [Self.scope], isForced: isForced))
            case 3:
                give(.heard(person().certificate.node, Incarnation(number()), address: Self.seed))
            case 4: give(.dialFailed(address: Self.seed, DialFailure(.unreachable, "")))
            case 5: give(.known(Self.people.dropFirst().map { KnownNode($0.certificate) }))
            case 6: if !isLeaving { give(.stay) }
            default: give(.keepsLosers(of: [person().certificate.node]))
            }
        default: say()
        }
    }

    private mutating func anyLink() -> LinkID? {
        let place = Int(byte())
        return links.isEmpty ? nil : links[place % links.count]
    }

    private mutating func person() -> Person {
        Self.people[1 + Int(byte()) % (Self.people.count - 1)]
    }

    private mutating func link() {
        linkCount += 1
        let (id, person) = (LinkID(linkCount), person())
        let flags = byte()
        links.append(id)
        give(
            .linkUp(
                id,
                LinkMachine.Peer(
                    certificate: person.certificate, version: "1", salt: Salt([1]),
                    epoch: UInt32(flags >> 4)),
                LinkOrigin(
                    remote: "h:1", dialled: flags & 1 == 1 ? Self.seed : nil,
                    isLocal: flags & 2 == 2, interface: flags & 2 == 2 ? "eth0" : nil, host: "h",
                    datagramKey: .zero)))
    }

    private mutating func say() {
        guard let id = anyLink() else { return }
        give(.message(id, message().encoded))
    }

    private mutating func message() -> LinkMessage {
        switch byte() % 20 {
        case 0: return .ping(number())
        case 1: return .pong(number())
        case 2: return .goodbye
        case 3: return .syncTurn(turn())
        case 4: return .syncAnswer(turn())
        case 5: return .syncEnd
        case 6: return .syncPlease
        case 7, 8: return .commits(commits().encoded)
        case 9: return .credit(UInt32(truncatingIfNeeded: number()))
        case 10: return .certificate(person().certificate.encoded)
        case 11: return .wantCertificate(person().certificate.node)
        case 12: return .datagramKey(.zero)
        case 13: return .rumours(rumours())
        case 14: return .clock(number())
        case 15: return .have(log(), through: number())
        case 16: return byte() & 1 == 0 ? .prune : .graft
        case 17: return .revocation(Self.revocation)
        case 18: return .leaving(byte() & 1 == 1)
        default: return .secret([UInt8](script.prefix(40)))
        }
    }

    private mutating func log() -> LogName {
        LogName(
            scope: Self.scope,
            author: Author(node: person().certificate.node, life: Life(UInt64(byte() % 4))))
    }

    /// A turn of a peer that compares an index of its own, or bytes.
    private mutating func turn() -> [UInt8] {
        let (mine, theirs) = (StandingIndex(number()), StandingIndex(number()))
        let kind = byte() & 3
        if kind == 3 { return [UInt8](script.prefix(64)) }
        var one = SyncSession(role: .initiator, salt: Salt([1])) { _ in true }
        var other = SyncSession(role: .responder, salt: Salt([1])) { _ in true }
        guard let first = try? one.begin(mine) else { return [] }
        if kind == 0 { return first.encoded }
        guard let second = try? other.answer(first, theirs).reply else { return [] }
        if kind == 1 { return second.encoded }
        return (try? one.answer(second, mine).reply.encoded) ?? []
    }

    private mutating func rumours() -> [UInt8] {
        let (node, accuser) = (person().certificate.node.short, person().certificate.node.short)
        let version = Presence.Version(incarnation: number(), counter: number())
        let speaker = person()
        let presence = Presence(
            key: speaker.key, mesh: .zero, version: version,
            status: byte() & 1 == 0 ? .alive : .left, wan: .linked, priority: byte(), port: 7374)
        let all: [Rumour] = [
            .presence(presence, address: Address("10.0.0.1:7374")),
            .suspect(node, version, by: accuser),
            .away(node, version, by: accuser),
            .vouch(
                Vouch(
                    key: speaker.key, mesh: .zero, version: version,
                    subject: person().certificate.node, isThere: byte() & 1 == 1)),
        ]
        var writer = WireWriter()
        Rumour.encode([all[Int(byte() % 4)]], to: &writer)
        return writer.bytes
    }

    private mutating func commits() -> CommitsMessage {
        let log = log()
        let first = max(1, number() & 0xffff)
        let record = Record(
            kind: .put, stamp: HybridTime(1), key: Self.key,
            context: Context([Dot(author: self.log().author, sequence: max(1, number() >> 2))]),
            contentType: "", body: [byte()])
        let commit = Commit(
            signing: [record.encoded], ids: [Record.id(of: record.encoded, in: .zero)],
            scope: log.scope, author: log.author, first: first,
            previous: first == 1 ? .zero : Blake2b.hash([1]), policy: .builtIn,
            key: Self.people[1].key, mesh: .zero)
        return CommitsMessage(
            scope: log.scope, author: log.author, after: byte() & 1 == 0 ? first - 1 : first,
            through: first, commits: [commit])
    }

    /// This node's own commits are durable.
    private mutating func own() {
        let message = commits()
        let author = Author(node: Self.people[0].certificate.node, life: message.author.life)
        give(
            .committed([
                CommitsMessage(
                    scope: message.scope, author: author, after: message.after,
                    through: message.through, commits: message.commits)
            ]))
    }

    // MARK: The store

    private mutating func answer() {
        guard !asked.isEmpty else { return }
        // In order for each link, as the lane of the store does it.
        switch asked.removeFirst() {
        case .compare(let id, let session, let turn): compare(id, session, turn)
        case .ingest(let id, let ticket): give(.ingested(id, ticket, outcome(of: ticket.message)))
        case .read(let id, let request):
            give(.chunk(id, [commits()], rest: byte() & 1 == 1 ? request : nil))
        case .keep(let id, let bytes):
            give(.certificate(id, try? Certificate(decoding: bytes, root: Self.root)))
        case .show(let id, let node):
            give(
                .shown(
                    id,
                    Self.people.map(\.certificate).filter { $0.node == node }.map(\.encoded)))
        case .heed(let id, _): give(.heeded(id, isGood: byte() & 1 == 1))
        default: break
        }
    }

    private mutating func compare(_ id: LinkID, _ session: SyncSession, _ turn: SyncTurn?) {
        var session = session
        let result: ComparisonResult
        do {
            if let turn {
                var outcome = try session.answer(turn, StandingIndex(5000))
                if byte() & 7 == 0 { outcome.isInStep = true }
                outcome.windows = 1 + Int(byte() & 3)
                result = .outcome(outcome)
            } else {
                var outcome = SyncSession.Outcome()
                outcome.reply = try session.begin(StandingIndex(5000))
                result = .outcome(outcome)
            }
        } catch let refusal as SyncRefusal {
            result = .refused(refusal)
        } catch { result = .failed }
        give(.compared(id, session, byte() & 15 == 0 ? .failed : result))
    }

    private mutating func outcome(of message: CommitsMessage) -> IngestOutcome {
        var outcome = IngestOutcome()
        let flags = byte()
        outcome.frontier = flags & 1 == 1 ? message.through : number() >> 2
        outcome.authorSite = flags & 2 == 2 ? "s" : "t"
        outcome.stored = flags & 1 == 1 ? 1 : 0
        outcome.hasAdvanced = flags & 1 == 1
        outcome.hasGap = flags & 4 == 4
        outcome.isDuplicate = flags & 8 == 8
        outcome.isFork = flags & 16 == 16
        if flags & 32 == 32 { outcome.waits = .place(log(), sequence: 9) }
        if flags & 64 == 64 { outcome.outvoted = [message] }
        if flags & 128 == 128 {
            outcome.refusal =
                [.badSignature, .authorUnknown, .notGranted, .unavailable, .revoked][
                    Int(byte() % 5)]
        }
        if byte() & 3 == 0 { outcome.evidence = [.evidence(message.scope, message.author)] }
        if byte() & 3 == 0 { outcome.provenTo = number() >> 2 }
        return outcome
    }

    // MARK: Who there is

    struct Person {
        let key: SigningKey
        let certificate: Certificate
    }

    private static let seed: Address = {
        guard let seed = Address("10.0.0.9:7374") else { preconditionFailure("it is an address") }
        return seed
    }()
    private static let scope = Scope(namespace: "a", audience: .all)
    private static let key: RecordKey = {
        guard let key = try? RecordKey("k") else { preconditionFailure("'k' is a key") }
        return key
    }()
    private static let master = SigningKey(seed: Blake2b.hash([9]).bytes)
    private static let root = RootDocument(
        name: "fuzz", created: 0, threshold: 1, roots: [master], enrol: [master.publicKey.id],
        revoke: [master.publicKey.id])
    /// The node itself, two neighbours of which one has the other's name, a far one, the centre.
    static let people: [Person] = [
        ("s", "own"), ("s", "till"), ("s", "till"), ("t", "far"), ("hq", "centre"),
    ].enumerated().map { place, name in
        let key = SigningKey(seed: Blake2b.hash([UInt8(20 + place)]).bytes)
        let isCentral = name.0 == "hq"
        let ticket = Ticket(
            key: master.publicKey.id, serial: [UInt8](repeating: UInt8(place), count: 16),
            site: name.0, node: name.1, isCentral: isCentral, groups: [],
            grants: isCentral ? Grant.central : Grant.edge(site: name.0, groups: []))
        let file = TicketFile(
            root: root, enrol: master,
            secrets: MeshSecrets(MeshSecret(epoch: 1, value: Blake2b.hash([4]).bytes)),
            ticketSeed: master.seed, ticket: ticket, seeds: [])
        let link = AgreementKey(secret: Blake2b.hash([UInt8(40 + place)]).bytes)
        return Person(key: key, certificate: file.certificate(node: key, linkKey: link.publicKey))
    }
    private static let revocation = Revocation(
        of: people[3].certificate.node, created: 1, reason: "", cuts: [], key: master,
        mesh: root.meshID
    ).encoded
}

/// An index of one log that stands still.
struct StandingIndex: RecordIndex {
    private static let scope = Scope(namespace: "a", audience: .all)
    private let frontier: UInt64
    private var author: Author {
        Author(node: EngineScript.people[1].certificate.node, life: Life(1))
    }

    init(_ frontier: UInt64) { self.frontier = max(1, frontier >> 2) }

    func scopes() -> [Scope] { [Self.scope] }
    func trie(of scope: Scope) -> AuthorTrie {
        AuthorTrie([LogState(author: author, frontier: frontier, root: Blake2b.hash([2]))])
    }
    func children(of author: Author, in scope: Scope, level: Int, index: UInt64) -> [Digest] {
        [Digest](repeating: Blake2b.hash([UInt8(level & 255)]), count: 16)
    }
    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) -> LeafBits { LeafBits(leaf) }
}
