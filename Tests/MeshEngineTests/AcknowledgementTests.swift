// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshLink
import MeshReplication
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@testable import MeshEngine

extension [Effect] {
    fileprivate var acknowledged: [(number: UInt64, reached: Acknowledgements.Reached)] {
        compactMap {
            if case .acknowledged(let number, let reached) = $0 { (number, reached) } else { nil }
        }
    }
    fileprivate var holdings: [(id: LinkID, holding: Holding)] {
        sent.compactMap { id, message in
            guard case .holding(let bytes) = message else { return nil }
            return (try? Holding(decoding: bytes)).map { (id, $0) }
        }
    }
    fileprivate var wants: [(id: LinkID, want: WantMessage)] {
        sent.compactMap { id, message in
            guard case .want(let bytes) = message else { return nil }
            return (try? WantMessage(decoding: bytes)).map { (id, $0) }
        }
    }
    fileprivate var measured: [LogName] {
        compactMap { if case .measure(_, let log, _) = $0 { log } else { nil } }
    }
}

@Suite struct `An acknowledgement` {
    private let mesh: TestMesh
    private let own: DataDirectory.Identity
    private let near: DataDirectory.Identity
    private let gateway: DataDirectory.Identity
    private let centre: DataDirectory.Identity
    private let mine: CommitsMessage

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("a", site: "s1")
        near = mesh.identity("b", site: "s1")
        gateway = mesh.identity("c", site: "s1")
        centre = mesh.identity("hq", site: "hq", central: true)
        mine = try mesh.message(own.certificate)
    }

    private func bench() -> Bench { Bench(own.certificate, key: own.nodeKey) }

    private func want(
        _ level: AckLevel, _ number: UInt64 = 1, within: Duration = .seconds(1),
        at bench: borrowing Bench
    ) -> Input {
        .acknowledge(
            Acknowledgements.Want(
                number: number, log: mine.log, through: 1, level: level,
                until: bench.now.advanced(by: within)))
    }

    /// What a server says, or what another says in its name.
    private func word(
        of server: DataDirectory.Identity, signed key: SigningKey? = nil, commit: Digest? = nil,
        log: LogName? = nil, through: UInt64 = 1
    ) -> [UInt8] {
        let truth = Holding(
            of: log ?? mine.log,
            HeldRun(
                after: 0, through: through,
                commit: commit ?? mine.commits[0].header.id(in: Bench.mesh)),
            key: key ?? server.nodeKey, mesh: Bench.mesh)
        let name = server.certificate.node.array
        return LinkMessage.holding(name + truth.encoded.dropFirst(name.count)).encoded
    }

    @Test func `of two servers comes once a neighbour says that it holds the commit`() throws {
        var bench = bench()
        let (id, _) = bench.link(near.certificate, dialled: true)
        _ = bench.give(.committed([mine]))
        let asked = bench.give(want(.site(2), at: bench))
        #expect(asked.acknowledged.isEmpty)
        #expect(asked.wants.map(\.id) == [id])
        #expect(asked.wants.first?.want == WantMessage(mine.log, 1, .receiver))
        let told = bench.give(.message(id, word(of: near)))
        #expect(told.acknowledged.map(\.number) == [1])
        #expect(told.acknowledged.first?.reached.isMet == true)
        #expect(
            told.acknowledged.first?.reached.holders
                == [own.certificate.node, near.certificate.node])
        #expect(bench.give(want(.site(2), 2, at: bench)).acknowledged.first?.reached.isMet == true)
    }

    @Test func `counts a server once, however often it says so`() throws {
        var bench = bench()
        let (id, _) = bench.link(near.certificate, dialled: true)
        _ = bench.give(.committed([mine]))
        _ = bench.give(want(.site(3), at: bench))
        for _ in 0..<3 { #expect(bench.give(.message(id, word(of: near))).acknowledged.isEmpty) }
        let (other, _) = bench.link(gateway.certificate, dialled: true)
        #expect(bench.give(.message(other, word(of: gateway))).acknowledged.count == 1)
    }

    @Test func `does not count who holds something else in that place`() throws {
        var bench = bench()
        let (id, _) = bench.link(near.certificate, dialled: true)
        _ = bench.give(.committed([mine]))
        _ = bench.give(want(.site(2), at: bench))
        let told = bench.give(.message(id, word(of: near, commit: TestMesh.bytes(5, 5))))
        #expect(told.acknowledged.isEmpty)
        #expect(bench.engine.counters[.holdingOther] == 1)
    }

    @Test func `of the centre is not made by whoever passes it on`() throws {
        var bench = bench()
        let (id, _) = bench.link(gateway.certificate, dialled: true)
        _ = bench.give(.known([KnownNode(centre.certificate)]))
        _ = bench.give(.committed([mine]))
        let asked = bench.give(want(.central, at: bench))
        #expect(asked.wants.map(\.want) == [WantMessage(mine.log, 1, .centre)])
        // It speaks for itself, and it signs in the centre's name.
        #expect(bench.give(.message(id, word(of: gateway))).acknowledged.isEmpty)
        let forged = bench.give(.message(id, word(of: centre, signed: gateway.nodeKey)))
        #expect(forged.acknowledged.isEmpty)
        #expect(bench.engine.counters[.holdingForged] == 1)
        let told = bench.give(.message(id, word(of: centre)))
        #expect(told.acknowledged.first?.reached.isMet == true)
    }

    @Test func `does not count a server that nobody has shown`() throws {
        var bench = bench()
        let (id, _) = bench.link(gateway.certificate, dialled: true)
        _ = bench.give(.committed([mine]))
        _ = bench.give(want(.central, at: bench))
        let told = bench.give(.message(id, word(of: centre)))
        #expect(told.acknowledged.isEmpty)
        #expect(told.sent.contains { $0.message == .wantCertificate(centre.certificate.node) })
    }

    @Test func `that is not reached in time says what was`() throws {
        var bench = bench()
        let (id, _) = bench.link(near.certificate, dialled: true)
        _ = bench.give(.committed([mine]))
        _ = bench.give(want(.site(3), within: .seconds(2), at: bench))
        _ = bench.give(.message(id, word(of: near)))
        let early = bench.wait(1.6)
        #expect(early.acknowledged.isEmpty)
        #expect(early.wants.count >= 2, "it is asked for again")
        let late = bench.wait(0.6)
        #expect(late.acknowledged.map(\.number) == [1])
        #expect(late.acknowledged.first?.reached.isMet == false)
        #expect(late.acknowledged.first?.reached.holders.count == 2)
        #expect(bench.wait(2).wants.isEmpty, "nobody waits any more")
    }

    @Test func `of a write of an earlier process needs the store to say what it was`() throws {
        var bench = bench()
        let (id, _) = bench.link(near.certificate, dialled: true)
        let asked = bench.give(want(.site(2), at: bench))
        #expect(asked.measured == [mine.log])
        #expect(bench.give(.message(id, word(of: near))).acknowledged.isEmpty)
        let end = HeldRun(
            after: 0, through: 1, commit: mine.commits[0].header.id(in: Bench.mesh))
        _ = bench.give(.measured(nil, mine.log, end))
        #expect(bench.give(.message(id, word(of: near))).acknowledged.count == 1)
    }

    @Test func `is refused at once where too many wait`() throws {
        var bench = bench()
        _ = bench.give(.committed([mine]))
        for number in 1...UInt64(Acknowledgements.waitingMax) {
            #expect(bench.give(want(.central, number, at: bench)).acknowledged.isEmpty)
        }
        let more = bench.give(want(.central, 9999, at: bench))
        #expect(more.acknowledged.map(\.number) == [9999])
        #expect(bench.engine.counters[.ackOverLimit] == 1)
        #expect(bench.wait(2).acknowledged.count == Acknowledgements.waitingMax)
    }

    // MARK: Of others' writes

    private func ask(
        _ log: LogName, _ through: UInt64 = 1, _ whose: WantMessage.Whose = .receiver
    ) -> [UInt8] { LinkMessage.want(WantMessage(log, through, whose).encoded).encoded }

    @Test func `is given once the commit is on the disk here, and for each step after it`() throws {
        var bench = Bench(near.certificate, key: near.nodeKey)
        let (id, _) = bench.link(own.certificate, dialled: false)
        let asked = bench.give(.message(id, ask(mine.log)))
        #expect(asked.measured == [mine.log])
        #expect(bench.give(.measured(id, mine.log, nil)).holdings.isEmpty)
        var outcome = IngestOutcome()
        (outcome.stored, outcome.frontier, outcome.hasAdvanced) = (1, 1, true)
        // Two machines wrote it: nothing is said.
        #expect(bench.judge(id, mine, outcome).holdings.isEmpty)
        outcome.commit = TestMesh.bytes(5, 5)
        let told = bench.judge(id, mine, outcome).holdings
        #expect(told.map(\.holding.run.through) == [1])
        #expect(told.first?.holding.isAuthentic(in: Bench.mesh) == true)
        #expect(told.first?.holding.holder == near.certificate.node)
        #expect(bench.judge(id, mine, outcome).holdings.isEmpty, "nobody asked for more")
        // What came whole needs no look at the disk.
        let again = bench.give(.message(id, ask(mine.log)))
        #expect(again.holdings.count == 1 && again.measured.isEmpty)
    }

    @Test func `is given at each step to whoever asks on and on`() {
        var questions = HoldingQuestions<Int>()
        for place: UInt64 in [1, 9, 5] { _ = questions.ask(mine.log, through: place, by: 7) }
        let told = [3, 3, 20].map { questions.take(mine.log, through: $0) }
        #expect(told == [[7], [], [7]])
        #expect(questions.isEmpty)
    }

    @Test func `is not given for records that whoever brought the log left out`() throws {
        let commit = mine.commits[0]
        let bare = CommitsMessage(
            scope: mine.scope, author: mine.author, after: 0, through: 1,
            commits: [
                Commit(
                    header: commit.header, signature: commit.signature,
                    proof: CommitProof(noneOf: commit.header), records: [])
            ])
        var outcome = IngestOutcome()
        (outcome.frontier, outcome.hasAdvanced) = (1, true)
        outcome.commit = TestMesh.bytes(5, 5)
        for (bringer, count) in [(gateway, 0), (own, 1)] {
            var bench = Bench(near.certificate, key: near.nodeKey)
            let (id, _) = bench.link(own.certificate, dialled: false)
            let from =
                bringer.certificate.node == own.certificate.node
                ? id : bench.link(bringer.certificate, dialled: false).0
            _ = bench.give(.message(id, ask(mine.log)))
            #expect(bench.judge(from, bare, outcome).holdings.count == count)
        }
    }

    @Test func `is not given about what others wrote, nor without limit`() throws {
        var bench = Bench(near.certificate, key: near.nodeKey)
        let (id, _) = bench.link(centre.certificate, dialled: false)
        #expect(bench.give(.message(id, ask(mine.log))).measured.isEmpty)
        #expect(bench.engine.counters[.wantRefused] == 1)
        let (other, _) = bench.link(own.certificate, dialled: false)
        for life in 1...65 {
            let author = Author(node: own.certificate.node, life: Life(UInt64(life)))
            _ = bench.give(.message(other, ask(LogName(scope: mine.scope, author: author))))
        }
        #expect(bench.engine.counters[.wantOverLimit] == 1)
    }

    @Test func `of the centre goes through whoever keeps the site's links`() throws {
        var bench = Bench(gateway.certificate, key: gateway.nodeKey)
        let (far, _) = bench.link(centre.certificate, dialled: true)
        let (id, _) = bench.link(own.certificate, dialled: false)
        #expect(bench.give(.message(far, word(of: centre))).holdings.isEmpty, "nobody asked")
        let asked = bench.give(.message(id, ask(mine.log, 1, .centre)))
        #expect(asked.wants.map(\.id) == [far])
        #expect(asked.wants.first?.want == WantMessage(mine.log, 1, .receiver))
        // What it would pass on it verifies.
        let forged = word(of: centre, signed: gateway.nodeKey)
        #expect(bench.give(.message(far, forged)).holdings.isEmpty)
        _ = bench.give(.message(id, ask(mine.log, 1, .centre)))
        let told = bench.give(.message(far, word(of: centre)))
        #expect(told.holdings.map(\.id) == [id])
    }
}
