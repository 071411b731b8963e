// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust

/// Commits of peers: the only way a record of another node comes in.
extension RecordTransaction {
    func add(_ message: CommitsMessage, _ records: [[Record]], to needs: inout Needs) {
        let (scope, node) = (message.scope, message.author.node)
        needs.certificates.insert(node)
        needs.families.insert(FamilyName(scope: scope, node: node))
        if let name = BuiltIn.policyKey(of: scope.namespace) { needs.keys.insert(name) }
        var ranges: [ClosedRange<UInt64>] = []
        for (commit, list) in zip(message.commits, records) {
            ranges.append(commit.header.range)
            if !message.isRun { needs.losers.formUnion(losers(commit)) }
            for record in list {
                needs.keys.insert(KeyName(scope: scope, key: record.key))
                if let name = RequestName(record.extensions) {
                    needs.idempotency.insert(
                        RequestNaming.neighbours(name.name, in: scope))
                }
                for dot in record.context.dots {
                    needs.families.insert(FamilyName(scope: scope, node: dot.author.node))
                }
            }
        }
        // What is filled is compared with its neighbours.
        needs.commits[message.log, default: []] +=
            message.isRun
            ? ranges : ranges.map { max($0.lowerBound, 2) - 1...$0.upperBound + 1 }
        needs.lastCommits.insert(message.log)
        // Commits that lose their place go to their author with their records. A place that is
        // filled may still have its row, whose commit has rotted.
        needs.records[message.log, default: []] += ranges
    }

    /// Judges and applies a peer's message. What is refused as a forgery leaves no trace; where a
    /// later commit must wait, those before it are taken.
    mutating func ingest(_ message: CommitsMessage, _ records: [[Record]]) -> IngestOutcome {
        var outcome = IngestOutcome()
        outcome.before = work.head(message.log).frontier
        do throws(Refusal) { try take(message, records, &outcome) } catch {
            outcome.refusal = error
        }
        let head = work.head(message.log)
        outcome.frontier = head.frontier
        outcome.commit = head.isWhole ? head.id : nil
        if outcome.waits != nil { conclusion.counts.waiting += 1 }
        return outcome
    }

    private mutating func take(
        _ message: CommitsMessage, _ records: [[Record]], _ outcome: inout IngestOutcome
    ) throws(Refusal) {
        guard context.certificates.contains(where: { $0.allows(.read, message.scope) }) else {
            throw .wrongAudience
        }
        let certificates = work.certificates(of: message.author.node)
        guard let newest = certificates.first else { throw .authorUnknown }
        outcome.authorSite = newest.ticket.site
        try refuseRevoked(message)
        let head = work.head(message.log)
        if message.isRun, message.through <= head.frontier {
            return outcome.isDuplicate = true
        }
        // What lies past the frontier is in no digest: kept, it could supersede what peers hold
        // and be known to nobody. A comparison brings it in order.
        if message.isRun
            ? message.after > head.frontier
            : message.commits.contains(where: { $0.header.first > head.frontier })
        {
            // Headers alone say nothing that is missing here.
            outcome.hasGap = message.commits.contains { !$0.records.isEmpty } || message.isRun
            witness(message, certificates, &outcome)
            return beginLifeIfLost(message, outcome)
        }
        let admitted = try judge(message, records, certificates, head, &outcome)
        if message.isRun { noteFork(admitted, after: head, of: message.log, &outcome) }
        let last = apply(message, admitted, head, &outcome)
        conclusion.counts.ingested += outcome.stored
        if message.isRun, let last { advance(message, last, &outcome) }
        beginLifeIfLost(message, outcome)
    }

    /// Judges the commits that are news, in order, up to the first that must wait.
    private mutating func judge(
        _ message: CommitsMessage, _ records: [[Record]], _ certificates: [Certificate],
        _ head: LogHead, _ outcome: inout IngestOutcome
    ) throws(Refusal) -> [Admitted] {
        let policies = work.policies(of: message.scope.namespace, root: context.root)
        var admitted: [Admitted] = []
        for (commit, list) in zip(message.commits, records) {
            if message.isRun, commit.header.last <= head.frontier { continue }
            do throws(Obstacle) {
                admitted.append(try judge(commit, list, certificates, policies))
                conclusion.counts.verifications += 1
            } catch {
                switch error {
                case .waits(let dependency):
                    outcome.waits = dependency
                    witness(message, certificates, &outcome)
                case .refused(let refusal):
                    // A forgery says nothing about the log that it claims to be of.
                    guard refusal.blocksLog else { throw refusal }
                    outcome.refusal = refusal
                    witness(message, certificates, &outcome)
                }
                return admitted
            }
        }
        return admitted
    }

