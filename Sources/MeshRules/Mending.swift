// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication

/// What has rotted, and what there is no more room for.
///
/// Rot is of a row, never of the disk: a row that does not match is taken out, and fetched again
/// from a peer with its proof. No neighbour goes with it.
extension RecordTransaction {
    func add(_ damage: Set<Damage>, to needs: inout Needs) {
        for one in damage {
            switch one {
            case .record(let log, let sequence):
                needs.commits[log, default: []].append(sequence...sequence)
            case .commit(let log, let range): needs.commits[log, default: []].append(range)
            case .head(let log):
                needs.lastCommits.insert(log)
                needs.families.insert(FamilyName(scope: log.scope, node: log.author.node))
            case .row, .index, .places: break
            }
        }
    }

    /// Where the end of one of this life's own logs cannot be read, a place might be used twice.
    mutating func giveUpDamagedLife() {
        let own = Author(node: context.node, life: input.life)
        let isDamaged = work.damage.contains {
            if case .head(let log) = $0 { return log.author == own }
            return false
        }
        if isDamaged { beginLife() }
    }

    mutating func quarantine(_ damage: Set<Damage>) {
        conclusion.counts.damaged += damage.count
        for case .head(let log) in damage {
            if log.author == Author(node: context.node, life: input.life) { beginLife() }
            guard let last = work.lastCommit(of: log) else {
                work.change(.removeLog(log))
                continue
            }
            // What its last commit proves; a peer tells whether it went further.
            var head = work.head(log).ending(with: last.header, in: context.mesh)
            if let first = work.commits(of: log, overlapping: 1...1).first?.header {
                head.inherits = first.inherits
            }
            work.set(log, head, last.header, last.signature)
        }
        // A key may show what was hidden from those who follow: they look at everything anew.
        if damage.contains(.index) { beginEpoch() }
        for case .row(let number) in damage { work.change(.discard(row: number)) }
        for case .commit(let log, let range) in damage {
            // It was found twice, and is mended since.
            let held = work.commits(of: log, overlapping: range).first {
                $0.header.first == range.lowerBound
            }
            if let held, isProven(held), held.header.isSigned(held.signature, in: context.mesh) {
                continue
            }
            work.change(.removeCommit(log, first: range.lowerBound))
            work.change(.doubt(log, range))
            if log.author.node == context.node {
                lostCommits[log, default: []].insert(range.lowerBound)
            }
        }
        for case .record(let log, let sequence) in damage { lose(log, sequence) }
    }

    /// Takes a rotten record out and keeps its neighbours provable; a live one is fetched again.
    private mutating func lose(_ log: LogName, _ sequence: UInt64) {
        guard let commit = work.commits(of: log, overlapping: sequence...sequence).first else {
            work.remove(log, sequence)
            return work.change(.hole(log, sequence))
        }
        let offset = Int(sequence - commit.header.first)
        guard let row = commit.rows[sequence] else { return loseProof(commit, sequence) }
        if row.isNamed {
            // Its bytes are whole: what has rotted is the key beside them.
            if row.isWhole { return work.change(.mend(log, sequence, row.id)) }
            work.remove(log, sequence)
            if row.isLive { work.change(.hole(log, sequence)) }
            var rows = commit.rows
            rows[sequence] = nil
            let proof =
                commit.proof.present[offset]
                ? commit.proof.dropping([offset: row.id]) : commit.proof
            work.keep(commit.header, commit.signature, proof, rows: rows)
        } else if isProven(commit) {
            // Its commit shows that it is whole: what has rotted is the name beside it.
            work.change(.mend(log, sequence, row.id))
        } else {
            work.remove(log, sequence)
            loseProof(commit, sequence)
        }
    }

    /// A leaf's hash is lost, and the neighbours' proofs with it: they stay, are served, and are
    /// proven anew by a peer.
    private mutating func loseProof(_ commit: HeldCommit, _ sequence: UInt64) {
        work.removeCommit(commit.header)
        work.change(.doubt(commit.header.log, commit.header.range))
        work.change(.hole(commit.header.log, sequence))
    }

    private func isProven(_ commit: HeldCommit) -> Bool {
        let ids = commit.proof.presentOffsets.compactMap {
            commit.rows[commit.header.first + UInt64($0)]?.id
        }
        return ids.count == commit.proof.presentCount
            && commit.proof.root(present: ids) == commit.header.root
    }
}
