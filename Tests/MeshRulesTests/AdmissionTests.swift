// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import MeshTrust
import Testing

private let prices = Scope("prices@site/s1")!
private let orders = Scope("orders@site/s1")!
private let all: [String: NamespacePolicy] = ["orders": .orders, "prices": .prices]

/// What a member with a valid key can sign, and what comes of it.
@Suite struct `A liar with a valid key` {
    private let mesh: TestMesh
    private let store: Store
    private let liar: PeerWriter

    init() async throws {
        mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        store = try mesh.store(mesh.identity("s"))
        #expect(try await store.reconcile(with: centre) != nil)
        liar = PeerWriter(mesh.identity("liar"))
        try store.keep(liar.identity.certificate)
    }

    @Test func `who names places that nobody wrote is not taken, and harms no key`() async throws {
        try await store.put(prices, "k", "honest")
        let invented = (0..<200).map {
            Dot(
                author: Author(node: TestMesh.bytes(UInt8($0), 7), life: Life(1 << 40)),
                sequence: 5)
        }
        let lie = liar.message(prices, [try liar.record("k", "poison", seen: invented)])
        let outcome = try await store.take(lie)
        #expect(outcome.stored == 0 && outcome.refusal == nil)
        guard case .place(let log, 5)? = outcome.waits else {
            Issue.record("it waits for \(String(describing: outcome.waits))")
            return
        }
        #expect(log.scope == prices)
        #expect(try store.values(prices, "k") == ["honest"])
        try await store.put(prices, "k", "goes on")
        try await store.delete(prices, "k")
        #expect(try store.values(prices, "k").isEmpty)
    }

    @Test func `who names the end of all numbers of honest logs keeps nobody from writing`()
        async throws
    {
        try await store.put(prices, "k", "honest")
        let far = Dot(author: store.author, sequence: Dot.sequenceMax)
        let lie = liar.message(prices, [try liar.record("k", "poison", seen: [far])])
        #expect(try await store.take(lie).waits != nil)
        try await store.put(prices, "k", "again")
        #expect(try store.values(prices, "k") == ["again"])
    }

    @Test func `is taken up to his lie, and goes on once it has come true`() async throws {
        let writer = PeerWriter(mesh.identity("writer"))
        try store.keep(writer.identity.certificate)
        let first = liar.commit(prices, [try liar.record("a")])
        let second = liar.commit(
            prices, [try liar.record("b", seen: [writer.dot(1)])], first: 2,
            previous: first.header.id(in: mesh.root.meshID))
        let run = liar.run([first, second])
        let early = try await store.take(run)
        #expect(early.frontier == 1 && early.stored == 1)
        #expect(
            early.waits == .place(LogName(scope: prices, author: writer.author), sequence: 1))
        _ = try await store.take(writer.message(prices, [try writer.record("w")]))
        #expect(try await store.take(run).frontier == 2)
    }

    @Test func `whose log names another that names it back is taken with it`() async throws {
        let writer = PeerWriter(mesh.identity("writer"))
        try store.keep(writer.identity.certificate)
        // What was superseded is not sent: neither log has a commit that could come first.
        let mine = liar.message(prices, [try liar.record("a", seen: [writer.dot(2)])])
        let theirs = writer.message(
            prices, [try writer.record("b"), try writer.record("c", seen: [liar.dot(1)])])
        #expect(try await store.take(mine).waits != nil)
        #expect(try await store.take(theirs).stored == 2)
        #expect(try await store.take(mine).stored == 1)
    }

    @Test func `who names his own future, breaks a log or adds what nobody knows is blocked`()
        async throws
    {
        let future = try liar.record("a", seen: [liar.dot(1)])
        #expect(try await store.take(liar.message(prices, [future])).refusal == .badContext)
        let other = PeerWriter(mesh.identity("other"))
        try store.keep(other.identity.certificate)
        let gone = try other.record("o", kind: .delete)
        #expect(try await store.take(other.message(orders, [gone])).refusal == .wrongMerge)
        let newer = Record(
            kind: .put, stamp: HybridTime(1), key: try RecordKey("n"), context: .empty,
            contentType: "", body: [], extensions: Extensions([.init(tag: 1, bytes: [1])]))
        #expect(try await store.take(other.message(prices, [newer])).refusal == .newer)
        let skippable = Record(
            kind: .put, stamp: HybridTime(1), key: try RecordKey("n"), context: .empty,
            contentType: "", body: [], extensions: Extensions([.init(tag: 200, bytes: [1])]))
        #expect(try await store.take(other.message(prices, [skippable])).stored == 1)
        let refusals: [Refusal] = [.badContext, .wrongMerge, .newer, .notGranted]
        for refusal in refusals { #expect(refusal.blocksLog) }
    }

    @Test func `who inherits lives that nobody knows waits for them alone`() async throws {
        let lie = liar.message(
            prices, [try liar.record("a")], inherits: [Inheritance(life: Life(9), through: 80)])
        #expect(try await store.take(lie).waits != nil)
        #expect(try store.liveCount(in: prices) == 0)
    }

    @Test func `whose log jumps to the end of all numbers does not end the process`() async throws {
        let begin = liar.commit(prices, [try liar.record("w")])
        let jump = liar.commit(
            prices, [try liar.record("x")], first: Dot.sequenceMax - 1)
        #expect(try await store.take(liar.run([begin, jump])).frontier == Dot.sequenceMax - 1)
        try await store.put(prices, "x", "honest")
        let next = liar.message(prices, [try liar.record("y")], first: 2)
        #expect(try await store.take(next).isDuplicate)
        let other = try mesh.store(mesh.identity("o"))
        #expect(try await other.reconcile(with: store) != nil)
        #expect(try other.root(of: prices) == store.root(of: prices))
        #expect(try other.values(prices, "x") == ["honest"])
    }
}