    /// What is not taken now shows how far its author has written. That is kept and passed on, so
    /// that nobody need wait for the log to accept what names its places.
    ///
    /// Only of who may write there, whatever policy the header names: he could as well write.
    private mutating func witness(
        _ message: CommitsMessage, _ certificates: [Certificate], _ outcome: inout IngestOutcome
    ) {
        let policies = work.policies(of: message.scope.namespace, root: context.root)
        guard let last = message.commits.max(by: { $0.header.last < $1.header.last }),
            work.head(message.log).provenTo < last.header.last,
            policies.contains(where: {
                $0.policy.has(message.scope) && $0.policy.admits(certificates, to: message.scope)
            }),
            last.isSigned(in: context.mesh)
        else { return }
        work.witness(last.header, last.signature, in: context.mesh)
        outcome.provenTo = last.header.last
    }

    private func refuseRevoked(_ message: CommitsMessage) throws(Refusal) {
        guard !DocumentAdmission.appliesTo(message.scope),
            let end = work.revoked.end(of: message.author, in: message.scope)
        else { return }
        guard message.through <= end, message.commits.allSatisfy({ $0.header.last <= end }) else {
            throw .revoked
        }
    }

    /// Applies commits in order; what follows one that does not stand would be past the end of the
    /// log, in no digest.
    ///
    /// - Returns: the last that stands of a run; nil if none does.
    private mutating func apply(
        _ message: CommitsMessage, _ admitted: [Admitted], _ head: LogHead,
        _ outcome: inout IngestOutcome
    ) -> Commit? {
        // A life's inheritance counts before its first record does.
        if let first = admitted.first?.commit.header, first.first == 1, head.frontier == 0 {
            work.inherit(first)
        }
        var last: Commit?
        for one in admitted {
            let stands = store(one, isFill: !message.isRun, &outcome)
            if message.isRun, !stands { break }
            last = one.commit
        }
        return last
    }

    private mutating func advance(
        _ message: CommitsMessage, _ last: Commit, _ outcome: inout IngestOutcome
    ) {
        outcome.hasAdvanced = true
        move(message.log, to: last.header, last.signature)
    }

    /// Where a log goes on otherwise than it ends here, its author wrote two histories.
    private mutating func noteFork(
        _ admitted: [Admitted], after head: LogHead, of log: LogName,
        _ outcome: inout IngestOutcome
    ) {
        let next = admitted.first { $0.commit.header.first == head.frontier + 1 }
        guard let next, next.commit.header.previous != head.id else { return }
        if let last = work.lastCommit(of: log), last.header.last == head.frontier {
            note([last], and: next.commit, &outcome)
        }
    }

    /// Moves the end of a log.
    mutating func move(_ log: LogName, to header: CommitHeader, _ signature: Signature) {
        work.set(
            log, work.head(log).ending(with: header, in: context.mesh), header, signature)
    }

    /// Begins a new life where others know more of the present one than this node does: a tail was
    /// lost here, or a copy of this node is at work.
    private mutating func beginLifeIfLost(_ message: CommitsMessage, _ outcome: IngestOutcome) {
        guard message.author == Author(node: context.node, life: input.life) else { return }
        if outcome.stored > 0 || outcome.hasGap || outcome.isFork || outcome.hasAdvanced {
            beginLife()
        }
    }

    /// - Returns: whether the commit stands; not if another of its author in its place does.
    private mutating func store(
        _ admitted: Admitted, isFill: Bool, _ outcome: inout IngestOutcome
    ) -> Bool {
        let commit = admitted.commit
        let header = commit.header
        let existing = work.commits(of: header.log, overlapping: header.range)
        let known = existing.first { $0.header == header }
        var rivals = existing.filter { $0.header != header }
        if let end = trimmedEnd(header, existing) { rivals.append(end) }
        if isFill { noteBrokenChain(commit, &outcome) }
        if !rivals.isEmpty, !settleFork(admitted, rivals, isFill: isFill, &outcome) { return false }
        var rows = known?.rows ?? orphans(of: header)
        if known == nil { saveOrphans(admitted) }
        for (index, sequence) in commit.sequences.enumerated() {
            let (id, record) = (admitted.ids[index], admitted.records[index])
            if let row = rows[sequence] {
                guard row.id != id || !row.isWhole else {
                    if isFill {
                        let held = HeldVersion(
                            dot: Dot(author: header.author, sequence: sequence), id: id,
                            record: record, merge: admitted.merge)
                        let isLive = reconsider(held, in: header.scope, row.isLive, &outcome)
                        rows[sequence] = HeldCommit.Row(id: id, isLive: isLive)
                    }
                    continue
                }
                // The commit says what belongs here: what stood here was something else.
                work.remove(header.log, sequence)
            }
            let held = HeldVersion(
                dot: Dot(author: header.author, sequence: sequence), id: id, record: record,
                merge: admitted.merge)
            let isLive = place(
                held, bytes: commit.records[index], in: header.scope, isFill: isFill, &outcome)
            rows[sequence] = HeldCommit.Row(id: id, isLive: isLive)
        }
        if outcome.authorSite == context.certificates.first?.ticket.site {
            rememberNames(admitted)
        }
        // Its proof and ours are of one signed root, so together they are one too.
        let proof = known.flatMap { $0.proof.merging(commit.proof) } ?? commit.proof
        work.keep(header, commit.signature, proof, rows: rows)
        if isFill {
            for sequence in commit.sequences {
                work.change(.filled(header.log, sequence...sequence))
            }
            if header.last > work.head(header.log).frontier {
                move(header.log, to: header, commit.signature)
            }
        }
        return true
    }

