// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust

/// What a transaction knows and what it has changed so far, each change also in what it knows.
struct Workspace {
    private var facts = Facts()
    /// The records of logs that were asked for, as the changes so far leave them.
    private var records: [LogName: [UInt64: (held: HeldVersion, isLive: Bool)]] = [:]
    private var lives: [Scope: ScopeLives] = [:]
    private var changes: [Change] = []
    private(set) var touched = TouchedKeys()
    private var policies: [String: [NamedPolicy]] = [:]

    /// A policy of a namespace with its name.
    struct NamedPolicy {
        let id: PolicyID
        let policy: NamespacePolicy
    }

    /// Takes a new answer of the store, in the place of what was known.
    mutating func absorb(_ new: Facts) {
        facts = new
        records = new.records.mapValues { list in
            Dictionary(
                list.map { ($0.held.dot.sequence, $0) }, uniquingKeysWith: { first, _ in first })
        }
        lives = [:]
        policies = [:]
        for (name, family) in new.families {
            lives[name.scope, default: ScopeLives()][node: name.node] = family.lives
        }
    }

    /// Hands over what is to be changed; what was known is out of date with it.
    mutating func takeChanges() -> [Change] {
        defer { changes = [] }
        return changes
    }

    // MARK: Facts

    var damage: Set<Damage> { facts.damage }
    var revoked: RevokedLogs { facts.revoked }
    var undoUsage: [UndoClass: UndoUsage] { facts.undoUsage }
    var undoShares: [UndoShare: UndoUsage] { facts.undoShares }
    var oldest: [KeptPlace] { facts.oldest }
    var gaps: [LogName: [CommitGap]] { facts.gaps }
    var undo: [LogName: [KeptVersion]] { facts.undo }
    var kept: [FamilyName: [KeptVersion]] { facts.kept }
    var logsOf: [NodeID: [LogName: UInt64]] { facts.logsOf }

    func live(_ name: KeyName) -> [HeldVersion] {
        guard let versions = facts.keys[name] else {
            preconditionFailure("'\(name.key)' was not asked for")
        }
        return versions
    }

    func lives(in scope: Scope) -> ScopeLives { lives[scope] ?? ScopeLives() }

    func family(_ name: FamilyName) -> Family { facts.families[name] ?? Family([:]) }

    func head(_ log: LogName) -> LogHead {
        family(FamilyName(scope: log.scope, node: log.author.node)).heads[log.author.life] ?? .none
    }

    func certificates(of node: NodeID) -> [Certificate] { facts.certificates[node] ?? [] }

    func answer(_ name: String) -> StoredAnswer? { facts.idempotency[name] }

    func isLoser(_ name: Digest) -> Bool { facts.losers[name] != nil }

    /// With which of its records a commit that lost its place is kept for its author.
    func recordsKept(of loser: Digest) -> Set<Int> { facts.losers[loser] ?? [] }

    func lastCommit(of log: LogName) -> HeldCommit? { facts.lastCommits[log] }

    /// The header with which a log ends, also where nothing of its commit is kept any more.
    func end(of log: LogName) -> (header: CommitHeader, signature: Signature)? { facts.ends[log] }

    func commits(of log: LogName, overlapping range: ClosedRange<UInt64>) -> [HeldCommit] {
        (facts.commits[log] ?? []).filter { $0.header.range.overlaps(range) }
    }

    func records(
        of log: LogName, in range: ClosedRange<UInt64>
    ) -> [(held: HeldVersion, isLive: Bool)] {
        guard let known = records[log] else { return [] }
        // A commit's range is short, and asked for again for each commit of a message.
        if range.upperBound - range.lowerBound < UInt64(known.count) {
            return range.compactMap { known[$0] }
        }
        return known.filter { range.contains($0.key) }.sorted { $0.key < $1.key }.map(\.value)
    }

    /// The policies of a namespace that are known, the one for new writes first.
    mutating func policies(of namespace: String, root: RootDocument) -> [NamedPolicy] {
        if let known = policies[namespace] { return known }
        let found: [NamedPolicy]
        if let builtIn = BuiltIn.policy(of: namespace) {
            found = [NamedPolicy(id: .builtIn, policy: builtIn)]
        } else if let name = BuiltIn.policyKey(of: namespace) {
            found = PolicyDocument.ordered(live(name).map(\.record.body), root: root).map {
                NamedPolicy(id: $0.policy.id(for: namespace, in: root.meshID), policy: $0.policy)
            }
        } else {
            found = []
        }
        policies[namespace] = found
        return found
    }

    // MARK: Changes

    mutating func change(_ change: Change) {
        changes.append(change)
        if change.touchesUnknownKeys { touched.addUnknown() }
    }

    mutating func insert(
        _ held: HeldVersion, in scope: Scope, bytes: [UInt8],
        superseded: (by: Dot, undo: UndoShare)? = nil
    ) {
        let log = LogName(scope: scope, author: held.dot.author)
        records[log]?[held.dot.sequence] = (held, superseded == nil)
        changes.append(
            .insert(
                NewRecord(
                    log: log,
                    sequence: held.dot.sequence,
                    key: held.record.key, id: held.id, bytes: bytes, merge: held.merge,
                    superseded: superseded)))
        guard superseded == nil else { return }
        touched.add(scope, held.record.key)
        facts.keys[KeyName(scope: scope, key: held.record.key), default: []].append(held)
        if scope == NamespacePolicy.scope { policies = [:] }
    }

