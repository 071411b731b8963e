// SPDX-License-Identifier: Apache-2.0

/// What apps may rely on, judged from what apps did and saw.
///
/// It knows no dot, context, digest or rule of this project: only who wrote what where, what the
/// writer had been shown when it wrote, what was acknowledged, what was shown since, and which
/// disks were lost. One write replaces another if its app had been shown the other, or one that
/// replaces it. From that alone follows what must be shown once all servers agree. It imports
/// nothing, so that it can be held beside any store, also beside logs of real servers.
public struct Oracle: Sendable {
    /// A write of an app, by the order in which they were made.
    public typealias WriteID = Int
    /// A server's disk.
    public typealias DiskID = Int

    /// A key of a scope.
    public struct Cell: Hashable, Comparable, Sendable {
        /// Where.
        public let scope: String
        /// Which.
        public let key: String

        /// Names a cell.
        public init(scope: String, key: String) {
            self.scope = scope
            self.key = key
        }

        /// By scope, then by key.
        public static func < (lhs: Cell, rhs: Cell) -> Bool {
            (lhs.scope, lhs.key) < (rhs.scope, rhs.key)
        }
    }

    /// What a cell holds.
    public enum Kind: Sendable {
        /// A value, which a write that has seen it replaces.
        case register
        /// Entries that stay.
        case log
    }

    private struct Write {
        let cell: Cell
        let kind: Kind
        let isDeletion: Bool
        /// Everything that it replaces: what its app was shown, and what that replaces.
        var replaces: Set<WriteID>
        let disk: DiskID
        var isAcknowledged = false
        /// Whether it was ever shown: then it was made, acknowledged or not.
        var wasShown = false
        /// The disks that hold it, or something that replaces it, as far as was seen.
        var holders: Set<DiskID> = []
        /// Whether every disk that was known to hold it was lost, or its author's revocation may
        /// have cut it off: it may be shown or not.
        var isForfeit = false
        /// Whether a revocation has surely cut it off.
        var isCut = false
        /// Whether it stands though its author was revoked: what only a life that was cut off whole
        /// had replaced may be shown again. Likewise where two machines of one identity wrote.
        var mayReturn = false
        /// In which history it was written, where a machine has gone on from an earlier moment, so
        /// that another write may be in the same place; nil where no machine has.
        var history: Int?
        /// Whether it is of one of several histories.
        var isForked: Bool { history != nil }
    }

    private var writes: [Write] = []
    private var byCell: [Cell: [WriteID]] = [:]
    /// Cells in which a server that keeps to no rule has written: only agreement is asked for.
    private var spoiled: Set<Cell> = []
    private var revoked: Set<DiskID> = []
    private var departed: Set<DiskID> = []
    private var forked: [DiskID: Int] = [:]
    /// Cells in which somebody replaced a value of a machine that has written twice.
    private var confused: Set<Cell> = []
    private var told: [String: [Cell: [WriteID]]] = [:]

    /// Nothing has happened.
    public init() {}

    /// How many writes were acknowledged.
    public var acknowledgedCount: Int { writes.count(where: \.isAcknowledged) }

    // MARK: What happens

    /// An app writes, having been shown `saw` in the cell just before.
    ///
    /// - Returns: the name that the value must carry, so that it is known when it is shown.
    public mutating func write(
        _ cell: Cell, _ kind: Kind, isDeletion: Bool, saw: [WriteID], on disk: DiskID
    ) -> WriteID {
        var replaces: Set<WriteID> = []
        if kind == .register {
            // What its server holds and does not show was replaced there before.
            let held = (byCell[cell] ?? []).filter { writes[$0].holders.contains(disk) }
            for seen in Set(saw).union(held)
            where writes.indices.contains(seen) && writes[seen].kind == .register {
                replaces.insert(seen)
                replaces.formUnion(writes[seen].replaces)
            }
        }
        writes.append(
            Write(
                cell: cell, kind: kind, isDeletion: isDeletion, replaces: replaces, disk: disk,
                history: forked[disk]))
        if forked[disk] != nil { writes[writes.count - 1].mayReturn = true }
        byCell[cell, default: []].append(writes.count - 1)
        confuse(cell, replaces, disk)
        // Whoever is revoked and has not heard of it writes for nobody.
        writes[writes.count - 1].isCut = revoked.contains(disk)
        return writes.count - 1
    }

    /// A write was acknowledged: it lies on the disk of the server that did so.
    public mutating func acknowledge(_ id: WriteID, on disk: DiskID? = nil) {
        writes[id].isAcknowledged = true
        hold(id, on: disk ?? writes[id].disk)
    }

