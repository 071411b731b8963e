// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
internal import MeshReplication
package import MeshTrust

/// Whose rules these are: the node that writes.
package struct RuleContext: Sendable {
    /// What the mesh trusts.
    package let root: RootDocument
    /// The node's key.
    package let key: SigningKey
    /// The node's certificates, the newest first.
    package let certificates: [Certificate]

    /// Names a node.
    package init(root: RootDocument, key: SigningKey, certificates: [Certificate]) {
        self.root = root
        self.key = key
        self.certificates = certificates
    }

    var mesh: MeshID { root.meshID }
    var node: NodeID { key.publicKey.node }
}

/// What chance and the clock say at the beginning of a transaction.
package struct RuleInput: Sendable {
    /// The life in which this node has written until now.
    package let life: Life
    /// A number that no life has had, and a name that no epoch has had, for the case that new ones
    /// begin.
    package let spareLife: Life
    /// See `spareLife`.
    package let spareEpoch: [UInt8]
    /// The last stamp that was given.
    package let stamp: HybridTime
    /// Milliseconds since 1970.
    package let wall: UInt64

    /// Names what is so.
    package init(
        life: Life, spareLife: Life, spareEpoch: [UInt8], stamp: HybridTime, wall: UInt64
    ) {
        self.life = life
        self.spareLife = spareLife
        self.spareEpoch = spareEpoch
        self.stamp = stamp
        self.wall = wall
    }
}

