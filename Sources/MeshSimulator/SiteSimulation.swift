// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshDiscovery
internal import MeshEngine
internal import MeshLink
internal import MeshMembership
internal import MeshReplication
internal import MeshStore
internal import MeshTrust

/// A site of many servers in virtual time: real engines without disks, to count what membership and
/// spreading cost as a site grows.
///
/// Handshakes and comparisons are left out: a connection stands at once, and a comparison ends
/// without result. Stores are reduced to how far each log is known.
package final class SiteSimulation {
    final class Server {
        let index: Int
        let identity: DataDirectory.Identity
        var engine: Engine?
        var links: [LinkID: Line] = [:]
        var nextLink: UInt64 = 1
        var known: [LogName: UInt64] = [:]
        var sent = 0
        var sentBytes = 0

        init(index: Int, identity: DataDirectory.Identity) {
            self.index = index
            self.identity = identity
        }

        var address: Address { SimulatedTrust.address("h\(index)") }
    }

    /// One end of a connection.
    struct Line {
        let peer: Server
        let peerLink: LinkID
        var lastArrival: Instant
    }

    private static let scope = Scope(namespace: "notes", audience: .site("s"))

    private(set) var now = Instant(nanoseconds: 0)
    private var events = EventQueue()
    private var random: SeededGenerator
    private(set) var servers: [Server] = []
    private var certificates: [[UInt8]: Certificate] = [:]
    private var shown: [NodeID: [UInt8]] = [:]
    /// The part of all packets that is lost.
    package var loss = 0.0
    /// How often a commit has crossed a link, news or not.
    package private(set) var commitsCarried = 0

    /// Makes a site; all servers start within its first second.
    package init(servers count: Int, seed: UInt64) {
        random = SeededGenerator(seed: seed)
        var trust = SimulatedTrust(seed: random.next())
        for index in 0..<count {
            let identity = trust.identity("n\(index)", site: "s", isCentral: false, seeds: [])
            certificates[identity.certificate.encoded] = identity.certificate
            shown[identity.certificate.node] = identity.certificate.encoded
            servers.append(Server(index: index, identity: identity))
        }
        for server in servers {
            let pause = Duration.microseconds(Int(random.next() % 1_000_000))
            schedule(after: pause) { self.start(server) }
        }
    }

    private func schedule(after pause: Duration, _ act: @escaping () -> Void) {
        events.add(at: now.advanced(by: pause), act)
    }

    /// Lets virtual time go by.
    package func run(_ duration: Duration) {
        let end = now.advanced(by: duration)
        while let event = events.next(by: end) {
            now = event.at
            event.act()
        }
        now = end
    }

    /// Lets virtual time go by until something holds, looking ten times a second.
    ///
    /// - Returns: how long that took; nil if it did not come to hold.
    package func run(atMost most: Duration, until holds: () -> Bool) -> Duration? {
        let begin = now
        while !holds() {
            guard now.since(begin) < most else { return nil }
            run(.milliseconds(100))
        }
        return now.since(begin)
    }

    // MARK: Servers

    private func start(_ server: Server) {
        let membership = Membership(
            Membership.Identity(
                key: server.identity.nodeKey, mesh: server.identity.root.meshID, site: "s",
                isCentral: false),
            incarnation: Incarnation(UInt64(now.nanoseconds / 1_000_000) + 1), port: 7374,
            seed: random.next(), now: now)
        server.engine = Engine(
            own: server.identity.certificate, membership: membership, seeds: [],
            seed: random.next(), now: now)
        tick(server)
    }

    private func tick(_ server: Server) {
        guard server.engine != nil else { return }
        post(server, .tick(wall: 1_700_000_000_000))
        schedule(after: random.jittered(.milliseconds(200), by: 0.1)) { self.tick(server) }
    }

    /// A server dies: its links are reset, or nothing more is heard of it.
    package func kill(_ index: Int, silently: Bool) {
        let server = servers[index]
        server.engine = nil
        let lines = server.links
        server.links = [:]
        guard !silently else { return }
        for id in lines.keys.sorted() {
            if let line = lines[id] { drop(line, "reset") }
        }
    }

    private func drop(_ line: Line, _ reason: String) {
        schedule(after: latency()) {
            guard line.peer.links.removeValue(forKey: line.peerLink) != nil else { return }
            self.post(line.peer, .linkDown(line.peerLink, reason: reason))
        }
    }

    /// How many servers see so many others alive.
    package func complete(_ others: Int) -> Int {
        servers.count { server in
            (server.engine?.membership.siteSize ?? 0) - 1 == others
        }
    }

    /// How many running servers take a server for away.
    package func aware(of index: Int) -> Int {
        let node = servers[index].identity.certificate.node
        return servers.count { $0.engine?.membership.member(node)?.state == .away }
    }

    /// How often anybody took anybody for away.
    package var aways: UInt64 {
        servers.reduce(0) { $0 + ($1.engine?.counters[.memberAway] ?? 0) }
    }

    /// What has been sent so far: datagrams, link messages and beacons, and their bytes.
    package var sent: (messages: Int, bytes: Int) {
        servers.reduce((0, 0)) { ($0.0 + $1.sent, $0.1 + $1.sentBytes) }
    }

    /// Links of each running server.
    package var degrees: [Int] { servers.filter { $0.engine != nil }.map(\.links.count) }

    /// An app writes a record on a server, which signs it.
    package func write(_ index: Int, sequence: UInt64) throws {
        let server = servers[index]
        let mesh = server.identity.root.meshID
        let author = Author(node: server.identity.certificate.node, life: Life(1))
        let record = Record(
            kind: .put, stamp: HybridTime(sequence), key: try RecordKey("notes/\(sequence)"),
            context: .empty, contentType: "text/plain", body: [UInt8](repeating: 0x61, count: 100))
        let bytes = record.encoded
        let commit = Commit(
            signing: [bytes], ids: [Record.id(of: bytes, in: mesh)], scope: Self.scope,
            author: author, first: sequence,
            previous: sequence == 1 ? .zero : Digest(server.identity.certificate.node.bytes),
            policy: .builtIn, key: server.identity.nodeKey, mesh: mesh)
        server.known[LogName(scope: Self.scope, author: author)] = sequence
        let message = CommitsMessage(
            scope: Self.scope, author: author, after: sequence - 1, through: sequence,
            commits: [commit])
        post(server, .committed([message]))
    }

    /// How many running servers know a server's commits so far.
    package func informed(of index: Int, sequence: UInt64) -> Int {
        let node = servers[index].identity.certificate.node
        return servers.count { server in
            server.engine != nil
                && server.known.contains { $0.key.author.node == node && $0.value >= sequence }
        }
    }

    // MARK: Engine

    private func post(_ server: Server, _ input: Input) {
        guard server.engine != nil else { return }
        for effect in server.engine?.step(input, at: now) ?? [] { perform(server, effect) }
    }

    private func perform(_ server: Server, _ effect: Effect) {
        switch effect {
        case .send(let id, let message): send(server, id, message)
        case .close(let id, let reason):
            guard let line = server.links.removeValue(forKey: id) else { return }
            drop(line, "\(reason)")
            post(server, .linkDown(id, reason: "\(reason)"))
        case .dial(let address): dial(server, address)
        case .heed: break
        case .datagram(let address, let bytes):
            count(server, bytes.count + 42)
            guard let target = place(address), !isLost() else { return }
            schedule(after: latency()) {
                self.post(target, .datagram(bytes, from: "h\(server.index)"))
            }
        case .beacon: beacon(server)
        case .compare(let id, let session, _):
            schedule(after: .milliseconds(1)) { self.post(server, .compared(id, session, .failed)) }
        case .ingest(let id, let ticket): ingest(server, id, ticket)
        case .keep(let id, let bytes): post(server, .certificate(id, certificates[bytes]))
        case .show(let id, let node): post(server, .shown(id, shown[node].map { [$0] } ?? []))
        case .read, .remember, .depart, .correctClock, .note, .adopt, .enrol, .handedOver, .keeper,
            .keepKey, .findKey, .measure, .acknowledged:
            break
        }
    }

    private func ingest(_ server: Server, _ id: LinkID, _ ticket: IngestTicket) {
        let message = ticket.message
        let log = LogName(scope: message.scope, author: message.author)
        let frontier = server.known[log] ?? 0
        var outcome = IngestOutcome()
        outcome.frontier = max(frontier, message.through)
        outcome.authorSite = "s"
        commitsCarried += 1
        if message.through <= frontier {
            outcome.isDuplicate = true
        } else if message.after > frontier {
            outcome.hasGap = true
        } else {
            outcome.hasAdvanced = true
            server.known[log] = message.through
        }
        post(server, .ingested(id, ticket, outcome))
    }

    // MARK: Network

    private func count(_ server: Server, _ bytes: Int) {
        server.sent += 1
        server.sentBytes += bytes
    }

    private func isLost() -> Bool {
        loss > 0 && Double(random.next() >> 11) / Double(1 << 53) < loss
    }

    private func latency() -> Duration { random.jittered(.microseconds(300), by: 0.3) }

    private func place(_ address: Address) -> Server? {
        guard let number = Int(address.host.dropFirst()),
            servers.indices.contains(number)
        else { return nil }
        return servers[number]
    }

    private func beacon(_ server: Server) {
        count(server, 120 + 42)
        let incarnation = server.engine?.membership.presence.version.incarnation ?? 0
        let node = server.identity.certificate.node
        for target in servers where target !== server && !isLost() {
            schedule(after: latency()) {
                self.post(target, .heard(node, Incarnation(incarnation), address: server.address))
            }
        }
    }

    private func dial(_ server: Server, _ address: Address) {
        guard let target = place(address), target.engine != nil else {
            return schedule(after: .seconds(2)) {
                self.post(
                    server, .dialFailed(address: address, DialFailure(.unreachable, "timed out")))
            }
        }
        schedule(after: latency() * 3) {
            guard target.engine != nil, server.engine != nil else {
                return self.post(
                    server, .dialFailed(address: address, DialFailure(.unreachable, "refused")))
            }
            let ends = [self.open(server), self.open(target)]
            for (index, (mine, theirs)) in [(server, target), (target, server)].enumerated() {
                mine.links[ends[index]] = Line(
                    peer: theirs, peerLink: ends[1 - index], lastArrival: self.now)
            }
            for (index, (mine, theirs)) in [(server, target), (target, server)].enumerated() {
                let origin = LinkOrigin(
                    remote: theirs.address.description, dialled: index == 0 ? address : nil,
                    isLocal: true,
                    host: "h\(theirs.index)", datagramKey: SimulatedTrust.bytes(&self.random))
                let peer = LinkMachine.Peer(
                    certificate: theirs.identity.certificate, version: "0", salt: Salt([0]))
                self.post(mine, .linkUp(ends[index], peer, origin))
            }
        }
    }

    private func open(_ server: Server) -> LinkID {
        defer { server.nextLink += 1 }
        return LinkID(server.nextLink)
    }

    private func send(_ server: Server, _ id: LinkID, _ message: LinkMessage) {
        guard var line = server.links[id] else { return }
        let bytes = message.encoded
        count(server, bytes.count + 18 + 66)
        var pause = latency()
        // TCP sends again what was lost, each time after twice as long (RFC 6298; Linux's floor).
        var again = Duration.milliseconds(200)
        while isLost(), again < .seconds(60) {
            pause += again
            again *= 2
        }
        line.lastArrival = max(
            now.advanced(by: pause), line.lastArrival.advanced(by: .nanoseconds(1)))
        server.links[id] = line
        let (peer, peerLink) = (line.peer, line.peerLink)
        events.add(at: line.lastArrival) {
            if peer.links[peerLink] != nil { self.post(peer, .message(peerLink, bytes)) }
        }
    }
}
