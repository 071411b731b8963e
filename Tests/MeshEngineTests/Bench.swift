// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshEngine
@testable import MeshLink
import MeshMembership
import MeshReplication
import MeshTesting
import MeshTrust

/// An engine with a hand on its inputs and an eye on its effects.
struct Bench: ~Copyable {
    var engine: Engine
    var now = Instant(nanoseconds: 0)
    private var nextLink: UInt64 = 1
    static let mesh: MeshID = TestMesh.bytes(8, 8)
    static let key = TestMesh.key(7, 7)

    init(
        _ own: Certificate, key: SigningKey = Self.key, limits: EngineLimits = EngineLimits(),
        seeds: [Address] = []
    ) {
        let identity = Membership.Identity(
            key: key, mesh: Self.mesh, site: own.ticket.site,
            isCentral: own.ticket.isCentral)
        let membership = Membership(
            identity, incarnation: Incarnation(1), port: 7374, seed: 1, now: now)
        engine = Engine(
            own: own, membership: membership, seeds: seeds, limits: limits, seed: 1, now: now)
    }

    mutating func give(_ input: Input) -> [Effect] { engine.step(input, at: now) }

    mutating func link(
        _ peer: Certificate, dialled: Bool, host: String = "h"
    ) -> (LinkID, [Effect]) {
        let id = LinkID(nextLink)
        nextLink += 1
        let machine = LinkMachine.Peer(certificate: peer, version: "9", salt: Salt([1]))
        let origin = LinkOrigin(
            remote: "\(host):7374", dialled: dialled ? Address("\(host):7374") : nil,
            isLocal: true, isHere: host == "h", host: host,
            datagramKey: TestMesh.bytes(6, 6))
        return (id, give(.linkUp(id, machine, origin)))
    }

    /// A peer sends commits, and the store judges them.
    mutating func judge(
        _ id: LinkID, _ message: CommitsMessage, _ outcome: IngestOutcome
    ) -> [Effect] {
        let bytes = LinkMessage.commits(message.encoded).encoded
        guard let ticket = give(.message(id, bytes)).ingested.first else { return [] }
        return give(.ingested(id, ticket, outcome))
    }

    /// Time goes by, and whoever is dialled is that peer, whose link ends at once.
    ///
    /// - Returns: how often it was dialled.
    mutating func dials(_ peer: Certificate, seconds: Int) -> Int {
        (0..<seconds).count { _ in
            guard wait(1).dialled == ["h:7374"] else { return false }
            let (id, _) = link(peer, dialled: true)
            _ = give(.linkDown(id, reason: "closed"))
            return true
        }
    }

    mutating func wait(_ seconds: Double) -> [Effect] {
        var effects: [Effect] = []
        for _ in 0..<Int(seconds * 5) {
            now = now.advanced(by: .milliseconds(200))
            effects += give(.tick(wall: 1_700_000_000_000))
        }
        return effects
    }
}

extension [Effect] {
    var closed: [LinkID] {
        compactMap { if case .close(let id, _) = $0 { id } else { nil } }
    }
    var sent: [(id: LinkID, message: LinkMessage)] {
        compactMap { if case .send(let id, let message) = $0 { (id, message) } else { nil } }
    }
    var dialled: [Address] {
        compactMap { if case .dial(let address) = $0 { address } else { nil } }
    }
    var comparisons: Int {
        count { if case .compare = $0 { true } else { false } }
    }
    var session: SyncSession? {
        compactMap { if case .compare(_, let session, _) = $0 { session } else { nil } }.first
    }
    var ingested: [IngestTicket] {
        compactMap { if case .ingest(_, let ticket) = $0 { ticket } else { nil } }
    }
}

extension TestMesh {
    /// A commit of one record, alone in a message.
    func message(
        _ author: Certificate, in scope: Scope = Scope("prices@site/s1")!, bytes: Int = 10
    ) throws -> CommitsMessage {
        let record = Record(
            kind: .put, stamp: HybridTime(1), key: try RecordKey("k"), context: .empty,
            contentType: "",
            body: [UInt8](repeating: 0, count: bytes))
        let commit = Commit(
            signing: [record.encoded], ids: [Record.id(of: record.encoded, in: root.meshID)],
            scope: scope, author: Author(node: author.node, life: Life(1)), first: 1,
            previous: .zero, policy: .builtIn,
            key: TestMesh.key(1, 1), mesh: root.meshID)
        return CommitsMessage(
            scope: commit.header.scope, author: commit.header.author, after: 0, through: 1,
            commits: [commit])
    }
}
