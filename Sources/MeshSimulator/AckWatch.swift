// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshEngine
internal import MeshLink
internal import MeshOracle
internal import MeshReplication
internal import MeshRules
internal import MeshStore

/// Apps that want their writes on other disks too, and what becomes of that.
///
/// A server that says that it holds a log is taken at its word: from then on its disk owes the
/// writes, so that they must outlive the disk of the server that took them.
struct AckWatch {
    /// A write that waits.
    private struct Waiting {
        let log: LogName
        let through: UInt64
        let level: AckLevel
        let site: String
    }

    /// Writes of a log, with where the log ended once they were made.
    private struct Ended {
        let through: UInt64
        let commit: Digest
        let ids: [Oracle.WriteID]
    }

    /// What somebody has said that he holds.
    private struct Word: Hashable {
        let log: LogName
        let run: HeldRun
    }

    private var last: UInt64 = 0
    private var waiting: [UInt64: Waiting] = [:]
    private var ended: [LogName: [Ended]] = [:]
    private var said: [Word: Set<NodeID>] = [:]

    /// A server has made writes, with which its log ends now.
    mutating func made(
        _ ids: [Oracle.WriteID], in log: LogName, through: UInt64, commit: Digest
    ) {
        ended[log, default: []].append(Ended(through: through, commit: commit, ids: ids))
    }

    /// An app wants a write acknowledged.
    mutating func want(
        _ level: AckLevel, _ log: LogName, through: UInt64, of site: String, until: Instant
    ) -> Acknowledgements.Want {
        last += 1
        waiting[last] = Waiting(log: log, through: through, level: level, site: site)
        return Acknowledgements.Want(
            number: last, log: log, through: through, level: level, until: until)
    }

    /// A server says that it holds a log: what it owes from now on.
    mutating func says(_ holding: Holding) -> [Oracle.WriteID] {
        let run = holding.run
        said[Word(log: holding.log, run: run), default: []].insert(holding.holder)
        let all = ended[holding.log] ?? []
        // Of another history it says nothing.
        guard let mine = all.first(where: { $0.through == run.through }),
            mine.commit == run.commit
        else { return [] }
        return all.filter { run.holds($0.through) }.flatMap(\.ids)
    }

    /// A server acknowledges a write.
    ///
    /// - Returns: what is wrong with that; nil if nothing is.
    mutating func acknowledged(
        _ number: UInt64, _ reached: Acknowledgements.Reached, by own: NodeID,
        among nodes: [SimulatedNode]
    ) -> String? {
        guard let want = waiting.removeValue(forKey: number) else {
            return "a write was acknowledged twice, or was never to be"
        }
        guard reached.isMet else { return nil }
        var holders: Set<NodeID> = [own]
        for (word, servers) in said
        where word.log == want.log && word.run.holds(want.through) {
            // A word about another history is none about this write.
            let mine = ended[word.log]?.first { $0.through == word.run.through }
            if mine.map({ $0.commit == word.run.commit }) ?? true { holders.formUnion(servers) }
        }
        let strangers = Set(reached.holders).subtracting(holders)
        if !strangers.isEmpty { return "\(strangers) have not said that they hold it" }
        let isCounted = { (site: String) in
            Set(reached.holders.filter { id in nodes.contains { $0.id == id && $0.site == site } })
        }
        switch want.level {
        case .local: return nil
        case .site(let count):
            return isCounted(want.site).count >= count
                ? nil : "\(reached.holders.count) servers are fewer than \(count) of the site"
        case .central:
            return isCounted("centre").isEmpty ? "no server of the centre holds it" : nil
        }
    }
}

extension Simulation {
    /// One app in four wants more than its own server's disk.
    func wantMore(
        _ node: SimulatedNode, _ prepared: Apps.Prepared, _ receipts: [Receipt]
    ) {
        guard let store = node.store, let dot = receipts.compactMap(\.dot).max(),
            dot.author.node == node.id
        else { return }
        let log = LogName(scope: prepared.request.scope, author: dot.author)
        guard let end = try? store.end(of: log), end.through >= dot.sequence else { return }
        let ids = zip(prepared.ids, receipts).filter { $0.1.dot != nil }.map(\.0)
        acks.made(ids, in: log, through: end.through, commit: end.commit)
        guard random.next() % 4 == 0 else { return }
        let want = acks.want(
            random.next() % 2 == 0 ? .site(2) : .central, log, through: dot.sequence,
            of: node.site, until: now.advanced(by: .seconds(5)))
        let life = node.life
        schedule(after: .microseconds(Int(random.next() % 2000))) {
            guard node.life == life else { return }
            self.post(node, .acknowledge(want))
        }
    }

    /// A server says that it holds a log: its disk owes what apps wrote there.
    func heed(_ node: SimulatedNode, saysIn bytes: [UInt8]) {
        guard let holding = try? Holding(decoding: bytes), holding.holder == node.id else { return }
        let ids = acks.says(holding)
        say(
            "\(node.name) says that it holds \(holding.log.author) through \(holding.run.through): \(ids)"
        )
        // What a rotten disk owes nobody can tell.
        guard !ids.isEmpty, !node.isRotten else { return }
        mark(.held)
        apps.oracle.place(Set(ids), on: node.index)
    }

    func acknowledged(
        _ node: SimulatedNode, _ number: UInt64, _ reached: Acknowledgements.Reached
    ) {
        if let fault = acks.acknowledged(number, reached, by: node.id, among: nodes) {
            return fail("\(node.name): \(fault)")
        }
        say("\(node.name) acknowledges \(number) as on \(reached.holders.count) disks")
        mark(reached.isMet ? .acknowledged : .acknowledgedLess)
    }
}