    /// The end of a log where nothing of its commit is kept, if another commit overlaps it.
    private func trimmedEnd(_ header: CommitHeader, _ existing: [HeldCommit]) -> HeldCommit? {
        guard let end = work.end(of: header.log), end.header != header,
            end.header.range.overlaps(header.range),
            !existing.contains(where: { $0.header == end.header })
        else { return nil }
        return HeldCommit(
            header: end.header, signature: end.signature, proof: CommitProof(noneOf: end.header),
            rows: orphans(of: end.header))
    }

    /// What this node acknowledged under a commit that has rotted, and that another of its life
    /// takes the place of, is written again.
    private mutating func saveOrphans(_ admitted: Admitted) {
        let header = admitted.commit.header
        guard header.author.node == context.node else { return }
        let ids = Dictionary(
            zip(admitted.commit.sequences, admitted.ids), uniquingKeysWith: { first, _ in first })
        let lost = work.records(of: header.log, in: header.range).filter { one in
            one.isLive && ids[one.held.dot.sequence].map { $0 != one.held.id } ?? false
        }
        guard let merge = lost.first?.held.merge else { return }
        save(lost.map { ($0.held.id, $0.held.dot.sequence, $0.held.record) }, of: header, merge)
    }

    /// Rows whose commit has rotted: they prove nothing until the commit is here again.
    private func orphans(of header: CommitHeader) -> [UInt64: HeldCommit.Row] {
        var rows: [UInt64: HeldCommit.Row] = [:]
        for (held, isLive) in work.records(of: header.log, in: header.range) {
            rows[held.dot.sequence] = HeldCommit.Row(id: held.id, isLive: isLive)
        }
        return rows
    }

    /// Puts a record among the versions of its key.
    ///
    /// - Returns: whether it lives.
    private mutating func place(
        _ held: HeldVersion, bytes: [UInt8], in scope: Scope, isFill: Bool,
        _ outcome: inout IngestOutcome
    ) -> Bool {
        let lives = work.lives(in: scope)
        let live = work.live(KeyName(scope: scope, key: held.record.key))
        switch Merge.integrate(held.version, into: live.map(\.version), lives: lives) {
        case .superseded(let winner):
            if isStranger(held.dot, beside: winner) { save(held, in: scope) }
            let undo = UndoShare(scope, of: held.dot, by: winner)
            work.insert(held, in: scope, bytes: bytes, superseded: (winner, undo))
            if isFill { outcome.evidence += Self.proof(scope, live, winner, over: held.dot) }
            return false
        case .lives(let superseded):
            for old in live where superseded.contains(old.dot) {
                if isStranger(held.dot, beside: old.dot) { save(old, in: scope) }
                work.supersede(old, in: scope, by: held.dot)
            }
            work.insert(held, in: scope, bytes: bytes)
            noteDocument(held.record, in: scope)
            outcome.stored += 1
            return true
        }
    }

    /// A peer fills a place that is no hole here: one of both has not seen what follows from it.
    ///
    /// - Returns: whether the record lives now.
    private mutating func reconsider(
        _ held: HeldVersion, in scope: Scope, _ isLive: Bool, _ outcome: inout IngestOutcome
    ) -> Bool {
        let lives = work.lives(in: scope)
        let name = KeyName(scope: scope, key: held.record.key)
        let others = work.live(name)
        if let winner = others.first(where: { $0.version.supersedes(held.version, lives: lives) }) {
            outcome.evidence += Self.proof(scope, others, winner.dot, over: held.dot)
            if isLive { work.supersede(held, in: scope, by: winner.dot) }
        } else {
            if isLive, work.head(LogName(scope: scope, author: held.dot.author)).forksAt != nil {
                // Whoever sends it does not know that two machines wrote there.
                outcome.evidence.append(.evidence(scope, held.dot.author))
            }
            // What had superseded it may be gone, and nobody here have noticed.
            if !isLive { work.revive(KeptVersion(scope: scope, held: held)) }
            for old in others where held.version.supersedes(old.version, lives: lives) {
                work.supersede(old, in: scope, by: held.dot)
                work.change(.notice(name))
            }
            return true
        }
        return false
    }

    /// What shows a peer why a record is superseded here: what did it and, where that does not name
    /// the record itself, the beginning of its life, which says what that inherited.
    private static func proof(
        _ scope: Scope, _ versions: [HeldVersion], _ winner: Dot, over dot: Dot
    ) -> [StreamRequest] {
        let isNamed =
            winner.author == dot.author
            || versions.contains { version in
                version.dot == winner
                    && version.record.context.dots.contains {
                        $0.author == dot.author && $0.sequence >= dot.sequence
                    }
            }
        let own = request(scope, winner)
        return isNamed
            ? [own] : [.commits(scope, winner.author, holding: [1], withRecords: false), own]
    }

    static func request(_ scope: Scope, _ dot: Dot) -> StreamRequest {
        .dots(scope, dot.author, SyncPart.entries([dot.sequence]))
    }
}
