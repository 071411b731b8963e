// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// One state of the dictionaries.
final class DictionarySnapshot: RecordSnapshot {
    private let state: DictionaryRecords.State
    private let root: RootDocument
    let damage: Set<Damage> = []

    init(_ state: DictionaryRecords.State, _ root: RootDocument) {
        self.state = state
        self.root = root
    }

    private func held(_ log: LogName, _ sequence: UInt64, _ row: DictionaryRecords.Row)
        -> HeldVersion
    {
        HeldVersion(
            dot: Dot(author: log.author, sequence: sequence), id: row.id, record: row.record,
            merge: row.merge)
    }

    private func rows(
        where isWanted: (LogName, UInt64, DictionaryRecords.Row) -> Bool
    ) -> [(log: LogName, sequence: UInt64, row: DictionaryRecords.Row)] {
        state.logs.sorted { $0.key < $1.key }.flatMap { log, content in
            content.rows.sorted { $0.key < $1.key }.filter { isWanted(log, $0.key, $0.value) }
                .map { (log, $0.key, $0.value) }
        }
    }

    func facts(_ needs: Needs) -> Facts {
        var facts = Facts()
        for revocation in state.revocations { facts.revoked.add(revocation) }
        for node in retired() { facts.revoked.retire(node) }
        for name in needs.keys {
            facts.keys[name] = versions(of: name).map(\.held)
            for version in facts.keys[name] ?? [] {
                for node in [version.dot.author.node]
                    + version.record.context.dots.map(\.author.node)
                {
                    let family = FamilyName(scope: name.scope, node: node)
                    facts.families[family] = self.family(family)
                }
            }
        }
        for name in needs.families { facts.families[name] = family(name) }
        for (log, ranges) in needs.commits { facts.commits[log] = commits(log, ranges) }
        for (log, ranges) in needs.proofs { facts.commits[log] = commits(log, ranges) }
        for (log, ranges) in needs.records {
            let end = [state.logs[log]?.end?.header.range].compactMap(\.self).filter { end in
                ranges.contains { $0.overlaps(end) }
            }
            let ranges = ranges + (facts.commits[log] ?? []).map(\.header.range) + end
            facts.records[log] = rows { $0 == log && ranges.holds($1) && $2.bytes.count > 0 }
                .map { (held($0.log, $0.sequence, $0.row), $0.row.gone == nil) }
        }
        for log in needs.lastCommits {
            let first = state.logs[log]?.commits.keys.max() ?? 0
            facts.lastCommits[log] = commits(log, [first...max(first, 1)]).last
            facts.ends[log] = state.logs[log]?.end
        }
        for (log, places) in needs.gaps {
            let headers = (state.logs[log]?.commits ?? [:]).values.map(\.header)
            facts.gaps[log] = places.map { place in
                CommitGap(
                    before: headers.filter { $0.first < place }.max { $0.first < $1.first },
                    after: headers.filter { $0.first > place }.min { $0.first < $1.first })
            }
        }
        for node in needs.certificates { facts.certificates[node] = state.certificates[node] }
        for node in needs.logsOf {
            for (log, content) in state.logs where log.author.node == node && content.end != nil {
                facts.logsOf[node, default: [:]][log] = content.head.frontier
            }
        }
        addKept(needs, &facts)
        for name in needs.losers {
            facts.losers[name] = state.losers[name].map { $0.message?.presentOffsets ?? [] }
        }
        for name in needs.idempotency { facts.idempotency[name] = state.answers[name] }
        return facts
    }

    private func addKept(_ needs: Needs, _ facts: inout Facts) {
        let kept = rows { $2.gone != nil }
        for (log, range) in needs.undo {
            facts.undo[log] = kept.filter { one in
                guard let by = one.row.gone?.by else { return false }
                return one.log.scope == log.scope && by.author == log.author
                    && range.contains(by.sequence)
            }.map { KeptVersion(scope: $0.log.scope, held: held($0.log, $0.sequence, $0.row)) }
        }
        for name in needs.kept {
            facts.kept[name] = kept.filter {
                $0.log.scope == name.scope && $0.log.author.node == name.node
            }.map { KeptVersion(scope: $0.log.scope, held: held($0.log, $0.sequence, $0.row)) }
        }
        for one in kept {
            guard let gone = one.row.gone else { continue }
            facts.undoUsage[gone.undo.undo, default: UndoUsage()].rows += 1
            facts.undoUsage[gone.undo.undo, default: UndoUsage()].bytes += one.row.bytes.count
            guard needs.undoShares else { continue }
            facts.undoShares[gone.undo, default: UndoUsage()].rows += 1
            facts.undoShares[gone.undo, default: UndoUsage()].bytes += one.row.bytes.count
        }
        let byAge = kept.sorted { ($0.row.gone?.number ?? 0) < ($1.row.gone?.number ?? 0) }
        for (share, count) in needs.oldest {
            facts.oldest += byAge.filter { $0.row.gone?.undo == share }.prefix(count).map {
                KeptPlace(
                    log: $0.log, sequence: $0.sequence, id: $0.row.id, share: share,
                    byteCount: $0.row.bytes.count)
            }
        }
    }

