// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication

/// How much goes of what is kept of superseded records, where there is more than there is room for.
package enum Trim {
    /// Records that one trim takes away of each class, at most.
    package static let rowsMax = 2048
    /// Records beyond the room before a trim is worth its while.
    package static let slack = 512

    /// How many of each share go, so that what stays fits the room: always of those that have most.
    static func excess(
        of shares: [UndoShare: UndoUsage], room: UndoUsage
    ) -> [UndoShare: Int] {
        let (byRows, byBytes) = (shares.mapValues(\.rows), shares.mapValues(\.bytes))
        let (rows, bytes) = (above(byRows, room.rows), above(byBytes, room.bytes))
        var excess: [(share: UndoShare, rows: Int)] = []
        for (share, usage) in shares where usage.rows > 0 && usage.bytes > 0 {
            let average = max(1, usage.bytes / usage.rows)
            let count = max(rows[share] ?? 0, ((bytes[share] ?? 0) + average - 1) / average)
            if count > 0 { excess.append((share, min(count, usage.rows))) }
        }
        excess.sort { ($0.rows, $0.share.number) > ($1.rows, $1.share.number) }
        var (left, taken) = (rowsMax, [UndoShare: Int]())
        for one in excess where left > 0 {
            taken[one.share] = min(one.rows, left)
            left -= min(one.rows, left)
        }
        return taken
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

    /// Whoever has most of a room that is full makes way: how many of the oldest of each share go
    /// is known, and they are looked up.
    mutating func beginTrim() -> Step? {
        var needs = Needs()
        for undo in UndoClass.allCases {
            let shares = work.undoShares.filter { $0.key.undo == undo }
            needs.oldest.merge(Trim.excess(of: shares, room: undo.room)) { $0 + $1 }
        }
        return needs.oldest.isEmpty ? nil : step(.weighing, needs)
    }

    /// What goes is known; what proves its neighbours is looked up.
    mutating func trim() -> Step {
        let places = work.oldest
        var needs = Needs()
        for place in places {
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