@Suite struct `A key with many writers` {
    @Test func `is written and deleted on, also where two sides had hundreds each`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let (one, two) = (try mesh.store(mesh.identity("a")), try mesh.store(mesh.identity("b")))
        for (side, store) in [one, two].enumerated() {
            #expect(try await store.reconcile(with: centre) != nil)
            for number in 0..<150 {
                let writer = PeerWriter(mesh.identity("w\(side)-\(number)"))
                try store.keep(writer.identity.certificate)
                let seen = try store.get(RecordKey("k"), in: prices)?.versions ?? []
                let dots = seen.flatMap { $0.record.context.dots + [$0.dot] }
                let record = try writer.record("k", "\(side) \(number)", seen: dots)
                #expect(try await store.take(writer.message(prices, [record])).stored == 1)
            }
        }
        #expect(try await one.reconcile(with: two) != nil)
        #expect(try one.values(prices, "k").count == 2)
        try await one.put(prices, "k", "settled")
        #expect(
            try one.get(RecordKey("k"), in: prices)?.versions.first?.record.context.dots.count
                == 300)
        try await one.delete(prices, "k")
        #expect(try await two.reconcile(with: one) != nil)
        #expect(try two.values(prices, "k").isEmpty)
    }

    @Test func `beyond what a context names is still written`() async throws {
        let live = (0...Context.entriesMax).map { number in
            Version(
                dot: Dot(
                    author: Author(node: TestMesh.bytes(1, 1), life: Life(UInt64(number))),
                    sequence: 1),
                context: .empty, stamp: HybridTime(1), merge: .register)
        }
        let dot = Dot(author: Author(node: TestMesh.bytes(2, 2), life: Life(1)), sequence: 1)
        #expect(Merge.context(after: live, at: dot, lives: ScopeLives()) == nil)
        let wide = Version(
            dot: live[0].dot, context: Context(live.dropFirst().map(\.dot)), stamp: HybridTime(1),
            merge: .register)
        let context = try #require(Merge.context(after: [wide], at: dot, lives: ScopeLives()))
        #expect(context.dots.count == Context.entriesMax && context.dots.contains(wide.dot))
    }
}

@Suite struct `One namespace that was made on two sides of a cut` {
    private let mesh: TestMesh

    init() throws { mesh = try TestMesh() }

    private func create(
        _ name: String, _ policy: NamespacePolicy, at store: Store, created: UInt64 = 1
    ) async throws {
        let write = try mesh.define(name, policy, created: created)
        _ = try await store.write(WriteRequest(scope: NamespacePolicy.scope, writes: [write]))
    }

