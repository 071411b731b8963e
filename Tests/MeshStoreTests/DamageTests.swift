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

private let all: [String: NamespacePolicy] = ["menu": .menu, "orders": .orders, "prices": .prices]

private let menu = Scope("menu@all")!
private let prices = Scope("prices@site/s1")!

@Suite struct `Damage` {
    private let mesh: TestMesh
    private let centre: Store
    private let identity: DataDirectory.Identity

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(all)
        identity = mesh.identity("site")
    }

    /// The site's server, once it has what the centre has.
    private func filled() async throws -> Store {
        let store = try mesh.store(identity)
        #expect(try await store.reconcile(with: centre) != nil)
        return store
    }

    @Test func `is found by the scrub, not sent on, and fetched again`() async throws {
        for index in 0..<20 { try await centre.put(menu, "k\(index)", "value \(index)") }
        let store = try await filled()
        store.close()
        // A bit flips on disk, under SQLite's nose.
        try mesh.rot(
            identity,
            "UPDATE record SET bytes = CAST(replace(bytes, 'value 7', 'VALUE 7') AS BLOB) WHERE key='k7'"
        )
        let opened = try mesh.store(identity)
        try opened.scrubAll()
        #expect(opened.statistics.counts.damaged == 1)
        #expect(try opened.text(menu, "k7") == nil)
        #expect(try opened.damageCount() == 1)
        #expect(try await opened.reconcile(with: centre) != nil)
        #expect(try opened.text(menu, "k7") == "value 7")
        #expect(try opened.damageCount() == 0)
        #expect(try opened.root(of: menu) == centre.root(of: menu))
    }

    @Test(arguments: ["sum = sum + 1", "sum = 0, id = zeroblob(32)", "id = zeroblob(32)"])
    func `of a sum or a name hides no value, so that a write has seen it`(what: String) async throws
    {
        let store = try await filled()
        try await store.put(prices, "k", "v")
        try await store.put(prices, "other", "v")
        store.close()
        try mesh.rot(identity, "UPDATE record SET \(what) WHERE key='k'")
        let opened = try mesh.store(identity)
        #expect(try opened.text(prices, "k") == "v")
        opened.settle()
        #expect(opened.statistics.counts.damaged == 1)
        #expect(try opened.text(prices, "k") == "v")
        #expect(try await opened.reconcile(with: centre) != nil)
        #expect(try centre.text(prices, "k") == "v")
        try await opened.put(prices, "k", "w")
        #expect(try await opened.reconcile(with: centre) != nil)
        #expect(try centre.values(prices, "k") == ["w"])
        #expect(try opened.root(of: prices) == centre.root(of: prices))
        #expect(try opened.damageCount() == 0)
    }

    @Test func `in a digest sends nothing for ever: what rotted is computed anew`() async throws {
        let writes = try (0..<900).map { Write(.put, try RecordKey("k/\($0)"), body: [7]) }
        _ = try await centre.write(WriteRequest(scope: menu, writes: writes))
        let store = try await filled()
        let root = try store.root(of: menu)
        store.close()
        try mesh.rot(identity, "UPDATE node SET hash = zeroblob(31) || x'07' WHERE place = 3")
        try mesh.rot(identity, "UPDATE node SET hash = zeroblob(31) || x'07' WHERE level = 1")
        let opened = try mesh.store(identity)
        // A write makes the levels above be computed from what is stored.
        try await centre.put(menu, "k/5", "again")
        #expect(try await opened.reconcile(with: centre) != nil)
        #expect(try opened.root(of: menu) == centre.root(of: menu))
        #expect(try opened.root(of: menu) != root)
        #expect(try await opened.reconcile(with: centre)?.rounds == 1)
    }

    @Test func `in a certificate ends with the next peer that shows it`() async throws {
        var store = try await filled()
        store.close()
        try mesh.rot(identity, "UPDATE certificate SET bytes = zeroblob(40)")
        store = try mesh.store(identity)
        #expect(try store.certificates(of: centre.author.node).isEmpty)
        try store.keep(centre.identity.certificate)
        #expect(try store.certificates(of: centre.author.node) == [centre.identity.certificate])
        try await centre.put(menu, "k", "v")
        #expect(try await store.reconcile(with: centre) != nil)
        #expect(try store.text(menu, "k") == "v")
    }

    @Test func `of a commit that nobody else has yet is mended from the end of its log`()
        async throws
    {
        let store = try await filled()
        try await store.put(prices, "a", "only here")
        store.close()
        try mesh.rot(
            identity,
            "DELETE FROM batch WHERE scope = (SELECT id FROM scope WHERE name = 'prices@site/s1')")
        let opened = try mesh.store(identity)
        // A read finds that no commit holds it; the scrub finds that the end of the log does.
        #expect(try opened.text(prices, "a") == "only here")
        try opened.scrubAll()
        #expect(try opened.damageCount() == 0)
        #expect(try await opened.reconcile(with: centre) != nil)
        #expect(try centre.text(prices, "a") == "only here")
    }

    @Test func `of a commit that nobody else has yet is mended by signing it again`()
        async throws
    {
        let store = try await filled()
        for index in 1...6 { try await store.put(prices, "k\(index)", "only here \(index)") }
        store.close()
        // The first commit, of which a copy is kept, and two side by side between two others.
        try mesh.rot(
            identity,
            """
            UPDATE batch SET header = zeroblob(40) WHERE first IN (1, 3, 4) AND scope =
                (SELECT id FROM scope WHERE name = 'prices@site/s1')
            """)
        let opened = try mesh.store(identity)
        try opened.scrubAll()
        #expect(opened.statistics.counts.signedAgain == 2)
        #expect(try opened.damageCount() == 0)
        #expect(try await opened.reconcile(with: centre) != nil)
        for index in 1...6 {
            #expect(try centre.text(prices, "k\(index)") == "only here \(index)")
        }
        #expect(try opened.root(of: prices) == centre.root(of: prices))
    }

    /// The index by places loses its entry for a key's record, which stays in the table.
    private func losePlace(of key: String) throws {
        try mesh.rot(
            identity,
            """
            CREATE TEMP TABLE row AS SELECT * FROM record WHERE key = '\(key)';
            CREATE TEMP TABLE entry AS SELECT * FROM sqlite_master WHERE name = 'record_dot';
            DELETE FROM record WHERE key = '\(key)';
            PRAGMA writable_schema = ON;
            DELETE FROM sqlite_master WHERE name = 'record_dot';
            PRAGMA writable_schema = RESET;
            INSERT INTO record SELECT * FROM row;
            PRAGMA writable_schema = ON;
            INSERT INTO sqlite_master SELECT * FROM entry;
            PRAGMA writable_schema = RESET;
            """)
    }

    @Test func `of the index by places costs a commit nothing that nobody else has`()
        async throws
    {
        let store = try await filled()
        for index in 1...3 { try await store.put(prices, "k\(index)", "only here \(index)") }
        store.close()
        try losePlace(of: "k2")
        let opened = try mesh.store(identity)
        for _ in 0..<3 {
            _ = try await opened.reconcile(with: centre)
            opened.settle()
        }
        #expect(try opened.damageCount() == 0)
        #expect(opened.statistics.counts.signedAgain == 0)
        for index in 1...3 {
            #expect(try centre.text(prices, "k\(index)") == "only here \(index)")
        }
    }

    @Test func `of the index by places shows nothing twice when a peer sends it again`()
        async throws
    {
        for index in 1...3 { try await centre.put(menu, "k\(index)", "v\(index)") }
        let store = try await filled()
        store.close()
        try losePlace(of: "k2")
        // The digest is computed anew, without the record.
        try mesh.rot(
            identity, "DELETE FROM node; INSERT INTO dirty SELECT scope, author, 0 FROM log")
        let opened = try mesh.store(identity)
        for _ in 0..<2 { _ = try await opened.reconcile(with: centre) }
        try await centre.put(menu, "k2", "new")
        for _ in 0..<2 { _ = try await opened.reconcile(with: centre) }
        #expect(try opened.states(menu, after: nil, limit: 9).map(\.versions.count) == [1, 1, 1])
        #expect(try opened.text(menu, "k2") == "new")
    }

    @Test func `in the first commit of a log does not keep the rest from those who come later`()
        async throws
    {
        for index in 1...3 { try await centre.put(menu, "k\(index)", "v\(index)") }
        try await centre.put(menu, "k1", "newer")
        let store = try await filled()
        store.close()
        try mesh.rot(identity, "UPDATE batch SET header = zeroblob(40) WHERE first = 1")
        let opened = try mesh.store(identity)
        try opened.scrubAll()
        // The one that wrote it all is lost; only what has rotted holds its logs.
        let late = try mesh.store(mesh.identity("late", site: "s2"))
        for one in try opened.allCertificates() { try late.keep(one) }
        for _ in 0..<3 { _ = try await late.reconcile(with: opened) }
        #expect(try late.text(menu, "k1") == "newer")
        for index in 2...3 { #expect(try late.text(menu, "k\(index)") == "v\(index)") }
    }

    @Test(arguments: [true, false])
    func `at the author replaces nothing elsewhere that no app can have read`(inOldLife: Bool)
        async throws
    {
        var store = try await filled()
        try await store.put(prices, "a", "first")
        #expect(try await store.reconcile(with: centre) != nil)
        if inOldLife {
            store.close()
            store = try mesh.store(identity)
            try await store.put(prices, "b", "in the new life")
        }
        try mesh.rot(identity, "UPDATE record SET bytes = zeroblob(30) WHERE key = 'a'")
        #expect(try store.text(prices, "a") == nil)
        try await store.put(prices, "a", "second")
        for _ in 0..<3 { _ = try await store.reconcile(with: centre) }
        for one in [store, centre] {
            #expect(try Set(one.values(prices, "a")) == ["first", "second"])
        }
    }

    @Test func `beside a record that proves itself is mended where it is`() async throws {
        let writes = try (0..<20).map { Write(.put, try RecordKey("k\($0)"), body: [7]) }
        _ = try await centre.write(WriteRequest(scope: menu, writes: writes))
        let root = try centre.root(of: menu)
        centre.close()
        try mesh.rot(centre.identity, "UPDATE record SET id = zeroblob(32) WHERE key='k7'")
        let opened = try mesh.store(centre.identity)
        try opened.scrubAll()
        #expect(try opened.damageCount() == 0)
        #expect(try opened.root(of: menu) == root)
        #expect(try opened.liveCount(in: menu) == 20)
    }
}

