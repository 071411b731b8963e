// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshReplication
internal import MeshStore
import MeshTesting
import MeshTrust
import Testing

private func author(_ node: UInt8, _ life: UInt64 = 1) -> Author {
    Author(node: TestMesh.bytes(node, 0), life: Life(life))
}

@Suite struct `A turn of a comparison` {
    @Test func `is read as it was written`() throws {
        let leaf = SyncPart.LeafEntry(leaf: 70, bits: LeafBits(0xff00_ff00_ff00_ff00))
        let turn = SyncTurn([
            .summary([UInt8](repeating: 3, count: 16), .all),
            .inStep([UInt8](repeating: 4, count: 16)),
            .scopes([SyncPart.ScopeEntry(scope: Scope("menu@all")!, root: 5)]),
            .authors(
                scope: 0, path: .root.child(3).child(15), isAnswer: true,
                [
                    SyncPart.AuthorEntry(tag: 1, frontier: 300, hash: 2, isHeld: true)
                ]),
            .branches(scope: 1, path: .root, [UInt64](repeating: 9, count: 16)),
            .nodes(
                scope: 0, author: 4, level: 2,
                [
                    SyncPart.NodeEntry(
                        index: 3, children: [1, 0, 2] + [UInt64](repeating: 0, count: 13))
                ]),
            .leaves(scope: 0, author: 4, [SyncPart.LeafEntry(leaf: 0, bits: LeafBits(1)), leaf]),
            .wants(scope: 0, author: 4, [SyncPart.LeafEntry(leaf: 9, bits: LeafBits(.max))]),
        ])
        #expect(try SyncTurn(decoding: turn.encoded) == turn)
    }

    @Test(arguments: [UInt64(0), 1, 0b1011, .max, .max - 5, 0x5555_5555_5555_5555, 0xff, 0x7f])
    func `writes leaf bits in the shortest form and reads no other`(bits: UInt64) throws {
        var writer = WireWriter()
        LeafBits(bits).encode(to: &writer)
        var reader = WireReader(writer.bytes)
        #expect(try LeafBits(from: &reader).bits == bits)
        #expect(writer.bytes.count <= 9)
    }

    @Test func `is refused with four thousand million entries in a few bytes`() {
        let bytes: [UInt8] = [7, 0, 1, 2, 3, 4, 5, 6, 0xff, 0xff, 0xff, 0xff, 0x0f]
        #expect(throws: WireError.self) { try SyncTurn(decoding: bytes) }
    }

    @Test func `is refused with an index beyond every log`() {
        let bytes: [UInt8] =
            [7, 0, 1, 2, 3, 4, 5, 6, 1] + [UInt8](repeating: 0xff, count: 9) + [1, 0]
        #expect(throws: WireError.invalid("index")) { try SyncTurn(decoding: bytes) }
    }
}

/// An index of one log, for turns that no honest peer sends.
private struct OneLog: RecordIndex {
    let state = LogState(author: author(1), frontier: 5000, root: TestMesh.bytes(1, 1))
    func scopes() -> [Scope] { [Scope("menu@all")!] }
    func trie(of scope: Scope) -> AuthorTrie { AuthorTrie([state]) }
    func children(of author: Author, in scope: Scope, level: Int, index: UInt64) -> [Digest] {
        [Digest](repeating: TestMesh.bytes(UInt8(level), 3), count: 16)
    }
    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) -> LeafBits { LeafBits(1) }
}

/// An index of many scopes with one log each, of which one may be further.
private struct ManyScopes: RecordIndex {
    let count: Int
    let further: Int?
    private func scope(_ index: Int) -> Scope { Scope("orders@site/s\(index)")! }
    func scopes() -> [Scope] { (0..<count).map(scope).sorted() }
    func trie(of scope: Scope) -> AuthorTrie {
        let isFurther = further.map { self.scope($0) == scope } ?? false
        return AuthorTrie([
            LogState(author: author(1), frontier: isFurther ? 8 : 7, root: TestMesh.bytes(1, 1))
        ])
    }
    func children(of author: Author, in scope: Scope, level: Int, index: UInt64) -> [Digest] { [] }
    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) -> LeafBits { LeafBits(1) }
}

