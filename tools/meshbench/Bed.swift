// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshReplication
import MeshStore
import MeshTrust

/// A mesh made for a benchmark: real keys, real certificates, real stores on disk.
struct Bed {
    let root: RootDocument
    let secret: MeshSecret
    let enrol: SigningKey
    let directory: String
    let scope = Scope(namespace: "stock", audience: .all)
    static let policy = NamespacePolicy(audience: .all, writers: .any, merge: .register)

    init() throws {
        let base =
            ProcessInfo.processInfo.environment["BENCH_DIR"] ?? FileManager.default
            .currentDirectoryPath + "/.build"
        directory = base + "/bench-\(getpid())"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        enrol = Self.key()
        let roots = (0..<3).map { _ in Self.key() }
        root = RootDocument(
            name: "bench", created: 0, threshold: 2, roots: roots, enrol: [enrol.publicKey.id])
        secret = MeshSecret(epoch: 1, value: Self.key().seed)
    }

    static func key() -> SigningKey { SigningKey(seed: Bytes32(Sodium.random(32)) ?? .zero) }

    func remove() { try? FileManager.default.removeItem(atPath: directory) }

    func identity(_ name: String, central: Bool = true) -> DataDirectory.Identity {
        let (node, ticketKey) = (Self.key(), Self.key())
        let link = AgreementKey(secret: Self.key().seed)
        let ticket = Ticket(
            key: ticketKey.publicKey.id, serial: Sodium.random(16), site: "hq", node: name,
            isCentral: central, groups: [], grants: Grant.central)
        let file = TicketFile(
            root: root, enrol: enrol, secrets: MeshSecrets(secret), ticketSeed: ticketKey.seed,
            ticket: ticket,
            seeds: [])
        return DataDirectory.Identity(
            root: root, certificate: file.certificate(node: node, linkKey: link.publicKey),
            nodeKey: node, linkKey: link, secrets: MeshSecrets(secret), seeds: [])
    }

    func store(
        _ path: String, _ identity: DataDirectory.Identity, seal: StorageSeal? = nil
    ) throws -> Store {
        try Store(path: path, identity: identity, lock: nil, seal: seal) {
            UInt64(Date().timeIntervalSince1970 * 1000)
        }
    }

    /// A namespace's policy as an operator signs it.
    func document(_ namespace: String) -> [UInt8] {
        PolicyDocument(
            of: namespace, Self.policy, created: 1, key: enrol, mesh: root.meshID
        ).encoded
    }

    /// The policy of the benchmark's namespace, as a message of its author.
    func policy(_ author: DataDirectory.Identity) throws -> CommitsMessage {
        let record = Record(
            kind: .put, stamp: HybridTime(1), key: try NamespacePolicy.key(of: scope.namespace),
            context: .empty, contentType: NamespacePolicy.contentType,
            body: document(scope.namespace))
        return message(author, NamespacePolicy.scope, first: 1, previous: .zero, [record]).0
    }

    func message(
        _ author: DataDirectory.Identity, _ scope: Scope, life: UInt64 = 7, first: UInt64,
        previous: Digest, _ records: [Record]
    ) -> (CommitsMessage, Digest) {
        let mesh = root.meshID
        let name = Author(node: author.certificate.node, life: Life(life))
        let policy =
            scope == NamespacePolicy.scope
            ? PolicyID.builtIn : Self.policy.id(for: scope.namespace, in: mesh)
        let encoded = records.map(\.encoded)
        let commit = Commit(
            signing: encoded, ids: encoded.map { Record.id(of: $0, in: mesh) }, scope: scope,
            author: name, first: first, previous: previous, policy: policy,
            key: author.nodeKey, mesh: mesh)
        let message = CommitsMessage(
            scope: scope, author: name, after: first - 1, through: commit.header.last,
            commits: [commit])
        return (message, commit.header.id(in: mesh))
    }

    /// A log of `count` records of `bytes` each, in commits of `perCommit`.
    func log(
        _ author: DataDirectory.Identity, _ name: String, count: Int, bytes: Int, perCommit: Int
    ) throws -> [CommitsMessage] {
        var messages: [CommitsMessage] = []
        var previous = Digest.zero
        var generator = SeededGenerator(seed: 1)
        for start in stride(from: 0, to: count, by: perCommit) {
            let records = try (start..<min(start + perCommit, count)).map { index in
                let body = (0..<bytes).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
                return Record(
                    kind: .put, stamp: HybridTime(UInt64(index + 1) << 16),
                    key: try RecordKey("\(name)/\(index * 7919 % count)"), context: .empty,
                    contentType: "application/json", body: body)
            }
            let (message, id) = message(
                author, scope, first: UInt64(start + 1), previous: previous, records)
            messages.append(message)
            previous = id
        }
        return messages
    }
}
