// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust

/// The commit of one scope that grows while a transaction runs.
struct Draft {
    let scope: Scope
    let author: Author
    let policy: PolicyID
    let first: UInt64
    var records: [[UInt8]] = []
    var ids: [Digest] = []
    var byteCount = 0
    /// Records that a later one of the same commit superseded, by offset.
    var superseded: [Int: Digest] = [:]

    /// The place of the next record.
    var next: Dot { Dot(author: author, sequence: first + UInt64(records.count)) }

    /// Its records as a store holds them.
    var rows: [UInt64: HeldCommit.Row] {
        var rows: [UInt64: HeldCommit.Row] = [:]
        for (offset, id) in ids.enumerated() {
            rows[first + UInt64(offset)] = HeldCommit.Row(
                id: id, isLive: superseded[offset] == nil)
        }
        return rows
    }

    /// Takes one more record.
    mutating func append(_ bytes: [UInt8], _ id: Digest) {
        records.append(bytes)
        ids.append(id)
        byteCount += bytes.count + 4
    }

    /// A version was superseded; where it is of this commit, it is never sent.
    mutating func noteSuperseded(_ version: HeldVersion) {
        guard version.dot.author == author, version.dot.sequence >= first else { return }
        superseded[Int(version.dot.sequence - first)] = version.id
    }
}

/// Writes of this node's apps.
extension RecordTransaction {
    func add(_ request: WriteRequest, to needs: inout Needs) {
        needs.keys.reserveCapacity(needs.keys.count + request.writes.count)
        for write in request.writes {
            needs.keys.insert(KeyName(scope: request.scope, key: write.key))
        }
        if let name = BuiltIn.policyKey(of: request.scope.namespace) { needs.keys.insert(name) }
        needs.families.insert(FamilyName(scope: request.scope, node: context.node))
        if let naming = request.naming {
            needs.idempotency.insert(naming.key(in: request.scope))
            needs.idempotency.insert(
                RequestNaming.neighbours(naming.name, in: request.scope))
        }
    }

    /// Applies an app's writes to the scope's draft, or refuses all of them.
    mutating func write(_ request: WriteRequest) throws(WriteRefusal) -> [Receipt] {
        if let naming = request.naming {
            if let stored = work.answer(naming.key(in: request.scope)) {
                guard stored.request == naming.hash else { throw .idempotencyMismatch }
                return stored.receipts
            }
            if let receipts = neighboursAnswer(to: request, naming) { return receipts }
        }
        let policy = try admit(request)
        if hasLostOwn(in: request.scope) { beginLife() }
        let plan = try plan(request, policy.policy.merge)
        // A batch is never split: all of it is in one commit, and stands or falls with it
        // everywhere.
        makeRoom(
            in: request.scope, policy.id, records: request.writes.count, bytes: plan.byteCount)
        var receipts: [Receipt] = []
        receipts.reserveCapacity(request.writes.count)
        for (index, (write, isNeeded)) in zip(request.writes, plan.isNeeded).enumerated() {
            receipts.append(
                isNeeded
                    ? apply(write, at: index, of: request, policy)
                    : Receipt(
                        dot: nil, live: live(write.key, in: request.scope).map(\.dot), isNew: false)
            )
        }
        if let naming = request.naming {
            work.remember(
                naming.key(in: request.scope),
                StoredAnswer(request: naming.hash, receipts: receipts))
        }
        conclusion.counts.written += receipts.count
        return receipts
    }

    private func live(_ key: RecordKey, in scope: Scope) -> [HeldVersion] {
        work.live(KeyName(scope: scope, key: key))
    }

