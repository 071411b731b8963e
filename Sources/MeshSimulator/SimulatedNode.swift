// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshEngine
internal import MeshLink
internal import MeshReplication
internal import MeshOracle
internal import MeshRules
internal import MeshStore
internal import MeshTrust
internal import Synchronization

/// A server in virtual time: the real engine and the real store on a disk that can fail.
final class SimulatedNode {
    let index: Int
    let name: String
    var site: String { identity.certificate.ticket.site }
    var identity: DataDirectory.Identity
    let disk = SimulatedDisk()
    let clock: Clock
    let outbox = Outbox()

    var engine: Engine?
    var store: Store?
    /// Counts processes: what was meant for an earlier one is dropped.
    var life = 0
    var isPaused = false
    /// Inputs that wait while the process stands still or the engine works.
    var inbox: [Input] = []
    var isStepping = false
    /// When the store will have done what it was asked.
    var storeFree = Instant(nanoseconds: 0)
    var ends: [UInt64: SimulatedLink.End] = [:]
    var nextLink: UInt64 = 1
    var image: SimulatedDisk.Image?
    var wasEmptied = false
    var lastLife: Life?
    var lastGateway: NodeID?
    var absent: Set<NodeID> = []
    /// Who follows its feed.
    var follower = Apps.Follower()
    /// Another server of the same identity: this one's disk was copied from it.
    var isCopy = false
    /// Whether it was taken away for good.
    var isRetired = false
    /// Whether a bit of its database has flipped.
    var isRotten = false
    /// Whether it was when its images were made.
    var isImageRotten = false
    var isSnapshotRotten = false
    /// Its process has ended since for what it could not read.
    var isSuspect = false
    /// What its disk held when its image was made, as far as was seen.
    var imageHeld: Set<Oracle.WriteID> = []
    /// A virtual machine as it was saved, with its memory.
    var snapshot: (image: SimulatedDisk.Image, memory: StoredStart, held: Set<Oracle.WriteID>)?
    /// What the process remembers that goes on where the next one would start.
    var memory: StoredStart?
    /// Requests with a name that were acknowledged, with what was answered.
    var answered: [(prepared: Apps.Prepared, receipts: [Receipt])] = []
    /// How much of what the store counts was seen already.
    var counted = RuleCounts()

    /// A wall clock that can be wrong.
    final class Clock: Sendable {
        private let milliseconds: Mutex<Int64>

        init(at start: Int64) { milliseconds = Mutex(start) }

        var wall: UInt64 { UInt64(max(0, milliseconds.withLock { $0 })) }

        func advance(by duration: Duration) {
            milliseconds.withLock { $0 += duration.nanoseconds / 1_000_000 }
        }

        func jump(by duration: Duration) {
            let (seconds, _) = duration.components
            milliseconds.withLock { $0 += seconds * 1000 }
        }
    }

    /// What the store's writer told, until the simulation looks.
    final class Outbox: Sendable {
        private let inputs = Mutex<[Input]>([])
        /// Whether the store said that its disk failed.
        let hasFailed = Mutex(false)

        func add(_ input: Input) { inputs.withLock { $0.append(input) } }

        func take() -> [Input] {
            inputs.withLock { inputs in
                defer { inputs = [] }
                return inputs
            }
        }
    }

    init(
        index: Int, name: String, identity: DataDirectory.Identity, wall: Int64
    ) {
        self.index = index
        self.name = name
        self.identity = identity
        clock = Clock(at: wall)
    }

    var id: NodeID { identity.certificate.node }
    /// Whether the node holds a scope.
    func reads(_ scope: String) -> Bool {
        Scope(scope).map { identity.certificate.allows(.read, $0) } ?? false
    }

    var isUp: Bool { engine != nil }
    var host: String { "h\(index)" }
    var address: Address { SimulatedTrust.address(host) }

