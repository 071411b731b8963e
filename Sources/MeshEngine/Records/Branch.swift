// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication

/// One link as a branch of the tree along which new commits cross a large site: both directions.
///
/// Source: Leitão, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007 (*eager* and *lazy
/// push*, *prune*, *graft*).
struct Branch {
    /// What one end sends the other of a new commit.
    enum Push {
        /// The commit.
        case eager
        /// An announcement: another link brings the commit sooner.
        case lazy
    }

    /// A commit that the peer announced.
    private struct Promise {
        let log: LogName
        let through: UInt64
        let due: Instant
    }

    /// What the peer gets.
    private(set) var outgoing = Push.eager
    /// What this end asked for.
    private var incoming = Push.eager
    private var promises: [Promise] = []

    /// The peer asks for announcements only.
    mutating func pruned() { outgoing = .lazy }

    /// The peer asks for commits again.
    mutating func grafted() { outgoing = .eager }

    /// A commit came that was here already.
    ///
    /// - Returns: whether the peer is to be asked for announcements only.
    mutating func prune() -> Bool {
        guard incoming == .eager else { return false }
        incoming = .lazy
        return true
    }

    /// The peer announces a commit, which should come by another link until then.
    ///
    /// - Returns: false if as many are awaited already.
    mutating func promise(
        _ log: LogName, through: UInt64, due: Instant, limit: Int
    ) -> Bool {
        guard promises.count < limit else { return false }
        promises.append(Promise(log: log, through: through, due: due))
        return true
    }

    /// Whether something was announced that has not come.
    var isAwaiting: Bool { !promises.isEmpty }

    /// Forgets what has come.
    ///
    /// - Returns: whether something did not come in time: the peer is to be asked for commits.
    mutating func graft(_ heard: HeardLogs, now: Instant) -> Bool {
        if promises.isEmpty { return false }
        promises.removeAll { heard.has($0.log, through: $0.through) }
        let count = promises.count
        promises.removeAll { $0.due <= now }
        guard promises.count < count else { return false }
        incoming = .eager
        return true
    }
}

/// How far logs were heard, by whatever way.
struct HeardLogs {
    private var heads: [LogName: UInt64] = [:]
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    /// Whether a log was heard so far.
    func has(_ log: LogName, through: UInt64) -> Bool { (heads[log] ?? 0) >= through }

    /// A log was heard so far.
    ///
    /// - Returns: false if all others had to be forgotten for it. What is forgotten is asked for
    ///   once more: a comparison in step, and no harm.
    mutating func note(_ log: LogName, through: UInt64) -> Bool {
        let isFull = heads[log] == nil && heads.count >= limit
        if isFull { heads = [:] }
        heads[log] = max(heads[log] ?? 0, through)
        return !isFull
    }
}
