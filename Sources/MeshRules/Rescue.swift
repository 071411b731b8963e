// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication

/// A record of this node that lost its place to another of a copy, to be written again.
struct Rewrite {
    let scope: Scope
    let policy: PolicyID
    /// Where it stood.
    let origin: Dot
    let record: Record
    let merge: MergeKind
}

/// What this node acknowledged is not lost with the place that it had: it is written again.
extension RecordTransaction {
    mutating func saveOwn(_ rival: HeldCommit) {
        let live = work.records(of: rival.header.log, in: rival.header.range).filter(\.isLive)
        guard let merge = live.first?.held.merge else { return beginLife() }
        save(
            live.map { ($0.held.id, $0.held.dot.sequence, $0.held.record) }, of: rival.header, merge
        )
    }

    mutating func save(
        _ records: [(id: Digest, sequence: UInt64, record: Record)], of header: CommitHeader,
        _ merge: MergeKind
    ) {
        for (id, sequence, record) in records where !work.isLoser(id) {
            work.change(.loser(id, of: context.node, nil))
            rewrites.append(
                Rewrite(
                    scope: header.scope, policy: header.policy,
                    origin: Dot(author: header.author, sequence: sequence), record: record,
                    merge: merge))
        }
        let family = work.family(FamilyName(scope: header.scope, node: context.node))
        let inherited = family.heads[life]?.inherits.first { $0.life == header.author.life }
        // A life that says that it has seen what the other machine wrote has not.
        if header.author.life == life
            || inherited?.through ?? 0 >= work.head(header.log).forksAt ?? .max
        {
            beginLife()
        }
    }

    /// Whether something comes in the life in which this process writes, though it has not written
    /// it: its machine was put back, or a copy of it is at work. Which of two in that life had seen
    /// the other cannot be told then.
    func isStranger(_ dot: Dot, beside other: Dot) -> Bool {
        dot.author == Author(node: context.node, life: input.life) && other.author == dot.author
    }

    /// Has a record written again beside what seems to replace it.
    mutating func save(_ held: HeldVersion, in scope: Scope) {
        guard let policy = work.policies(of: scope.namespace, root: context.root).first else {
            return
        }
        rewrites.append(
            Rewrite(
                scope: scope, policy: policy.id, origin: held.dot, record: held.record,
                merge: held.merge))
    }

    /// Writes again what lost its place, unless it stands elsewhere.
    ///
    /// It goes into a life that inherits nothing, since it had seen nothing of what this node wrote
    /// elsewhere; what its app had seen is named in its context.
    mutating func rewrite() {
        for one in rewrites {
            let live = work.live(KeyName(scope: one.scope, key: one.record.key))
            if live.contains(where: { $0.dot.author.node == context.node && $0.isSameWrite(one) }) {
                continue
            }
            if !rescueLives.contains(life) || live.contains(where: { $0.dot.author == author }) {
                beginLife(forRescue: true)
            }
            let record = one.merge == .log ? one.record : rebased(one)
            makeRoom(in: one.scope, one.policy, records: 1, bytes: record.encoded.count + 4)
            append(record, at: nextPlace(in: one.scope, one.policy), one.merge, to: one.scope)
            conclusion.counts.rewritten += 1
        }
        rewrites = []
    }

    /// The record with a context that says what went without saying in its old place.
    private func rebased(_ one: Rewrite) -> Record {
        let author = one.origin.author
        let head = work.head(LogName(scope: one.scope, author: author))
        var seen = one.record.context.dots
        for entry in head.inherits {
            let life = Author(node: author.node, life: entry.life)
            seen.append(Dot(author: life, sequence: entry.through))
        }
        // Places from the fork on mean two things.
        let sure = min(one.origin.sequence, head.forksAt ?? 1) - 1
        if sure > 0 { seen.append(Dot(author: author, sequence: sure)) }
        guard let context = Context(seen).cut(keeping: Set(one.record.context.dots)) else {
            return one.record
        }
        return Record(
            kind: one.record.kind, stamp: one.record.stamp, key: one.record.key, context: context,
            contentType: one.record.contentType, body: one.record.body,
            extensions: one.record.extensions)
    }
}

extension HeldVersion {
    fileprivate func isSameWrite(_ one: Rewrite) -> Bool {
        record.stamp == one.record.stamp && record.kind == one.record.kind
            && record.body == one.record.body
    }
}
