// SPDX-License-Identifier: Apache-2.0

package import Foundation
package import MeshCore
package import MeshCrypto
package import MeshReplication
package import MeshRules
package import MeshStore
package import MeshTrust

/// One launch at a time. Foundation's `Process.run` reads past its buffer where some 1,300
/// descriptors are open (`readdir` of `/proc/self/fd`): tests that open many stores run their cases
/// one after the other.
package enum Launch {
    package static let lock = NSLock()
}

/// A mesh for tests: real keys from fixed seeds, real certificates, real stores in a folder of their own.
package final class TestMesh {
    package var root: RootDocument
    package let roots: [SigningKey]
    package let enrol: SigningKey
    package let revoke: SigningKey
    package let secret: MeshSecret
    package let directory: String
    private let seed: UInt8
    private var nextSeed: UInt16 = 1

    package init(name: String = "test", seed: UInt8 = 0) throws {
        try Sodium.start()
        self.seed = seed
        enrol = Self.key(200, seed)
        revoke = Self.key(199, seed)
        roots = (0..<3).map { Self.key(201 + $0, seed) }
        root = RootDocument(
            name: name, created: 1_700_000_000_000, threshold: 2,
            roots: roots, enrol: [enrol.publicKey.id],
            revoke: [revoke.publicKey.id])
        secret = MeshSecret(epoch: 1, value: Self.bytes(210, seed))
        directory = NSTemporaryDirectory() + "mesh-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
    }

    /// The root document with a further version: other keys where they are given, the first three as
    /// its root keys.
    package func rotated(
        enrol: [SigningKey]? = nil, revoke: [SigningKey]? = nil, honours: [Digest] = [],
        signers: [SigningKey]? = nil
    ) throws -> RootDocument {
        try root.next(
            created: 1_800_000_000_000, threshold: 2, roots: roots.map(\.publicKey.id),
            enrol: (enrol ?? [self.enrol]).map(\.publicKey.id),
            revoke: (revoke ?? [self.revoke]).map(\.publicKey.id), honours: Honours(honours),
            signers: signers ?? roots)
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    /// A mesh of the same keys that has named nobody yet: its nodes are those of the other.
    package static func copy(of mesh: TestMesh) -> TestMesh {
        guard let copy = try? TestMesh(name: mesh.root.name, seed: mesh.seed) else {
            preconditionFailure("a mesh was made of this before")
        }
        return copy
    }

    package static func bytes<Value: FixedBytes>(_ first: UInt8, _ second: UInt8) -> Value {
        Value(Blake2b.hash([first, second]).bytes)
    }

    package static func key(_ first: UInt8, _ second: UInt8) -> SigningKey {
        SigningKey(seed: bytes(first, second))
    }

    /// A new node's keys and certificate.
    package func identity(
        _ name: String, site: String = "s1", central: Bool = false, grants: [Grant]? = nil,
        key: SigningKey? = nil, serial: [UInt8]? = nil, needsApproval: Bool = false
    ) -> DataDirectory.Identity {
        let seed = nextSeed
        nextSeed += 1
        func secret(_ use: UInt8) -> Bytes32 {
            Blake2b.hash([use, UInt8(truncatingIfNeeded: seed), UInt8(seed >> 8)]).bytes
        }
        let node = key ?? SigningKey(seed: secret(1))
        let ticketKey = SigningKey(seed: secret(2))
        let link = AgreementKey(secret: secret(3))
        let ticket = Ticket(
            key: ticketKey.publicKey.id,
            serial: serial
                ?? [UInt8](repeating: UInt8(truncatingIfNeeded: seed), count: 15)
                + [UInt8(truncatingIfNeeded: seed) &+ UInt8(seed >> 8)],
            site: site,
            node: name, isCentral: central, groups: [],
            grants: grants ?? (central ? Grant.central : Grant.edge(site: site, groups: [])),
            needsApproval: needsApproval)
        let file = TicketFile(
            root: root, enrol: enrol, secrets: MeshSecrets(self.secret), ticketSeed: ticketKey.seed,
            ticket: ticket,
            seeds: [])
        return DataDirectory.Identity(
            root: root, certificate: file.certificate(node: node, linkKey: link.publicKey),
            nodeKey: node, linkKey: link, secrets: MeshSecrets(self.secret), seeds: [])
    }

    /// A key under which stores of tests seal their records.
    package static var seal: StorageSeal { StorageSeal(bytes(5, 5)) }

    /// A store on disk; the same name opens the same files again.
    package func store(
        _ identity: DataDirectory.Identity, memory: StoredStart? = nil,
        seal: StorageSeal? = nil,
        clock: @escaping @Sendable () -> UInt64 = { 1_700_000_000_000 }
    ) throws -> Store {
        try Store(
            path: path(identity), identity: identity, lock: nil, seal: seal,
            wallMilliseconds: clock,
            memory: memory)
    }

    /// Rots what is on disk, under the store's nose: SQL on the closed database.
    package func rot(_ identity: DataDirectory.Identity, _ sql: String) throws {
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        shell.arguments = [
            "-c",
            "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.executescript(sys.argv[2]); d.commit()",
            path(identity), sql,
        ]
        try Launch.lock.withLock { try shell.run() }
        shell.waitUntilExit()
        guard shell.terminationStatus == 0 else { throw StoreError.closed }
    }

    package func path(_ identity: DataDirectory.Identity) -> String {
        "\(directory)/\(identity.certificate.ticket.node).sqlite"
    }

    /// The write that defines a namespace, as an operator has signed it.
    package func define(
        _ namespace: String, _ policy: NamespacePolicy, created: UInt64 = 1_700_000_000_000
    ) throws -> Write {
        let document = PolicyDocument(
            of: namespace, policy, created: created, key: enrol, mesh: root.meshID)
        return Write(.put, try NamespacePolicy.key(of: namespace), body: document.encoded)
    }

    /// A centre's store that knows the given namespaces.
    package func centre(_ namespaces: [String: NamespacePolicy]) async throws -> Store {
        let store = try store(identity("centre", site: "hq", central: true))
        for (name, policy) in namespaces.sorted(by: { $0.key < $1.key }) {
            _ = try await store.write(
                WriteRequest(
                    scope: NamespacePolicy.scope,
                    writes: [try define(name, policy)]))
        }
        return store
    }
}

extension RecordIndex {
    /// What is known of the logs of a scope.
    package func logs(of scope: Scope) throws -> [LogState] { try trie(of: scope).states }
}

extension NamespacePolicy {
    package static let menu = NamespacePolicy(audience: .all, writers: .central, merge: .register)
    package static let prices = NamespacePolicy(audience: .site, writers: .site, merge: .register)
    package static let orders = NamespacePolicy(audience: .site, writers: .site, merge: .log)
}

extension Store {
    /// Writes one value.
    @discardableResult
    package func put(_ scope: Scope, _ key: String, _ text: String) async throws -> Receipt {
        let write = Write(
            .put, try RecordKey(key), contentType: "text/plain", body: Array(text.utf8))
        let receipts = try await self.write(WriteRequest(scope: scope, writes: [write]))
        guard let receipt = receipts.first else { throw StoreError.closed }
        return receipt
    }

    /// Reads one value as text; nil if there is none.
    package func text(_ scope: Scope, _ key: String) throws -> String? {
        try get(RecordKey(key), in: scope)?.value.map {
            String(decoding: $0.record.body, as: UTF8.self)
        }
    }

    /// Every message that brings another store all this one has of a scope.
    package func everything(of scope: Scope) throws -> [CommitsMessage] {
        var messages: [CommitsMessage] = []
        for log in try consult({ try $0.logs(of: scope) }).sorted(by: { $0.author < $1.author }) {
            var rest: StreamRequest? = .tail(scope, log.author, after: 0)
            while let request = rest {
                let chunk = try next(request)
                messages += chunk.messages
                rest = chunk.rest
            }
        }
        return messages
    }

    package func root(of scope: Scope) throws -> Digest {
        try consult { try $0.trie(of: scope).root }
    }

    /// Compares with another store until both agree, as linked nodes do.
    ///
    /// - Returns: rounds and bytes of turns; nil if they did not agree in `roundsMax` rounds.
    package func reconcile(
        with other: Store, roundsMax: Int = 8
    ) async throws -> (rounds: Int, bytes: Int)? {
        for certificate in try allCertificates() { try other.keep(certificate) }
        for certificate in try other.allCertificates() { try keep(certificate) }
        let (own, peer) = (identity.certificate, other.identity.certificate)
        var bytes = 0
        for round in 1...roundsMax {
            let salt = Salt(Sodium.random(32))
            let mayShare: @Sendable (Scope) -> Bool = {
                own.allows(.read, $0) && peer.allows(.read, $0)
            }
            var asking = SyncSession(role: .initiator, salt: salt, mayShare: mayShare)
            var answering = SyncSession(role: .responder, salt: salt, mayShare: mayShare)
            var turn = try consult { try asking.begin($0) }
            var streams: (mine: [StreamRequest], theirs: [StreamRequest]) = ([], [])
            while true {
                bytes += turn.encoded.count
                let question = try SyncTurn(decoding: turn.encoded)
                let answer = try other.consult { try answering.answer(question, $0) }
                streams.theirs += answer.streams
                bytes += answer.reply.encoded.count
                let reply = try SyncTurn(decoding: answer.reply.encoded)
                let outcome = try consult { try asking.answer(reply, $0) }
                streams.mine += outcome.streams
                if outcome.isInStep { return (round, bytes) }
                if outcome.reply.parts.isEmpty { break }
                turn = outcome.reply
            }
            try await send(streams.mine, to: other)
            try await other.send(streams.theirs, to: self)
        }
        return nil
    }

    private func send(_ requests: [StreamRequest], to other: Store) async throws {
        var evidence: [StreamRequest] = []
        for request in requests {
            var rest: StreamRequest? = request
            while let next = rest {
                let chunk = try self.next(next)
                for message in chunk.messages {
                    let decoded = try CommitsMessage(decoding: message.encoded)
                    let outcomes = try await other.ingest([decoded])
                    evidence += outcomes.flatMap(\.evidence)
                    _ = try await ingest(outcomes.flatMap(\.outvoted))
                }
                rest = chunk.rest
            }
        }
        if !evidence.isEmpty { try await other.send(evidence, to: self) }
    }
}
