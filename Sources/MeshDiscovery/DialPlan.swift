// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Why a dial led to no link.
package struct DialFailure: Hashable, Sendable {
    /// Kinds of causes, each with a remedy of its own.
    package enum Cause: String, Sendable {
        /// Nothing accepted the connection, or it broke off.
        case unreachable
        /// This node itself answered.
        case ownAddress = "own_address"
        /// Who answered has another mesh secret, or speaks something else.
        case wrongMesh = "wrong_mesh"
        /// Who answered speaks no protocol version of this program's.
        case noCommonVersion = "no_common_version"
        /// The certificate that was shown is not one of this mesh.
        case certificateRefused = "certificate_refused"
    }

    /// The kind.
    package let cause: Cause
    /// What happened, for a person.
    package let reason: String

    /// Describes a failure.
    package init(_ cause: Cause, _ reason: String) {
        self.cause = cause
        self.reason = reason
    }
}

/// Whom to dial and when: every rung of the ladder at once, with capped, jittered back-off.
///
/// A seed is tried for ever, and so is an address that worked before; a seed the more often, the
/// shorter it has been silent. One that a peer told of a
/// node, and at which nobody ever answered, is tried ever more seldom: what a peer says may be a
/// lie, and the host there another's. An address that a beacon told is tried while beacons come
/// from it. All but seeds share a budget of dials.
package struct DialPlan: Sendable {
    /// How patient to be.
    package struct Tuning: Sendable {
        /// The pause after a first failure; it doubles with each further one.
        package var firstPause = Duration.seconds(1)
        /// The longest pause.
        package var longestPause = Duration.seconds(30)
        /// The part of an outage that a seed is left alone after a further dial in vain, a quarter
        /// more or less: a line that was down for a minute is dialled within some two seconds.
        package var seedPause = 32
        /// The longest pause of an address that a peer told, and that never worked.
        package var longestToldPause = Duration.seconds(600)
        /// Most addresses of one node that peers tell.
        package var toldMax = 4
        /// Dials a second, in the long run, of addresses that are no seeds.
        package var dialsPerSecond: Int64 = 4
        /// Such dials at once after a quiet while.
        package var dialsAtOnce: Int64 = 64
        /// The least time between two dials of one address that a beacon told.
        package var beaconPause = Duration.seconds(5)
        /// The least time between two dials of a seed at whose address an unwanted node was met.
        package var unwantedPause = Duration.seconds(600)
        /// How long the node with the higher identity waits for the other to dial.
        package var yield = Duration.seconds(1)
        /// Most addresses that are known at once; the oldest heard goes first.
        package var targetsMax = 1024

        /// The defaults.
        package init() {}
    }

    /// How an address came to be known.
    package enum Rung: String, Sendable {
        case seed, beacon, remembered, told
    }

    /// One address.
    package struct Target: Sendable {
        /// `host:port`.
        package let address: Address
        /// How it came to be known.
        package let rung: Rung
        /// Who was last met there.
        package var node: NodeID?
        /// Dials that failed in a row.
        package var failures = 0
        /// When the first of them did.
        var failingSince: Instant?
        /// How often it was dialled.
        package var dials = 0
        /// Why the last dial failed.
        package var lastFailure: DialFailure?
        var nextDial: Instant
        var lastDial: Instant?
        var lastHeard: Instant
        var incarnation: Incarnation?
        var isDialling = false
        /// Whoever is there is to be reached, wanted as a peer or not.
        var isForced = false
        /// Whether a dial has ever led to a link.
        var hasWorked = false
        /// Whether this node itself answers there.
        package var isSelf = false
    }

    /// What is thought of a node whose address is due.
    package enum Verdict: Sendable {
        /// It is to be dialled.
        case wanted
        /// Not now, but perhaps in a moment.
        case notNow
        /// It may be looked at again after a while.
        case later
        /// It is not wanted; but at a seed's address another may answer one day.
        case never
    }

    private let own: NodeID
    private let tuning: Tuning
    private var targets: [Address: Target] = [:]
    private var entropy: SeededGenerator
    /// When the budget of dials is full again; it is spent while that is far ahead.
    private var budgetFull: Instant

    /// Begins with the configured seeds, which are due at once.
    package init(
        own: NodeID, seeds: [Address], tuning: Tuning, entropy: SeededGenerator, now: Instant
    ) {
        self.own = own
        self.tuning = tuning
        self.entropy = entropy
        budgetFull = now
        for seed in seeds {
            targets[seed] = Target(address: seed, rung: .seed, nextDial: now, lastHeard: now)
        }
    }

    /// All addresses, for operators.
    package var known: [Target] { targets.values.sorted { $0.address < $1.address } }

    /// Whether an address is a seed, or was heard of before.
    package func knows(_ address: Address) -> Bool { targets[address] != nil }

    /// A beacon of another node was heard from an address on a local segment.
    package mutating func hear(
        _ node: NodeID, _ incarnation: Incarnation, at address: Address, now: Instant
    ) {
        if var target = targets[address] {
            target.lastHeard = now
            target.isSelf = false
            // Another node has taken the address over, or the one there came up again.
            if target.node != node || target.incarnation != incarnation {
                target.node = node
                target.incarnation = incarnation
                let rested = target.lastDial?.advanced(by: tuning.firstPause) ?? now
                target.nextDial = min(target.nextDial, max(now, rested))
            }
            targets[address] = target
            return
        }
        if targets.count >= tuning.targetsMax { dropOldest() }
        let wait = own < node ? Duration.zero : tuning.yield
        targets[address] = Target(
            address: address, rung: .beacon, node: node, nextDial: now.advanced(by: wait),
            lastHeard: now, incarnation: incarnation)
    }

    /// A node was met at an address before, or a peer says that it may be met there.
    package mutating func tell(
        _ node: NodeID, at address: Address, rung: Rung, now: Instant
    ) {
        guard node != own, targets[address] == nil else { return }
        if rung == .told { makeRoom(for: node) }
        if targets.count >= tuning.targetsMax { dropOldest() }
        guard targets.count < tuning.targetsMax else { return }
        let wait = own < node ? Duration.zero : tuning.yield
        targets[address] = Target(
            address: address, rung: rung, node: node, nextDial: now.advanced(by: wait),
            lastHeard: now)
    }

    /// A node is to be dialled now, wherever it was last.
    package mutating func reach(_ node: NodeID, at address: Address, now: Instant) {
        tell(node, at: address, rung: .told, now: now)
        targets[address]?.node = node
        targets[address]?.isForced = true
        targets[address]?.isSelf = false
        targets[address]?.nextDial = now
    }

    /// Of the addresses of a node that peers told, the oldest that has not worked goes for another.
    private mutating func makeRoom(for node: NodeID) {
        let told = targets.values.filter { $0.node == node && $0.rung == .told }
        guard told.count >= tuning.toldMax else { return }
        let oldest = told.filter { !$0.isDialling }.min { one, other in
            one.hasWorked == other.hasWorked
                ? (one.lastHeard, one.address) < (other.lastHeard, other.address)
                : !one.hasWorked
        }
        if let oldest { targets[oldest.address] = nil }
    }

    private mutating func dropOldest() {
        let oldest = targets.values.filter { $0.rung != .seed && !$0.isDialling }
            .min { ($0.lastHeard, $0.address) < ($1.lastHeard, $1.address) }
        if let oldest { targets[oldest.address] = nil }
    }

    /// Whether any address is due, whoever is there.
    package func mayBeDue(now: Instant) -> Bool {
        targets.values.contains { $0.nextDial <= now && !$0.isDialling && !$0.isSelf }
    }

    /// The addresses that are due, which are then taken to be dialled.
    ///
    /// - Parameters:
    ///   - most: no more than so many at once; the rest stays due.
    ///   - verdict: what is thought of a node that was met at an address.
    package mutating func due(
        now: Instant, linked: Set<NodeID>, atMost most: Int = .max,
        verdict: (NodeID) -> Verdict = { _ in .wanted }
    ) -> [Address] {
        var ready: [Address] = []
        for (address, target) in targets
        where target.nextDial <= now && !target.isDialling && !target.isSelf {
            guard let node = target.node else {
                ready.append(address)
                continue
            }
            if linked.contains(node) { continue }
            switch target.isForced ? .wanted : verdict(node) {
            case .wanted: ready.append(address)
            case .notNow: break
            case .later: targets[address]?.nextDial = now.advanced(by: tuning.yield)
            case .never where target.rung == .seed:
                let next = (target.lastDial ?? now).advanced(by: tuning.unwantedPause)
                if next <= now { ready.append(address) }
                targets[address]?.nextDial = max(next, now.advanced(by: tuning.yield))
            case .never: targets[address] = nil
            }
        }
        var due: [Address] = []
        // Who has waited longest comes first, so that the budget passes nobody over.
        let order = ready.compactMap { targets[$0] }.sorted { one, other in
            one.isForced == other.isForced
                ? (one.nextDial, one.address) < (other.nextDial, other.address) : one.isForced
        }
        for target in order where due.count < most {
            let address = target.address
            // A beacon that is not heard any more tells no address, unless that is to be found out.
            if target.rung == .beacon, !target.isForced, now.since(target.lastHeard) > .seconds(60)
            {
                targets[address] = nil
                continue
            }
            guard target.rung == .seed || spend(now) else { continue }
            targets[address]?.isDialling = true
            targets[address]?.lastDial = now
            targets[address]?.dials += 1
            due.append(address)
        }
        return due
    }

    /// Takes one dial of the budget.
    private mutating func spend(_ now: Instant) -> Bool {
        let cost = Duration.nanoseconds(1_000_000_000 / tuning.dialsPerSecond)
        let next = max(budgetFull, now).advanced(by: cost)
        guard next.since(now) <= cost * tuning.dialsAtOnce else { return false }
        budgetFull = next
        return true
    }

    /// This host's network has changed: what failed before is tried again soon.
    package mutating func hurry(now: Instant) {
        for address in targets.keys.sorted() {
            guard let due = targets[address]?.nextDial else { continue }
            let soon = now.advanced(by: entropy.jittered(.milliseconds(200), by: 0.5))
            targets[address]?.nextDial = min(due, soon)
            // Addresses may have been dealt out anew.
            targets[address]?.isSelf = false
        }
    }

    /// A dial has met a node that gets no link: what failed there before still counts.
    package mutating func met(_ node: NodeID, at address: Address) {
        targets[address]?.node = node
    }

    /// A dial led to a link.
    package mutating func linked(_ address: Address, to node: NodeID, now: Instant) {
        guard var target = targets[address] else { return }
        target.isDialling = false
        target.isForced = false
        target.node = node
        target.failures = 0
        target.failingSince = nil
        target.lastFailure = nil
        target.hasWorked = true
        target.nextDial = now.advanced(by: entropy.jittered(tuning.firstPause, by: 0.5))
        targets[address] = target
    }

    /// A dial failed, or its link closed before it stood.
    ///
    /// - Returns: the node that was to be reached there, if one was.
    @discardableResult
    package mutating func failed(
        _ address: Address, _ failure: DialFailure, now: Instant
    ) -> NodeID? {
        guard var target = targets[address] else { return nil }
        let reached = target.isForced ? target.node : nil
        target.isDialling = false
        target.isForced = false
        target.isSelf = failure.cause == .ownAddress
        target.failures += 1
        target.lastFailure = failure
        let since = target.failingSince ?? now
        target.failingSince = since
        // Whoever turned a seed away that has worked before may just be crowded: all sites dial the
        // centre at once when its line is back.
        let isDown =
            failure.cause == .unreachable || (target.hasWorked && failure.cause == .wrongMesh)
        var pause = pause(of: target, failing: isDown ? now.since(since) : nil)
        // A beacon can be replayed by anyone who heard it.
        if target.rung == .beacon { pause = max(pause, tuning.beaconPause * 1.34) }
        target.nextDial = now.advanced(by: entropy.jittered(pause, by: 0.25))
        targets[address] = target
        return reached
    }

    /// - Parameter outage: for how long nobody has answered there; nil where somebody does, and
    ///   refuses.
    private func pause(of target: Target, failing outage: Duration?) -> Duration {
        if target.rung == .seed, let outage {
            return min(max(outage / tuning.seedPause, tuning.firstPause), tuning.longestPause)
        }
        let isHearsay = target.rung == .told && !target.hasWorked
        let longest = isHearsay ? tuning.longestToldPause : tuning.longestPause
        return min(tuning.firstPause * (1 << min(target.failures - 1, 10)), longest)
    }
}
