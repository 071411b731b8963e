// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust
internal import Synchronization

extension Writer {
    /// Verifies and applies a peer's message: the only way a record of another node comes in.
    mutating func ingest(_ db: Database, _ message: CommitsMessage) throws -> IngestOutcome {
        var outcome = IngestOutcome()
        do {
            try apply(db, message, &outcome)
        } catch let refusal as Refusal {
            outcome.refusal = refusal
        }
        return outcome
    }

    private mutating func apply(
        _ db: Database, _ message: CommitsMessage, _ outcome: inout IngestOutcome
    ) throws {
        let policy = try admit(db, message, &outcome)
        try refuseRevoked(db, message)
        let log = LogKey(
            scope: try scopeID(db, message.scope), author: try authorID(db, message.author))
        let head = try head(db, log)
        let isRun = message.through > message.after
        if isRun, message.through <= head.frontier {
            outcome.isDuplicate = true
            return
        }
        // Everything is verified before anything is stored, so a refusal leaves no trace.
        let verified = try message.commits.map { try verify($0, policy.merge) }
        // What lies past the frontier is in no digest: kept, it could supersede what peers hold
        // and be known to nobody. A comparison brings it in order.
        let isAhead =
            isRun
            ? message.after > head.frontier
            : message.commits.contains { $0.header.first > head.frontier }
        if isAhead {
            outcome.hasGap = true
            if message.author.node == author.node { try beginAnew(db, message.author, outcome) }
            return
        }
        var isWhole = true
        for (commit, ids) in verified {
            if try !store(db, log, commit, ids, policy.merge, isFill: !isRun, &outcome) {
                isWhole = false
            }
        }
        if message.scope == NamespacePolicy.scope { forgetPolicies() }
        statistics.recordsIngested.add(outcome.stored, ordering: .relaxed)
        // A commit that lost against another of its author proves nothing about where the log ends.
        if isRun, isWhole, let last = message.commits.last {
            noteChain(message, head, &outcome)
            outcome.hasAdvanced = true
            try advance(
                db, log, to: message.through, header: last.header, signature: last.signature)
        }
        if message.author.node == author.node { try beginAnew(db, message.author, outcome) }
    }

    /// Begins a new incarnation where others know more of this node's logs than it does itself: a
    /// tail was lost here, a whole life, or a copy of this node is at work.
    private mutating func beginAnew(
        _ db: Database, _ known: Author, _ outcome: IngestOutcome
    ) throws {
        let isLost = known == author && (outcome.stored > 0 || outcome.hasGap || outcome.isFork)
        guard isLost || known.incarnation > author.incarnation else { return }
        let highest = max(known.incarnation, author.incarnation)
        author = Author(
            node: author.node,
            incarnation: Startup.next(after: highest, random: random, wall: wall()))
        try Startup.setIncarnation(db, author.incarnation)
    }

    private func admit(
        _ db: Database, _ message: CommitsMessage, _ outcome: inout IngestOutcome
    ) throws -> NamespacePolicy {
        guard identity.certificate.allows(.read, message.scope) else { throw Refusal.wrongAudience }
        guard let certificate = try directory.certificate(of: message.author.node, db) else {
            throw Refusal.authorUnknown
        }
        outcome.authorSite = certificate.ticket.site
        guard let policy = try directory.policy(of: message.scope.namespace, db) else {
            throw Refusal.policyUnknown
        }
        for commit in message.commits {
            try Admission.judge(commit.header, certificate: certificate, policy: policy)
        }
        return policy
    }

    func verify(
        _ commit: Commit, _ merge: MergeKind
    ) throws -> (Commit, [(id: Digest, record: Record)]) {
        let mesh = identity.root.meshID
        guard let ids = commit.verifiedIDs(in: mesh), commit.isSigned(in: mesh) else {
            throw Refusal.badSignature
        }
        statistics.verifications.add(1, ordering: .relaxed)
        var records: [(id: Digest, record: Record)] = []
        for (index, sequence) in commit.sequences.enumerated() {
            guard let record = try? Record(decoding: commit.records[index]) else {
                throw Refusal.malformed
            }
            let dot = Dot(author: commit.header.author, sequence: sequence)
            try Admission.judge(record, at: dot, merge: merge)
            try DocumentAdmission.judge(
                record, in: commit.header.scope, root: identity.root)
            records.append((ids[index], record))
        }
        return (commit, records)
    }

    /// Notes a log whose next commit does not follow from the last: the author wrote two histories.
    private func noteChain(
        _ message: CommitsMessage, _ head: LogHead, _ outcome: inout IngestOutcome
    ) {
        guard let next = message.commits.first(where: { $0.header.first == head.frontier + 1 }),
            next.header.previous != head.id
        else { return }
        outcome.isFork = true
        statistics.forks.add(1, ordering: .relaxed)
    }