@Suite struct `A rotten file` {
    private let menu = Scope("menu@all")!
    private let mesh: TestMesh
    private let centre: Store
    private let identity: DataDirectory.Identity
    /// The file as it was before anything rotted.
    private let whole: Data
    private var path: String { mesh.path(identity) }

    init() async throws {
        mesh = try TestMesh()
        centre = try await mesh.centre(all)
        identity = mesh.identity("site")
        for index in 0..<40 {
            try await centre.put(menu, "k\(index)", "value \(index)")
            try await centre.put(menu, "k\(index % 7)", "again \(index)")
        }
        try await centre.put(menu, "needle", "in a stack")
        let store = try mesh.store(identity)
        _ = try await store.reconcile(with: centre)
        try #require(try store.root(of: menu) == centre.root(of: menu))
        store.close()
        whole = try Data(contentsOf: URL(fileURLWithPath: mesh.path(identity)))
    }

    /// Flips a bit, lets a process find it, and fetches what is lacking.
    ///
    /// - Returns: whether the file could be used at all, after a second start at most.
    private func heals(_ offset: Int, bit: UInt8) async throws -> Bool {
        var rotten = whole
        rotten[offset] ^= bit
        for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
        try rotten.write(to: URL(fileURLWithPath: path))
        for _ in 0..<2 {
            do {
                let store = try mesh.store(identity)
                defer { store.close() }
                try store.scrubAll()
                for _ in 0..<3 { _ = try await store.reconcile(with: centre) }
                #expect(try store.root(of: menu) == centre.root(of: menu), "bit at \(offset)")
                for key in ["needle", "k3", "k20"] {
                    #expect(try store.text(menu, key) == centre.text(menu, key), "bit at \(offset)")
                }
                #expect(try store.liveCount(in: menu) == 41, "bit at \(offset)")
                return true
            } catch is StoreError {}
        }
        return false
    }

