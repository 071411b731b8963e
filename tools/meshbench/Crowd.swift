// SPDX-License-Identifier: Apache-2.0

import Foundation
import Mesh
import MeshCore
import MeshCrypto
import MeshDiscovery
import MeshEngine
import MeshLink
import MeshMembership
import MeshReplication
import MeshStore
import MeshTransport
import MeshTrust
import NIOCore
import NIOPosix
import Synchronization

/// Very many servers in one process, each the only one of its site: `crowd DATA KEYS PORT COUNT`.
///
/// Each has its own certificate, its own link and the real engine, and does on its link what an
/// idle server does. They share one store, which holds what all of them would hold. DATA is a
/// joined data directory, KEYS the folder of 'mesh create'. Says 'linked NUMBER'
/// whenever that changes; whoever started it ends it.
final class Crowd: Sendable {
    private enum Item: Sendable {
        case input(Int, Input)
        case up(Int, LinkConnection, LinkMachine.Peer)
        case down(Int, LinkID, reason: String)
        case tick
    }

    /// One server.
    private final class Member {
        var engine: Engine
        var connection: LinkConnection?
        let port: LinkPort

        init(engine: consuming Engine, port: LinkPort) {
            self.engine = engine
            self.port = port
        }
    }

    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let started = ContinuousClock.now
    private let inbox: AsyncStream<Item>
    private let feed: AsyncStream<Item>.Continuation
    private let store: Store
    private let home: DataDirectory.Identity
    private let enrol: SigningKey
    private let address: Address

    init(data: String, keys: String, port: String) throws {
        let directory = DataDirectory(data)
        home = try directory.identity()
        guard let seed = Bytes32(try Data(contentsOf: URL(fileURLWithPath: "\(keys)/enrol.key"))),
            let address = Address("127.0.0.1:\(port)")
        else { throw CocoaError(.fileReadCorruptFile) }
        (enrol, self.address) = (SigningKey(seed: seed), address)
        store = try Store(
            path: directory.database, identity: home, lock: nil,
            wallMilliseconds: { UInt64(Date().timeIntervalSince1970 * 1000) })
        (inbox, feed) = AsyncStream.makeStream(of: Item.self)
    }

    private var now: Instant {
        let (seconds, attoseconds) = (ContinuousClock.now - started).components
        return Instant(nanoseconds: seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }

    private func certified(_ index: Int) throws -> (LinkIdentity, SigningKey) {
        func secret() throws -> Bytes32 {
            guard let bytes = Bytes32(Sodium.random(32)) else {
                throw SodiumError.initialisation
            }
            return bytes
        }
        let (node, ticketKey) = (SigningKey(seed: try secret()), SigningKey(seed: try secret()))
        let link = AgreementKey(secret: try secret())
        let site = "crowd-\(index)"
        let ticket = Ticket(
            key: ticketKey.publicKey.id,
            serial: Ticket.serial(
                milliseconds: UInt64(Date().timeIntervalSince1970 * 1000),
                random: Sodium.random(10)),
            site: site, node: "only", isCentral: false, groups: [],
            grants: Grant.edge(site: site, groups: []), needsApproval: false)
        let file = TicketFile(
            root: home.root, enrol: enrol, secrets: home.secrets, ticketSeed: ticketKey.seed,
            ticket: ticket, seeds: [])
        let identity = LinkIdentity(
            certificate: file.certificate(node: node, linkKey: link.publicKey), key: link,
            root: home.root, secrets: home.secrets, version: meshVersion)
        return (identity, node)
    }

    private func member(_ index: Int) throws -> Member {
        let (identity, key) = try certified(index)
        let feed = feed
        let port = LinkPort(
            group: group, identity: identity,
            callbacks: LinkCallbacks(
                established: { feed.yield(.up(index, $0, $1)) },
                message: { feed.yield(.input(index, .message(LinkID($0.number), $1))) },
                closed: { feed.yield(.down(index, LinkID($0.number), reason: $2)) },
                newRoot: { _ in }), packs: true)
        var generator = SystemRandomNumberGenerator()
        let membership = Membership(
            Membership.Identity(
                key: key, mesh: home.root.meshID, site: identity.certificate.ticket.site,
                isCentral: false),
            incarnation: Incarnation(1), port: 9, seed: generator.next(), now: now)
        let engine = Engine(
            own: identity.certificate, membership: membership, seeds: [address],
            secrets: home.secrets.changes, seed: generator.next(), now: now)
        return Member(engine: engine, port: port)
    }

    /// Runs until it is ended.
    func run(_ count: Int) async throws {
        let ticking = Task {
            while !Task.isCancelled {
                feed.yield(.tick)
                try await Task.sleep(for: .milliseconds(200))
            }
        }
        defer { ticking.cancel() }
        var members: [Member] = []
        var told = 0
        for await item in inbox {
            switch item {
            case .tick:
                for index in members.indices { step(members[index], index, .tick(wall: wall)) }
                let linked = members.count { $0.connection != nil }
                if linked != told { print("linked \(linked)") }
                fflush(nil)
                told = linked
            case .up(let index, let connection, let peer):
                members[index].connection = connection
                let origin = LinkOrigin(
                    remote: "\(address)", dialled: address, isLocal: false, host: "127.0.0.1",
                    datagramKey: Bytes32(Sodium.random(32)) ?? .zero)
                step(members[index], index, .linkUp(LinkID(connection.number), peer, origin))
            case .down(let index, let link, let reason):
                let wasUp = members[index].connection?.number == link.number
                if wasUp { members[index].connection = nil }
                step(
                    members[index], index,
                    wasUp
                        ? .linkDown(link, reason: reason)
                        : .dialFailed(address: address, DialFailure(.unreachable, reason)))
            case .input(let index, let input): step(members[index], index, input)
            }
            // A server lets in few strangers of one host at once.
            while members.count < count, members.count(where: { $0.connection == nil }) < 4 {
                members.append(try member(members.count))
                step(members[members.count - 1], members.count - 1, .tick(wall: wall))
            }
        }
    }

    private var wall: UInt64 { UInt64(Date().timeIntervalSince1970 * 1000) }

    private func step(_ member: Member, _ index: Int, _ input: Input) {
        for effect in member.engine.step(input, at: now) {
            switch effect {
            case .send(_, let message): member.connection?.send([message.encoded])
            case .close: member.connection?.close()
            case .dial(let address):
                let (port, feed) = (member.port, feed)
                Task {
                    do { try await port.dial(address, known: nil) } catch {
                        feed.yield(
                            .input(
                                index,
                                .dialFailed(
                                    address: address, DialFailure(.unreachable, "\(error)"))))
                    }
                }
            case .ingest(let link, let ticket):
                let feed = feed
                store.ingest([ticket.message]) { result in
                    let outcome = (try? result.get().first) ?? StoreWork.unavailable
                    feed.yield(.input(index, .ingested(link, ticket, outcome)))
                }
            default:
                if let work = StoreWork(effect), let answer = work.perform(on: store) {
                    feed.yield(.input(index, answer))
                }
            }
        }
    }
}
