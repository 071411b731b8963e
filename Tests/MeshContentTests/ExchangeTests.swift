// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@testable import MeshContent

/// A shelf in memory.
struct MemoryShelf: ContentShelf {
    var manifests: [Digest: [UInt8]] = [:]
    var layouts: [Digest: Layout] = [:]
    var chunks: [Digest: [Int: [UInt8]]] = [:]

    func manifestBytes(_ manifest: Digest) -> [UInt8]? { manifests[manifest] }
    func layout(_ manifest: Digest) -> Layout? { layouts[manifest] }
    func holds(_ manifest: Digest, _ place: Int) -> Bool { chunks[manifest]?[place] != nil }
    func read(_ manifest: Digest, _ place: Int) -> [UInt8]? { chunks[manifest]?[place] }

    mutating func write(_ manifest: Digest, _ place: Int, _ bytes: [UInt8]) -> Bool {
        chunks[manifest, default: [:]][place] = bytes
        return true
    }

    /// Begins a release with what others of the shelf have of it.
    mutating func begin(_ manifest: Digest, _ bytes: [UInt8]) throws {
        let layout = Layout(try Manifest(decoding: bytes))
        var known: [Digest: [UInt8]] = [:]
        for (other, list) in chunks {
            for (place, bytes) in list { known[layouts[other]!.chunks[place].id] = bytes }
        }
        manifests[manifest] = bytes
        layouts[manifest] = layout
        for (place, chunk) in layout.chunks.enumerated() {
            if let bytes = known[chunk.id] { chunks[manifest, default: [:]][place] = bytes }
        }
    }

    /// Lays a whole release of some files down.
    mutating func publish(_ files: [String: [UInt8]]) throws -> Digest {
        var list: [Manifest.File] = []
        var known: [Digest: [UInt8]] = [:]
        for (path, bytes) in files {
            var start = 0
            let chunks = Chunker.lengths(bytes).map { length in
                defer { start += length }
                let part = Array(bytes[start..<(start + length)])
                known[Manifest.id(of: part)] = part
                return Manifest.Chunk(id: Manifest.id(of: part), byteCount: UInt32(length))
            }
            list.append(Manifest.File(path: path, isExecutable: false, chunks: chunks))
        }
        let bytes = Manifest(channel: "menu", files: list).encoded
        let id = Manifest.id(ofManifest: bytes)
        try begin(id, bytes)
        for (place, chunk) in layouts[id]!.chunks.enumerated() {
            chunks[id, default: [:]][place] = known[chunk.id]
        }
        return id
    }
}

/// Servers with links between them, in virtual time.
final class ContentWorld {
    struct Server {
        var exchange: ContentExchange
        var shelf = MemoryShelf()
        let certificate: Certificate
        var complete: Set<Digest> = []
        var lies = false
    }

    var servers: [Server] = []
    var now = Instant(nanoseconds: 0)
    var closed = 0
    /// Bytes of messages between sites.
    var farBytes = 0
    private var links: [UInt64: [Int]] = [:]
    private var queue: [(link: UInt64, to: Int, message: ContentMessage)] = []
    private let mesh: TestMesh

    init() throws { mesh = try TestMesh() }

    func add(_ site: String, central: Bool = false) -> Int {
        let identity = mesh.identity("n\(servers.count)", site: site, central: central)
        servers.append(
            Server(exchange: ContentExchange(now: now), certificate: identity.certificate))
        return servers.count - 1
    }

    func site(_ server: Int) -> String { servers[server].certificate.ticket.site }

    @discardableResult
    func link(_ one: Int, _ other: Int) -> UInt64 {
        let id = UInt64(links.count + 1)
        links[id] = [one, other]
        let isNear = site(one) == site(other)
        servers[one].exchange.linkUp(id, servers[other].certificate, isNear: isNear)
        servers[other].exchange.linkUp(id, servers[one].certificate, isNear: isNear)
        perform(one)
        perform(other)
        return id
    }

    func cut(_ link: UInt64) {
        guard let ends = links.removeValue(forKey: link) else { return }
        queue.removeAll { $0.link == link }
        for end in ends {
            servers[end].exchange.linkDown(link, now: now)
            perform(end)
        }
    }