    @Test func `shows a record whatever copy of its key rots`() async throws {
        var offsets: [Int] = []
        var place = whole.startIndex
        while let found = whole.range(of: Data("needle".utf8), in: place..<whole.endIndex) {
            offsets.append(found.lowerBound + 2)
            place = found.upperBound
        }
        // In the record, in the column beside it, in the index.
        #expect(offsets.count >= 3)
        for offset in offsets { #expect(try await heals(offset, bit: 1)) }
    }

    @Test func `is used on after a bit flips anywhere, or not at all`() async throws {
        var random = SeededGenerator(seed: 7)
        var lost = 0
        for _ in 0..<80 {
            let offset = Int(random.next() % UInt64(whole.count))
            if try await !heals(offset, bit: 1 << UInt8(random.next() % 8)) { lost += 1 }
        }
        #expect(lost <= 8, "what SQLite itself cannot read any more is for the operator")
    }

    @Test func `of which a part is read after it was closed gives an error`() async throws {
        centre.close()
        #expect(throws: StoreError.self) { try centre.addresses() }
        #expect(throws: StoreError.self) { try centre.text(menu, "needle") }
        #expect(throws: StoreError.self) { try centre.root(of: menu) }
        #expect(throws: StoreError.self) { try centre.keep(identity.certificate) }
        #expect(throws: StoreError.self) { try centre.scrubAll() }
    }
}

@Suite struct `A data directory` {
    private func ticket(_ mesh: TestMesh) -> TicketFile {
        let key = TestMesh.key(5, 5)
        let ticket = Ticket(
            key: key.publicKey.id, serial: [UInt8](repeating: 1, count: 16), site: "s1", node: "n",
            isCentral: false, groups: [], grants: Grant.edge(site: "s1", groups: []))
        return TicketFile(
            root: mesh.root, enrol: mesh.enrol, secrets: MeshSecrets(mesh.secret),
            ticketSeed: key.seed,
            ticket: ticket, seeds: [])
    }