@Suite struct `A comparison of ten thousand scopes` {
    @Test func `goes through all of them, window by window`() throws {
        let (mine, theirs) = (
            ManyScopes(count: 10_000, further: nil), ManyScopes(count: 10_000, further: 4321)
        )
        var differing: [Scope] = []
        var windows = 1
        var round = 0
        while round < windows {
            var first = SyncSession(role: .initiator, salt: Salt([1]), round: round) { _ in true }
            var second = SyncSession(role: .responder, salt: Salt([1])) { _ in true }
            let answer = try second.answer(try first.begin(mine), theirs)
            windows = answer.windows
            let reply = try first.answer(try SyncTurn(decoding: answer.reply.encoded), mine)
            if !reply.isInStep {
                let outcome = try second.answer(reply.reply, theirs)
                differing += outcome.streams.compactMap(\.scope)
            }
            round += 1
        }
        #expect(windows == 5)
        #expect(differing == [Scope("orders@site/s4321")!])
    }
}

@Suite struct `A comparison with a liar` {
    private func session() throws -> (SyncSession, UInt64) {
        let salt = Salt([1])
        var session = SyncSession(role: .responder, salt: salt) { _ in true }
        let first = SyncTurn([.summary([UInt8](repeating: 0, count: 16), .all)])
        let outcome = try session.answer(first, OneLog())
        #expect(outcome.reply.parts.count == 1)
        // A log is spoken of before it is asked about.
        let begin = SyncTurn([.authors(scope: 0, path: .root, isAnswer: false, [])])
        _ = try session.answer(begin, OneLog())
        var writer = WireWriter()
        writer.scope(Scope("menu@all")!)
        writer.author(OneLog().state.author)
        return (session, salt.short(Blake2b.hash(writer.bytes)))
    }

    @Test func `finds nothing at a node or a leaf beyond the log's end`() throws {
        let index: UInt64 = 1 << 56
        let node = SyncPart.NodeEntry(index: index, children: [UInt64](repeating: 7, count: 16))
        var (one, tag) = try session()
        let nodes = SyncTurn([.nodes(scope: 0, author: tag, level: 2, [node])])
        #expect(try one.answer(nodes, OneLog()).reply.parts.isEmpty)
        var (two, _) = try session()
        let leaf = SyncPart.LeafEntry(leaf: index, bits: LeafBits(1))
        for part in [
            SyncPart.leaves(scope: 0, author: tag, [leaf]),
            .wants(scope: 0, author: tag, [leaf]),
        ] {
            let outcome = try two.answer(SyncTurn([part]), OneLog())
            #expect(outcome.reply.parts.isEmpty && outcome.streams.isEmpty)
        }
    }

    @Test func `is not spoken to of a scope that he may not read`() throws {
        let secret = SyncPart.ScopeEntry(scope: Scope("orders@site/s2")!, root: 1)
        for role in [SyncSession.Role.responder, .initiator] {
            var session = SyncSession(role: role, salt: Salt([1])) { $0.namespace == "menu" }
            #expect(throws: SyncRefusal.unknownScope) {
                try session.answer(SyncTurn([.scopes([secret])]), OneLog())
            }
        }
    }

    @Test func `gets no more in an answer than a message holds, however often he asks`() throws {
        var (session, tag) = try session()
        let entry = SyncPart.AuthorEntry(tag: tag, frontier: 5000, hash: 9, isHeld: false)
        let part = SyncPart.authors(scope: 0, path: .root, isAnswer: false, [entry])
        let count = SyncSpecification.partsMax
        let turn = try SyncTurn(
            decoding: SyncTurn([SyncPart](repeating: part, count: count)).encoded)
        let outcome = try session.answer(turn, OneLog())
        #expect(outcome.reply.encoded.count <= SyncTuning.turnBytes)
        #expect(outcome.reply.parts.count > 1000)
        #expect(throws: WireError.tooLong("parts", count + 1, limit: count)) {
            try SyncTurn(
                decoding: SyncTurn(
                    [SyncPart](repeating: .wants(scope: 0, author: 1, []), count: count + 1)
                ).encoded)
        }
    }

    @Test func `counts what he claims without overflowing`() throws {
        var (session, _) = try session()
        let claims = (1...10).map {
            SyncPart.AuthorEntry(tag: $0, frontier: 1 << 62, hash: 1, isHeld: false)
        }
        let outcome = try session.answer(
            SyncTurn([.authors(scope: 0, path: .root, isAnswer: false, claims)]), OneLog())
        #expect(outcome.weLack == .max)
    }

    @Test func `ends when he never stops, and at a scope nobody agreed on`() throws {
        var (session, tag) = try session()
        let turn = SyncTurn([.wants(scope: 0, author: tag, [])])
        #expect(throws: SyncRefusal.endless) {
            for _ in 0..<100 { _ = try session.answer(turn, OneLog()) }
        }
        var (other, _) = try self.session()
        #expect(throws: SyncRefusal.unknownScope) {
            try other.answer(SyncTurn([.wants(scope: 9, author: tag, [])]), OneLog())
        }
    }
}