    /// Opens the database as a starting process does.
    ///
    /// - Parameter memory: what it remembers, where no process starts but one goes on that was put
    ///   back with its machine.
    func openStore(seed: UInt64, memory: StoredStart? = nil) throws(StoreError) {
        let entropy = Mutex(SeededGenerator(seed: seed))
        let clock = clock
        let store = try Store(
            path: disk.path + "mesh.sqlite", identity: identity, lock: nil,
            random: { count in
                entropy.withLock { entropy in
                    (0..<count).map { _ in UInt8(truncatingIfNeeded: entropy.next()) }
                }
            },
            wallMilliseconds: { clock.wall }, memory: memory)
        var observers = Store.Observers()
        let outbox = outbox
        observers.committed = { outbox.add(.committed($0)) }
        observers.revoked = { outbox.add(.revoked($0)) }
        observers.failed = { _ in outbox.hasFailed.withLock { $0 = true } }
        outbox.hasFailed.withLock { $0 = false }
        counted = RuleCounts()
        store.observe(observers)
        self.store = store
    }
}

/// A mesh's keys, made from a seed.
struct SimulatedTrust {
    let root: RootDocument
    private let enrol: SigningKey
    private let revoke: SigningKey
    private let secret: MeshSecret
    private var random: SeededGenerator
    /// Tickets that were made: each is newer than the one before.
    private var ticketCount: UInt64 = 0

    init(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        enrol = SigningKey(seed: Self.bytes(&random))
        let roots = (0..<3).map { _ in SigningKey(seed: Self.bytes(&random)) }
        revoke = SigningKey(seed: Self.bytes(&random))
        root = RootDocument(
            name: "simulated", created: 1_700_000_000_000, threshold: 2, roots: roots,
            enrol: [enrol.publicKey.id],
            revoke: [revoke.publicKey.id])
        secret = MeshSecret(epoch: 1, value: Self.bytes(&random))
        self.random = random
    }

    /// Where a simulated host is reached.
    static func address(_ host: String) -> Address {
        guard let address = Address(host: host, port: 7374) else {
            preconditionFailure("'\(host)' is no host")
        }
        return address
    }

    static func bytes(_ random: inout SeededGenerator) -> Bytes32 {
        Blake2b.hash((0..<16).map { _ in UInt8(truncatingIfNeeded: random.next()) }).bytes
    }

    /// What the operator's keys say of a node whose logs are to end so.
    func revocation(of card: Certificate, cuts: [Revocation.Cut]) -> Revocation {
        Revocation(
            of: card.node, created: 1_700_000_000_000, reason: "simulated", cuts: cuts,
            serials: [card.ticket.serial], key: revoke, mesh: root.meshID)
    }

    mutating func identity(
        _ name: String, site: String, isCentral: Bool, seeds: [String]
    ) -> DataDirectory.Identity {
        let node = SigningKey(seed: Self.bytes(&random))
        let link = AgreementKey(secret: Self.bytes(&random))
        return identity(name, site: site, isCentral: isCentral, seeds: seeds, node, link)
    }

    /// A policy as an operator signs it.
    func policy(
        _ policy: NamespacePolicy, of namespace: String, created: UInt64
    ) -> PolicyDocument {
        PolicyDocument(
            of: namespace, policy, created: created, key: enrol, mesh: root.meshID)
    }

    /// The same box, enrolled again under another name.
    mutating func renamed(
        _ old: DataDirectory.Identity, _ name: String
    ) -> DataDirectory.Identity {
        let ticket = old.certificate.ticket
        return identity(
            name, site: ticket.site, isCentral: ticket.isCentral, seeds: old.seeds, old.nodeKey,
            old.linkKey)
    }

    private mutating func identity(
        _ name: String, site: String, isCentral: Bool, seeds: [String], _ node: SigningKey,
        _ link: AgreementKey
    ) -> DataDirectory.Identity {
        let ticketKey = SigningKey(seed: Self.bytes(&random))
        ticketCount += 1
        let ticket = Ticket(
            key: ticketKey.publicKey.id,
            serial: Ticket.serial(
                milliseconds: ticketCount, random: Array(Self.bytes(&random).array.prefix(10))),
            site: site, node: name, isCentral: isCentral, groups: [],
            grants: isCentral ? Grant.central : Grant.edge(site: site, groups: []))
        let file = TicketFile(
            root: root, enrol: enrol, secrets: MeshSecrets(secret), ticketSeed: ticketKey.seed,
            ticket: ticket,
            seeds: seeds)
        return DataDirectory.Identity(
            root: root, certificate: file.certificate(node: node, linkKey: link.publicKey),
            nodeKey: node, linkKey: link, secrets: MeshSecrets(secret), seeds: seeds)
    }
}
