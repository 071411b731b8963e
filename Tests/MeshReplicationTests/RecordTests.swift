// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshReplication
internal import MeshStore
import MeshTesting
import MeshTrust
import Testing

private func author(_ node: UInt8, _ start: UInt32 = 1) -> Author {
    Author(node: TestMesh.bytes(node, 0), incarnation: Incarnation(start: start, random: 5))
}

@Suite struct `A record` {
    private func record(context: Int = 1, body: Int = 3) throws -> Record {
        var seen = Context.empty
        for index in 0..<context { seen.insert(Dot(author: author(UInt8(index)), sequence: 9)) }
        return Record(
            kind: .put, stamp: HybridTime(77), key: try RecordKey("a/b"), context: seen,
            contentType: "text/plain", body: [UInt8](repeating: 1, count: body))
    }

    @Test func `has one encoding, which is read as it was written`() throws {
        let one = try record(context: 3)
        #expect(try Record(decoding: one.encoded) == one)
        #expect(one.encoded.count == Record.size(key: 3, contentType: 10, body: 3, context: 3))
    }

    @Test func `is refused with a byte too many or too few at any place`() throws {
        let bytes = try record().encoded
        #expect(throws: WireError.trailing(1)) { try Record(decoding: bytes + [0]) }
        for count in bytes.indices {
            #expect(throws: WireError.self) { try Record(decoding: Array(bytes.prefix(count))) }
        }
    }

    @Test func `is refused with a body or a context beyond its limit`() throws {
        let long = try record(body: Record.bodyBytesMax + 1).encoded
        #expect(throws: WireError.tooLong("body", 65_537, limit: 65_536)) {
            try Record(decoding: long)
        }
        let most = Context.entriesMax
        #expect(throws: Never.self) { try Record(decoding: record(context: most).encoded) }
        let wide = try record(context: most + 1).encoded
        #expect(throws: WireError.tooLong("context", most + 1, limit: most)) {
            try Record(decoding: wide)
        }
    }

    @Test func `is refused when its context does not ascend`() throws {
        var bytes = try record(context: 2).encoded
        let start = 1 + 8 + 2 + 3 + 1 + 1
        let (first, second) = (
            Array(bytes[start..<start + 48]), Array(bytes[start + 48..<start + 96])
        )
        bytes.replaceSubrange(start..<start + 96, with: second + first)
        #expect(throws: WireError.unordered("context")) { try Record(decoding: bytes) }
    }

    @Test func `keeps any stamp, however wrong the clock`() throws {
        for stamp in [0, 1, UInt64.max] {
            let one = Record(
                kind: .put, stamp: HybridTime(stamp), key: try RecordKey("a"), context: .empty,
                contentType: "", body: [])
            #expect(try Record(decoding: one.encoded).stamp.value == stamp)
        }
    }
}

@Suite struct `A commit's proof` {
    private func ids(_ count: Int) -> [Digest] {
        (0..<count).map { TestMesh.bytes(UInt8($0 & 255), UInt8($0 >> 8)) }
    }

    @Test(arguments: [1, 2, 3, 5, 8, 63, 64, 65, 1000, 1024])
    func `leads to the signed root whatever was dropped in whatever order`(count: Int) throws {
        let ids = ids(count)
        let root = CommitProof.root(of: ids)
        var generator = SeededGenerator(seed: UInt64(count))
        var proof = CommitProof(allPresent: count)
        while !proof.isEmpty {
            let present = proof.presentOffsets
            var dropped: [Int: Digest] = [:]
            for offset in present where generator.next() % 3 == 0 { dropped[offset] = ids[offset] }
            proof = proof.dropping(dropped)
            #expect(proof.root(present: proof.presentOffsets.map { ids[$0] }) == root)
            var reader = WireReader(proof.encoded)
            #expect(try CommitProof(from: &reader, count: count) == proof)
        }
        #expect(proof.absent == [root])
    }

    @Test func `of two parts joins to that of both`() throws {
        let ids = ids(100)
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<50 {
            func part() -> CommitProof {
                var dropped: [Int: Digest] = [:]
                for offset in 0..<100 where generator.next() % 2 == 0 {
                    dropped[offset] = ids[offset]
                }
                return CommitProof(allPresent: 100).dropping(dropped)
            }
            let (one, two) = (part(), part())
            let both = try #require(one.merging(two))
            #expect(Set(both.presentOffsets) == Set(one.presentOffsets).union(two.presentOffsets))
            #expect(
                both.root(present: both.presentOffsets.map { ids[$0] }) == CommitProof.root(of: ids)
            )
        }
    }

    @Test func `with a hash too many or too few is refused`() throws {
        let proof = CommitProof(allPresent: 8).dropping([3: ids(8)[3]])
        var bytes = proof.encoded
        bytes[1] = 2
        var more = WireReader(bytes + [UInt8](repeating: 0, count: 32))
        #expect(throws: WireError.invalid("proof")) { try CommitProof(from: &more, count: 8) }
        bytes[1] = 0
        var fewer = WireReader(bytes)
        #expect(throws: WireError.invalid("proof")) { try CommitProof(from: &fewer, count: 8) }
    }
}

