// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshReplication
internal import MeshTrust

/// One author, one place, two commits: a machine was put back with its memory, or its key is in
/// two hands.
extension RecordTransaction {
    /// The headers are kept as evidence, the lowest identity lives, and the others go with all they
    /// claimed: what they had superseded lives again. Who still shows a loser is sent the winner.
    ///
    /// - Returns: whether the new commit takes the place of those that are here.
    mutating func settleFork(
        _ admitted: Admitted, _ rivals: [HeldCommit], isFill: Bool,
        _ outcome: inout IngestOutcome
    ) -> Bool {
        let commit = admitted.commit
        note(rivals, and: commit, &outcome)
        let winners = rivals.filter { prevails($0.header, over: commit.header) }
        if !winners.isEmpty {
            keep(admitted, &outcome)
            // A header alone is answered by headers: its sender shows nothing of it. Each answer
            // has a lower identity than what it answers, so answers come to an end.
            outcome.evidence.append(
                .commits(
                    commit.header.scope, commit.header.author,
                    holding: winners.map(\.header.first).sorted(),
                    withRecords: !commit.records.isEmpty))
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
            keep(message, &outcome)
        }
        for sequence in rival.rows.keys.sorted() { work.remove(header.log, sequence) }
        work.removeCommit(header)
        let range = header.range
        undo(header.log, range)
        // The log ended with the rival: now it ends with what took its place.
        if head.id == header.id(in: context.mesh) {
            move(header.log, to: winner.header, winner.signature)
        }
    }

    /// The headers are kept as evidence. What one of the two machines is taken to have seen in
    /// silence is known no more, so what went for that lives again.
    ///
    mutating func note(
        _ rivals: [HeldCommit], and commit: Commit, _ outcome: inout IngestOutcome
    ) {
        let log = commit.header.log
        guard
            let news = work.fork(
                log, rivals.map(\.header) + [commit.header], in: context.mesh)
        else { return }
        let headers =
            rivals.map { SignedHeader($0.header, $0.signature) }
            + [SignedHeader(commit.header, commit.signature)]
        work.change(.evidence(log, headers))
        conclusion.counts.forks += 1
        outcome.isFork = true
        outcome.provenTo = work.head(log).provenTo
        if case .began(let place) = news { undo(log, place...Dot.sequenceMax) }
    }

    /// Whoever did not hold the commit that lost its place sees the fork where the chain is broken:
    /// a commit names another before it than the one that is here.
    mutating func noteBrokenChain(_ commit: Commit, _ outcome: inout IngestOutcome) {
        let header = commit.header
        let around = max(header.first, 2) - 1...header.last + 1
        for neighbour in work.commits(of: header.log, overlapping: around) {
            let other = neighbour.header
            if !other.range.overlaps(header.range), other.contradicts(header, in: context.mesh) {
                note([neighbour], and: commit, &outcome)
            }
        }
    }

    /// Which headers of a log are kept as evidence: two of the lowest place where two contradict
    /// each other, and the one that goes furthest, since others may name the places that it proves.
    package static func evidence(_ headers: [CommitHeader], in mesh: MeshID) -> [CommitHeader] {
        let sorted = headers.sorted { one, other in
            (one.first, one.last) == (other.first, other.last)
                ? one.encoded.lexicographicallyPrecedes(other.encoded)
                : (one.first, one.last) < (other.first, other.last)
        }
        var kept: [CommitHeader] = []
        for (index, one) in sorted.enumerated() where kept.isEmpty {
            let other = sorted[(index + 1)...].first { one.contradicts($0, in: mesh) }
            if let other { kept = [one, other] }
        }
        if let furthest = sorted.max(by: { $0.last < $1.last }),
            furthest.last > kept.map(\.last).max() ?? 0
        {
            kept.append(furthest)
        }
        return kept
    }

    private mutating func undo(_ log: LogName, _ range: ClosedRange<UInt64>) {
        undone[log] =
            undone[log].map {
                min($0.lowerBound, range.lowerBound)...max($0.upperBound, range.upperBound)
            } ?? range
    }

    /// Of two in one place the lower identity lives. The answer hangs on the two alone, so all
    /// servers come to the same, in whatever order they hear.
    private func prevails(_ one: CommitHeader, over other: CommitHeader) -> Bool {
        one.id(in: context.mesh) < other.id(in: context.mesh)
    }

    /// What lost its place is its author's to write again. All others keep it until they link with
    /// him, and tell each other, so that one of them does.
    private mutating func keep(_ message: CommitsMessage, _ outcome: inout IngestOutcome) {
        for commit in message.commits {
            let name = commit.header.id(in: context.mesh)
            let known = work.recordsKept(of: name)
            guard !known.isSuperset(of: commit.proof.presentOffsets) else { continue }
            work.change(.loser(name, of: message.author.node, message))
            outcome.outvoted.append(message)
        }
    }

    private mutating func keep(_ loser: Admitted, _ outcome: inout IngestOutcome) {
        let (commit, header) = (loser.commit, loser.commit.header)
        if commit.records.isEmpty { return }
        if header.author.node == context.node {
            let places = zip(commit.sequences, zip(loser.ids, loser.records))
            save(places.map { ($1.0, $0, $1.1) }, of: header, loser.merge)
        } else {
            keep(filling(commit), &outcome)
        }
    }

    /// By what it is known that a commit, or its records, lost their place.
    func losers(_ commit: Commit) -> [Digest] {
        commit.header.author.node == context.node
            ? commit.records.map { Record.id(of: $0, in: context.mesh) }
            : [commit.header.id(in: context.mesh)]
    }

    private func filling(_ commit: Commit) -> CommitsMessage {
        CommitsMessage(
            scope: commit.header.scope, author: commit.header.author, after: 0, through: 0,
            commits: [commit])
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
        return filling(commit)
    }
}