@Suite struct `A peer that says that it holds the same` {
    private func answer(_ proof: (Salt) -> [UInt8]) throws -> SyncSession.Outcome {
        let salt = Salt([7])
        var session = SyncSession(role: .initiator, salt: salt) { _ in true }
        _ = try session.begin(OneLog())
        return try session.answer(SyncTurn([.inStep(proof(salt))]), OneLog())
    }

    @Test func `is believed where it shows that it has computed the same`() throws {
        let salt = Salt([7])
        var asking = SyncSession(role: .initiator, salt: salt) { _ in true }
        var answering = SyncSession(role: .responder, salt: salt) { _ in true }
        let reply = try answering.answer(try asking.begin(OneLog()), OneLog()).reply
        #expect(try asking.answer(reply, OneLog()).isInStep)
    }

    @Test func `is not believed on its word, nor on an echo of the question`() throws {
        #expect(throws: SyncRefusal.unproven) {
            try answer { _ in [UInt8](repeating: 0, count: 16) }
        }
        var asking = SyncSession(role: .initiator, salt: Salt([7])) { _ in true }
        guard case .summary(let echo, _)? = try asking.begin(OneLog()).parts.first else { return }
        #expect(throws: SyncRefusal.unproven) { try answer { _ in echo } }
    }
}

@Suite struct `A log that one end cannot take further` {
    private func compare(
        _ mine: UInt64, _ theirs: UInt64, held: Bool, heldThere: Bool
    ) throws -> (mine: SyncSession.Outcome, theirs: SyncSession.Outcome) {
        struct Index: RecordIndex {
            let frontier: UInt64
            func scopes() -> [Scope] { frontier == 0 ? [] : [Scope("menu@all")!] }
            func trie(of scope: Scope) -> AuthorTrie {
                if frontier == 0 { return AuthorTrie() }
                return AuthorTrie([LogState(author: author(1), frontier: frontier, root: .zero)])
            }
            func children(
                of author: Author, in scope: Scope, level: Int, index: UInt64
            ) -> [Digest] { [] }
            func liveBits(of author: Author, in scope: Scope, leaf: UInt64) -> LeafBits {
                LeafBits()
            }
        }
        let salt = Salt([3])
        let log: Set = [LogName(scope: Scope("menu@all")!, author: author(1))]
        var asking = SyncSession(role: .initiator, salt: salt, held: held ? log : []) { _ in true }
        var answering = SyncSession(
            role: .responder, salt: salt, held: heldThere ? log : []
        ) { _ in true }
        let first = try answering.answer(
            try asking.begin(Index(frontier: mine)), Index(frontier: theirs))
        let second = try asking.answer(first.reply, Index(frontier: mine))
        let third = try answering.answer(second.reply, Index(frontier: theirs))
        let fourth = try asking.answer(third.reply, Index(frontier: mine))
        return (fourth, third)
    }

    @Test func `is neither asked for nor sent, and its comparison ends`() throws {
        let lacking = try compare(5, 9, held: true, heldThere: false)
        #expect(lacking.mine.streams.isEmpty && lacking.theirs.streams.isEmpty)
        #expect(lacking.theirs.held == 1)
        let ahead = try compare(9, 5, held: false, heldThere: true)
        #expect(ahead.mine.streams.isEmpty && ahead.theirs.streams.isEmpty)
    }

