// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshEngine
import MeshLink
import MeshReplication
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `A server that leaves for good` {
    private let own: Certificate
    private let peer: Certificate
    private let stranger: Certificate
    private let held = [Scope("prices@site/s1")!]

    init() throws {
        let mesh = try TestMesh()
        own = mesh.identity("own").certificate
        peer = mesh.identity("peer").certificate
        stranger = mesh.identity("stranger").certificate
    }

    private static func inStep(windows: Int = 1) -> ComparisonResult {
        var outcome = SyncSession.Outcome()
        outcome.isInStep = true
        outcome.windows = windows
        return .outcome(outcome)
    }

    private static let summary = SyncTurn([.summary([UInt8](repeating: 1, count: 16), .all)])

    /// A comparison begins: with what this end does, or with a turn of the peer's.
    private func begin(
        _ bench: inout Bench, _ id: LinkID, _ effects: [Effect]?
    ) throws -> SyncSession {
        guard let effects else {
            let turn = LinkMessage.syncTurn(Self.summary.encoded).encoded
            return try #require(bench.give(.message(id, turn)).session)
        }
        let begun = try #require(effects.session)
        var asking = SyncSession.Outcome()
        asking.reply = Self.summary
        _ = bench.give(.compared(id, begun, .outcome(asking)))
        let answer = LinkMessage.syncAnswer(SyncTurn().encoded).encoded
        var session = try #require(bench.give(.message(id, answer)).session)
        _ = try session.answer(SyncTurn(), EmptyIndex())
        return session
    }

    /// A comparison begins, and both are equal.
    private func agree(
        _ bench: inout Bench, _ id: LinkID, _ effects: [Effect]?, windows: Int = 1
    ) throws -> [Effect] {
        let session = try begin(&bench, id, effects)
        return bench.give(.compared(id, session, Self.inStep(windows: windows)))
    }

    @Test func `hands over to a peer that is proven to hold what it holds`() throws {
        var bench = Bench(own)
        let (id, linked) = bench.link(peer, dialled: true)
        _ = try agree(&bench, id, linked + bench.wait(1))
        let asked = bench.give(.handOver(scopes: held, isForced: false)) + bench.wait(1)
        #expect(asked.handedOver.isEmpty)
        #expect(try agree(&bench, id, asked).handedOver == [.to(peer.node)])
        #expect(bench.wait(20).handedOver.isEmpty)
    }

    @Test(arguments: [true, false])
    func `takes no proof from a comparison that began before its last write`(
        dialled: Bool
    ) throws {
        var bench = Bench(own)
        let (id, linked) = bench.link(peer, dialled: dialled)
        let early = try begin(&bench, id, dialled ? linked : nil)
        _ = bench.give(.handOver(scopes: held, isForced: false))
        let ended = bench.give(.compared(id, early, Self.inStep()))
        #expect(ended.handedOver.isEmpty)
        let later = ended + bench.wait(1)
        #expect(try agree(&bench, id, dialled ? later : nil).handedOver == [.to(peer.node)])
    }

    @Test func `does not hand over to a peer that may not read all of it`() throws {
        var bench = Bench(own)
        let (id, linked) = bench.link(peer, dialled: true)
        _ = try agree(&bench, id, linked)
        let more = held + [Scope("prices@site/s2")!]
        let asked = bench.give(.handOver(scopes: more, isForced: false)) + bench.wait(1)
        #expect(try agree(&bench, id, asked).handedOver.isEmpty)
    }

    @Test(arguments: [false, true])
    func `stays where nobody holds all of it unless that is forced`(isForced: Bool) {
        var bench = Bench(own)
        _ = bench.link(peer, dialled: false)
        let answer = bench.give(.handOver(scopes: held, isForced: isForced)) + bench.wait(20)
        #expect(answer.handedOver == [isForced ? .toNobody : .refused])
    }

    @Test func `is nobody's heir as long as it is to leave itself`() throws {
        var bench = Bench(own)
        let (id, _) = bench.link(peer, dialled: false)
        let said = bench.give(.handOver(scopes: held, isForced: false))
        #expect(said.sent.contains { $0.id == id && $0.message == .leaving(true) })
        _ = bench.give(.message(id, LinkMessage.leaving(true).encoded))
        #expect(try agree(&bench, id, nil).handedOver.isEmpty)
        // The peer stays after all.
        _ = bench.give(.message(id, LinkMessage.leaving(false).encoded))
        #expect(try agree(&bench, id, nil).handedOver == [.to(peer.node)])
        // Whoever links with it from now on hears of it before anything is compared.
        let other = bench.link(stranger, dialled: true).1
        #expect(other.sent.contains { $0.message == .leaving(true) })
        #expect(bench.give(.stay).sent.contains { $0.message == .leaving(false) })
    }

    @Test(arguments: [true, false])
    func `is handed over once all windows of scopes are equal, each since its last write`(
        dialled: Bool
    ) throws {
        var bench = Bench(own)
        let (id, linked) = bench.link(peer, dialled: dialled)
        func next(_ effects: [Effect]) -> [Effect]? { dialled ? effects : nil }
        // One window is compared before it is asked, and another begins before.
        let first = try agree(&bench, id, next(linked), windows: 2)
        let old = try begin(&bench, id, next(first))
        _ = bench.give(.handOver(scopes: held, isForced: false))
        let ended = bench.give(.compared(id, old, Self.inStep(windows: 2)))
        #expect(ended.handedOver.isEmpty)
        let second = try agree(&bench, id, next(ended + bench.wait(1)), windows: 2)
        #expect(second.handedOver.isEmpty)
        let third = try agree(&bench, id, next(second + bench.wait(1)), windows: 2)
        #expect(third.handedOver == [.to(peer.node)])
    }
}

/// An index of nothing.
private struct EmptyIndex: RecordIndex {
    func scopes() -> [Scope] { [] }
    func trie(of scope: Scope) -> AuthorTrie { AuthorTrie() }
    func children(of author: Author, in scope: Scope, level: Int, index: UInt64) -> [Digest] { [] }
    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) -> LeafBits { LeafBits(0) }
}

extension [Effect] {
    fileprivate var handedOver: [HandOver] {
        compactMap { if case .handedOver(let answer) = $0 { answer } else { nil } }
    }
}