    /// - Returns: whether the commit stands; not if another of its author in its place does.
    mutating func store(
        _ db: Database, _ log: LogKey, _ commit: Commit,
        _ records: [(id: Digest, record: Record)], _ merge: MergeKind, isFill: Bool,
        _ outcome: inout IngestOutcome
    ) throws -> Bool {
        let header = commit.header
        let existing = try Queries.batches(
            db, log.scope, log.author, header.first...header.last)
        let known = existing.first { $0.header == header }
        let rivals = existing.filter { $0.header != header }
        if !rivals.isEmpty, try !settleFork(db, log, commit, rivals, &outcome) { return false }
        var gone: [Int: Digest] = [:]
        for (index, sequence) in commit.sequences.enumerated() {
            let (id, record) = records[index]
            let offset = Int(sequence - header.first)
            if let known, known.proof.present[offset] { continue }
            let dot = Dot(author: header.author, sequence: sequence)
            let rows = try live(db, log.scope, record.key)
            let version = Version(dot: dot, context: record.context, stamp: record.stamp)
            switch merge.integrate(version, into: rows.map(\.version)) {
            case .superseded(let winner):
                gone[offset] = id
                if isFill { outcome.evidence.append(Self.request(header.scope, winner)) }
            case .lives(let superseded):
                for row in rows where superseded.contains(row.version.dot) {
                    if row.authorID == log.author, row.version.dot.sequence >= header.first {
                        gone[Int(row.version.dot.sequence - header.first)] = row.id
                        try remove(db, log, row)
                    } else {
                        let old = LogKey(scope: log.scope, author: row.authorID)
                        // The mesh's own registers are written all the time, and prove nothing.
                        if !header.scope.namespace.hasPrefix("_") {
                            try keepUndo(db, old, row, by: log, dot)
                        }
                        try supersede(db, log.scope, row)
                    }
                }
                try insert(
                    db, log, sequence, key: record.key, id: id, bytes: commit.records[index])
                if header.scope == Revocation.scope { try heed(db, record) }
                outcome.stored += 1
            }
        }
        var proof = commit.proof
        if let known {
            guard let merged = known.proof.merging(proof) else { throw Refusal.badSignature }
            proof = merged
        }
        try save(db, log, header, commit.signature, proof.dropping(gone))
        if isFill {
            try db.run(
                "DELETE FROM damage WHERE scope = ? AND author = ? AND sequence BETWEEN ? AND ?",
                .int(log.scope), .int(log.author), .sequence(header.first),
                .sequence(header.last))
        }
        return true
    }

    /// Takes away a record of the very commit that is being stored.
    private mutating func remove(_ db: Database, _ log: LogKey, _ row: LiveRow) throws {
        try db.run(
            "DELETE FROM record WHERE scope = ? AND author = ? AND sequence = ?", .int(log.scope),
            .int(log.author), .sequence(row.version.dot.sequence))
        try markDirty(db, log, row.version.dot.sequence)
    }

    private static func request(_ scope: Scope, _ dot: Dot) -> StreamRequest {
        let leaf = DigestTree.leaf(of: dot.sequence)
        let offset = (dot.sequence - 1) % DigestTree.leafSpan
        return .dots(
            scope, dot.author, [SyncPart.LeafEntry(leaf: leaf, bits: LeafBits(1 << offset))])
    }

    /// One author, one place, two commits: the headers are kept as evidence, the lowest identity
    /// lives, and the others go with all they claimed. Who still shows a loser is sent the winner.
    ///
    /// - Returns: whether the new commit takes the place of those that are here.
    private mutating func settleFork(
        _ db: Database, _ log: LogKey, _ commit: Commit, _ rivals: [Queries.Batch],
        _ outcome: inout IngestOutcome
    ) throws -> Bool {
        outcome.isFork = true
        statistics.forks.add(1, ordering: .relaxed)
        let mesh = identity.root.meshID
        for rival in rivals { try keepEvidence(db, log, rival.header, rival.signature) }
        try keepEvidence(db, log, commit.header, commit.signature)
        let id = commit.header.id(in: mesh)
        let winners = rivals.filter { $0.header.id(in: mesh) < id }
        if !winners.isEmpty {
            for winner in winners {
                let sequences = winner.proof.presentOffsets.map {
                    winner.header.first + UInt64($0)
                }
                outcome.evidence.append(
                    .dots(winner.header.scope, winner.header.author, Store.entries(sequences)))
            }
            return false
        }
        let head = try head(db, log)
        lastUndo = nil
        if commit.header.scope == Revocation.scope { hasLostRevocations = true }
        for rival in rivals {
            let range = rival.header.first...rival.header.last
            for sequence in range {
                try db.run(
                    "DELETE FROM record WHERE scope = ? AND author = ? AND sequence = ?",
                    .int(log.scope), .int(log.author), .sequence(sequence))
                try markDirty(db, log, sequence)
                // What was to be taken out of the rival's proof is gone with it.
                dropped[log]?[sequence] = nil
            }
            try db.run(
                "DELETE FROM batch WHERE scope = ? AND author = ? AND first = ?",
                .int(log.scope), .int(log.author), .sequence(rival.header.first))
            // The log ended with the rival: now it ends with what took its place.
            if head.id == rival.header.id(in: mesh) {
                try advance(
                    db, log, to: commit.header.last, header: commit.header,
                    signature: commit.signature)
            }
        }
        return true
    }

    private func keepEvidence(
        _ db: Database, _ log: LogKey, _ header: CommitHeader, _ signature: Signature
    ) throws {
        let kept = try db.first(
            "SELECT count(*) FROM evidence WHERE scope = ? AND author = ?", .int(log.scope),
            .int(log.author)
        ) { $0.int(0) }
        guard (kept ?? 0) < StoreLimits.evidence else { return }
        try db.run(
            "INSERT OR IGNORE INTO evidence(scope, author, header, signature) VALUES(?, ?, ?, ?)",
            .int(log.scope), .int(log.author), .bytes(header.encoded), .bytes(signature.bytes))
    }
}