    func want(_ server: Int, _ manifest: Digest, old: Digest? = nil, audience: Audience = .all) {
        let size = servers.compactMap { $0.shelf.manifests[manifest]?.count }.max() ?? 0
        servers[server].exchange.want(
            manifest, byteCount: size, audience: audience, old: old, now: now)
        perform(server)
    }

    func hold(_ server: Int, _ manifest: Digest, audience: Audience = .all) {
        servers[server].exchange.holds(manifest, audience: audience)
        perform(server)
    }

    func perform(_ server: Int) {
        while true {
            let effects = servers[server].exchange.takeEffects()
            if effects.isEmpty { return }
            for effect in effects {
                switch effect {
                case .send(let link, let message):
                    guard let ends = links[link] else { continue }
                    let other = ends[0] == server ? ends[1] : ends[0]
                    queue.append((link, other, servers[server].lies ? spoil(message) : message))
                case .unwritable: break
                case .close(let link, _):
                    closed += 1
                    cut(link)
                case .manifest(let manifest, let bytes):
                    try? servers[server].shelf.begin(manifest, bytes)
                    servers[server].exchange.began(manifest, servers[server].shelf, now: now)
                case .complete(let manifest):
                    servers[server].complete.insert(manifest)
                    servers[server].exchange.holds(manifest, audience: .all)
                }
            }
        }
    }

    private func spoil(_ message: ContentMessage) -> ContentMessage {
        guard case .give(let request, .bytes(var bytes)) = message, !bytes.isEmpty else {
            return message
        }
        bytes[bytes.count / 2] ^= 1
        return .give(request, .bytes(bytes))
    }

    /// Delivers what waits, and lets time go by, until nothing moves.
    func run(steps: Int = 100_000) {
        var idle = 0
        for _ in 0..<steps where idle < 400 {
            if queue.isEmpty {
                idle += 1
                now = now.advanced(by: .milliseconds(100))
                for server in servers.indices {
                    servers[server].exchange.tick(now)
                    perform(server)
                }
                continue
            }
            idle = 0
            let (link, to, message) = queue.removeFirst()
            guard let ends = links[link] else { continue }
            if site(ends[0]) != site(ends[1]) { farBytes += message.encoded.count }
            var shelf = servers[to].shelf
            servers[to].exchange.receive(message.encoded, from: link, &shelf, now: now)
            servers[to].shelf = shelf
            perform(to)
        }
    }
}

@Suite struct `Servers that exchange content` {
    /// A centre with a release, and a site of three whose gateway alone is linked with it.
    private func scene(_ files: [String: [UInt8]]) throws -> (ContentWorld, Digest, UInt64) {
        let world = try ContentWorld()
        let centre = world.add("hq", central: true)
        for _ in 0..<3 { _ = world.add("s1") }
        let manifest = try world.servers[centre].shelf.publish(files)
        world.hold(centre, manifest)
        let wan = world.link(0, 1)
        for pair in [[1, 2], [1, 3], [2, 3]] { world.link(pair[0], pair[1]) }
        return (world, manifest, wan)
    }

    @Test func `carry one copy across the WAN, whatever a site's number of servers`() throws {
        let files = ["a": noise(900_000, seed: 1), "b": noise(700_000, seed: 2), "c": []]
        let (world, manifest, _) = try scene(files)
        for server in 1...3 { world.want(server, manifest) }
        world.run()
        for server in 1...3 { #expect(world.servers[server].complete == [manifest]) }
        #expect(world.farBytes < 1_600_000 * 102 / 100)
    }

    @Test func `send of an edit little more than its own bytes`() throws {
        var files = ["a": noise(900_000, seed: 1), "b": noise(700_000, seed: 2)]
        let (world, first, _) = try scene(files)
        for server in 1...3 { world.want(server, first) }
        world.run()
        for start in [100_000, 400_000, 899_000] as [Int] {
            files["a"]?.replaceSubrange(start..<(start + 500), with: noise(500, seed: 9))
        }
        files["b"]?.insert(contentsOf: noise(300, seed: 10), at: 350_000)
        let second = try world.servers[0].shelf.publish(files)
        world.farBytes = 0
        world.hold(0, second)
        for server in 1...3 { world.want(server, second, old: first) }
        world.run()
        for server in 1...3 {
            #expect(world.servers[server].complete.contains(second))
            #expect(
                world.servers[server].shelf.chunks[second] == world.servers[0].shelf.chunks[second])
        }
        // 1,800 new bytes, a manifest of some 2 kB, requests.
        #expect(world.farBytes < 6_000, "\(world.farBytes)")
    }

