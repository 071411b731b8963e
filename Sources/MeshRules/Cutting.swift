// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshTrust

/// Revocations cut logs; what the removed records had superseded comes back.
///
/// First all that does not stand goes, then what that had superseded comes back, so the order of
/// nodes and logs does not matter. What comes back is a record like any other: it was kept with its
/// commit's proof, and goes to peers as such.
extension RecordTransaction {
    /// The logs of the revoked nodes are known: which of them go past their cuts.
    mutating func findCuts() -> Step {
        var ends: [LogName: UInt64] = [:]
        for logs in work.logsOf.values {
            // What stands by its own signatures is not cut. But the log of a retired node goes
            // whole, since nobody takes its certificate any more: its records are brought anew.
            for (log, frontier) in logs
            where !DocumentAdmission.appliesTo(log.scope) || retired.contains(log.author.node) {
                if let end = work.revoked.end(of: log.author, in: log.scope), frontier > end {
                    ends[log] = end
                }
            }
        }
        var needs = Needs()
        for (log, end) in ends { needs.commits[log] = [(end + 1)...(end + 1)] }
        return step(.removing(ends), needs)
    }

    /// The commits in which the logs are cut are known: a commit stands whole or not at all.
    mutating func cut(_ ends: [LogName: UInt64]) -> Step {
        for (log, end) in ends.sorted(by: { $0.key < $1.key }) {
            let straddling = work.commits(of: log, overlapping: (end + 1)...(end + 1)).first
            let first = min(end + 1, straddling?.header.first ?? .max)
            work.change(.removePast(log, from: first))
            if first == 1 {
                disowned.insert(FamilyName(scope: log.scope, node: log.author.node))
            }
            let lowest = min(first, undone[log]?.lowerBound ?? first)
            undone[log] = lowest...Dot.sequenceMax
            if log.scope == NamespacePolicy.scope { conclusion.touchesPolicies = true }
        }
        return lookForUndo(cut: Set(ends.keys))
    }

    /// What was superseded by what went is known.
    mutating func restore(_ cut: Set<LogName>) -> Step {
        for log in cut.sorted() {
            if let last = work.lastCommit(of: log) {
                let head = work.head(log).ending(with: last.header, in: context.mesh)
                work.change(.head(log, head, last.header, last.signature))
            } else {
                work.change(.removeLog(log))
            }
        }
        var seen: Set<KeyPlace> = []
        let kept = (Array(work.undo.values) + work.kept.values).flatMap(\.self).filter {
            seen.insert(KeyPlace(scope: $0.scope, dot: $0.held.dot)).inserted
        }
        var needs = Needs()
        for one in kept {
            needs.keys.insert(KeyName(scope: one.scope, key: one.held.record.key))
            for dot in one.held.record.context.dots + [one.held.dot] {
                needs.families.insert(FamilyName(scope: one.scope, node: dot.author.node))
            }
        }
        for one in rewrites {
            needs.keys.insert(KeyName(scope: one.scope, key: one.record.key))
            needs.families.insert(FamilyName(scope: one.scope, node: context.node))
        }
        undone = [:]
        disowned = []
        if kept.isEmpty, rewrites.isEmpty { return finish() }
        return step(.reviving(kept), needs)
    }

    private struct KeyPlace: Hashable {
        let scope: Scope
        let dot: Dot
    }

    /// What lives beside it is known: it lives again, or is superseded by something else too.
    mutating func revive(_ kept: [KeptVersion]) -> Step {
        for one in kept.sorted(by: { ($0.scope, $0.held.dot) < ($1.scope, $1.held.dot) }) {
            let log = LogName(scope: one.scope, author: one.held.dot.author)
            let live = work.live(KeyName(scope: one.scope, key: one.held.record.key))
            let lives = work.lives(in: one.scope)
            switch Merge.integrate(one.held.version, into: live.map(\.version), lives: lives) {
            case .superseded(let winner):
                let undo = UndoShare(one.scope, of: one.held.dot, by: winner)
                work.change(.rekey(log, one.held.dot.sequence, by: winner, undo))
            case .lives(let superseded):
                for old in live where superseded.contains(old.dot) {
                    work.supersede(old, in: one.scope, by: one.held.dot)
                }
                work.revive(one)
                conclusion.counts.recordsRestored += 1
            }
        }
        rewrite()
        return finish()
    }
}