@Suite struct `The merge rule` {
    private struct Step {
        let version: Version
    }

    /// Random histories: some writers see some versions, then write.
    private func history(_ seed: UInt64, writers: Int, writes: Int) -> [Version] {
        var generator = SeededGenerator(seed: seed)
        var sequences = [UInt64](repeating: 0, count: writers)
        var known = [[Version]](repeating: [], count: writers)
        var all: [Version] = []
        for _ in 0..<writes {
            let writer = Int(generator.next() % UInt64(writers))
            for version in all where generator.next() % 3 == 0 {
                known[writer] = add(version, to: known[writer])
            }
            sequences[writer] += 1
            let name = author(UInt8(writer))
            let version = Version(
                dot: Dot(author: name, sequence: sequences[writer]),
                context: MergeKind.register.context(after: known[writer], writer: name.node),
                stamp: HybridTime(generator.next() % 4))
            known[writer] = add(version, to: known[writer])
            all.append(version)
        }
        return all
    }

    private func add(_ version: Version, to live: [Version]) -> [Version] {
        if live.contains(version) { return live }
        switch MergeKind.register.integrate(version, into: live) {
        case .superseded: return live
        case .lives(let gone): return live.filter { !gone.contains($0.dot) } + [version]
        }
    }

    @Test func `leaves the same versions live in any order and with any repetition`() {
        for seed in 0..<200 {
            let versions = history(UInt64(seed), writers: 4, writes: 12)
            let wanted = Set(versions.reduce([]) { add($1, to: $0) })
            var generator = SeededGenerator(seed: UInt64(seed))
            for _ in 0..<10 {
                var order = versions + versions.prefix(4)
                for index in order.indices.reversed() {
                    order.swapAt(index, Int(generator.next() % UInt64(index + 1)))
                }
                #expect(Set(order.reduce([]) { add($1, to: $0) }) == wanted)
            }
        }
    }

    @Test func `lets a clock a hundred years ahead win no more than one tie`() {
        let future = Version(
            dot: Dot(author: author(1), sequence: 1), context: .empty, stamp: HybridTime(.max))
        let informed = Version(
            dot: Dot(author: author(2), sequence: 1),
            context: MergeKind.register.context(after: [future], writer: author(2).node),
            stamp: HybridTime(1))
        #expect(add(informed, to: [future]) == [informed])
        #expect(add(future, to: [informed]) == [informed])
    }

    @Test func `keeps one version of a writer that never looks at what it wrote`() {
        var live: [Version] = []
        for sequence in 1...1000 {
            live = add(
                Version(
                    dot: Dot(author: author(1), sequence: UInt64(sequence)), context: .empty,
                    stamp: HybridTime(1)),
                to: live)
        }
        #expect(live.map(\.dot.sequence) == [1000])
    }

    @Test func `lets a log keep everything and show the first`() {
        let early = Version(
            dot: Dot(author: author(1), sequence: 1), context: .empty, stamp: HybridTime(5))
        let late = Version(
            dot: Dot(author: author(1), sequence: 2), context: .empty, stamp: HybridTime(9))
        #expect(MergeKind.log.integrate(late, into: [early]) == .lives(superseding: []))
        #expect(MergeKind.log.ranked([late, early]).first == early)
    }
}

@Suite struct `The admission of a commit` {
    private func header(_ scope: Scope) -> CommitHeader {
        CommitHeader(
            scope: scope, author: author(1), first: 1, count: 1, previous: .zero, root: .zero)
    }

    @Test func `refuses a writer outside its grants everywhere`() throws {
        let mesh = try TestMesh()
        let card = mesh.identity("till", site: "1").certificate
        try Admission.judge(header(Scope("orders@site/1")!), certificate: card, policy: .orders)
        #expect(throws: Refusal.notGranted) {
            try Admission.judge(
                header(Scope("orders@site/10")!), certificate: card, policy: .orders)
        }
        #expect(throws: Refusal.notGranted) {
            try Admission.judge(header(Scope("menu@all")!), certificate: card, policy: .menu)
        }
        #expect(throws: Refusal.wrongAudience) {
            try Admission.judge(header(Scope("menu@site/1")!), certificate: card, policy: .menu)
        }
        #expect(throws: Refusal.policyUnknown) {
            try Admission.judge(header(Scope("menu@all")!), certificate: card, policy: nil)
        }
    }

    @Test func `refuses a record that names its own future or breaks its log`() throws {
        let dot = Dot(author: author(1), sequence: 5)
        func record(_ kind: Record.Kind, seen: UInt64?) throws -> Record {
            var context = Context.empty
            if let seen { context.insert(Dot(author: author(1), sequence: seen)) }
            return Record(
                kind: kind, stamp: HybridTime(1), key: try RecordKey("k"), context: context,
                contentType: "", body: [])
        }
        #expect(throws: Refusal.badContext) {
            try Admission.judge(record(.put, seen: 5), at: dot, merge: .register)
        }
        try Admission.judge(record(.put, seen: 4), at: dot, merge: .register)
        #expect(throws: Refusal.wrongMerge) {
            try Admission.judge(record(.delete, seen: nil), at: dot, merge: .log)
        }
    }
}
