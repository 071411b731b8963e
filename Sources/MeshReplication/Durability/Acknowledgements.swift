// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// Writes of this server's apps that wait until other servers hold them too.
///
/// A value: what happens goes in, what is to be done comes out. The article `Acknowledgements`.
package struct Acknowledgements: Sendable {
    /// Most writes that wait.
    package static let waitingMax = 4096
    /// Most own commits whose names are remembered.
    package static let commitsMax = 4096
    /// Most logs of which is remembered who holds them.
    package static let logsMax = 256
    /// How often is asked again for what has not come.
    package static let askInterval = Duration.milliseconds(500)

    /// A write that is to be acknowledged.
    package struct Want: Sendable {
        /// Names it among those that wait.
        package let number: UInt64
        /// Its place: the log of this server, and how far that must be held.
        package let log: LogName
        package let through: UInt64
        /// By whom.
        package let level: AckLevel
        /// When the app's patience ends.
        package let until: Instant

        /// Describes a write.
        package init(
            number: UInt64, log: LogName, through: UInt64, level: AckLevel, until: Instant
        ) {
            self.number = number
            self.log = log
            self.through = through
            self.level = level
            self.until = until
        }
    }

    /// What a holder counts for, by its certificate.
    package struct Standing: Hashable, Sendable {
        /// Whether it is of this server's site.
        package let isNear: Bool
        /// Whether it is of the centre.
        package let isCentral: Bool

        /// Says what a holder counts for.
        package init(isNear: Bool, isCentral: Bool) {
            self.isNear = isNear
            self.isCentral = isCentral
        }
    }

    /// Who holds a write.
    package struct Reached: Hashable, Sendable {
        /// Servers that said so, this one first.
        package let holders: [NodeID]
        /// Whether they are as many as were asked for.
        package let isMet: Bool

        /// Says who.
        package init(holders: [NodeID], isMet: Bool) {
            self.holders = holders
            self.isMet = isMet
        }
    }

    /// What is to be done.
    package enum Effect: Hashable, Sendable {
        /// Ask servers that count for a level.
        case ask(LogName, through: UInt64, AckLevel)
        /// Look up where a log of this server ends, and by which commit.
        case measure(LogName)
        /// A write waits no longer.
        case answer(UInt64, Reached)
    }

    /// What became of a word of a holder.
    package enum Verdict: Hashable, Sendable {
        /// It counts, or is known already.
        case counts
        /// This server wrote something else there, or does not know any more what.
        case otherCommit
    }

    private let own: NodeID
    private let standing: Standing
    private let mesh: MeshID
    private var waiting: [LogName: [Want]] = [:]
    private var waitingCount = 0
    /// What was asked for last, and when.
    private var asked: [LogName: [AckLevel: (through: UInt64, at: Instant)]] = [:]
    private var holders: [LogName: [NodeID: (run: HeldRun, standing: Standing)]] = [:]
    /// Own commits, the oldest first, in all and of each log.
    private var order: ArraySlice<LogName> = []
    private var commits: [LogName: ArraySlice<CommitHeader>] = [:]
    /// Ends of own logs that were looked up.
    private var measured: [LogName: (through: UInt64, commit: Digest)] = [:]

    /// Begins with no write.
    package init(own: NodeID, isCentral: Bool, mesh: MeshID) {
        self.own = own
        standing = Standing(isNear: true, isCentral: isCentral)
        self.mesh = mesh
    }

    /// A commit of this server is on its disk.
    package mutating func wrote(_ header: CommitHeader) {
        order.append(header.log)
        commits[header.log, default: []].append(header)
        guard order.count > Self.commitsMax, let oldest = order.popFirst() else { return }
        _ = commits[oldest]?.popFirst()
        if commits[oldest]?.isEmpty == true { commits[oldest] = nil }
    }

    /// The commit of a log in which a place is.
    private func commit(_ log: LogName, at place: UInt64) -> CommitHeader? {
        guard let list = commits[log] else { return nil }
        var (low, high) = (list.startIndex, list.endIndex)
        while low < high {
            let middle = low + (high - low) / 2
            if list[middle].last < place { low = middle + 1 } else { high = middle }
        }
        guard low < list.endIndex, list[low].range.contains(place) else { return nil }
        return list[low]
    }

    /// A write is to be acknowledged.
    ///
    /// - Returns: nil where too many wait: what is known is all that can be said.
    package mutating func want(_ want: Want, now: Instant) -> [Effect]? {
        let reached = reached(want.log, want.through, want.level)
        if reached.isMet || want.until <= now { return [.answer(want.number, reached)] }
        guard waitingCount < Self.waitingMax else { return nil }
        waitingCount += 1
        waiting[want.log, default: []].append(want)
        // Holders say how far whole commits go.
        let commit = commit(want.log, at: want.through)
        var effects: [Effect] = commit == nil ? [.measure(want.log)] : []
        let through = commit?.last ?? want.through
        if asked[want.log]?[want.level]?.through ?? 0 < through {
            asked[want.log, default: [:]][want.level] = (through, now)
            effects.append(.ask(want.log, through: through, want.level))
        }
        return effects
    }

    /// Who is known to hold a log so far; this server does.
    package func reached(_ log: LogName, _ through: UInt64, _ level: AckLevel) -> Reached {
        let others = (holders[log] ?? [:]).filter { $0.value.run.holds(through) }
        let isMet =
            switch level {
            case .local: true
            case .site(let count):
                1 + others.count { $0.value.standing.isNear } >= count
            case .central: standing.isCentral || others.contains { $0.value.standing.isCentral }
            }
        return Reached(holders: [own] + others.keys.sorted(), isMet: isMet)
    }

    /// Whether a holder's word would say nothing that is not known.
    package func knows(_ holding: Holding) -> Bool {
        holders[holding.log]?[holding.holder].map {
            $0.run.through >= holding.run.through && $0.run.after <= holding.run.after
        } ?? false
    }

    /// A holder says how far it holds a log of this server; that it said so is proven.
    package mutating func hear(
        _ holding: Holding, from standing: Standing
    ) -> (verdict: Verdict, effects: [Effect]) {
        let (log, run) = (holding.log, holding.run)
        if knows(holding) { return (.counts, []) }
        let known: Digest? =
            if let commit = commit(log, at: run.through), commit.last == run.through {
                commit.id(in: mesh)
            } else if let end = measured[log], end.through == run.through {
                end.commit
            } else {
                nil
            }
        guard known == run.commit else {
            return (.otherCommit, known == nil ? [.measure(log)] : [])
        }
        if holders[log] == nil, holders.count >= Self.logsMax {
            holders = holders.filter { waiting[$0.key] != nil }
        }
        // Of one history: what it said before, up to where this begins, stands.
        let before = holders[log]?[holding.holder].flatMap {
            $0.run.through >= run.after ? $0.run.after : nil
        }
        let all = HeldRun(
            after: min(before ?? run.after, run.after), through: run.through, commit: run.commit)
        holders[log, default: [:]][holding.holder] = (all, standing)
        let met = waiting[log, default: []].filter { reached(log, $0.through, $0.level).isMet }
        return (.counts, answer(met, in: log))
    }

    /// Whether a write in a log waits.
    package func isWaiting(_ log: LogName) -> Bool { waiting[log] != nil }

    /// What a server said counts no more: it was taken out, or is back, maybe with another disk.
    package mutating func forget(_ node: NodeID) {
        for log in holders.keys { holders[log]?[node] = nil }
    }

    /// Where a log of this server ends was looked up.
    package mutating func ends(_ log: LogName, at through: UInt64, with commit: Digest) {
        if measured[log] == nil, measured.count >= Self.logsMax { measured = [:] }
        measured[log] = (through, commit)
    }

    /// Writes of a log wait no longer.
    private mutating func answer(_ wants: [Want], in log: LogName) -> [Effect] {
        if wants.isEmpty { return [] }
        let numbers = Set(wants.map(\.number))
        waiting[log]?.removeAll { numbers.contains($0.number) }
        waitingCount -= wants.count
        if waiting[log]?.isEmpty == true { (waiting[log], asked[log]) = (nil, nil) }
        return wants.map { .answer($0.number, reached(log, $0.through, $0.level)) }
    }

    /// Time goes by: patience ends, and what has not come is asked for again.
    package mutating func tick(now: Instant) -> [Effect] {
        if waiting.isEmpty { return [] }
        var effects: [Effect] = []
        for (log, wants) in waiting.sorted(by: { $0.key < $1.key }) {
            effects += answer(wants.filter { $0.until <= now }, in: log)
        }
        for (log, levels) in asked.sorted(by: { $0.key < $1.key }) {
            for (level, last) in levels.sorted(by: { $0.key.name < $1.key.name })
            where now.since(last.at) >= Self.askInterval {
                asked[log]?[level]?.at = now
                effects.append(.ask(log, through: last.through, level))
            }
        }
        return effects
    }
}