    private func family(_ name: FamilyName) -> Family {
        var heads: [Life: LogHead] = [:]
        for (log, content) in state.logs
        where log.scope == name.scope && log.author.node == name.node && content.end != nil {
            var head = content.head
            head.inherits = content.commits[1]?.header.inherits ?? []
            head.firstHole = content.holes.min()
            heads[log.author.life] = head
        }
        for (log, shown) in state.evidence
        where log.scope == name.scope && log.author.node == name.node && !shown.isEmpty {
            heads[log.author.life, default: .none].shown = LogHead.Shown(
                shown.map(\.header), in: root.meshID)
        }
        return Family(heads)
    }

    private func commits(_ log: LogName, _ ranges: [ClosedRange<UInt64>]) -> [HeldCommit] {
        (state.logs[log]?.commits ?? [:]).sorted { $0.key < $1.key }.map(\.value)
            .filter { commit in ranges.contains { $0.overlaps(commit.header.range) } }
            .map { commit in
                var rows: [UInt64: HeldCommit.Row] = [:]
                for (sequence, row) in state.logs[log]?.rows ?? [:]
                where commit.header.range.contains(sequence) {
                    rows[sequence] = .init(id: row.id, isLive: row.gone == nil)
                }
                return HeldCommit(
                    header: commit.header, signature: commit.signature, proof: commit.proof,
                    rows: rows)
            }
    }

    func versions(of key: KeyName) -> [(held: HeldVersion, position: FeedPosition)] {
        rows { $0.scope == key.scope && $2.gone == nil && $2.record.key == key.key }
            .map { (held($0.log, $0.sequence, $0.row), FeedPosition($0.row.position)) }
    }

    func keys(in scope: Scope, from start: [UInt8], including: Bool, limit: Int) -> [[UInt8]] {
        let all = Set(
            rows { log, _, row in log.scope == scope && row.gone == nil }.map(\.row.record.key))
        return Array(
            all.sorted().map(\.utf8).filter { key in
                start.lexicographicallyPrecedes(key) || (including && key == start)
            }.prefix(limit))
    }

    func feed(after position: FeedPosition, limit: Int) -> [FeedEntry] {
        let came = rows { $2.gone == nil && $2.position > position.number }.map {
            FeedEntry.came(
                $0.log.scope, held($0.log, $0.sequence, $0.row), at: FeedPosition($0.row.position))
        }
        let went = state.notices.filter { $0.value > position.number }.map {
            FeedEntry.went($0.key, at: FeedPosition($0.value))
        }
        return Array((came + went).sorted { $0.position < $1.position }.prefix(limit))
    }

    func resume(_ position: FeedPosition, of epoch: [UInt8]) -> FeedPosition? {
        guard let index = state.epochs.firstIndex(where: { $0.name == epoch }) else { return nil }
        let end = state.epochs[(index + 1)...].first?.start ?? state.position
        guard position.number <= end else { return nil }
        let isBound =
            [0, end].contains(position.number)
            || state.epochs.contains { $0.start == position.number }
        return isBound || isTrace(position.number) ? position : nil
    }

    /// Whether something stands at a position.
    private func isTrace(_ number: UInt64) -> Bool {
        state.notices.values.contains(number)
            || state.logs.values.contains { log in
                log.rows.values.contains { $0.position == number || $0.gone?.0 == number }
            }
    }

    func commits(of log: LogName, after sequence: UInt64, limit: Int) -> [HeldCommit] {
        Array(commits(log, [(sequence + 1)...(1 << 62)]).prefix(limit))
    }

    func commit(of log: LogName, holding sequence: UInt64) -> HeldCommit? {
        commits(log, [sequence...sequence]).first
    }

    func rows(of log: LogName, in range: ClosedRange<UInt64>) -> [StoredRow] {
        rows { $0 == log && range.contains($1) && $2.bytes.count > 0 }.map {
            StoredRow(
                sequence: $0.sequence, id: $0.row.id, bytes: $0.row.bytes,
                isLive: $0.row.gone == nil)
        }
    }