    private mutating func admit(
        _ request: WriteRequest
    ) throws(WriteRefusal) -> Workspace.NamedPolicy {
        let scope = request.scope
        // What nobody would take is not acknowledged.
        let newest = context.certificates.first?.ticket
        let isRevoked =
            work.revoked.contains(context.node)
            || newest.map { work.revoked.contains($0) } ?? false
        guard !isRevoked || DocumentAdmission.appliesTo(scope) else { throw .revoked }
        guard (1...RuleLimits.batchWrites).contains(request.writes.count) else {
            throw .limit("a batch has 1 to \(RuleLimits.batchWrites) writes")
        }
        for write in request.writes where write.body.count > Record.bodyBytesMax {
            throw .limit(
                "'\(write.key)' has \(write.body.count) bytes; at most \(Record.bodyBytesMax)")
        }
        for write in request.writes {
            do throws(Refusal) {
                try DocumentAdmission.judge(
                    write.kind, write.key, write.body, in: scope, root: context.root)
            } catch {
                throw .limit("'\(write.key)' is not a document with the signatures it needs")
            }
        }
        guard let policy = work.policies(of: scope.namespace, root: context.root).first else {
            throw .unknownNamespace(scope.namespace)
        }
        guard policy.policy.has(scope), policy.policy.admits(context.certificates, to: scope)
        else { throw .notGranted(scope) }
        return policy
    }

    // MARK: Judging

    /// A key as the writes of one request find it, one after the other.
    private struct KeyPlan {
        var live: [Dot]
        var holdsValue: Bool
        var contextCount: Int
    }

    /// Judges the writes of a request in order, each on the state that the ones before it leave,
    /// without changing anything.
    ///
    /// - Returns: which of them write anything, and how many bytes their records have.
    private func plan(
        _ request: WriteRequest, _ merge: MergeKind
    ) throws(WriteRefusal) -> (isNeeded: [Bool], byteCount: Int) {
        var keys: [RecordKey: KeyPlan] = [:]
        keys.reserveCapacity(request.writes.count)
        var isNeeded: [Bool] = []
        var byteCount = 0
        for (index, write) in request.writes.enumerated() {
            var key = keys[write.key] ?? keyPlan(live(write.key, in: request.scope))
            try check(write, key, in: request.scope, merge)
            // Where no value is, a deletion would be evidence against nothing, kept for ever.
            let isWanted = write.kind == .put || key.holdsValue
            isNeeded.append(isWanted)
            if isWanted {
                byteCount +=
                    4
                    + Record.size(
                        key: write.key.utf8.count, contentType: write.contentType.utf8.count,
                        body: write.body.count, context: key.contextCount)
                    + (request.naming == nil ? 0 : RequestName.fieldByteCount)
                // No author has this place: it stands for the one that the record will have.
                let place = Dot(author: author, sequence: Dot.sequenceMax - UInt64(index))
                key = KeyPlan(
                    live: [place], holdsValue: write.kind == .put, contextCount: key.contextCount)
            }
            keys[write.key] = key
        }
        guard byteCount <= CommitHeader.recordBytesMax else {
            throw .limit(
                "a batch has at most \(CommitHeader.recordBytesMax) bytes of records, not \(byteCount)"
            )
        }
        return (isNeeded, byteCount)
    }

    private func keyPlan(_ live: [HeldVersion]) -> KeyPlan {
        let entries = live.reduce(live.count) { $0 + $1.record.context.dots.count }
        return KeyPlan(
            live: live.map(\.dot), holdsValue: live.contains { $0.record.kind == .put },
            contextCount: min(entries, Context.entriesMax))
    }

    private func check(
        _ write: Write, _ key: KeyPlan, in scope: Scope, _ merge: MergeKind
    ) throws(WriteRefusal) {
        let current = key.live.isEmpty ? nil : EntityTag.of(key.live)
        guard write.condition.holds(of: current, holdsValue: key.holdsValue) else {
            throw .preconditionFailed(current: current)
        }
        guard merge == .log else { return }
        let isOfPolicies =
            scope == NamespacePolicy.scope && DocumentAdmission.isOfPolicies(write.key)
        guard key.live.isEmpty || isOfPolicies else { throw .exists(write.key) }
        guard write.kind == .put else { throw .limit("records of a log cannot be deleted") }
    }