    @Test func `delivers what was written under either, and names both`() async throws {
        let (one, two) = (
            try mesh.store(mesh.identity("one", site: "hq", central: true)),
            try mesh.store(
                mesh.identity("two", site: "hq", central: true), clock: { 1_700_000_009_000 })
        )
        let scope = Scope("orders@all")!
        let log = NamespacePolicy(audience: .all, writers: .any, merge: .log)
        let register = NamespacePolicy(audience: .all, writers: .any, merge: .register)
        try await create("orders", log, at: one, created: 9)
        try await create("orders", register, at: two, created: 5)
        try await one.put(scope, "a", "entry")
        try await two.put(scope, "b", "old")
        try await two.put(scope, "b", "new")
        try await two.put(scope, "a", "value")
        #expect(try await one.reconcile(with: two) != nil)
        for store in [one, two] {
            #expect(try store.values(scope, "b") == ["new"])
            #expect(try store.values(scope, "a") == ["entry", "value"])
            #expect(try store.knownPolicies(of: "orders").map(\.policy) == [log, register])
            #expect(try store.policy(of: "orders") == log)
        }
        // New writes are made under the one that was signed last, everywhere.
        await #expect(throws: StoreError.exists(try RecordKey("b"))) {
            try await two.put(scope, "b", "again")
        }
        try await two.put(scope, "c", "entry")
        #expect(try await one.reconcile(with: two) != nil)
        #expect(try one.values(scope, "c") == ["entry"])
    }

    @Test func `takes no policy that an operator has not signed, whoever brings it`() async throws {
        let store = try mesh.store(mesh.identity("s"))
        let thief = PeerWriter(mesh.identity("centre", site: "hq", central: true))
        try store.keep(thief.identity.certificate)
        func record(_ body: [UInt8], of namespace: String = "orders") throws -> Record {
            Record(
                kind: .put, stamp: HybridTime(1), key: try NamespacePolicy.key(of: namespace),
                context: .empty, contentType: NamespacePolicy.contentType, body: body)
        }
        func signed(_ key: SigningKey) -> [UInt8] {
            PolicyDocument(
                of: "orders", .orders, created: 1, key: key, mesh: mesh.root.meshID
            ).encoded
        }
        let bad = [
            try record(NamespacePolicy.orders.encoded), try record(signed(thief.identity.nodeKey)),
            try record(signed(mesh.revoke)), try record(signed(mesh.enrol), of: "prices"),
        ]
        for one in bad {
            let outcome = try await store.take(thief.message(NamespacePolicy.scope, [one]))
            #expect(outcome.refusal == .badPolicy)
        }
        #expect(try store.policies().isEmpty)
        let good = try record(signed(mesh.enrol))
        #expect(try await store.take(thief.message(NamespacePolicy.scope, [good])).stored == 1)
        #expect(try store.policy(of: "orders") == .orders)
    }

    @Test func `shows nothing wider that was written under a narrower policy`() async throws {
        let centre = try mesh.store(mesh.identity("centre", site: "hq", central: true))
        let (till, other) = (
            try mesh.store(mesh.identity("till", site: "s1")),
            try mesh.store(mesh.identity("other", site: "s2"))
        )
        try await create("prices", .prices, at: centre, created: 1)
        #expect(try await till.reconcile(with: centre) != nil)
        try await till.put(prices, "a", "for this site")
        #expect(try await centre.reconcile(with: till) != nil)
        let wide = NamespacePolicy(audience: .all, writers: .any, merge: .register)
        try await create("prices", wide, at: centre, created: 2)
        try await centre.put(Scope("prices@all")!, "b", "for all")
        for store in [till, other] { #expect(try await store.reconcile(with: centre) != nil) }
        #expect(try other.values(Scope("prices@all")!, "b") == ["for all"])
        #expect(try other.values(prices, "a").isEmpty && other.scopes().contains(prices) == false)
        #expect(try till.values(prices, "a") == ["for this site"])
        #expect(try till.values(Scope("prices@all")!, "a").isEmpty)
    }

    @Test func `keeps a log waiting for its policy, which is taken once it has come`() async throws
    {
        let centre = try mesh.store(mesh.identity("centre", site: "hq", central: true))
        let store = try mesh.store(mesh.identity("s"))
        try store.keep(centre.identity.certificate)
        try await create("prices", .prices, at: centre)
        let writer = PeerWriter(mesh.identity("w"))
        try store.keep(writer.identity.certificate)
        let message = writer.message(prices, [try writer.record("a")])
        guard case .policy(_, "prices")? = try await store.take(message).waits else {
            Issue.record("it does not wait for its policy")
            return
        }
        for policy in try centre.everything(of: NamespacePolicy.scope) {
            _ = try await store.take(policy)
        }
        #expect(try await store.take(message).stored == 1)
    }
}

@Suite struct `A box that was enrolled again` {
    @Test func `keeps on every server what it wrote under its earlier certificate`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let old = PeerWriter(mesh.identity("till"))
        let new = mesh.identity("till", site: "s2", key: old.identity.nodeKey)
        for certificate in [old.identity.certificate, new.certificate] {
            try centre.keep(certificate)
        }
        #expect(try centre.certificates(of: new.certificate.node).count == 2)
        #expect(try centre.certificate(of: new.certificate.node)?.ticket.site == "s2")
        #expect(
            try await centre.take(old.message(prices, [try old.record("a", "paid")])).stored == 1)
        let later = try mesh.store(mesh.identity("later", site: "hq", central: true))
        #expect(try await later.reconcile(with: centre) != nil)
        #expect(try later.values(prices, "a") == ["paid"])
        // Only the new one is known: the old history is not for it to write.
        let strict = try mesh.store(mesh.identity("strict"))
        #expect(try await strict.reconcile(with: centre) != nil)
        let other = PeerWriter(mesh.identity("moved", site: "s2"))
        try strict.keep(other.identity.certificate)
        #expect(
            try await strict.take(other.message(prices, [try other.record("b")])).refusal
                == .notGranted)
    }
}