    @Test func `fetch a file that changed wholly, and what one of two sources has lost`() throws {
        var files = ["a": noise(1_300_000, seed: 1)]
        let (world, first, _) = try scene(files)
        for server in 1...3 { world.want(server, first) }
        world.run()
        files["a"] = noise(1_300_000, seed: 2)
        let second = try world.servers[0].shelf.publish(files)
        // The centre has lost a chunk; all others of it are had at once, and that one when it is back.
        let lost = world.servers[0].shelf.chunks[second]?.removeValue(forKey: 7)
        world.hold(0, second)
        for server in 1...3 { world.want(server, second, old: first) }
        world.run()
        let all = (world.servers[0].shelf.chunks[second]?.count ?? 0) + 1
        for server in 1...3 {
            #expect(world.servers[server].shelf.chunks[second]?.count == all - 1)
        }
        world.servers[0].shelf.chunks[second]?[7] = lost
        world.run()
        for server in 1...3 { #expect(world.servers[server].complete.contains(second)) }
    }

    @Test func `share what they have when their line is cut in the middle`() throws {
        let (world, manifest, wan) = try scene(["a": noise(3_000_000, seed: 3)])
        world.want(1, manifest)
        world.run(steps: 60)
        let some = world.servers[1].shelf.chunks[manifest]?.count ?? 0
        #expect(some > 0 && !world.servers[1].complete.contains(manifest))
        world.cut(wan)
        for server in 2...3 { world.want(server, manifest) }
        world.run()
        for server in 2...3 {
            #expect(world.servers[server].shelf.chunks[manifest]?.count == some)
        }
        // Another of them becomes the gateway: only what nobody has crosses the line.
        world.farBytes = 0
        world.link(0, 2)
        world.run()
        for server in 1...3 { #expect(world.servers[server].complete == [manifest]) }
        let chunk = 3_000_000 / (world.servers[0].shelf.chunks[manifest]?.count ?? 1)
        #expect(world.farBytes < 3_000_000 - (some - 6) * chunk)
    }

    @Test func `keep nothing of a server that sends other bytes, and take it from others`() throws {
        let world = try ContentWorld()
        for _ in 0..<3 { _ = world.add("s1") }
        let files = ["a": noise(600_000, seed: 4)]
        let manifest = try world.servers[0].shelf.publish(files)
        _ = try world.servers[1].shelf.publish(files)
        world.servers[0].lies = true
        world.hold(0, manifest)
        world.hold(1, manifest)
        world.link(0, 2)
        world.want(2, manifest)
        world.run()
        #expect(world.servers[2].complete.isEmpty)
        world.link(1, 2)
        world.run()
        #expect(world.servers[2].complete == [manifest])
        #expect(world.servers[2].shelf.chunks[manifest] == world.servers[1].shelf.chunks[manifest])
    }

    @Test func `give nothing of a release to who may not hold it`() throws {
        let world = try ContentWorld()
        let centre = world.add("hq", central: true)
        let other = world.add("s2")
        let manifest = try world.servers[centre].shelf.publish(["a": noise(50_000, seed: 5)])
        world.hold(centre, manifest, audience: .site("s1"))
        let link = world.link(centre, other)
        var shelf = world.servers[centre].shelf
        world.servers[centre].exchange.receive(
            ContentMessage.get(1, manifest, .manifest(offset: 0)).encoded, from: link, &shelf,
            now: world.now)
        let effects = world.servers[centre].exchange.takeEffects()
        #expect(world.servers[centre].exchange.counters["content_request_refused"] == 1)
        guard case .send(_, .give(1, .lack))? = effects.first else {
            Issue.record("it was given something else")
            return
        }
    }

    @Test
    func `close the link of who sends what is no message, and survive every message of chance`()
        throws
    {
        let world = try ContentWorld()
        for _ in 0..<2 { _ = world.add("s1") }
        let manifest = try world.servers[0].shelf.publish(["a": noise(90_000, seed: 6)])
        world.hold(0, manifest)
        let link = world.link(0, 1)
        var random = SeededGenerator(seed: 7)
        var shelf = world.servers[0].shelf
        for round in 0..<3000 as Range<UInt64> {
            var bytes = ContentMessage.get(1, manifest, .chunks([0..<2], base: nil)).encoded
            for _ in 0..<(1 + round % 3) {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(
                    truncatingIfNeeded: random.next())
            }
            world.servers[0].exchange.receive(bytes, from: link, &shelf, now: world.now)
            _ = world.servers[0].exchange.takeEffects()
        }
        world.servers[0].exchange.receive([34, 1, 2], from: link, &shelf, now: world.now)
        world.perform(0)
        #expect(world.closed == 1)
    }

    @Test func `read each other's messages as they were written`() throws {
        let id: Digest = TestMesh.bytes(1, 1)
        let base = ContentMessage.Base(manifest: TestMesh.bytes(2, 2), places: [7..<9])
        for message in [
            ContentMessage.offer(id, .whole), .offer(id, .parts([0..<3, 5..<6, 900..<4000])),
            .get(7, id, .manifest(offset: 12)), .get(8, id, .chunks([1..<2], base: nil)),
            .get(9, id, .chunks([1..<2, 4..<8], base: base)), .give(7, .bytes([1, 2, 3])),
            .give(8, .patch(Patch(from: [1, 2, 3], to: [1, 9, 3]))), .give(9, .lack),
        ] {
            #expect(try ContentMessage(decoding: message.encoded) == message)
            for count in 0..<message.encoded.count {
                #expect(throws: WireError.self) {
                    try ContentMessage(decoding: Array(message.encoded.prefix(count)))
                }
            }
        }
    }
}

@Suite struct `A server that has a release` {
    private func line(
        _ active: UInt64, _ target: UInt64, _ phase: ChannelProgress.Phase
    ) -> ChannelProgress {
        ChannelProgress(
            channel: "menu", active: ReleaseNumber(epoch: 1, version: active),
            target: ReleaseNumber(epoch: 1, version: target), phase: phase, bytesHere: 1,
            bytesAll: 2, reason: phase == .failed ? "no room" : "")
    }

