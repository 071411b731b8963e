// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication

/// Commits of this node that have rotted are signed again, where they can be shown to be the same.
///
/// Nobody else may have them yet, and no peer takes their records without them. Each commit names
/// the one before it by its hash, so headers that are put together from the records either lead to
/// what the next commit says or are thrown away. The signature of Ed25519 is the same each time.
extension RecordTransaction {
    /// Commits of this node that were taken out: what stands beside them is looked up.
    func lookBeside(_ lost: [LogName: Set<UInt64>]) -> Needs {
        var needs = Needs()
        for (log, places) in lost {
            needs.gaps[log] = places
            needs.families.insert(FamilyName(scope: log.scope, node: log.author.node))
        }
        return needs
    }

    /// What stands beside the lost commits is known: their records are looked up.
    mutating func lookIntoGaps() -> Step {
        var needs = Needs()
        var gaps: [LogName: [Gap]] = [:]
        for (log, found) in work.gaps {
            for one in found {
                guard let gap = Gap(one),
                    gaps[log]?.contains(where: { $0.range == gap.range }) != true
                else { continue }
                gaps[log, default: []].append(gap)
                needs.records[log, default: []].append(gap.range)
            }
            needs.families.insert(FamilyName(scope: log.scope, node: log.author.node))
            if let name = BuiltIn.policyKey(of: log.scope.namespace) { needs.keys.insert(name) }
        }
        return gaps.isEmpty ? proceed() : step(.signingAgain(gaps), needs)
    }

    mutating func signAgain(_ gaps: [LogName: [Gap]]) -> Step {
        for (log, gaps) in gaps.sorted(by: { $0.key < $1.key }) {
            for gap in gaps {
                for header in headers(of: log, in: gap) {
                    let signature = context.key.sign(
                        header.encoded, for: .commit, in: context.mesh)
                    let proof = CommitProof(allPresent: header.count)
                    work.change(.commit(header, signature, proof))
                    work.change(.filled(log, header.range))
                    conclusion.counts.signatures += 1
                    conclusion.counts.signedAgain += 1
                }
            }
        }
        return proceed()
    }

    /// The headers that lead to the hash that the commit after the gap names; none if they can't
    /// be put together.
    private mutating func headers(of log: LogName, in gap: Gap) -> [CommitHeader] {
        let ids = work.records(of: log, in: gap.range).map(\.held.id)
        guard ids.count == gap.range.count else { return [] }
        let known = work.policies(of: log.scope.namespace, root: context.root).map(\.id)
        let beginnings = gap.before == nil ? beginnings(of: log) : [[]]
        for policy in [gap.after.policy] + known {
            for inherits in beginnings {
                var search = HeaderSearch(
                    log: log, policy: policy, inherits: inherits, target: gap.after.previous,
                    mesh: context.mesh)
                let previous = gap.before?.id(in: context.mesh) ?? .zero
                if let found = search.headers(of: ids[...], from: gap.range.lowerBound, previous) {
                    return found
                }
            }
        }
        return []
    }

    /// What the first commit of a life may have said of the node's earlier lives.
    private func beginnings(of log: LogName) -> [[Inheritance]] {
        let family = work.family(FamilyName(scope: log.scope, node: log.author.node))
        let earlier = family.heads.filter { life, head in
            life != log.author.life && head.frontier > 0
                && !head.inherits.contains { $0.life == log.author.life }
        }
        let all = earlier.map { life, head in
            Inheritance(life: life, through: min(head.frontier, (head.forksAt ?? .max) - 1))
        }
        return [work.head(log).inherits, all.sorted { $0.life < $1.life }, []]
    }
}

/// Looks for the commits that some records of a log were, by the hash of the last of them.
private struct HeaderSearch {
    let log: LogName
    let policy: PolicyID
    let inherits: [Inheritance]
    let target: Digest
    let mesh: MeshID
    /// Headers that may still be tried: records can have been parted in very many ways.
    private var left = 256

    init(
        log: LogName, policy: PolicyID, inherits: [Inheritance], target: Digest, mesh: MeshID
    ) {
        (self.log, self.policy, self.inherits) = (log, policy, inherits)
        (self.target, self.mesh) = (target, mesh)
    }

    /// Tries one commit of all the records, then a shorter first one.
    mutating func headers(
        of ids: ArraySlice<Digest>, from first: UInt64, _ previous: Digest
    ) -> [CommitHeader]? {
        for count in stride(from: ids.count, to: 0, by: -1) where left > 0 {
            left -= 1
            let header = CommitHeader(
                scope: log.scope, author: log.author, first: first, count: count,
                previous: previous, root: CommitProof.root(of: Array(ids.prefix(count))),
                policy: policy, inherits: first == 1 ? inherits : [])
            let id = header.id(in: mesh)
            if count == ids.count {
                if id == target { return [header] }
            } else if let rest = headers(
                of: ids.dropFirst(count), from: first + UInt64(count), id)
            {
                return [header] + rest
            }
        }
        return nil
    }
}

/// Places of a log that lost commits had, between two that are held.
struct Gap {
    /// The commit before; nil if the lost one is the first.
    let before: CommitHeader?
    let after: CommitHeader
    let range: ClosedRange<UInt64>

    /// - Returns: nil if there is no commit after it, or more is missing than one can have.
    init?(_ found: CommitGap) {
        guard let after = found.after, after.first > 1 else { return nil }
        let first = (found.before?.last ?? 0) + 1
        guard first < after.first, after.first - first <= UInt64(CommitHeader.recordsMax) else {
            return nil
        }
        (before, self.after, range) = (found.before, after, first...after.first - 1)
    }
}