    mutating func supersede(_ held: HeldVersion, in scope: Scope, by dot: Dot) {
        let undo = UndoShare(scope, of: held.dot, by: dot)
        let log = LogName(scope: scope, author: held.dot.author)
        records[log]?[held.dot.sequence]?.isLive = false
        changes.append(.supersede(log, held.dot.sequence, by: dot, undo))
        touched.add(scope, held.record.key)
        forget(held.dot, of: KeyName(scope: scope, key: held.record.key))
    }

    mutating func revive(_ kept: KeptVersion) {
        let log = LogName(scope: kept.scope, author: kept.held.dot.author)
        records[log]?[kept.held.dot.sequence]?.isLive = true
        change(.revive(log, kept.held.dot.sequence))
        facts.keys[KeyName(scope: kept.scope, key: kept.held.record.key), default: []]
            .append(kept.held)
    }

    /// Takes a row away, wherever it is among what is known.
    mutating func remove(_ log: LogName, _ sequence: UInt64) {
        change(.remove(log, sequence))
        records[log]?[sequence] = nil
        let dot = Dot(author: log.author, sequence: sequence)
        for name in facts.keys.keys
        where name.scope == log.scope
            && facts.keys[name]?.contains(where: { $0.dot == dot }) == true
        {
            forget(dot, of: name)
        }
        if log.scope == NamespacePolicy.scope { policies = [:] }
    }

    private mutating func forget(_ dot: Dot, of name: KeyName) {
        facts.keys[name]?.removeAll { $0.dot == dot }
    }

    /// What is known of a log from here on, for later jobs of the transaction.
    private mutating func know(_ log: LogName, _ head: LogHead) {
        let name = FamilyName(scope: log.scope, node: log.author.node)
        var family = family(name)
        family.set(log.author.life, head)
        facts.families[name] = family
        lives[log.scope, default: ScopeLives()][node: log.author.node] = family.lives
    }

    mutating func set(
        _ log: LogName, _ head: LogHead, _ header: CommitHeader, _ signature: Signature
    ) {
        var head = head
        if let shown = head.shown, shown.forksAt == nil, shown.through <= head.frontier {
            // The log itself shows as much now.
            head.shown = nil
            changes.append(.forgetEvidence(log))
        }
        changes.append(.head(log, head, header, signature))
        facts.ends[log] = (header, signature)
        know(log, head)
    }

    /// What headers show that two machines wrote.
    enum ForkNews {
        /// They wrote from this place on, earlier than was known.
        case began(UInt64)
        /// They went further than was known.
        case wentFurther
    }

    /// Two machines wrote in a log, as headers show.
    mutating func fork(_ log: LogName, _ headers: [CommitHeader], in mesh: MeshID) -> ForkNews? {
        var head = head(log)
        guard let shown = LogHead.Shown(headers, in: mesh), let first = shown.forksAt else {
            return nil
        }
        let isEarlier = first < head.forksAt ?? .max
        // The end of the log may be one of the two, and go.
        guard isEarlier || shown.through > head.shown?.through ?? 0 else { return nil }
        head.show(shown)
        know(log, head)
        return isEarlier ? .began(first) : .wentFurther
    }

    /// A header is kept, which proves that its author has written that far.
    mutating func witness(_ header: CommitHeader, _ signature: Signature, in mesh: MeshID) {
        var head = head(header.log)
        guard let shown = LogHead.Shown([header], in: mesh) else { return }
        head.show(shown)
        changes.append(.evidence(header.log, [SignedHeader(header, signature)]))
        know(header.log, head)
    }

    /// What the first commit of a log says of the node's earlier lives; it is kept with the commit.
    mutating func inherit(_ first: CommitHeader) {
        var head = head(first.log)
        head.inherits = first.inherits
        know(first.log, head)
    }

    /// A commit that is kept; later jobs of the transaction find it, if they asked for its log.
    mutating func keep(
        _ header: CommitHeader, _ signature: Signature, _ proof: CommitProof,
        rows: @autoclosure () -> [UInt64: HeldCommit.Row]
    ) {
        changes.append(.commit(header, signature, proof))
        guard facts.commits[header.log] != nil else { return }
        facts.commits[header.log]?.removeAll { $0.header.first == header.first }
        facts.commits[header.log]?.append(
            HeldCommit(header: header, signature: signature, proof: proof, rows: rows()))
        facts.commits[header.log]?.sort { $0.header.first < $1.header.first }
    }

    mutating func removeCommit(_ header: CommitHeader) {
        changes.append(.removeCommit(header.log, first: header.first))
        facts.commits[header.log]?.removeAll { $0.header.first == header.first }
    }

    mutating func add(_ revocation: Revocation) {
        changes.append(.revocation(revocation))
        facts.revoked.add(revocation)
    }

    mutating func remember(_ name: String, _ answer: StoredAnswer) {
        changes.append(.answer(name, answer))
        facts.idempotency[name] = answer
    }
}
