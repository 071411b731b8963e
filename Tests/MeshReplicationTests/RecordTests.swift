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

@Suite struct `A record` {
    private func record(context: Int = 1, body: Int = 3) throws -> Record {
        let seen = (0..<context).map { index in
            let node: NodeID = TestMesh.bytes(UInt8(index & 255), UInt8(index >> 8))
            return Dot(author: Author(node: node, life: Life(1)), sequence: 9)
        }
        return Record(
            kind: .put, stamp: HybridTime(77), key: try RecordKey("a/b"), context: Context(seen),
            contentType: "text/plain", body: [UInt8](repeating: 1, count: body))
    }

    @Test func `carries the name of its request, and is taken without one that can't be read`()
        throws
    {
        let name = RequestName(
            name: RequestName.name(of: "till-4/17"), index: 2, count: 3, isNew: true)
        #expect(name.field.bytes.count + 3 == RequestName.fieldByteCount)
        #expect(RequestName(Extensions([name.field])) == name)
        #expect(RequestName(.none) == nil)
        let good = name.field.bytes
        // More than there are, none at all, a flag that there is not, cut off, bytes left over.
        for bad in [
            good.prefix(16) + [3, 0, 3, 0, 1], good.prefix(16) + [0, 0, 0, 0, 1],
            good.dropLast() + [2], good.dropLast(), good + [0], good.prefix(16) + [0, 0, 1, 5, 0],
        ] {
            let field = Extensions.Field(tag: RequestName.tag, bytes: Array(bad))
            #expect(RequestName(Extensions([field])) == nil)
        }
    }

    @Test func `has one encoding, which is read as it was written`() throws {
        let one = try record(context: 3)
        #expect(try Record(decoding: one.encoded) == one)
        let size = Record.size(key: 3, contentType: 10, body: 3, context: 3)
        #expect((size - 3 * 10...size).contains(one.encoded.count))
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
            Array(bytes[start..<start + 41]), Array(bytes[start + 41..<start + 82])
        )
        bytes.replaceSubrange(start..<start + 82, with: second + first)
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

