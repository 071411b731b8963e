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

private let orders = Scope("orders@site/s1")!
private let prices = Scope("prices@site/s1")!
private let all: [String: NamespacePolicy] = ["menu": .menu, "orders": .orders, "prices": .prices]

@Suite struct `What a peer sends` {
    /// A site's store, and a writer of the same site whose certificate it knows.
    private func scene() async throws -> (TestMesh, Store, PeerWriter) {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let store = try mesh.store(mesh.identity("receiver"))
        #expect(try await store.reconcile(with: centre) != nil)
        let writer = PeerWriter(mesh.identity("writer"))
        try store.keep(writer.identity.certificate)
        return (mesh, store, writer)
    }

    private func judge(_ store: Store, _ message: CommitsMessage) async throws -> IngestOutcome {
        try #require(try await store.ingest([try CommitsMessage(decoding: message.encoded)]).first)
    }

    @Test func `is stored when its author may write it, and a second time changes nothing`()
        async throws
    {
        let (_, store, writer) = try await scene()
        let message = writer.message(orders, [try writer.record("a"), try writer.record("b")])
        #expect(try await judge(store, message).stored == 2)
        let root = try store.root(of: orders)
        #expect(try await judge(store, message).isDuplicate)
        #expect(try store.root(of: orders) == root)
    }

    @Test func `is refused with another's signature`() async throws {
        let (_, store, writer) = try await scene()
        let message = writer.message(orders, [try writer.record("a")], key: TestMesh.key(99, 9))
        #expect(try await judge(store, message).refusal == .badSignature)
        #expect(try store.liveCount(in: orders) == 0)
    }

    @Test func `is refused when signed for another mesh`() async throws {
        let (_, store, writer) = try await scene()
        let message = writer.message(orders, [try writer.record("a")], mesh: TestMesh.bytes(8, 8))
        #expect(try await judge(store, message).refusal == .badSignature)
    }

