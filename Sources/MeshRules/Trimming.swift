// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication

/// How much goes of what is kept of superseded records, where there is more than there is room for.
package enum Trim {
    /// Records that one trim takes away of each class, at most.
    package static let rowsMax = 2048
    /// Records beyond the room before a trim is worth its while.
    package static let slack = 512

    /// By how much each share has more than its part, where all have more than there is room for:
    /// those that have most make way for those that have less.
    static func excess(
        of shares: [UndoShare: UndoUsage], room: UndoUsage
    ) -> [UndoShare: UndoUsage] {
        var excess: [UndoShare: UndoUsage] = [:]
        for (share, rows) in above(shares.mapValues(\.rows), room.rows) {
            excess[share, default: UndoUsage()].rows = rows
        }
        for (share, bytes) in above(shares.mapValues(\.bytes), room.bytes) {
            excess[share, default: UndoUsage()].bytes = bytes
        }
        return excess
    }

    /// How many of the oldest of each share are looked at: no more than go at once.
    static func rows(of excess: [UndoShare: UndoUsage]) -> [UndoShare: Int] {
        var (left, rows) = (rowsMax, [UndoShare: Int]())
        let order = excess.sorted { one, other in
            (one.value.bytes, one.value.rows, one.key.number)
                > (other.value.bytes, other.value.rows, other.key.number)
        }
        for (share, over) in order where left > 0 {
            // By bytes nobody knows yet how many it takes.
            let wanted = over.bytes > 0 ? left : min(over.rows, left)
            rows[share] = wanted
            left -= wanted
        }
        return rows
    }

    /// By how much each goes beyond the highest level at which all together fit the room.
    private static func above(_ amounts: [UndoShare: Int], _ room: Int) -> [UndoShare: Int] {
        guard amounts.values.reduce(0, +) > room else { return [:] }
        var (low, high) = (0, amounts.values.max() ?? 0)
        while low < high {
            let level = (low + high + 1) / 2
            if amounts.values.reduce(0, { $0 + min($1, level) }) <= room {
                low = level
            } else {
                high = level - 1
            }
        }
        return amounts.compactMapValues { $0 > low ? $0 - low : nil }
    }
}

/// What is kept of superseded records fits its room again.
extension RecordTransaction {
    /// Whether more is kept of what was superseded than there is room for.
    var isOverRoom: Bool {
        work.undoUsage.contains { undo, usage in
            usage.rows > undo.room.rows + Trim.slack
                || usage.bytes > undo.room.bytes + undo.room.bytes / 64
        }
    }

    /// Whoever has most of a room that is full makes way: by how much is known, and the oldest are
    /// looked up.
    mutating func beginTrim() -> Step? {
        var excess: [UndoShare: UndoUsage] = [:]
        var needs = Needs()
        for undo in UndoClass.allCases {
            let over = Trim.excess(
                of: work.undoShares.filter { $0.key.undo == undo }, room: undo.room)
            excess.merge(over) { one, _ in one }
            needs.oldest.merge(Trim.rows(of: over)) { one, _ in one }
        }
        return needs.oldest.isEmpty ? nil : step(.weighing(excess), needs)
    }

    /// The oldest are known: so many of them go that no share has more than its part. What proves
    /// their neighbours is looked up.
    mutating func trim(_ excess: [UndoShare: UndoUsage]) -> Step {
        var excess = excess
        var needs = Needs()
        var places: [KeptPlace] = []
        for place in work.oldest {
            guard let over = excess[place.share], over.rows > 0 || over.bytes > 0 else { continue }
            excess[place.share] = UndoUsage(
                rows: over.rows - 1, bytes: over.bytes - place.byteCount)
            places.append(place)
            needs.proofs[place.log, default: []].append(place.sequence...place.sequence)
        }
        return step(.trimming(places), needs)
    }

    mutating func finishTrim(_ places: [KeptPlace]) -> Step {
        var gone: [LogName: [UInt64: Digest]] = [:]
        for place in places {
            work.change(.remove(place.log, place.sequence))
            gone[place.log, default: [:]][place.sequence] = place.id
        }
        for (log, ids) in gone.sorted(by: { $0.key < $1.key }) {
            for commit in work.commits(of: log, overlapping: 1...Dot.sequenceMax) {
                var dropped: [Int: Digest] = [:]
                for (offset, isPresent) in commit.proof.present.enumerated() where isPresent {
                    dropped[offset] = ids[commit.header.first + UInt64(offset)]
                }
                drop(dropped, from: commit)
            }
        }
        conclusion.counts.undoDropped += places.count
        // The jobs beside it may have brought a revocation, or something to write again.
        return afterJobs()
    }

    private mutating func drop(_ dropped: [Int: Digest], from commit: HeldCommit) {
        if dropped.isEmpty { return }
        let proof = commit.proof.dropping(dropped)
        // The first commit stays for what it says of the lives before.
        if proof.isEmpty, commit.header.first > 1 {
            work.change(.removeCommit(commit.header.log, first: commit.header.first))
        } else {
            work.change(.commit(commit.header, commit.signature, proof))
        }
    }
}
