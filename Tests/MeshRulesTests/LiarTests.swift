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
private let all: [String: NamespacePolicy] = ["prices": .prices]

/// What somebody with a valid key signs harms his own records only, and servers that hear parts of
/// it in different orders come to agree.
@Suite struct `A liar who shows servers different things` {
    private let mesh: TestMesh
    private let centre: Store
    private let liar: PeerWriter
    private let reader: PeerWriter

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(all)
        liar = PeerWriter(mesh.identity("liar"))
        reader = PeerWriter(mesh.identity("reader"))
    }

    private func store(_ name: String) async throws -> Store {
        let store = try mesh.store(mesh.identity(name))
        #expect(try await store.reconcile(with: centre) != nil)
        for one in [liar, reader] { try store.keep(one.identity.certificate) }
        return store
    }

    private func id(_ commit: Commit) -> Digest { commit.header.id(in: mesh.root.meshID) }

    private func bare(_ commit: Commit) -> Commit {
        Commit(
            header: commit.header, signature: commit.signature,
            proof: CommitProof(noneOf: commit.header), records: [])
    }

    /// A commit of so many records whose identity is on one side of another's.
    private func commit(
        _ writer: PeerWriter, _ keys: [String], first: UInt64, below other: Commit? = nil,
        above lower: Commit? = nil, after previous: Commit? = nil
    ) throws -> Commit {
        var draw = 0
        while true {
            let records = try keys.map { try writer.record($0, "\(first) \(draw)") }
            let one = writer.commit(
                prices, records, first: first, previous: previous.map { id($0) })
            if other.map({ id(one) < id($0) }) ?? true, lower.map({ id($0) < id(one) }) ?? true {
                return one
            }
            draw += 1
        }
    }

    /// What a relay makes of a commit: some of its records, and proof of the rest.
    private func part(_ commit: Commit, _ kept: Set<Int>) -> Commit {
        let dropped = Set(commit.records.indices).subtracting(kept)
        let ids = commit.records.map { Record.id(of: $0, in: mesh.root.meshID) }
        return Commit(
            header: commit.header, signature: commit.signature,
            proof: commit.proof.dropping(
                Dictionary(uniqueKeysWithValues: dropped.map { ($0, ids[$0]) })),
            records: kept.sorted().map { commit.records[$0] })
    }

    private func agree(_ one: Store, _ other: Store) async throws {
        #expect(try await one.reconcile(with: other) != nil)
        #expect(try one.root(of: prices) == other.root(of: prices))
    }

    @Test func `holds up nobody's log with a place that only one server saw proven`() async throws {
        let (one, other) = (try await store("one"), try await store("other"))
        // His first life waits for a policy that is nowhere; his second names it.
        var invented = liar
        invented.policies["prices"] = .orders
        let waits = try await one.take(invented.message(prices, [try liar.record("x")]))
        #expect(waits.waits != nil)
        let second = PeerWriter(liar.identity, life: 2 << 32)
        let naming = try second.record("k", "his", seen: [liar.dot(1)])
        #expect(try await one.take(second.message(prices, [naming])).stored == 1)
        try await one.put(prices, "k", "sold")
        try await one.put(prices, "later", "sold too")
        try await agree(one, other)
        #expect(try other.values(prices, "k") == ["sold"])
        #expect(try other.values(prices, "later") == ["sold too"])
    }

    @Test func `holds up nobody's log with very many such places`() async throws {
        let (one, other) = (try await store("one"), try await store("other"))
        func life(_ number: UInt64) -> PeerWriter {
            var writer = PeerWriter(liar.identity, life: number << 32)
            writer.policies["prices"] = .orders
            return writer
        }
        // The other server hears of lives that nobody else does, before it hears of what counts.
        for number in 1000..<UInt64(1100) {
            let junk = life(number)
            _ = try await other.take(junk.message(prices, [try junk.record("x")]))
        }
        var places: [Dot] = []
        for number in 1...UInt64(100) {
            let writer = life(number)
            #expect(
                try await one.take(writer.message(prices, [try writer.record("x")])).waits != nil)
            places.append(writer.dot(1))
        }
        let last = PeerWriter(liar.identity, life: 2000 << 32)
        let naming = try last.record("k", "his", seen: places.sorted())
        #expect(try await one.take(last.message(prices, [naming])).stored == 1)
        try await one.put(prices, "k", "sold")
        try await agree(one, other)
        #expect(try other.values(prices, "k") == ["sold"])
    }

    @Test func `fills no room with the parts of one commit that lost its place`() async throws {
        let one = try await store("one")
        let winner = try commit(liar, ["a"], first: 1)
        let loser = try commit(liar, (0..<9).map { "k/\($0)" }, first: 1, above: winner)
        let other = try commit(liar, ["b"], first: 1, above: winner)
        _ = try await one.take(liar.run([winner]))
        _ = try await one.take(liar.fill([other]))
        func keptOf(_ commit: Commit) throws -> [Int] {
            try one.next(.losers(of: liar.identity.certificate.node)).messages.flatMap(\.commits)
                .first { $0.header == commit.header }?.proof.presentOffsets ?? []
        }
        // Records that were dead where a relay got them push out none that lived elsewhere.
        _ = try await one.take(liar.fill([part(loser, [4])]))
        _ = try await one.take(liar.fill([part(loser, [1, 2])]))
        _ = try await one.take(liar.fill([part(loser, [8])]))
        #expect(try keptOf(loser) == [1, 2, 4, 8])
        // More parts than are kept commits of one author.
        for mask in 1..<RuleLimits.losers + 64 {
            _ = try await one.take(
                liar.fill([part(loser, Set((0..<9).filter { mask & (1 << $0) != 0 }))]))
        }
        _ = try await one.take(liar.fill([loser]))
        #expect(try keptOf(other) == [0])
        #expect(try keptOf(loser) == Array(0..<9))
    }

    @Test func `leaves nothing past the end of his log where a commit before it lost`() async throws
    {
        let (one, other) = (try await store("one"), try await store("other"))
        let first = try commit(liar, ["a", "b", "c"], first: 1)
        for store in [one, other] { _ = try await store.take(liar.run([first])) }
        let loser = try commit(liar, ["d", "e", "f"], first: 2, above: first)
        let after = liar.commit(
            prices, [try liar.record("g"), try liar.record("h")], first: 5, previous: id(loser))
        _ = try await one.take(liar.run([loser, after], after: 3))
        try await agree(one, other)
        // It comes in order once it does.
        _ = try await other.take(liar.run([after], after: 3))
        try await agree(one, other)
        #expect(try one.values(prices, "g") == ["v"])
    }

    @Test func `proves each place that was named, though the commit at it has lost`() async throws {
        let (one, late) = (try await store("one"), try await store("late"))
        let first = try commit(liar, ["a", "b"], first: 1)
        _ = try await one.take(liar.run([first]))
        let rival = try commit(liar, ["c", "d"], first: 1, above: first)
        _ = try await one.take(liar.fill([rival]))
        let long = try commit(liar, ["e", "f", "g"], first: 3, after: first)
        _ = try await one.take(liar.run([long]))
        let naming = try reader.record("r", "seen", seen: [liar.dot(5)])
        #expect(try await one.take(reader.message(prices, [naming])).stored == 1)
        // The end of the log moves back; what it showed does not.
        let short = try commit(liar, ["h"], first: 3, below: long, after: first)
        _ = try await one.take(liar.fill([short]))
        try await agree(late, one)
        #expect(try late.values(prices, "r") == ["seen"])
    }

    @Test func `proves each place that was named, though it is past the end of the log`()
        async throws
    {
        let (one, late) = (try await store("one"), try await store("late"))
        let start = try commit(liar, ["a", "b", "c"], first: 1)
        let long = try commit(liar, ["f", "g", "h"], first: 6)
        let middle = try commit(liar, ["d", "e"], first: 5, below: long)
        let low = try commit(liar, ["i", "j"], first: 4, below: middle)
        _ = try await one.take(liar.run([start]))
        _ = try await one.take(liar.run([long], after: 3))
        let naming = try reader.record("r", "seen", seen: [liar.dot(8)])
        #expect(try await one.take(reader.message(prices, [naming])).stored == 1)
        _ = try await one.take(liar.fill([middle]))
        _ = try await one.take(liar.fill([low]))
        try await agree(late, one)
        #expect(try late.values(prices, "r") == ["seen"])
    }

    @Test func `is shown to have written twice from the lowest place, whichever was seen first`()
        async throws
    {
        let one = try await store("one")
        var commits: [Commit] = []
        for (index, key) in ["a", "b", "c", "d", "e"].enumerated() {
            commits.append(
                try commit(liar, [key], first: UInt64(index) + 1, after: commits.last))
        }
        _ = try await one.take(liar.run(commits))
        for place in [5, 2] {
            let rival = try commit(
                liar, ["r"], first: UInt64(place), above: commits[place - 1],
                after: commits[place - 2])
            #expect(try await one.take(liar.fill([rival])).isFork)
            let shown = try one.next(.evidence(prices, liar.author)).messages
                .flatMap(\.commits).map(\.header.first)
            #expect(shown.min() == UInt64(place) && shown.count >= 2)
        }
    }

    @Test func `is agreed about where two beginnings of a life say different things`() async throws
    {
        let (one, other) = (try await store("one"), try await store("other"))
        let old = PeerWriter(liar.identity, life: 1 << 31)
        let before = old.commit(prices, [try old.record("k", "old")])
        let records = [try liar.record("x")]
        let inheriting = liar.commit(
            prices, records, inherits: [Inheritance(life: old.author.life, through: 1)])
        let plain = liar.commit(prices, [try liar.record("y")])
        // The second place is shown to nobody.
        let third = liar.commit(prices, [try liar.record("k", "new")], first: 3)
        for (store, beginning) in [(one, inheriting), (other, plain)] {
            _ = try await store.take(old.run([before]))
            _ = try await store.take(liar.run([bare(beginning), third]))
        }
        #expect(try one.values(prices, "k") != other.values(prices, "k"))
        try await agree(one, other)
        #expect(try one.values(prices, "k") == other.values(prices, "k"))
    }

    /// Which of the two stands is decided by their hashes: each run draws anew.
    @Test(arguments: 0..<6)
    func `takes no write from a server in the transaction that acknowledges it`(run: Int)
        async throws
    {
        let identity = mesh.identity("till")
        let till = try mesh.store(identity)
        #expect(try await till.reconcile(with: centre) != nil)
        try await till.put(prices, "a", "1")
        try await till.put(prices, "b", "2")
        // A machine with the same memory went on from there.
        let copy = PeerWriter(identity, life: till.memory.life.value)
        let elsewhere = copy.commit(
            prices, try ["x", "y", "z"].map { try copy.record($0, "copy \(run)") }, first: 3)
        let write = Write(.put, try RecordKey("sold"), contentType: "text/plain", body: [55])
        let others = try (0..<400).map { try copy.record("o/\($0)", "other life") }
        let busy = PeerWriter(identity, life: 77).message(prices, others)
        // While the first is performed, the others come, and are performed together.
        async let first = till.ingest([busy])
        async let receipts = till.write(WriteRequest(scope: prices, writes: [write]))
        async let judged = till.ingest([copy.run([elsewhere])])
        _ = try await (first, receipts, judged)
        #expect(try till.values(prices, "sold") == ["7"])
        try await agree(till, centre)
        #expect(try centre.values(prices, "sold") == ["7"])
    }
}
