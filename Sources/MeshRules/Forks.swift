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
        _ commit: Commit, _ rivals: [HeldCommit], _ outcome: inout IngestOutcome
    ) -> Bool {
        outcome.isFork = true
        conclusion.counts.forks += 1
        for rival in rivals { work.change(.evidence(rival.header, rival.signature)) }
        work.change(.evidence(commit.header, commit.signature))
        let id = commit.header.id(in: context.mesh)
        let winners = rivals.filter { $0.header.id(in: context.mesh) < id }
        if !winners.isEmpty {
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
        for rival in rivals { give(up: rival, to: commit, head) }
        // Of two beginnings only one says what the life had inherited.
        if commit.header.first == 1 {
            work.inherit(commit.header)
            disowned.insert(
                FamilyName(scope: commit.header.scope, node: commit.header.author.node))
        }
        return true
    }

    private mutating func give(up rival: HeldCommit, to winner: Commit, _ head: LogHead) {
        let header = rival.header
        if header.author.node == context.node { saveOwn(rival) }
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

    /// What this node acknowledged is not lost with the place that it had: it is written again in a
    /// life that has not seen what took that place.
    private mutating func saveOwn(_ rival: HeldCommit) {
        let header = rival.header
        let kept = inheritsMost[header.log] ?? .max
        inheritsMost[header.log] = min(kept, header.first - 1)
        for (held, isLive) in work.records(of: header.log, in: header.range) where isLive {
            rewrites.append(
                Rewrite(
                    scope: header.scope, policy: header.policy, record: held.record,
                    merge: held.merge))
        }
        beginLife()
    }

    /// Writes again what lost its place, as its app had written it.
    mutating func rewrite() {
        for one in rewrites {
            _ = draft(one.scope, one.policy)
            if let draft = drafts[one.scope], draft.policy != one.policy {
                sealDrafts()
                _ = self.draft(one.scope, one.policy)
            }
            append(one.record, one.merge, to: one.scope)
            conclusion.counts.rewritten += 1
        }
        rewrites = []
    }
}
