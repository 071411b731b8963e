// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust
internal import Synchronization

/// The commit of one scope that grows while a transaction runs.
struct Draft {
    let scope: Scope
    let authorID: Int64
    let first: UInt64
    var records: [[UInt8]] = []
    var ids: [Digest] = []
    var byteCount = 0
    /// Records that a later one of the same commit superseded, by offset.
    var dropped: [Int: Digest] = [:]

    /// Takes one more record.
    ///
    /// - Returns: its sequence.
    mutating func append(_ bytes: [UInt8], _ id: Digest) -> UInt64 {
        records.append(bytes)
        ids.append(id)
        byteCount += bytes.count + 4
        return first + UInt64(records.count) - 1
    }
}

/// A write that is refused without undoing its neighbours in the transaction.
struct WriteRefusal: Error {
    let error: StoreError
}

extension Writer {
    /// Applies an app's writes to the scope's draft, or refuses all of them before any is applied.
    mutating func write(
        _ db: Database, _ request: WriteRequest, _ result: inout Result
    ) throws -> [Receipt] {
        if let receipts = try replay(db, request) { return receipts }
        let policy = try admit(db, request)
        let scopeID = try scopeID(db, request.scope)
        var size = 0
        var seen: [RecordKey: [LiveRow]] = [:]
        for write in request.writes {
            guard policy.merge != .log || seen[write.key] == nil else {
                throw refusal(.exists(write.key))
            }
            let rows = try live(db, scopeID, write.key)
            size += try check(db, write, scopeID, policy.merge, rows.map(\.version))
            seen[write.key] = rows
        }
        guard size <= CommitHeader.recordBytesMax else {
            throw refusal(
                .limit(
                    "a batch has at most \(CommitHeader.recordBytesMax) bytes of records, not \(size)"
                ))
        }
        // A batch is never split: all of it is in one commit, and stands or falls with it
        // everywhere.
        if let draft = drafts[scopeID],
            draft.byteCount + size > StoreLimits.draftBytes
                || draft.records.count + request.writes.count > CommitHeader.recordsMax
        {
            try seal(db, scopeID, draft, &result)
        }
        var receipts: [Receipt] = []
        receipts.reserveCapacity(request.writes.count)
        for write in request.writes {
            // A key that stands twice in a batch has changed since it was looked at.
            let rows = try seen.removeValue(forKey: write.key) ?? live(db, scopeID, write.key)
            receipts.append(try apply(db, write, request.scope, scopeID, policy.merge, rows))
        }
        if request.scope == NamespacePolicy.scope { forgetPolicies() }
        if let (name, request) = request.idempotency {
            try remember(db, name, request, receipts)
        }
        statistics.recordsWritten.add(receipts.count, ordering: .relaxed)
        return receipts
    }

    private mutating func admit(
        _ db: Database, _ request: WriteRequest
    ) throws -> NamespacePolicy {
        let scope = request.scope
        // What nobody would take is not acknowledged.
        guard try !revoked(db).contains(author.node) || DocumentAdmission.appliesTo(scope) else {
            throw refusal(.revoked)
        }
        guard (1...StoreLimits.batchWrites).contains(request.writes.count) else {
            throw refusal(.limit("a batch has 1 to \(StoreLimits.batchWrites) writes"))
        }
        for write in request.writes where write.body.count > Record.bodyBytesMax {
            throw refusal(
                .limit(
                    "'\(write.key)' has \(write.body.count) bytes; at most \(Record.bodyBytesMax)"))
        }
        for write in request.writes {
            do throws(Refusal) {
                try DocumentAdmission.judge(
                    write.kind, write.key, write.body, in: scope, root: identity.root)
            } catch {
                throw refusal(
                    .limit("'\(write.key)' is not a document with the signatures it needs"))
            }
        }
        guard let policy = try directory.policy(of: scope.namespace, db) else {
            throw refusal(.unknownNamespace(scope.namespace))
        }
        guard policy.has(scope), policy.admits(identity.certificate, to: scope) else {
            throw refusal(.notGranted(scope))
        }
        return policy
    }

    private func refusal(_ error: StoreError) -> WriteRefusal { WriteRefusal(error: error) }

    /// Judges a write against the key's state without changing anything.
    ///
    /// - Returns: the bytes of its record in a commit.
    private mutating func check(
        _ db: Database, _ write: Write, _ scope: Int64, _ merge: MergeKind, _ versions: [Version]
    ) throws -> Int {
        let live = merge.ranked(versions)
        let current = live.isEmpty ? nil : KeyState.etag(live.map(\.dot))
        if let wanted = write.ifMatch, wanted != current, !(wanted == "*" && current != nil) {
            throw refusal(.preconditionFailed(current: current))
        }
        let holdsValue = try live.first.map { try kind(db, scope, $0.dot) == .put } ?? false
        if write.ifAbsent, holdsValue { throw refusal(.preconditionFailed(current: current)) }
        if merge == .log {
            guard live.isEmpty else { throw refusal(.exists(write.key)) }
            guard write.kind == .put else {
                throw refusal(.limit("records of a log cannot be deleted"))
            }
        }
        let context = merge.context(after: live, writer: author.node).dots.count
        guard context <= Context.entriesMax else {
            throw refusal(
                .limit(
                    "'\(write.key)' was written by \(context) nodes; at most \(Context.entriesMax)")
            )
        }
        return 4
            + Record.size(
                key: write.key.utf8.count, contentType: write.contentType.utf8.count,
                body: write.body.count, context: context)
    }

