// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import MeshTrust
internal import Synchronization
import Testing

private let prices = Scope("prices@site/s1")!
private let orders = Scope("orders@site/s1")!
private let all: [String: NamespacePolicy] = ["orders": .orders, "prices": .prices]

@Suite struct `A revocation in the store` {
    private let mesh: TestMesh
    private let centre: Store

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(all)
    }

    private func store(_ name: String) async throws -> Store {
        let store = try mesh.store(mesh.identity(name))
        #expect(try await store.reconcile(with: centre) != nil)
        return store
    }

    /// What stands of a node's logs as `witness` knows them now.
    private func revocation(
        of store: Store, asKnownTo witness: Store, reason: String = "stolen"
    ) throws -> Revocation {
        let node = store.identity.certificate.node
        return Revocation(
            of: node, created: 1_700_000_000_000, reason: reason,
            cuts: try witness.logs(of: node, before: nil).map(\.cut), key: mesh.revoke,
            mesh: mesh.root.meshID)
    }

    @discardableResult
    private func revoke(_ revocation: Revocation, at store: Store) async throws -> Bool {
        try await withCheckedThrowingContinuation { continuation in
            store.revoke(revocation) { continuation.resume(with: $0) }
        }
    }

    @Test func `is refused without a revoke key's signature, or under another key`() async throws {
        let site = try await store("a")
        let node: NodeID = TestMesh.bytes(5, 5)
        let forged = Revocation(
            of: node, created: 1, reason: "", cuts: [], key: mesh.enrol, mesh: mesh.root.meshID)
        let good = Revocation(
            of: node, created: 1, reason: "", cuts: [], key: mesh.revoke, mesh: mesh.root.meshID)
        await #expect(throws: StoreError.self) { try await revoke(forged, at: site) }
        let elsewhere = Write(.put, try RecordKey("somebody/else"), body: good.encoded)
        await #expect(throws: StoreError.self) {
            _ = try await site.write(WriteRequest(scope: Revocation.scope, writes: [elsewhere]))
        }
        #expect(try site.revocations().isEmpty)
        #expect(try await revoke(good, at: site))
        #expect(try await !revoke(good, at: site))
        #expect(site.isRevoked(node))
    }

    @Test func `takes away what came past the cut, and brings back what that had superseded`()
        async throws
    {
        let (one, two, thief) = (
            try await store("a"), try await store("b"), try await store("thief")
        )
        try await one.put(prices, "soup", "4")
        try await thief.put(prices, "tea", "2")
        #expect(try await thief.reconcile(with: one) != nil)
        #expect(try await two.reconcile(with: one) != nil)
        let cut = try revocation(of: thief, asKnownTo: two)
        try await thief.put(prices, "soup", "0")
        try await thief.put(prices, "tea", "0")
        try await thief.put(orders, "o/1", "fraud")
        #expect(try await thief.reconcile(with: one) != nil)
        #expect(try await thief.reconcile(with: two) != nil)
        #expect(try one.text(prices, "soup") == "0")
        #expect(try two.text(prices, "tea") == "0")

        #expect(try await revoke(cut, at: one))
        #expect(try one.text(prices, "soup") == "4")
        #expect(try one.text(orders, "o/1") == nil)
        #expect(try await one.reconcile(with: two) != nil)
        for store in [one, two] {
            #expect(store.isRevoked(thief.identity.certificate))
            #expect(try store.text(prices, "soup") == "4")
            #expect(try store.text(prices, "tea") == "2")
            #expect(try store.liveCount(in: orders) == 0)
        }
        for scope in [prices, orders, Revocation.scope] {
            #expect(try one.root(of: scope) == two.root(of: scope))
        }
        // What the thief sends afterwards is refused, and names why.
        let outcomes = try await two.ingest(thief.everything(of: orders))
        #expect(outcomes.map(\.refusal) == [.revoked])
    }

    @Test func `makes the thief's own server refuse writes, and keep that over a restart`()
        async throws
    {
        let identity = mesh.identity("thief")
        var thief = try mesh.store(identity)
        #expect(try await thief.reconcile(with: centre) != nil)
        try await thief.put(prices, "tea", "2")
        let document = try revocation(of: thief, asKnownTo: thief)
        try await revoke(document, at: thief)
        await #expect(throws: StoreError.revoked) { try await thief.put(prices, "tea", "3") }
        thief.close()
        thief = try mesh.store(identity)
        #expect(thief.isRevoked(identity.certificate))
        await #expect(throws: StoreError.revoked) { try await thief.put(prices, "tea", "3") }
        #expect(try thief.text(prices, "tea") == "2")
    }

    @Test func `with another of the same node ends each log at the lesser cut`() async throws {
        let (one, thief) = (try await store("a"), try await store("thief"))
        try await thief.put(prices, "tea", "1")
        let early = try revocation(of: thief, asKnownTo: thief)
        try await thief.put(prices, "milk", "1")
        try await thief.put(orders, "o/1", "late")
        let late = try revocation(of: thief, asKnownTo: thief)
        #expect(try await thief.reconcile(with: one) != nil)
        try await revoke(late, at: one)
        #expect(try one.text(prices, "milk") == "1")
        try await revoke(early, at: one)
        #expect(try one.text(prices, "milk") == nil)
        #expect(try one.text(prices, "tea") == "1")
        #expect(try one.liveCount(in: orders) == 0)
    }

    @Test func `ends a log before a commit that its cut falls into`() async throws {
        let (one, thief) = (try await store("a"), try await store("thief"))
        try await thief.put(prices, "tea", "1")
        let writes = try ["x", "y", "z"].map { Write(.put, try RecordKey($0), body: [1]) }
        _ = try await thief.write(WriteRequest(scope: prices, writes: writes))
        #expect(try await thief.reconcile(with: one) != nil)
        let known = try #require(
            try one.logs(of: thief.identity.certificate.node, before: nil).first)
        #expect(known.cut.through == 4)
        let within = Revocation.Cut(
            scope: prices, life: known.cut.life, through: 3)
        let document = Revocation(
            of: thief.identity.certificate.node, created: 1, reason: "", cuts: [within],
            key: mesh.revoke, mesh: mesh.root.meshID)
        try await revoke(document, at: one)
        #expect(try one.liveCount(in: prices) == 1)
        #expect(try one.logs(of: document.node, before: nil).map(\.frontier) == [1])
    }

    @Test func `leaves out what was stamped at a time or later where the operator asks for it`()
        async throws
    {
        let identity = mesh.identity("till")
        let times: [UInt64] = [1_700_000_000_000, 1_700_000_060_000, 1_700_000_120_000]
        let clock = SharedClock(times[0])
        let till = try mesh.store(identity, clock: { clock.now })
        #expect(try await till.reconcile(with: centre) != nil)
        for (index, time) in times.enumerated() {
            clock.now = time
            try await till.put(prices, "k\(index)", "v")
        }
        let node = identity.certificate.node
        let through = { (since: UInt64?) in
            try till.logs(of: node, before: since).map(\.cut.through)
        }
        #expect(try through(nil) == [3])
        #expect(try through(times[1]) == [1])
        #expect(try through(times[0]) == [0])
        #expect(try through(times[2] + 1) == [3])
    }

    /// What was written in a run and what each writer was shown, and so what must live at its end.
    private struct Model {
        private var versions: [Dot: (key: RecordKey, shown: Set<Dot>)] = [:]

        /// What a store shows of the keys that are about to be written there.
        func shown(_ writes: [Write], at store: Store) throws -> [Set<Dot>] {
            try writes.map { Set(try store.get($0.key, in: prices)?.versions.map(\.dot) ?? []) }
        }

        mutating func note(_ receipts: [Receipt], _ writes: [Write], shown: [Set<Dot>]) throws {
            for (index, receipt) in receipts.enumerated() {
                versions[try #require(receipt.dot)] = (writes[index].key, shown[index])
            }
        }

        /// The versions of a key that must live, and those that may. Where a life was cut off whole it
        /// is not known any more what it knew of its node's earlier ones: those may live again.
        func live(
            _ key: RecordKey, end: (Author) -> UInt64?
        ) -> (must: Set<Dot>, may: Set<Dot>) {
            let all = versions.filter { entry in
                entry.value.key == key && entry.key.sequence <= end(entry.key.author) ?? .max
            }
            let replaced = all.keys.reduce(into: Set<Dot>()) { $0.formUnion(seen($1)) }
            let lost = Set(versions.keys.map(\.author).filter { end($0) == 0 }.map(\.node))
            let must = Set(all.keys).subtracting(replaced)
            return (must, must.union(all.keys.filter { lost.contains($0.author.node) }))
        }

        /// Everything that the writer of a version had seen, directly or through others.
        private func seen(_ dot: Dot) -> Set<Dot> {
            (versions[dot]?.shown ?? []).reduce(into: Set<Dot>()) { all, other in
                all.insert(other)
                all.formUnion(seen(other))
            }
        }
    }

    /// Two thieves, each over several lives, who are revoked at two places; nobody's order counts.
    @Test(.serialized, arguments: 0..<60)
    func `leads to what would be had its author stopped there, whatever came first`(seed: UInt64)
        async throws
    {
        var random = SeededGenerator(seed: seed)
        var stores: [Store] = []
        for name in ["early", "late", "witness"] { stores.append(try await store(name)) }
        let identities = ["thief", "fence"].map { mesh.identity($0) }
        var thieves = try identities.map { try mesh.store($0) }
        for thief in thieves { #expect(try await thief.reconcile(with: centre) != nil) }
        var model = Model()
        var standing = RevokedLogs()
        for step in 0..<50 {
            let which = Int(random.next() % 5)
            let writer = which < 3 ? stores[which] : thieves[which - 3]
            let keys = Set((0...random.next() % 3).map { _ in "k\(random.next() % 6)" }).sorted()
            let writes = try keys.map {
                Write(.put, try RecordKey($0), body: Array("\(step)".utf8))
            }
            let shown = try model.shown(writes, at: writer)
            let receipts = try await writer.write(WriteRequest(scope: prices, writes: writes))
            try model.note(receipts, writes, shown: shown)
            if random.next() % 6 == 0 {
                let place = Int(random.next() % 2)
                thieves[place].close()
                thieves[place] = try mesh.store(identities[place])
            }
            if step == 20 || step == 30 {
                let (place, thief) = step == 20 ? (0, thieves[0]) : (1, thieves[1])
                #expect(try await stores[place].reconcile(with: thief) != nil)
                let document = try revocation(of: thief, asKnownTo: stores[place])
                standing.add(document)
                try await revoke(document, at: stores[place])
            }
            let other = stores[Int(random.next() % 3)]
            let thief = thieves[Int(random.next() % 2)]
            let isRevoked = other.isRevoked(thief.identity.certificate)
            let isRefused = thief.isRevoked(thief.identity.certificate)
            if random.next() % 2 == 0, !isRevoked, !isRefused {
                #expect(try await other.reconcile(with: thief) != nil)
            }
            // A thief that has heard of its own end takes no more writes.
            if thieves.contains(where: { $0.isRevoked($0.identity.certificate) }) { break }
        }
        for (left, right) in [(0, 1), (1, 2), (0, 2), (0, 1), (1, 2)] {
            #expect(try await stores[left].reconcile(with: stores[right]) != nil)
        }
        for name in 0..<6 {
            let key = try RecordKey("k\(name)")
            let wanted = model.live(key) { standing.end(of: $0, in: prices) }
            for store in stores {
                let live = Set(try store.get(key, in: prices)?.versions.map(\.dot) ?? [])
                #expect(
                    live.isSuperset(of: wanted.must) && live.isSubset(of: wanted.may),
                    "\(key) at \(store.identity.certificate.ticket.node)")
            }
        }
        #expect(try stores.allSatisfy { try $0.root(of: prices) == stores[0].root(of: prices) })
    }

    @Test func `brings back what was overwritten in the very transaction of the revocation`()
        async throws
    {
        let (one, thief) = (try await store("a"), try await store("thief"))
        try await one.put(prices, "soup", "4")
        #expect(try await thief.reconcile(with: one) != nil)
        let document = try revocation(of: thief, asKnownTo: one)
        try await thief.put(prices, "soup", "0")
        let messages = try thief.everything(of: prices).filter {
            $0.author.node == thief.identity.certificate.node
        }
        // Both wait for the writer together.
        let waiting = DispatchSemaphore(value: 0)
        let busy = Task { try await one.put(orders, "busy", "x") }
        one.ingest(messages) { _ in waiting.signal() }
        one.revoke(document) { _ in waiting.signal() }
        _ = try await busy.value
        await Task.detached { for _ in 0..<2 { waiting.wait() } }.value
        #expect(try one.text(prices, "soup") == "4")
        let fresh = try await store("b")
        #expect(try await fresh.reconcile(with: one) != nil)
        #expect(try fresh.text(prices, "soup") == "4")
    }

    @Test func `brings back what a thief took though he fills what is kept with his own writes`()
        async throws
    {
        let identity = mesh.identity("a")
        var one = try mesh.store(identity)
        #expect(try await one.reconcile(with: centre) != nil)
        let thief = try await store("thief")
        try await one.put(prices, "soup", "4")
        #expect(try await thief.reconcile(with: one) != nil)
        let document = try revocation(of: thief, asKnownTo: one)
        try await thief.put(prices, "soup", "0")
        // More than the 16 MiB that are kept of what a node superseded of its own.
        let picture = String(repeating: "x", count: 60_000)
        for round in 0..<30 {
            let writes = try (0..<10).map {
                Write(.put, try RecordKey("k\($0)"), body: Array("\(round)\(picture)".utf8))
            }
            _ = try await thief.write(WriteRequest(scope: prices, writes: writes))
            #expect(try await one.reconcile(with: thief) != nil)
        }
        // The limits are looked at with the first that is kept after a start.
        one.close()
        one = try mesh.store(identity)
        try await thief.put(prices, "k0", "last")
        #expect(try await one.reconcile(with: thief) != nil)
        #expect(one.statistics.counts.undoDropped > 0)
        try await revoke(document, at: one)
        #expect(try one.text(prices, "soup") == "4")
        #expect(try one.liveCount(in: prices) == 1)
    }

    @Test func `costs nothing that a log's author decides: a jump to the end of all numbers`()
        async throws
    {
        let one = try await store("a")
        let identity = mesh.identity("thief")
        try one.keep(identity.certificate)
        let writer = PeerWriter(identity)
        let author = writer.author
        let first = writer.commit(prices, [try writer.record("w")])
        let far = writer.commit(prices, [try writer.record("x")], first: 1 << 60)
        let message = writer.run([first, far])
        _ = try await one.ingest([message])
        let document = Revocation(
            of: author.node, created: 1, reason: "", cuts: [], key: mesh.revoke,
            mesh: mesh.root.meshID)
        try await revoke(document, at: one)
        #expect(try one.liveCount(in: prices) == 0)
        #expect(try one.logs(of: author.node, before: nil).isEmpty)
        let fresh = try await store("b")
        #expect(try await fresh.reconcile(with: one) != nil)
    }

    @Test func `stands also where who brought it forks the record away, and goes on to others`()
        async throws
    {
        let one = try await store("a")
        let carrier = mesh.identity("carrier")
        try one.keep(carrier.certificate)
        let writer = PeerWriter(carrier)
        func message(_ node: NodeID, _ reason: String) throws -> CommitsMessage {
            let document = Revocation(
                of: node, created: 1, reason: reason, cuts: [], key: mesh.revoke,
                mesh: mesh.root.meshID)
            let record = Record(
                kind: .put, stamp: HybridTime(1), key: document.key, context: .empty,
                contentType: Revocation.contentType, body: document.encoded)
            return writer.message(Revocation.scope, [record])
        }
        let victim: NodeID = TestMesh.bytes(4, 4)
        _ = try await one.ingest([try message(victim, "real")])
        #expect(one.isRevoked(victim))
        // The carrier's key is stolen: of two commits in one place the lower identity lives.
        let decoys = try (0..<20).map { try message(TestMesh.bytes(5, UInt8($0)), "decoy") }
        for decoy in decoys { _ = try await one.ingest([decoy.asFill]) }
        one.settle()
        #expect(one.isRevoked(victim))
        let fresh = try await store("b")
        #expect(try await fresh.reconcile(with: one) != nil)
        #expect(fresh.isRevoked(victim))
    }
}

extension CommitsMessage {
    /// The same commits as places to fill, which a frontier does not hold back.
    fileprivate var asFill: CommitsMessage {
        CommitsMessage(scope: scope, author: author, after: 0, through: 0, commits: commits)
    }
}