    // MARK: Applying

    private mutating func apply(
        _ write: Write, at index: Int, of request: WriteRequest, _ policy: Workspace.NamedPolicy
    ) -> Receipt {
        let scope = request.scope
        let dot = nextPlace(in: scope, policy.id)
        let versions = live(write.key, in: scope)
        let record = Record(
            kind: write.kind, stamp: nextStamp(), key: write.key,
            context: contextOfWrite(versions, at: dot, in: scope, policy.policy.merge),
            contentType: write.contentType, body: write.body,
            extensions: request.extensions(of: index, isNew: versions.isEmpty))
        append(record, at: dot, policy.policy.merge, to: scope)
        return Receipt(
            dot: dot, live: live(write.key, in: scope).map(\.dot), isNew: versions.isEmpty)
    }

    private mutating func contextOfWrite(
        _ versions: [HeldVersion], at dot: Dot, in scope: Scope, _ merge: MergeKind
    ) -> Context {
        guard merge == .register, !versions.isEmpty else { return .empty }
        let lives = livesOfWriter(in: scope)
        let all = versions.map(\.version)
        let count = all.reduce(all.count) { $0 + $1.context.dots.count }
        let context = Merge.context(after: all, at: dot, lives: lives)
        // Where versions are too many to be named, they stay beside the new one.
        guard let context else { return .empty }
        if count > Context.entriesMax, context.dots.count == Context.entriesMax {
            conclusion.counts.contextsCut += 1
        }
        return context
    }

    /// What this node's life will be known to have inherited once its first commit is signed.
    private func livesOfWriter(in scope: Scope) -> ScopeLives {
        var lives = work.lives(in: scope)
        let family = work.family(FamilyName(scope: scope, node: context.node))
        guard family.heads[life]?.frontier ?? 0 == 0 else { return lives }
        var own = family.lives
        own.add(life, inherits: inheritances(in: scope))
        lives[node: context.node] = own
        return lives
    }

    /// What the first commit of this life in a scope says of the earlier ones.
    private func inheritances(in scope: Scope) -> [Inheritance] {
        if rescueLives.contains(life) { return [] }
        let family = work.family(FamilyName(scope: scope, node: context.node))
        var frontiers: [Life: UInt64] = [:]
        for (earlier, head) in family.heads where earlier != life {
            frontiers[earlier] = seen(of: LogName(scope: scope, author: own(earlier)), head)
        }
        let all = frontiers.filter { $0.value > 0 }
            .map { Inheritance(life: $0.key, through: $0.value) }.sorted { $0.life < $1.life }
        // The furthest are what matters most where lives are too many to be named.
        return all.count <= CommitHeader.inheritsMax
            ? all
            : all.sorted { $0.through > $1.through }.prefix(CommitHeader.inheritsMax)
                .sorted { $0.life < $1.life }
    }

    private func own(_ life: Life) -> Author { Author(node: context.node, life: life) }

    /// How far this node has seen a log of its own: not what another machine wrote, nor what has
    /// rotted here.
    func seen(of log: LogName, _ head: LogHead) -> UInt64 {
        let first = min(head.forksAt ?? .max, head.firstHole ?? .max, rotten(log) ?? .max)
        return min(head.frontier, first - 1)
    }

    /// The first record of a log that was found rotten just now.
    private func rotten(_ log: LogName) -> UInt64? {
        work.damage.compactMap { one in
            switch one {
            case .record(log, let sequence): sequence
            case .commit(log, let range): range.lowerBound
            default: nil
            }
        }.min().map { max($0, 1) }
    }