    @Test func `of one record takes one hash for each level of the tree`() {
        let ids = ids(1024)
        for kept in [0, 511, 1023] {
            let dropped = Dictionary(
                uniqueKeysWithValues: ids.enumerated().filter { $0.offset != kept }
                    .map { ($0.offset, $0.element) })
            let proof = CommitProof(allPresent: 1024).dropping(dropped)
            #expect(proof.absent.count == 10)
            #expect(proof.encoded.count < 500)
        }
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
    /// A mesh of writers, some of which lose their tail now and then and begin another life.
    private struct History {
        var lives = ScopeLives()
        var versions: [Version] = []
    }

    private struct Writer {
        var author: Author
        var sequence: UInt64 = 0
        var live: [Version] = []
        /// How far it knows the logs of its own earlier lives.
        var own: [Life: UInt64] = [:]
    }

    private func history(_ seed: UInt64, writers count: Int, writes: Int) -> History {
        var generator = SeededGenerator(seed: seed)
        var history = History()
        var writers = (0..<count).map { Writer(author: author(UInt8($0))) }
        var images: [Writer?] = Array(repeating: nil, count: count)
        for number in 0..<writes {
            let place = Int(generator.next() % UInt64(count))
            switch generator.next() % 8 {
            case 0: images[place] = writers[place]
            case 1:
                guard let image = images[place] else { break }
                // A disk is put back: what is in the image is known, and a new life begins.
                writers[place] = image
                let node = image.author.node
                writers[place].own[image.author.life] = image.sequence
                writers[place].author = Author(node: node, life: Life(UInt64(number) + 100))
                writers[place].sequence = 0
                history.lives[node: node].add(
                    writers[place].author.life,
                    inherits: writers[place].own.filter { $0.value > 0 }
                        .map { Inheritance(life: $0.key, through: $0.value) })
            default: break
            }
            for version in history.versions where generator.next() % 3 == 0 {
                writers[place].live = add(version, to: writers[place].live, history.lives)
            }
            write(&writers[place], &history, stamp: generator.next() % 4)
        }
        return history
    }

    private func write(_ writer: inout Writer, _ history: inout History, stamp: UInt64) {
        writer.sequence += 1
        let dot = Dot(author: writer.author, sequence: writer.sequence)
        let context = Merge.context(after: writer.live, at: dot, lives: history.lives) ?? .empty
        let version = Version(
            dot: dot, context: context, stamp: HybridTime(stamp), merge: .register)
        writer.live = add(version, to: writer.live, history.lives)
        history.versions.append(version)
    }

    private func add(_ version: Version, to live: [Version], _ lives: ScopeLives) -> [Version] {
        if live.contains(version) { return live }
        switch Merge.integrate(version, into: live, lives: lives) {
        case .superseded: return live
        case .lives(let gone): return live.filter { !gone.contains($0.dot) } + [version]
        }
    }

    @Test func `leaves the same versions live in any order and with any repetition`() {
        for seed in 0..<300 {
            let history = history(UInt64(seed), writers: 4, writes: 14)
            let versions = history.versions
            let wanted = Set(versions.reduce([]) { add($1, to: $0, history.lives) })
            var generator = SeededGenerator(seed: UInt64(seed))
            for _ in 0..<10 {
                var order = versions + versions.prefix(4)
                for index in order.indices.reversed() {
                    order.swapAt(index, Int(generator.next() % UInt64(index + 1)))
                }
                #expect(Set(order.reduce([]) { add($1, to: $0, history.lives) }) == wanted)
            }
        }
    }

    @Test func `replaces a version by one whose writer had seen it, and by no other`() {
        for seed in 0..<300 {
            var generator = SeededGenerator(seed: UInt64(seed))
            var lives = ScopeLives()
            var writers = (0..<3).map { Writer(author: author(UInt8($0))) }
            var seen: [Dot: Set<Dot>] = [:]
            var all: [Version] = []
            for number in 0..<12 {
                let place = Int(generator.next() % 3)
                if generator.next() % 5 == 0 {
                    // A life that knows nothing of what its node wrote before.
                    let node = writers[place].author.node
                    writers[place] = Writer(
                        author: Author(node: node, life: Life(UInt64(number) + 50)))
                }
                for version in all where generator.next() % 2 == 0 {
                    writers[place].live = add(version, to: writers[place].live, lives)
                }
                let before = writers[place].live.map(\.dot)
                var history = History(lives: lives, versions: [])
                write(&writers[place], &history, stamp: 1)
                lives = history.lives
                guard let version = history.versions.first else { continue }
                seen[version.dot] = before.reduce(into: Set(before)) {
                    $0.formUnion(seen[$1] ?? [])
                }
                all.append(version)
            }
            let live = Set(all.reduce([]) { add($1, to: $0, lives) }.map(\.dot))
            let replaced = seen.values.reduce(into: Set<Dot>()) { $0.formUnion($1) }
            #expect(live == Set(all.map(\.dot)).subtracting(replaced), "seed \(seed)")
        }
    }

    @Test func `lets a clock a hundred years ahead win no more than one tie`() {
        let future = Version(
            dot: Dot(author: author(1), sequence: 1), context: .empty, stamp: HybridTime(.max),
            merge: .register)
        let dot = Dot(author: author(2), sequence: 1)
        let context = Merge.context(after: [future], at: dot, lives: ScopeLives())
        let informed = Version(
            dot: dot, context: context ?? .empty, stamp: HybridTime(1), merge: .register)
        #expect(add(informed, to: [future], ScopeLives()) == [informed])
        #expect(add(future, to: [informed], ScopeLives()) == [informed])
    }

    @Test func `keeps one version of a writer that never looks at what it wrote`() {
        var live: [Version] = []
        for sequence in 1...1000 {
            live = add(
                Version(
                    dot: Dot(author: author(1), sequence: UInt64(sequence)), context: .empty,
                    stamp: HybridTime(1), merge: .register),
                to: live, ScopeLives())
        }
        #expect(live.map(\.dot.sequence) == [1000])
    }

    @Test func `lets entries of a log stand, whoever names them`() {
        let entry = Version(
            dot: Dot(author: author(1), sequence: 1), context: .empty, stamp: HybridTime(5),
            merge: .log)
        let later = Version(
            dot: Dot(author: author(1), sequence: 2), context: .empty, stamp: HybridTime(9),
            merge: .log)
        let value = Version(
            dot: Dot(author: author(2), sequence: 1), context: Context([entry.dot]),
            stamp: HybridTime(9), merge: .register)
        #expect(add(later, to: [entry], ScopeLives()).count == 2)
        #expect(add(value, to: [entry], ScopeLives()).count == 2)
    }
}

@Suite struct `The lives of a node` {
    private func inherits(_ life: UInt64, _ through: UInt64) -> Inheritance {
        Inheritance(life: Life(life), through: through)
    }

