// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshTrust

/// Whether a peer's commit may be taken: the questions of the article `CommitFormat`, in its order.
extension RecordTransaction {
    /// Why a commit is not taken now.
    enum Obstacle: Error {
        /// Its author's fault, or something that only an operator changes.
        case refused(Refusal)
        /// Something that will come by itself.
        case waits(Dependency)
    }

    /// A commit that may be taken.
    struct Admitted {
        let commit: Commit
        let ids: [Digest]
        let records: [Record]
        let merge: MergeKind
    }

    func judge(
        _ commit: Commit, _ records: [Record], _ certificates: [Certificate],
        _ policies: [Workspace.NamedPolicy]
    ) throws(Obstacle) -> Admitted {
        let header = commit.header
        guard let named = policies.first(where: { $0.id == header.policy }) else {
            throw .waits(.policy(header.policy, namespace: header.scope.namespace))
        }
        let policy = named.policy
        guard policy.has(header.scope) else { throw .refused(.wrongAudience) }
        guard policy.admits(certificates, to: header.scope) else { throw .refused(.notGranted) }
        guard header.extensions.critical == nil else { throw .refused(.newer) }
        // Who is admitted has shown a certificate.
        guard let ids = commit.verifiedIDs(in: context.mesh),
            header.isSignedByMember(commit.signature, in: context.mesh)
        else { throw .refused(.badSignature) }
        for entry in header.inherits {
            let life = Author(node: header.author.node, life: entry.life)
            try require(Dot(author: life, sequence: entry.through), in: header.scope)
        }
        for (index, sequence) in commit.sequences.enumerated() {
            let dot = Dot(author: header.author, sequence: sequence)
            try judge(records[index], at: dot, in: header.scope, policy.merge)
        }
        return Admitted(commit: commit, ids: ids, records: records, merge: policy.merge)
    }

    private func judge(
        _ record: Record, at dot: Dot, in scope: Scope, _ merge: MergeKind
    ) throws(Obstacle) {
        guard record.extensions.critical == nil else { throw .refused(.newer) }
        guard record.part.isEmpty else { throw .refused(.wrongMerge) }
        if merge == .log, record.kind == .delete || !record.context.dots.isEmpty {
            throw .refused(.wrongMerge)
        }
        do throws(Refusal) {
            try DocumentAdmission.judge(record, in: scope, root: context.root)
        } catch { throw .refused(error) }
        for seen in record.context.dots {
            if seen.author == dot.author {
                guard seen.sequence < dot.sequence else { throw .refused(.badContext) }
            } else {
                try require(seen, in: scope)
            }
        }
    }

    /// Admission is causal: what a record says that its writer had seen must be known here, or at
    /// least proven by a header that its author has signed, so that nobody can make up a place that
    /// was never written, and harm a key with it.
    ///
    /// A header is proof enough, and is needed: what was superseded is not sent, so of two logs
    /// that name each other neither might go on first.
    private func require(_ dot: Dot, in scope: Scope) throws(Obstacle) {
        let log = LogName(scope: scope, author: dot.author)
        if work.head(log).provenTo >= dot.sequence { return }
        // Past the cut of a revoked node nothing will ever come; up to it the operator's signature
        // stands for what may have been superseded everywhere.
        if !DocumentAdmission.appliesTo(scope),
            work.revoked.end(of: dot.author, in: scope) != nil
        {
            return
        }
        throw .waits(.place(log, sequence: dot.sequence))
    }
}