    private func isDue(
        _ neighbours: [ChannelProgress?], ready: Duration = .seconds(1), at time: String = "",
        clock: String = "2026-11-24T10:00"
    ) -> Bool {
        let release = Release(
            channel: "menu", number: ReleaseNumber(epoch: 1, version: 4), audience: .all,
            manifest: .zero, manifestBytes: 1, totalBytes: 1, files: 1, created: 1, activateAt: time
        )
        return Activation.isDue(
            release, readyFor: ready, patience: .seconds(60), localTime: clock,
            neighbours: neighbours)
    }

    @Test func `begins to use it with its neighbours, or when they were waited for`() {
        #expect(isDue([]))
        #expect(!isDue([line(2, 4, .fetching)]))
        #expect(!isDue([nil]))
        #expect(isDue([line(2, 4, .ready), line(4, 4, .active), line(2, 4, .failed)]))
        #expect(isDue([line(2, 4, .fetching), nil], ready: .seconds(60)))
    }

    @Test func `waits for the hour by its own clock`() {
        #expect(!isDue([], ready: .seconds(900), at: "2026-11-24T10:01"))
        #expect(isDue([], at: "2026-11-24T10:00"))
        #expect(!Release.isTime("2026-11-24 10:00") && Release.isTime("2026-11-24T10:00"))
    }

    @Test func `tells how far it is in words that are read as they were written`() throws {
        let lines = [line(2, 4, .fetching), line(2, 4, .failed)]
        #expect(try ChannelProgress.decode(ChannelProgress.encode(lines)) == lines)
        let node: NodeID = TestMesh.bytes(3, 3)
        #expect(ChannelProgress.node(of: try ChannelProgress.key(of: node)) == node)
    }
}