    @Test func `is refused or malformed when any byte is changed`() async throws {
        let (_, store, writer) = try await scene()
        let bytes = writer.message(orders, [try writer.record("a"), try writer.record("b")]).encoded
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 0x10
            guard let message = try? CommitsMessage(decoding: changed) else { continue }
            let outcome = try #require(try await store.ingest([message]).first)
            #expect(
                outcome.refusal != nil || outcome.stored == 0 || outcome.hasGap, "byte \(index)")
            #expect(try store.text(orders, "a") == nil || outcome.hasGap, "byte \(index)")
        }
    }

    @Test func `is refused outside the author's grant`() async throws {
        let (mesh, store, _) = try await scene()
        let stranger = PeerWriter(mesh.identity("stranger", site: "s10"))
        try store.keep(stranger.identity.certificate)
        let message = stranger.message(orders, [try stranger.record("a")])
        #expect(try await judge(store, message).refusal == .notGranted)
    }

    @Test func `waits for the certificate and the policy it needs`() async throws {
        let (mesh, store, writer) = try await scene()
        let unknown = PeerWriter(mesh.identity("unknown"))
        #expect(
            try await judge(store, unknown.message(orders, [try unknown.record("a")])).refusal
                == .authorUnknown)
        let nowhere = Scope("nowhere@site/s1")!
        let early = try await judge(store, writer.message(nowhere, [try writer.record("a")]))
        #expect(early.waits == .policy(.builtIn, namespace: "nowhere"))
    }

    @Test func `of a scope that is not held here is refused`() async throws {
        let (_, store, writer) = try await scene()
        let elsewhere = Scope("orders@site/s2")!
        #expect(
            try await judge(store, writer.message(elsewhere, [try writer.record("a")])).refusal
                == .wrongAudience)
    }

    @Test func `after a gap is not kept, since no digest would tell of it`() async throws {
        let (_, store, writer) = try await scene()
        let first = writer.message(orders, [try writer.record("a")])
        let third = writer.message(orders, [try writer.record("c")], first: 3)
        let outcome = try await judge(store, third)
        #expect(outcome.hasGap)
        #expect(outcome.stored == 0)
        #expect(try store.liveCount(in: orders) == 0)
        #expect(try store.consult { try $0.logs(of: orders) }.isEmpty)
        let second = writer.message(
            orders, [try writer.record("b")], first: 2,
            previous: first.commits[0].header.id(in: store.identity.root.meshID))
        for message in [first, second, third] { _ = try await judge(store, message) }
        #expect(try store.consult { try $0.logs(of: orders) }.first?.frontier == 3)
        #expect(try store.liveCount(in: orders) == 3)
    }

    @Test
    func `that contradicts what its author wrote before is evidence, and both orders end alike`()
        async throws
    {
        var roots: Set<Digest> = []
        for order in 0..<2 {
            let (_, store, writer) = try await scene()
            let one = writer.message(prices, [try writer.record("a", "one")])
            let two = writer.message(prices, [try writer.record("a", "two")])
            for message in order == 0 ? [one, two] : [two, one] {
                _ = try await judge(store, message)
                _ = try await judge(store, writer.fill(message.commits))
            }
            #expect(try store.forkedAuthors() == [writer.author])
            #expect(store.statistics.counts.forks > 0)
            #expect(try store.liveCount(in: prices) == 1)
            roots.insert(try store.root(of: prices))
        }
        #expect(roots.count == 1)
    }

    @Test(arguments: [["x", "y"], ["p", "q"]])
    func `that contradicts it over other bounds ends alike on every node`(names: [String])
        async throws
    {
        // Two histories after the same beginning: one commit of 2, and one of 5 in its place.
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let (one, two) = (
            try mesh.store(mesh.identity("one")), try mesh.store(mesh.identity("two"))
        )
        let writer = PeerWriter(mesh.identity("writer"))
        for store in [one, two] {
            #expect(try await store.reconcile(with: centre) != nil)
            try store.keep(writer.identity.certificate)
            _ = try await judge(store, writer.message(prices, [try writer.record("start")]))
        }
        let short = writer.message(prices, try names.map { try writer.record($0) }, first: 2)
        let long = writer.message(prices, try (1...5).map { try writer.record("l\($0)") }, first: 2)
        _ = try await judge(one, short)
        _ = try await judge(two, long)
        for _ in 0..<4 { _ = try await one.reconcile(with: two) }
        #expect(try one.root(of: prices) == two.root(of: prices))
        #expect([3, 6].contains(try one.liveCount(in: prices)))
        #expect(try one.forkedAuthors() == [writer.author])
        // Whoever comes new gets it from either.
        let third = try mesh.store(mesh.identity("third"))
        #expect(try await third.reconcile(with: centre) != nil)
        try third.keep(writer.identity.certificate)
        #expect(try await third.reconcile(with: two) != nil)
        #expect(try third.root(of: prices) == one.root(of: prices))
    }

    @Test func `whose places others had seen keeps nobody from what those wrote`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let (writer, reader) = (
            PeerWriter(mesh.identity("writer")), PeerWriter(mesh.identity("reader"))
        )
        func server(_ name: String) async throws -> Store {
            let store = try mesh.store(mesh.identity(name))
            #expect(try await store.reconcile(with: centre) != nil)
            for one in [writer, reader] { try store.keep(one.identity.certificate) }
            return store
        }
        let one = try await server("one")
        // The shorter history stands: of many its identity is the lower.
        let long = writer.message(prices, try (1...5).map { try writer.record("l\($0)") })
        let all = try (0..<64).map { writer.message(prices, [try writer.record("s\($0)")]) }
        let name = { (message: CommitsMessage) in message.commits[0].header.id(in: mesh.root.meshID)
        }
        let short = try #require(all.first { name($0) < name(long) })
        _ = try await judge(one, long)
        _ = try await judge(
            one, reader.message(prices, [try reader.record("r", "seen", seen: [writer.dot(5)])]))
        _ = try await judge(one, writer.fill(short.commits))
        #expect(try one.consult { try $0.logs(of: prices) }.map(\.frontier).sorted() == [1, 1])
        let late = try await server("late")
        for _ in 0..<3 { _ = try await late.reconcile(with: one) }
        #expect(try late.text(prices, "r") == "seen")
        #expect(try late.root(of: prices) == one.root(of: prices))
        #expect(try late.forkedAuthors() == [writer.author])
    }

    @Test func `in one transaction with its own contradiction leaves nothing unproven`()
        async throws
    {
        for seed in 0..<4 {
            let (mesh, store, writer) = try await scene()
            let first = writer.message(
                prices, [try writer.record("a\(seed)"), try writer.record("b")])
            let next = writer.message(prices, [try writer.record("a\(seed)")], first: 3)
            let rival = writer.message(prices, [try writer.record("c"), try writer.record("d")])
            let fill = CommitsMessage(
                scope: prices, author: writer.author, after: 0, through: 0, commits: rival.commits)
            _ = try await store.ingest([first, next, fill])
            // What is there can be shown to a peer, which takes it.
            let other = try mesh.store(mesh.identity("other\(seed)"))
            try other.keep(writer.identity.certificate)
            #expect(try await other.reconcile(with: store) != nil)
            #expect(try other.root(of: prices) == store.root(of: prices))
        }
    }

    @Test func `that does not chain to the commit before is noted`() async throws {
        let (_, store, writer) = try await scene()
        _ = try await judge(store, writer.message(prices, [try writer.record("a")]))
        let next = writer.message(
            prices, [try writer.record("b")], first: 2, previous: TestMesh.bytes(4, 4))
        #expect(try await judge(store, next).isFork)
    }

    @Test func `that does not chain to what is here fills a place, and both live`() async throws {
        let (_, store, writer) = try await scene()
        let mesh = store.identity.root.meshID
        let start = writer.commit(prices, [try writer.record("x")])
        let after = start.header.id(in: mesh)
        // Of one history the second commit is not sent, since all of it was superseded.
        let gone = writer.commit(prices, [try writer.record("y")], first: 2, previous: after)
        let third = writer.commit(
            prices, [try writer.record("a", "two")], first: 3, previous: gone.header.id(in: mesh))
        _ = try await judge(store, writer.run([start, third], after: 0))
        #expect(try store.forkedAuthors().isEmpty)
        let rival = writer.commit(
            prices, [try writer.record("a", "one")], first: 2, previous: after)
        #expect(try await judge(store, writer.fill([rival])).isFork)
        #expect(try store.forkedAuthors() == [writer.author])
        #expect(try Set(store.values(prices, "a")) == ["one", "two"])
    }

    @Test func `with a stamp of the year 2100 is stored, and the next informed write wins`()
        async throws
    {
        let (_, store, writer) = try await scene()
        let future = try writer.record("a", "future", stamp: UInt64.max)
        _ = try await judge(store, writer.message(prices, [future]))
        #expect(try store.text(prices, "a") == "future")
        try await store.put(prices, "a", "now")
        #expect(try store.text(prices, "a") == "now")
    }

    @Test func `of an already superseded version changes nothing when it comes late`() async throws
    {
        let (_, store, writer) = try await scene()
        let other = try await store.put(prices, "x", "1")
        #expect(other.isNew)
        let old = writer.message(prices, [try writer.record("a", "old")])
        let new = writer.message(
            prices, [try writer.record("a", "new")], first: 2,
            previous: old.commits[0].header.id(in: store.identity.root.meshID))
        // The log comes first without the older record, which then fills its place.
        let first = try #require(old.commits.first)
        let hollow = Commit(
            header: first.header, signature: first.signature,
            proof: CommitProof(noneOf: first.header), records: [])
        let run = CommitsMessage(
            scope: prices, author: old.author, after: 0, through: 2, commits: [hollow] + new.commits
        )
        #expect(try await judge(store, run).stored == 1)
        let late = try await judge(
            store,
            CommitsMessage(
                scope: prices, author: old.author, after: 0, through: 0, commits: old.commits))
        #expect(late.refusal == nil)
        #expect(late.stored == 0)
        #expect(try store.text(prices, "a") == "new")
    }

    @Test func `deletes a key nobody knew, which stays as context`() async throws {
        let (_, store, writer) = try await scene()
        let gone = Record(
            kind: .delete, stamp: HybridTime(1), key: try RecordKey("ghost"), context: .empty,
            contentType: "", body: [])
        #expect(try await judge(store, writer.message(prices, [gone])).stored == 1)
        #expect(try store.text(prices, "ghost") == nil)
        #expect(try store.liveCount(in: prices) == 1)
    }

    @Test func `cannot push a frontier past what its author signed`() throws {
        let mesh = try TestMesh()
        let writer = PeerWriter(mesh.identity("w"))
        let honest = writer.message(orders, [try writer.record("a")])
        let lie = CommitsMessage(
            scope: orders, author: writer.author, after: 0, through: 1 << 60,
            commits: honest.commits)
        #expect(throws: WireError.invalid("end of the run")) {
            try CommitsMessage(decoding: lie.encoded)
        }
    }

    @Test func `of this node's own lost tail makes it begin a new life`() async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(all)
        let identity = mesh.identity("site")
        let store = try mesh.store(identity)
        #expect(try await store.reconcile(with: centre) != nil)
        try await store.put(prices, "a", "1")
        let before = store.author
        let writer = PeerWriter(identity, life: before.life.value)
        let lost = writer.message(prices, [try writer.record("b", "lost")], first: 2)
        #expect(try await judge(store, lost).stored == 1)
        #expect(store.author.life != before.life)
        #expect(try store.text(prices, "b") == "lost")
    }
}