    @Test func `know what they say that they inherit, and nothing else`() {
        var lives = Lives()
        lives.add(Life(2), inherits: [inherits(1, 80)])
        lives.add(Life(3), inherits: [inherits(2, 5), inherits(1, 100)])
        lives.add(Life(4), inherits: [inherits(1, 80)])
        func dot(_ life: UInt64, _ sequence: UInt64) -> Dot {
            Dot(author: author(1, life), sequence: sequence)
        }
        #expect(lives.reaches(dot(2, 1), dot(1, 80)))
        #expect(!lives.reaches(dot(2, 9), dot(1, 81)))
        #expect(lives.reaches(dot(3, 1), dot(1, 100)))
        #expect(lives.reaches(dot(3, 1), dot(2, 5)))
        #expect(!lives.reaches(dot(3, 1), dot(2, 6)))
        #expect(!lives.reaches(dot(4, 1), dot(2, 1)))
        #expect(!lives.reaches(dot(2, 1), dot(4, 1)))
    }
}

@Suite struct `A policy` {
    @Test func `admits who any of its certificates admits, and nobody else`() throws {
        let mesh = try TestMesh()
        let old = mesh.identity("till", site: "1").certificate
        let new = mesh.identity("till", site: "2").certificate
        let first = Scope("orders@site/1")!
        #expect(NamespacePolicy.orders.admits([new, old], to: first))
        #expect(!NamespacePolicy.orders.admits([new], to: first))
        #expect(!NamespacePolicy.orders.admits([old], to: Scope("orders@site/10")!))
        #expect(!NamespacePolicy.menu.admits([old, new], to: Scope("menu@all")!))
    }

    @Test func `has a name that differs with its namespace and its content`() throws {
        let mesh = try TestMesh().root.meshID
        let names = [
            NamespacePolicy.menu.id(for: "menu", in: mesh),
            NamespacePolicy.menu.id(for: "other", in: mesh),
            NamespacePolicy.orders.id(for: "menu", in: mesh),
        ]
        #expect(Set(names).count == 3)
    }
}

@Suite struct `Records on the wire` {
    private func record(_ seen: [Dot], _ body: Int) throws -> [UInt8] {
        Record(
            kind: .put, stamp: HybridTime(1), key: try RecordKey("a"), context: Context(seen),
            contentType: "", body: [UInt8](repeating: 7, count: body)
        ).encoded
    }

    @Test func `name an author once a message, and come back as they were hashed`() throws {
        let seen = (1...20).map { Dot(author: author(UInt8($0)), sequence: 1000) }
        var table = AuthorTable()
        var size = 0
        var compact: [[UInt8]] = []
        for _ in 0..<10 {
            compact.append(try Record.compacted(try record(seen, 10), &table))
            size = compact.last?.count ?? 0
        }
        #expect(try record(seen, 10).count - size == 20 * 39)
        var writer = WireWriter()
        table.encode(to: &writer)
        var reader = WireReader(writer.bytes)
        var read = try AuthorTable(from: &reader)
        for one in compact { #expect(try Record.expanded(one, &read) == record(seen, 10)) }
        try read.finish()
    }

    @Test func `are refused with an author that nothing names, or that is not there`() throws {
        var table = AuthorTable()
        let one = try Record.compacted(
            try record([Dot(author: author(1), sequence: 5)], 0), &table)
        _ = table.place(of: author(2))
        var writer = WireWriter()
        table.encode(to: &writer)
        var reader = WireReader(writer.bytes)
        var read = try AuthorTable(from: &reader)
        _ = try Record.expanded(one, &read)
        #expect(throws: WireError.self) { try read.finish() }
        var empty = AuthorTable()
        #expect(throws: WireError.self) { try Record.expanded(one, &empty) }
    }
}