    /// Whether this life is taken to have seen a record of this node that has rotted here: what it
    /// writes would replace the record elsewhere, though no app can have read it.
    private func hasLostOwn(in scope: Scope) -> Bool {
        guard life == input.life else { return false }
        let family = work.family(FamilyName(scope: scope, node: context.node))
        if family.isWhole && work.damage.isEmpty { return false }
        guard let current = family.heads[life] else { return false }
        if seen(of: LogName(scope: scope, author: author), current) < current.frontier {
            return true
        }
        return current.inherits.contains { entry in
            guard let head = family.heads[entry.life] else { return false }
            let log = LogName(scope: scope, author: own(entry.life))
            return entry.through > seen(of: log, head) && entry.through <= head.frontier
        }
    }

    /// Closes the draft of a scope where it cannot take so many records more.
    mutating func makeRoom(in scope: Scope, _ policy: PolicyID, records: Int, bytes: Int) {
        guard let draft = drafts[scope],
            draft.policy != policy || draft.author != author
                || draft.byteCount + bytes > RuleLimits.draftBytes
                || draft.records.count + records > CommitHeader.recordsMax
        else { return }
        seal(draft)
    }

    /// The place of the next record of a scope; its draft is begun where there is none.
    mutating func nextPlace(in scope: Scope, _ policy: PolicyID) -> Dot {
        // Whoever holds a copy of a draft as it grows has all of it copied, record by record.
        if let place = drafts[scope]?.next { return place }
        let log = LogName(scope: scope, author: author)
        let draft = Draft(
            scope: scope, author: author, policy: policy, first: work.head(log).frontier + 1)
        drafts[scope] = draft
        return draft.next
    }

    /// Adds a record to the scope's draft and puts it among the versions of its key.
    mutating func append(_ record: Record, at dot: Dot, _ merge: MergeKind, to scope: Scope) {
        let bytes = record.encoded
        let id = Record.id(of: bytes, in: context.mesh)
        drafts[scope]?.append(bytes, id)
        let held = HeldVersion(dot: dot, id: id, record: record, merge: merge)
        let versions = live(record.key, in: scope)
        if !versions.isEmpty {
            let lives = livesOfWriter(in: scope)
            for version in versions where held.version.supersedes(version.version, lives: lives) {
                work.supersede(version, in: scope, by: dot)
                drafts[scope]?.noteSuperseded(version)
            }
        }
        work.insert(held, in: scope, bytes: bytes)
        noteDocument(record, in: scope)
    }

    /// Signs and stores every draft.
    mutating func sealDrafts() {
        for draft in drafts.values.sorted(by: { $0.scope < $1.scope }) { seal(draft) }
    }

    private mutating func seal(_ draft: Draft) {
        drafts[draft.scope] = nil
        guard !draft.records.isEmpty else { return }
        let log = LogName(scope: draft.scope, author: draft.author)
        let head = work.head(log)
        let inherits = draft.first == 1 ? inheritances(in: draft.scope) : []
        let whole = Commit(
            signing: draft.records, ids: draft.ids, scope: draft.scope, author: draft.author,
            first: draft.first, previous: head.id, policy: draft.policy, inherits: inherits,
            key: context.key, mesh: context.mesh)
        conclusion.counts.signatures += 1
        work.keep(whole.header, whole.signature, whole.proof, rows: draft.rows)
        work.set(
            log, head.ending(with: whole.header, in: context.mesh), whole.header,
            whole.signature)
        let proof = whole.proof.dropping(draft.superseded)
        let commit = Commit(
            header: whole.header, signature: whole.signature, proof: proof,
            records: proof.presentOffsets.map { draft.records[$0] })
        conclusion.committed.append(
            CommitsMessage(
                scope: draft.scope, author: draft.author, after: draft.first - 1,
                through: commit.header.last, commits: [commit]))
    }

    /// What follows from a document that came to live.
    mutating func noteDocument(_ record: Record, in scope: Scope) {
        if scope == NamespacePolicy.scope { conclusion.touchesPolicies = true }
        guard scope == Revocation.scope,
            let revocation = try? Revocation(decoding: record.body, root: context.root),
            revocation.stands
        else { return }
        work.add(revocation)
        newlyRevoked.append(revocation)
    }
}