    private mutating func kind(_ db: Database, _ scope: Int64, _ dot: Dot) throws -> Record.Kind? {
        try db.first(
            "SELECT bytes FROM record WHERE scope = ? AND author = ? AND sequence = ?",
            .int(scope), .int(try authorID(db, dot.author)), .sequence(dot.sequence)
        ) { try Record(decoding: $0.bytes(0)).kind }
    }

    private mutating func apply(
        _ db: Database, _ write: Write, _ scope: Scope, _ scopeID: Int64, _ merge: MergeKind,
        _ rows: [LiveRow]
    ) throws -> Receipt {
        let authorID = try authorID(db, author)
        let log = LogKey(scope: scopeID, author: authorID)
        if drafts[scopeID] == nil {
            let first = try head(db, log).frontier + 1
            drafts[scopeID] = Draft(scope: scope, authorID: authorID, first: first)
        }
        let record = Record(
            kind: write.kind, stamp: nextStamp(), key: write.key,
            context: merge.context(after: rows.map(\.version), writer: author.node),
            contentType: write.contentType, body: write.body)
        let bytes = record.encoded
        let id = Record.id(of: bytes, in: identity.root.meshID)
        let sequence = drafts[scopeID]?.append(bytes, id) ?? 0
        let dot = Dot(author: author, sequence: sequence)
        let version = Version(dot: dot, context: record.context, stamp: record.stamp)
        var remaining: [Dot] = []
        for row in rows {
            if merge == .register, version.supersedes(row.version.dot) {
                try supersede(db, scopeID, row)
            } else {
                remaining.append(row.version.dot)
            }
        }
        try insert(db, log, sequence, key: write.key, id: id, bytes: bytes)
        if scope == Revocation.scope { try heed(db, record) }
        return Receipt(dot: dot, live: remaining + [dot], isNew: rows.isEmpty)
    }

    /// Signs and stores every draft.
    mutating func sealDrafts(_ db: Database, _ result: inout Result) throws {
        for (scopeID, draft) in drafts { try seal(db, scopeID, draft, &result) }
    }

    private mutating func seal(
        _ db: Database, _ scopeID: Int64, _ draft: Draft, _ result: inout Result
    ) throws {
        drafts[scopeID] = nil
        let log = LogKey(scope: scopeID, author: draft.authorID)
        let previous = try head(db, log)
        let whole = Commit(
            signing: draft.records, ids: draft.ids, scope: draft.scope, author: author,
            first: draft.first, previous: previous.id, key: identity.nodeKey,
            mesh: identity.root.meshID)
        statistics.signatures.add(1, ordering: .relaxed)
        let proof = whole.proof.dropping(draft.dropped)
        try save(db, log, whole.header, whole.signature, proof)
        try advance(
            db, log, to: whole.header.last, header: whole.header, signature: whole.signature)
        let commit = Commit(
            header: whole.header, signature: whole.signature, proof: proof,
            records: proof.presentOffsets.map { draft.records[$0] })
        result.committed.append(
            CommitsMessage(
                scope: draft.scope, author: author, after: draft.first - 1,
                through: commit.header.last, commits: [commit]))
    }
}

// MARK: Idempotency

extension Writer {
    private func replay(_ db: Database, _ request: WriteRequest) throws -> [Receipt]? {
        guard let (name, hash) = request.idempotency else { return nil }
        let stored = try db.first(
            "SELECT request, receipt FROM idempotency WHERE name = ?", .text(name)
        ) { ($0.digest(0), $0.bytes(1)) }
        guard let (request, receipt) = stored else { return nil }
        guard request == hash else { throw refusal(.idempotencyMismatch) }
        var reader = WireReader(receipt)
        var receipts: [Receipt] = []
        while reader.left > 0 {
            let isNew = try reader.u8() == 1
            var live: [Dot] = []
            for _ in 0..<(try reader.count("live", limit: .max)) {
                live.append(Dot(author: try reader.author(), sequence: try reader.sequence()))
            }
            guard let dot = live.last else { continue }
            receipts.append(Receipt(dot: dot, live: live, isNew: isNew))
        }
        return receipts
    }

    private func remember(
        _ db: Database, _ name: String, _ request: Digest, _ receipts: [Receipt]
    ) throws {
        var writer = WireWriter()
        for receipt in receipts {
            writer.u8(receipt.isNew ? 1 : 0)
            writer.count(receipt.live.count)
            for dot in receipt.live {
                writer.author(dot.author)
                writer.u64(dot.sequence)
            }
        }
        try db.run(
            "INSERT INTO idempotency VALUES(?, ?, ?, ?)", .text(name), .digest(request),
            .bytes(writer.bytes), .sequence(arrival))
        // The oldest go when there are too many; checked now and then, since a count reads all.
        guard arrival % 1024 == 0 else { return }
        try db.run(
            """
            DELETE FROM idempotency WHERE stamp < (SELECT stamp FROM idempotency
            ORDER BY stamp DESC LIMIT 1 OFFSET ?)
            """, .int(Int64(StoreLimits.idempotencyKeys)))
    }
}
