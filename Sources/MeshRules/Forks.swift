// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust

/// One author, one place, two commits: a disk or a machine was copied, or put back.
extension RecordTransaction {
    /// The headers are kept as evidence, the lowest identity lives, and the others go with all they
    /// claimed: what they had superseded lives again. Who still shows a loser is sent the winner.
    ///
    /// - Returns: whether the new commit takes the place of those that are here.
    mutating func settleFork(
        _ admitted: Admitted, _ rivals: [HeldCommit], _ outcome: inout IngestOutcome
    ) -> Bool {
        let commit = admitted.commit
        outcome.isFork = true
        conclusion.counts.forks += 1
        for rival in rivals { work.change(.evidence(rival.header, rival.signature)) }
        work.change(.evidence(commit.header, commit.signature))
        let winners = rivals.filter { prevails($0.header, over: commit.header) }
        if !winners.isEmpty {
            if commit.header.author.node == context.node { saveOwn(admitted) }
            for winner in winners {
                let live = winner.rows.filter(\.value.isLive).keys.sorted()
                outcome.evidence.append(
                    .dots(
                        winner.header.scope, winner.header.author, SyncPart.entries(live)))
            }
            return false
        }
        if commit.header.scope == Revocation.scope { conclusion.hasLostRevocations = true }
        let head = work.head(commit.header.log)
        for rival in rivals { give(up: rival, to: commit, head, &outcome) }
        // Of two beginnings only one says what the life had inherited.
        if commit.header.first == 1 {
            work.inherit(commit.header)
            disowned.insert(
                FamilyName(scope: commit.header.scope, node: commit.header.author.node))
        }
        return true
    }

    private mutating func give(
        up rival: HeldCommit, to winner: Commit, _ head: LogHead, _ outcome: inout IngestOutcome
    ) {
        let header = rival.header
        if header.author.node == context.node {
            saveOwn(rival)
        } else if let message = handedOver(rival) {
            outcome.outvoted.append(message)
        }
        for sequence in rival.rows.keys.sorted() { work.remove(header.log, sequence) }
        work.removeCommit(header)
        let range = header.range
        let old = undone[header.log]
        undone[header.log] =
            old.map { min($0.lowerBound, range.lowerBound)...max($0.upperBound, range.upperBound) }
            ?? range
        // The log ended with the rival: now it ends with what took its place.
        if head.id == header.id(in: context.mesh) {
            move(header.log, to: winner.header, winner.signature)
        }
    }

    /// Of two histories one is kept whole, as far as can be told: the commit that follows what
    /// stands before it prevails; where both do, or neither, the lower identity.
    private func prevails(_ one: CommitHeader, over other: CommitHeader) -> Bool {
        if one.first == other.first, one.previous != other.previous {
            let before = work.commits(of: one.log, overlapping: (one.first - 1)...(one.first - 1))
            if let id = before.first?.header.id(in: context.mesh), one.first > 1 {
                if one.previous == id { return true }
                if other.previous == id { return false }
            }
        }
        return one.id(in: context.mesh) < other.id(in: context.mesh)
    }

    /// A commit that goes, with what lives of it, for its author.
    private func handedOver(_ rival: HeldCommit) -> CommitsMessage? {
        let header = rival.header
        let live = work.records(of: header.log, in: header.range).filter(\.isLive).map(\.held)
        let wanted = Set(live.map { Int($0.dot.sequence - header.first) })
        var dropped: [Int: Digest] = [:]
        for (sequence, row) in rival.rows { dropped[Int(sequence - header.first)] = row.id }
        let present = Set(rival.proof.presentOffsets)
        guard !wanted.isEmpty, wanted.isSubset(of: present), present.isSubset(of: dropped.keys)
        else { return nil }
        let commit = Commit(
            header: header, signature: rival.signature,
            proof: rival.proof.dropping(
                dropped.filter { present.contains($0.key) && !wanted.contains($0.key) }),
            records: live.map(\.record.encoded))
        return CommitsMessage(
            scope: header.scope, author: header.author, after: 0, through: 0, commits: [commit])
    }

    /// What this node acknowledged is not lost with the place that it had: it is written again in a
    /// life that has not seen what took that place.
    private mutating func saveOwn(_ rival: HeldCommit) {
        let live = work.records(of: rival.header.log, in: rival.header.range).filter(\.isLive)
        guard let merge = live.first?.held.merge else { return beginLife() }
        save(live.map(\.held.record), of: rival.header, merge)
    }

    /// Nor is what a copy of this node acknowledged, which may be no more: a machine was put back.
    private mutating func saveOwn(_ loser: Admitted) {
        save(loser.records, of: loser.commit.header, loser.merge)
        let range = loser.commit.header.range
        // Nothing of it has superseded anything here; it is written once all is settled.
        undone[loser.commit.header.log] =
            undone[loser.commit.header.log].map {
                min($0.lowerBound, range.lowerBound)...max($0.upperBound, range.upperBound)
            } ?? range
    }

    private mutating func save(
        _ records: [Record], of header: CommitHeader, _ merge: MergeKind
    ) {
        // The two histories part here, or where an earlier loss has shown that they did.
        let family = work.family(FamilyName(scope: header.scope, node: context.node))
        let earlier = family.heads.values.flatMap(\.inherits)
            .filter { $0.life == header.author.life }.map(\.through)
        let most = ([header.first - 1, inheritsMost[header.log] ?? .max] + earlier).min() ?? 0
        inheritsMost[header.log] = most
        rewrites += records.map {
            Rewrite(scope: header.scope, policy: header.policy, record: $0, merge: merge)
        }
        let knows = family.heads[life].map { head in
            head.inherits.first { $0.life == header.author.life }?.through ?? 0
        }
        if header.author.life == life || knows.map({ $0 > most }) ?? true { beginLife() }
    }

    /// Writes again what lost its place, as its app had written it, unless another copy has.
    mutating func rewrite() {
        for one in rewrites {
            let live = work.live(KeyName(scope: one.scope, key: one.record.key))
            if live.contains(where: { $0.record == one.record }) { continue }
            makeRoom(in: one.scope, one.policy, records: 1, bytes: one.record.encoded.count + 4)
            append(
                one.record, at: nextPlace(in: one.scope, one.policy), one.merge, to: one.scope)
            conclusion.counts.rewritten += 1
        }
        rewrites = []
    }
}