    func end(
        of log: LogName
    ) -> (frontier: UInt64, header: CommitHeader, signature: Signature)? {
        guard let content = state.logs[log], let end = content.end else { return nil }
        return (content.head.frontier, end.header, end.signature)
    }

    func commits(
        afterScrub place: ScrubPlace, limit: Int
    ) -> (commits: [HeldCommit], next: ScrubPlace?) { ([], nil) }

    func liveCount(in scope: Scope) -> Int {
        rows { log, _, row in log.scope == scope && row.gone == nil }.count
    }

    func holeCount(in scope: Scope?) -> Int {
        state.logs.filter { scope == nil || $0.key.scope == scope }.reduce(0) {
            $0 + $1.value.holes.count
        }
    }

    func logsWithEvidence(in scope: Scope?) -> [LogName] {
        state.evidence.filter { !$0.value.isEmpty && (scope == nil || $0.key.scope == scope) }
            .keys.sorted()
    }

    func evidence(of log: LogName) -> [(header: CommitHeader, signature: Signature)] {
        state.evidence[log] ?? []
    }
    func nodesWithLosers() -> [NodeID] {
        Set(state.losers.values.filter { $0.message != nil }.map(\.node)).sorted()
    }
    func losers(of node: NodeID) -> [CommitsMessage] {
        state.losers.values.filter { $0.node == node }.compactMap(\.message)
    }
    func certificates() -> [Certificate] { state.certificates.values.flatMap(\.self) }
    func revocations() -> [Revocation] { state.revocations }

    func retiredCertificates() -> [Certificate] {
        state.certificates.values.flatMap(\.self).filter {
            root.isWhole && Certificate.isRetired($0.encoded, root: root)
        }
    }

    func retired() -> [NodeID] {
        guard root.isWhole else { return [] }
        return state.certificates.filter { _, list in
            list.allSatisfy { Certificate.isRetired($0.encoded, root: root) }
        }.map(\.key)
    }
    func byteCount() -> Int { 0 }

    // MARK: Index of digests, from nothing

    func scopes() -> [Scope] {
        Set(state.logs.filter { $0.value.end != nil }.keys.map(\.scope)).sorted()
    }

    private func live(_ log: LogName) -> [UInt64: Digest] {
        (state.logs[log] ?? .init()).rows.filter {
            $0.value.gone == nil && state.logs[log]?.holes.contains($0.key) != true
        }.mapValues(\.id)
    }

    private func hash(_ live: [UInt64: Digest], level: Int, index: UInt64) -> Digest {
        guard level > 0 else {
            let first = index * DigestTree.leafSpan + 1
            let records = live.filter { ($0.key - 1) / DigestTree.leafSpan == index }
                .sorted { $0.key < $1.key }.map { (UInt8($0.key - first), $0.value) }
            return DigestTree.hash(leaf: index, records: records.map { (offset: $0.0, id: $0.1) })
        }
        let span = (0..<level).reduce(DigestTree.leafSpan) { span, _ in span * DigestTree.fanOut }
        guard live.keys.contains(where: { ($0 - 1) / span == index }) else { return .zero }
        return DigestTree.hash(
            index: index,
            children: (0..<DigestTree.fanOut).map {
                hash(live, level: level - 1, index: index * DigestTree.fanOut + $0)
            })
    }

    func trie(of scope: Scope) -> AuthorTrie {
        AuthorTrie(
            state.logs.filter { $0.key.scope == scope && $0.value.end != nil }.map { log, content in
                let height = DigestTree.height(of: content.head.frontier)
                return LogState(
                    author: log.author, frontier: content.head.frontier,
                    root: hash(live(log), level: height, index: 0))
            })
    }

    func children(of author: Author, in scope: Scope, level: Int, index: UInt64) -> [Digest] {
        let live = live(LogName(scope: scope, author: author))
        return (0..<DigestTree.fanOut).map {
            hash(live, level: level - 1, index: index * DigestTree.fanOut + $0)
        }
    }

    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) -> LeafBits {
        var bits: UInt64 = 0
        for sequence in live(LogName(scope: scope, author: author)).keys
        where (sequence - 1) / DigestTree.leafSpan == leaf {
            bits |= 1 << ((sequence - 1) % DigestTree.leafSpan)
        }
        return LeafBits(bits)
    }
}

extension [ClosedRange<UInt64>] {
    fileprivate func holds(_ value: UInt64) -> Bool { contains { $0.contains(value) } }
}
