// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
package import MeshTrust
internal import Synchronization

/// Certificates and revocations that were verified once, kept in memory beside the database.
///
/// A box that was enrolled again has several certificates, and they add up: what it wrote under an
/// earlier one stands.
package final class TrustDirectory: Sendable {
    private struct Known {
        var certificates: [NodeID: [Certificate]] = [:]
        var revokedLogs: RevokedLogs?
        /// Certificates whose signatures were checked, by the hash of their bytes.
        var verified: [Digest: Certificate] = [:]
    }

    /// The mesh's root document.
    package let root: RootDocument
    private let own: Certificate
    private let known = Mutex(Known())

    /// Begins with this node's own certificate.
    package init(root: RootDocument, own: Certificate) {
        self.root = root
        self.own = own
    }

    /// The certificates of a node, the newest first; one that has rotted is not there.
    func certificates(of node: NodeID, _ db: Database) throws -> [Certificate] {
        if let list = known.withLock({ $0.certificates[node] }) { return list }
        let stored = try db.rows("SELECT bytes FROM certificate WHERE node = ?", .fixed(node)) {
            verified($0.bytes(0))
        }.compactMap(\.self)
        let list = Self.newestFirst(node == own.node ? stored + [own] : stored)
        known.withLock {
            if $0.certificates.count >= StoreLimits.cached { $0.certificates.removeAll() }
            // What is not known may be any minute.
            if !list.isEmpty { $0.certificates[node] = list }
        }
        return list
    }

    /// A certificate from a row, nil if it has rotted. Its three signatures are checked once: what
    /// has the same hash is the same certificate.
    func verified(_ bytes: [UInt8]) -> Certificate? {
        let hash: Digest = Blake2b.hash(bytes)
        if let certificate = known.withLock({ $0.verified[hash] }) { return certificate }
        guard let certificate = try? Certificate(decoding: bytes, root: root) else { return nil }
        known.withLock {
            if $0.verified.count >= StoreLimits.cached { $0.verified.removeAll() }
            $0.verified[hash] = certificate
        }
        return certificate
    }

    static func newestFirst(_ list: [Certificate]) -> [Certificate] {
        var seen: Set<[UInt8]> = []
        return list.filter { seen.insert($0.encoded).inserted }
            .sorted { $1.ticket.serial.lexicographicallyPrecedes($0.ticket.serial) }
    }

    func keep(_ certificate: Certificate, _ db: Database) throws {
        let node = certificate.node
        var list = try certificates(of: node, db)
        if list.contains(certificate), node != own.node { return }
        list = Self.newestFirst(list + [certificate])
        for (place, one) in list.enumerated() {
            let key: [SQLValue] = [.fixed(node), .fixed(Blake2b.hash(one.encoded))]
            if place < Certificate.perNodeMax {
                // A row that is there and was not read has rotted.
                try db.run(
                    "INSERT OR REPLACE INTO certificate VALUES(?, ?, ?)", key[0], key[1],
                    .bytes(one.encoded))
            } else {
                try db.run("DELETE FROM certificate WHERE node = ? AND hash = ?", key[0], key[1])
            }
        }
        known.withLock { $0.certificates[node] = nil }
    }

    /// What stands of the logs of revoked nodes.
    func revokedLogs(_ db: Database) throws -> RevokedLogs {
        if let logs = known.withLock({ $0.revokedLogs }) { return logs }
        var logs = RevokedLogs()
        for revocation in try revocations(db) { logs.add(revocation) }
        for node in try retired(db) { logs.retire(node) }
        known.withLock { $0.revokedLogs = logs }
        return logs
    }

    /// The nodes whose every certificate is by a key that was retired: they are no members, and
    /// nothing that they wrote stands.
    func retired(_ db: Database) throws -> [NodeID] {
        // Without the list nobody can tell who stands.
        if root.versions.count == 1 || !root.isWhole { return [] }
        var isRetired: [NodeID: Bool] = [:]
        let rows = try db.rows("SELECT node, bytes FROM certificate") { row in
            (row.fixed(0) as NodeID?, row.bytes(1))
        }
        for (node, bytes) in rows {
            guard let node else { continue }
            // A row that has rotted says nothing of its node: the whole chain is verified.
            let isOne =
                Certificate.isRetired(bytes, root: root)
                && (try? Certificate(decoding: bytes, root: root, mayLack: .goodKey)) != nil
            isRetired[node] = (isRetired[node] ?? true) && isOne
        }
        return isRetired.filter(\.value).map(\.key)
    }

    /// The certificates by keys that were retired, whose nodes are no members: for an operator who
    /// lets one stand after all.
    func retiredCertificates(_ db: Database) throws -> [Certificate] {
        if root.versions.count == 1 || !root.isWhole { return [] }
        return try db.rows("SELECT bytes FROM certificate") { $0.bytes(0) }
            .filter { Certificate.isRetired($0, root: root) }
            .compactMap { try? Certificate(decoding: $0, root: root, mayLack: .goodKey) }
    }

    func forgetRevocations() { known.withLock { $0.revokedLogs = nil } }

    /// Every revocation that was ever taken here and counts; each is verified again, since rows can
    /// rot.
    func revocations(_ db: Database) throws -> [Revocation] {
        try db.rows("SELECT bytes FROM revocation ORDER BY name") { $0.bytes(0) }
            .compactMap { try? Revocation(decoding: $0, root: root) }.filter(\.stands)
    }
}