    @Test func `joins once and reads its identity back`() throws {
        let mesh = try TestMesh()
        let directory = DataDirectory(mesh.directory + "/d")
        let certificate = try directory.join(ticket(mesh))
        #expect(try directory.identity().certificate == certificate)
        #expect(throws: StoreError.self) { try directory.join(ticket(mesh)) }
    }

    @Test func `with a key that others may read is refused`() throws {
        let mesh = try TestMesh()
        let directory = DataDirectory(mesh.directory + "/d")
        _ = try directory.join(ticket(mesh))
        chmod(mesh.directory + "/d/node.key", 0o644)
        #expect(throws: StoreError.self) { try directory.identity() }
    }

    @Test func `whose key is missing never gets another identity in silence`() throws {
        let mesh = try TestMesh()
        let directory = DataDirectory(mesh.directory + "/d")
        _ = try directory.join(ticket(mesh))
        try FileManager.default.removeItem(atPath: mesh.directory + "/d/node.key")
        #expect(throws: StoreError.self) { try directory.identity() }
        #expect(throws: StoreError.self) { try directory.join(ticket(mesh)) }
    }

    @Test func `is used by one process, whose number a second is told`() throws {
        let mesh = try TestMesh()
        let directory = DataDirectory(mesh.directory)
        let lock = try directory.lock()
        #expect(throws: StoreError.inUse(pid: "\(getpid())")) { try directory.lock() }
        withExtendedLifetime(lock) {}
    }

    @Test func `in memory is refused`() throws {
        guard FileManager.default.fileExists(atPath: "/dev/shm") else { return }
        #expect(throws: StoreError.self) { try DataDirectory("/dev/shm").checkFileSystem() }
    }
}