/// The rules of records, as a value: jobs and facts come in, changes and answers go out.
///
/// A store asks `begin` what must be known, answers once, and goes on with what each `Step` says,
/// all in one transaction of its own. Nothing here reads a database, a clock or chance, so every
/// store that answers the same does the same. A job that is refused leaves no trace.
package struct RecordTransaction: Sendable {
    enum Phase {
        /// Jobs are judged, one after the other.
        case judging
        /// Commits of this node have rotted: what stands beside them is looked up.
        case lookingBeside
        /// Their records are looked up, to be signed again.
        case signingAgain([LogName: [Gap]])
        /// Nodes were revoked: their logs are looked up.
        case cutting
        /// The commits in which those logs are cut are looked up.
        case removing([LogName: UInt64])
        /// What the removed records had superseded is looked up.
        case restoring(cut: Set<LogName>)
        /// It is put among what lives now.
        case reviving([KeptVersion])
        /// By how much shares of superseded records have more than their part is known: what was
        /// kept longest of them is looked up.
        case weighing([UndoShare: UndoUsage])
        /// They are known: their commits are looked up.
        case trimming([KeptPlace])
    }

    /// A job with what could be read of it before anything was known.
    enum Prepared {
        case write(WriteRequest)
        case ingest(CommitsMessage, [[Record]])
        case refused(Refusal)
        case damaged(Set<Damage>)
        case judgeAnew(retired: Set<NodeID>, revocations: [Revocation])
        case trim
    }

    let context: RuleContext
    package let input: RuleInput
    private let jobs: [Prepared]
    private var phase = Phase.judging
    var work = Workspace()
    var life: Life
    var stamp: HybridTime
    var drafts: [Scope: Draft] = [:]
    var newlyRevoked: [Revocation] = []
    /// Nodes whose enrol keys were retired.
    private(set) var retired: Set<NodeID> = []
    /// Ranges whose records are gone, so that what they had superseded may live again.
    var undone: [LogName: ClosedRange<UInt64>] = [:]
    /// Nodes of whose lives it is no longer known what they had inherited, or something else is.
    var disowned: Set<FamilyName> = []
    var rewrites: [Rewrite] = []
    /// Where commits of this node have rotted.
    var lostCommits: [LogName: Set<UInt64>] = [:]
    /// Lives of this node that began in this transaction and inherit nothing.
    var rescueLives: Set<Life> = []
    var conclusion: Conclusion

    /// Prepares jobs that are done together, in order.
    package init(_ jobs: [RecordJob], _ context: RuleContext, _ input: RuleInput) {
        self.context = context
        self.input = input
        life = input.life
        stamp = input.stamp
        conclusion = Conclusion(life: input.life, stamp: input.stamp)
        self.jobs = jobs.map { job in
            switch job {
            case .write(let request): return .write(request)
            case .damaged(let damage): return .damaged(damage)
            case .judgeAnew(let nodes, let revocations):
                return .judgeAnew(retired: nodes, revocations: revocations)
            case .trim: return .trim
            case .ingest(let message):
                guard let records = Self.decoded(message) else { return .refused(.malformed) }
                return .ingest(message, records)
            }
        }
    }

    private static func decoded(_ message: CommitsMessage) -> [[Record]]? {
        try? message.commits.map { commit in
            try commit.records.map { try Record(decoding: $0) }
        }
    }

    /// This node as it writes now.
    var author: Author { Author(node: context.node, life: life) }

    /// What must be known to judge the jobs.
    package func begin() -> Needs {
        var needs = Needs()
        for job in jobs {
            switch job {
            case .write(let request): add(request, to: &needs)
            case .ingest(let message, let records): add(message, records, to: &needs)
            case .damaged(let damage): add(damage, to: &needs)
            case .trim:
                needs.undoShares = true
            case .judgeAnew, .refused: break
            }
        }
        return needs
    }

    /// Goes on with what the store answered.
    package mutating func resume(_ facts: Facts) -> Step {
        work.absorb(facts)
        switch phase {
        case .judging: return judge()
        case .lookingBeside: return lookIntoGaps()
        case .signingAgain(let gaps): return signAgain(gaps)
        case .cutting: return findCuts()
        case .removing(let ends): return cut(ends)
        case .restoring(let cut): return restore(cut)
        case .reviving(let kept): return revive(kept)
        case .weighing(let excess): return trim(excess)
        case .trimming(let places): return finishTrim(places)
        }
    }

    private mutating func judge() -> Step {
        giveUpDamagedLife()
        var trims = false
        for job in jobs {
            switch job {
            case .write(let request):
                let answer: Result<[Receipt], WriteRefusal>
                do throws(WriteRefusal) { answer = .success(try write(request)) } catch {
                    answer = .failure(error)
                }
                conclusion.answers.append(.written(answer))
            case .ingest(let message, let records):
                // What a peer sends may end this life: our own commits are closed before it.
                sealDrafts()
                conclusion.answers.append(.ingested(ingest(message, records)))
            case .refused(let refusal):
                var outcome = IngestOutcome()
                outcome.refusal = refusal
                conclusion.answers.append(.ingested(outcome))
            case .damaged(let damage):
                sealDrafts()
                quarantine(damage)
                conclusion.answers.append(.done)
            case .judgeAnew(let nodes, let revocations):
                retired.formUnion(nodes)
                for revocation in revocations {
                    work.add(revocation)
                    newlyRevoked.append(revocation)
                }
                conclusion.answers.append(.done)
            case .trim:
                trims = true
                conclusion.answers.append(.done)
            }
        }
        sealDrafts()
        conclusion.wantsTrim = isOverRoom && !trims
        if trims, let step = beginTrim() { return step }
        return afterJobs()
    }

    /// The next step after jobs were judged and room was made.
    mutating func afterJobs() -> Step {
        lostCommits.isEmpty ? proceed() : step(.lookingBeside, lookBeside(lostCommits))
    }

    /// The next step after jobs were judged and lost commits signed again.
    mutating func proceed() -> Step {
        if !newlyRevoked.isEmpty || !retired.isEmpty {
            phase = .cutting
            var needs = Needs()
            needs.logsOf = retired.union(newlyRevoked.map(\.node))
            return .more(work.takeChanges(), needs)
        }
        if !undone.isEmpty || !rewrites.isEmpty { return lookForUndo(cut: []) }
        return finish()
    }

    mutating func lookForUndo(cut: Set<LogName>) -> Step {
        phase = .restoring(cut: cut)
        var needs = Needs()
        needs.undo = undone
        needs.kept = disowned
        needs.lastCommits = cut
        for log in cut {
            needs.families.insert(FamilyName(scope: log.scope, node: log.author.node))
        }
        return .more(work.takeChanges(), needs)
    }

    mutating func step(_ phase: Phase, _ needs: Needs) -> Step {
        self.phase = phase
        return .more(work.takeChanges(), needs)
    }

    mutating func finish() -> Step {
        sealDrafts()
        conclusion.revoked = newlyRevoked
        conclusion.life = life
        conclusion.stamp = stamp
        let changes = work.takeChanges()
        conclusion.touched = work.touched
        return .done(changes, conclusion)
    }

    /// The next stamp for a record of this node.
    mutating func nextStamp() -> HybridTime {
        stamp = stamp.next(wall: input.wall)
        return stamp
    }

    /// From now on this node writes in another life.
    ///
    /// Another machine has written in the present one, or this one was put back: then followers of
    /// the feed were told of changes that never were here, at positions that others have now.
    ///
    /// - Parameter forRescue: whether it inherits nothing; then it begins whatever began before.
    mutating func beginLife(forRescue: Bool = false) {
        guard life == input.life || forRescue else { return }
        sealDrafts()
        life = life == input.life ? input.spareLife : life.derived
        if forRescue { rescueLives.insert(life) }
        work.change(.life(life))
        beginEpoch()
    }

    /// Whoever follows the feed looks at everything anew.
    mutating func beginEpoch() {
        work.change(.epoch(input.spareEpoch))
        conclusion.epoch = input.spareEpoch
    }
}

extension Life {
    /// Another number that no life has had.
    fileprivate var derived: Life {
        var writer = WireWriter()
        writer.u64(value)
        let bytes = Blake2b.hash(writer.bytes).array
        return Life(bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
    }
}