    @Test func `stands in order in a list of scopes, wherever its scope's name falls`() throws {
        for name in ["desk@all", "notes@all"] {
            let log = LogName(scope: try #require(Scope(name)), author: author(1))
            var asking = SyncSession(role: .initiator, salt: Salt([3])) { _ in true }
            var answering = SyncSession(role: .responder, salt: Salt([3]), held: [log]) { _ in
                true
            }
            let differing = ManyScopes(count: 3, further: nil)
            let reply = try answering.answer(try asking.begin(differing), OneLog()).reply
            #expect(try SyncTurn(decoding: reply.encoded) == reply)
        }
    }

    @Test func `is not sent from its beginning where nothing of it was taken yet`() throws {
        let lacking = try compare(0, 9, held: true, heldThere: false)
        #expect(lacking.mine.streams.isEmpty && lacking.theirs.streams.isEmpty)
        let ahead = try compare(9, 0, held: false, heldThere: true)
        #expect(ahead.mine.streams.isEmpty && ahead.theirs.streams.isEmpty)
        let neither = try compare(0, 0, held: true, heldThere: true)
        #expect(neither.mine.streams.isEmpty && neither.theirs.streams.isEmpty)
    }

    @Test func `is sent once it can be taken`() throws {
        let lacking = try compare(5, 9, held: false, heldThere: false)
        #expect(lacking.theirs.streams == [.tail(Scope("menu@all")!, author(1), after: 5)])
    }
}

@Suite struct `The digest tree` {
    @Test func `has a root that does not change when it grows a level without a record in it`() {
        let leaf = DigestTree.hash(leaf: 0, records: [(offset: 3, id: TestMesh.bytes(1, 1))])
        let children = [leaf] + [Digest](repeating: .zero, count: 15)
        #expect(DigestTree.hash(index: 0, children: children) == leaf)
        #expect(DigestTree.hash(index: 1, children: children) != leaf)
    }

    @Test func `is not fooled by sets whose hashes sum or XOR alike`() {
        let ids: [Digest] = (0..<4).map { TestMesh.bytes(UInt8($0), 4) }
        let one = DigestTree.hash(leaf: 0, records: [(0, ids[0]), (1, ids[1])])
        let swapped = DigestTree.hash(leaf: 0, records: [(0, ids[1]), (1, ids[0])])
        #expect(one != swapped)
        let same = DigestTree.hash(leaf: 0, records: [(0, ids[2]), (1, ids[2])])
        #expect(same != DigestTree.hash(leaf: 0, records: [(0, ids[3]), (1, ids[3])]))
    }

    @Test func `spans every sequence up to the last that may be`() {
        #expect(DigestTree.height(of: 0) == 0)
        #expect(DigestTree.height(of: 64) == 0)
        #expect(DigestTree.height(of: 65) == 1)
        #expect(DigestTree.height(of: 1025) == 2)
        #expect(DigestTree.height(of: Dot.sequenceMax) <= DigestTree.levelMax)
    }

    @Test func `of thirty thousand authors differs in one branch where one author does`() {
        func states(_ changed: Int?) -> [LogState] {
            (0..<3000).map {
                LogState(
                    author: Author(
                        node: TestMesh.bytes(UInt8($0 & 255), UInt8($0 >> 8)),
                        life: Life(1)),
                    frontier: $0 == changed ? 2 : 1, root: .zero)
            }
        }
        let (one, two) = (AuthorTrie(states(nil)), AuthorTrie(states(77)))
        #expect(one.root != two.root)
        #expect(!one.isBucket(.root))
        let differing = zip(one.children(.root), two.children(.root)).filter { $0 != $1 }
        #expect(differing.count == 1)
    }

    @Test func `that is kept is the one that is built anew, whatever changed`() {
        var generator = SeededGenerator(seed: 9)
        var kept = AuthorTrie()
        var states: [Author: LogState] = [:]
        for step in 0..<4000 {
            let name = author(UInt8(generator.next() % 200), generator.next() % 2)
            if generator.next() % 5 == 0 {
                kept.remove(name)
                states[name] = nil
            } else {
                let state = LogState(author: name, frontier: generator.next() % 9, root: .zero)
                kept.set(state)
                states[name] = state
            }
            guard step % 97 == 0 else { continue }
            let built = AuthorTrie(Array(states.values))
            #expect(kept.root == built.root && kept.count == states.count)
            #expect(kept.states == built.states)
            let deep = AuthorTrie.Path.root.child(3).child(9)
            #expect(kept.hash(deep) == built.hash(deep))
            #expect(kept.states(under: deep) == built.states(under: deep))
            #expect(kept.state(of: name) == states[name])
        }
    }
}