    /// An app that had no answer, or lost it, asked another server, which took the same write once
    /// more, having shown `saw` there. It is shown once; only which values it replaces is not
    /// certain any more, since one of the two may be lost with a disk, or be replaced alone.
    public mutating func again(_ id: WriteID, saw: [WriteID], on disk: DiskID) {
        guard writes[id].kind == .register else { return }
        writes[id].mayReturn = true
        let held = (byCell[writes[id].cell] ?? []).filter { writes[$0].holders.contains(disk) }
        for seen in Set(saw).union(held)
        where seen != id && writes.indices.contains(seen) && writes[seen].kind == .register {
            for replaced in writes[seen].replaces.union([seen]) where replaced != id {
                if !writes[id].replaces.contains(replaced) { writes[replaced].mayReturn = true }
                writes[id].replaces.insert(replaced)
            }
        }
    }

    /// The write was refused, and must not be shown.
    public mutating func refuse(_ id: WriteID) { writes[id].isCut = true }

    /// A server showed a cell.
    public mutating func observe(_ cell: Cell, shows values: [WriteID], on disk: DiskID) {
        for value in values where writes.indices.contains(value) {
            if !revoked.contains(disk) { writes[value].wasShown = true }
            // What it replaces may never have come here.
            hold(value, on: disk)
        }
    }

    /// A machine goes on with its memory from an earlier moment, at which its disk held `kept`: it
    /// writes a second time in places in which it had written before. What one of the two histories
    /// replaced may be shown again.
    public mutating func fork(_ disks: Set<DiskID>, but kept: Set<WriteID>) {
        for id in writes.indices where disks.contains(writes[id].disk) && !kept.contains(id) {
            if writes[id].history == nil { writes[id].history = 0 }
            writes[id].mayReturn = true
        }
        for disk in disks { forked[disk, default: 0] += 1 }
        for id in writes.indices { confuse(writes[id].cell, writes[id].replaces, writes[id].disk) }
    }

    /// Where another server has replaced what one of the two histories says, nobody can tell which
    /// of them its writer had seen.
    private mutating func confuse(_ cell: Cell, _ replaced: Set<WriteID>, _ disk: DiskID) {
        guard forked[disk] == nil, replaced.contains(where: { writes[$0].isForked }) else {
            return
        }
        confused.insert(cell)
    }

    /// A server that keeps to no rule has written to a cell as it liked.
    public mutating func spoil(_ cell: Cell) { spoiled.insert(cell) }

    /// A disk is gone, or holds something older: `kept` is what it held when that was made.
    public mutating func lose(_ disk: DiskID, but kept: Set<WriteID> = []) {
        for id in writes.indices where writes[id].holders.contains(disk) && !kept.contains(id) {
            writes[id].holders.remove(disk)
            forfeitIfLost(id)
        }
    }

    /// A server is to leave for good, and may, since another holds all that it holds: that other
    /// one owes it from now on, and whoever relies on the one that left has nothing.
    public mutating func leave(_ disk: DiskID, to heir: DiskID) {
        let all = held(on: disk)
        departed.insert(disk)
        place(all, on: heir)
        for id in all { writes[id].holders.remove(disk) }
    }

    private mutating func hold(_ id: WriteID, on disk: DiskID) {
        if !departed.contains(disk) { writes[id].holders.insert(disk) }
    }

    /// What only a revoked server holds is nothing that anybody else will ever get.
    private mutating func forfeitIfLost(_ id: WriteID) {
        if writes[id].holders.isSubset(of: revoked) { writes[id].isForfeit = true }
    }

    /// What a disk is known to hold, for an image of it.
    public func held(on disk: DiskID) -> Set<WriteID> {
        Set(writes.indices.filter { writes[$0].holders.contains(disk) })
    }

    /// A disk was copied, or an image of it put back.
    public mutating func place(_ held: Set<WriteID>, on disk: DiskID) {
        for id in held { hold(id, on: disk) }
    }

    /// A server was revoked; what `witness` shows of its writes stands, and what it surely did not
    /// know does not.
    public mutating func revoke(_ disks: Set<DiskID>, witness shown: [Cell: [WriteID]]) {
        revoked.formUnion(disks)
        for id in writes.indices where disks.contains(writes[id].disk) {
            writes[id].mayReturn = true
            let isShown = shown[writes[id].cell]?.contains(id) ?? false
            if isShown { continue }
            // Where the witness shows nothing that replaces it, it knew neither; but a deletion
            // does not show.
            let isKnown = (byCell[writes[id].cell] ?? []).contains { other in
                writes[other].replaces.contains(id)
                    && (writes[other].isDeletion
                        || shown[writes[id].cell]?.contains(other) ?? false)
            }
            if isKnown || writes[id].isDeletion {
                writes[id].isForfeit = true
            } else {
                writes[id].isCut = true
            }
        }
        for id in writes.indices where !writes[id].holders.isDisjoint(with: disks) {
            forfeitIfLost(id)
        }
    }

    /// A follower of a server's feed was told of a cell, and looked at it.
    public mutating func tell(_ follower: String, _ cell: Cell, shows values: [WriteID]) {
        told[follower, default: [:]][cell] = values.sorted()
    }

    /// A follower was told to begin anew, and has listed everything.
    public mutating func restart(_ follower: String, _ all: [Cell: [WriteID]]) {
        told[follower] = all.mapValues { $0.sorted() }
    }

    // MARK: What must be so

    /// Judges what one server shows once all agree.
    ///
    /// - Parameters:
    ///   - shown: every cell with the values that are shown, the first first.
    ///   - reads: whether the server holds a scope.
    /// - Returns: what is wrong; nil if nothing is.
    public func judge(_ shown: [Cell: [WriteID]], reads: (String) -> Bool) -> String? {
        for (cell, values) in shown.sorted(by: { $0.key < $1.key }) {
            if spoiled.contains(cell) { continue }
            for value in values {
                // A machine that wrote twice may have written a value again that stood after all.
                let isOnce = values.count { $0 == value } == 1
                if !isOnce, !(writes.indices.contains(value) && writes[value].isForked) {
                    return "\(cell) shows \(value) twice"
                }
                guard writes.indices.contains(value), writes[value].cell == cell else {
                    return "\(cell) shows \(value), which nobody wrote there"
                }
                if let fault = fault(of: value) { return "\(cell) shows \(value), \(fault)" }
            }
        }
        for (cell, ids) in byCell.sorted(by: { $0.key < $1.key })
        where reads(cell.scope) && !spoiled.contains(cell) {
            let values = Set(shown[cell] ?? [])
            for id in ids where mustShow(id) && !values.contains(id) {
                return "\(cell) lost \(id); it shows \(shown[cell] ?? [])"
            }
        }
        return nil
    }

    /// Why a value must not be shown; nil if it may be.
    private func fault(of id: WriteID) -> String? {
        let write = writes[id]
        if write.isDeletion { return "which is a deletion" }
        if write.isCut { return "which was refused, or was cut off with its author" }
        if write.kind == .log || write.mayReturn { return nil }
        let replacers = (byCell[write.cell] ?? []).filter { writes[$0].replaces.contains(id) }
        // A machine that goes on from an earlier moment finds replaced what it had not replaced,
        // and writes it again.
        if replacers.contains(where: { writes[$0].isForked }) { return nil }
        let replacer = replacers.first { stands($0) }
        return replacer.map { "which \($0) had seen and replaced" }
    }

    /// Whether a write is surely there: what was acknowledged is, and what was ever shown.
    private func stands(_ id: WriteID) -> Bool {
        let write = writes[id]
        return (write.isAcknowledged || write.wasShown) && !write.isForfeit && !write.isCut
            && !isConfused(write)
    }

    /// Whether it cannot be told what a write of one of several histories replaced, or what
    /// replaced it: where another server, or another history, wrote the same cell.
    private func isConfused(_ write: Write) -> Bool {
        guard let history = write.history, write.kind == .register else { return false }
        return confused.contains(write.cell)
            || (byCell[write.cell] ?? []).contains {
                writes[$0].history ?? history != history
            }
    }

    /// Whether every server must show a value.
    private func mustShow(_ id: WriteID) -> Bool {
        guard stands(id), !writes[id].isDeletion else { return false }
        if writes[id].kind == .log { return true }
        return !(byCell[writes[id].cell] ?? []).contains { other in
            writes[other].replaces.contains(id) && !writes[other].isCut
        }
    }

    /// Judges whether a follower's last words for each cell are what its server shows.
    public func judge(follower: String, _ shown: [Cell: [WriteID]]) -> String? {
        let told = told[follower] ?? [:]
        for cell in Set(told.keys).union(shown.keys).sorted() {
            let now = (shown[cell] ?? []).sorted()
            if told[cell] ?? [] != now {
                return
                    "the feed of \(follower) last told \(told[cell] ?? []) of \(cell), which shows \(now)"
            }
        }
        return nil
    }

    /// Judges whether two servers show the same.
    public static func difference(
        _ one: [Cell: [WriteID]], _ other: [Cell: [WriteID]], shared: (String) -> Bool
    ) -> String? {
        for cell in Set(one.keys).union(other.keys).sorted() where shared(cell.scope) {
            // A log shows first what its server held first.
            let (mine, theirs) = (Set(one[cell] ?? []), Set(other[cell] ?? []))
            if mine != theirs {
                return "\(cell) shows \(one[cell] ?? []) here and \(other[cell] ?? []) there"
            }
        }
        return nil
    }
}

extension Oracle.Cell: CustomStringConvertible {
    /// `key in scope`.
    public var description: String { "'\(key)' in \(scope)" }
}
