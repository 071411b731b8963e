// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshEngine
internal import MeshMembership
internal import MeshOracle
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// One mesh in virtual time: its seed decides everything that chance would.
package final class Simulation {
    /// What came of a run.
    package struct Report: Sendable {
        /// The seed.
        package let seed: UInt64
        /// Why the run failed; nil if it did not.
        package var failure: String?
        /// What was reached, and how often.
        package var marks: [Mark: Int] = [:]
        /// Stands for everything that every node did, in order.
        package var trace: UInt64 = 0xcbf2_9ce4_8422_2325
        /// How many nodes there were.
        package var nodes = 0
        /// Steps of engines.
        package var steps = 0
        /// Writes that were acknowledged.
        package var acknowledged = 0
        /// From the end of all faults to equal digests, in pauses between comparisons.
        package var rounds = 0.0
        /// The same, in virtual time.
        package var healed = Duration.zero
        /// The files of all disks, if the run failed.
        package var disks: [String: [UInt8]] = [:]
    }

    struct Failed: Error {
        let reason: String
    }

    let scenario: Scenario
    var random: SeededGenerator
    var trust: SimulatedTrust
    private(set) var now = Instant(nanoseconds: 0)
    private var events = EventQueue()
    var nodes: [SimulatedNode] = []
    var apps = Apps()
    var acks = AckWatch()
    /// Where neighbours took writes a second time.
    var takenTwice: [Scope: Set<Dot>] = [:]
    private var revocations: [Revocation] = []
    var network = SimulatedNetwork()
    /// How namespaces were defined while the mesh was at work.
    var definitions: [String: Set<NamespacePolicy>] = [:]
    package var report: Report
    /// The first thing that went wrong; nothing happens after it.
    var failure: String?
    /// Prints what happens, for a person who looks for a mistake.
    package var narrates = false

    /// Steps after which servers are taken to answer each other for ever; a run has a few thousand.
    private static let stepsMax = 100_000

    /// Begins a run; `run` makes it.
    package init(_ scenario: Scenario, seed: UInt64) {
        self.scenario = scenario
        report = Report(seed: seed)
        random = SeededGenerator(seed: seed)
        trust = SimulatedTrust(seed: random.next())
        _ = DiskLayer.isRegistered
    }

    /// Runs the scenario, heals everything, and waits until all agree.
    package func run() -> Report {
        do {
            try build()
            for step in scenario.steps {
                schedule(at: Instant(nanoseconds: 0).advanced(by: step.at)) {
                    self.perform(step.action)
                }
            }
            runUntil(Instant(nanoseconds: 0).advanced(by: scenario.end))
            try converge()
            if let fault = try apps.judge(members) { throw Failed(reason: fault) }
            for mark in scenario.marks.sorted() where !reached(mark) {
                throw Failed(reason: "the scenario did not reach '\(mark)'")
            }
        } catch let failed as Failed {
            failure = failure ?? failed.reason
        } catch {
            failure = failure ?? "\(error)"
        }
        for node in nodes {
            if failure != nil {
                for (name, bytes) in node.disk.contents {
                    report.disks["\(node.name)-\(name)"] = bytes
                }
            }
            node.disk.freeze()
            node.store?.close()
            node.disk.unmount()
        }
        report.failure = failure
        report.nodes = nodes.count
        report.acknowledged = apps.oracle.acknowledgedCount
        return report
    }

    private func reached(_ mark: String) -> Bool {
        Mark(rawValue: mark).map { (report.marks[$0] ?? 0) > 0 } ?? false
    }

    private func build() throws {
        var sites = [("centre", choose(scenario.centres))]
        let count = choose(scenario.sites)
        for number in 1...count { sites.append(("s\(number)", choose(scenario.servers))) }
        for (site, servers) in sites {
            for server in 1...servers {
                let isCentral = site == "centre"
                let name = isCentral && server == 1 ? site : "\(site)-\(server)"
                add(
                    name,
                    trust.identity(
                        name, site: site, isCentral: isCentral,
                        seeds: isCentral ? [] : ["h0:7374"]),
                    wall: 1_700_000_000_000)
            }
        }
        for node in nodes { start(node) }
        try govern(nodes[0])
    }

    /// The centre defines the namespaces.
    private func govern(_ centre: SimulatedNode) throws {
        for (name, policy) in Apps.namespaces.sorted(by: { $0.key < $1.key }) {
            let document = trust.policy(policy, of: name, created: centre.clock.wall)
            let write = Write(.put, try NamespacePolicy.key(of: name), body: document.encoded)
            self.write(centre, WriteRequest(scope: NamespacePolicy.scope, writes: [write]))
        }
    }

    /// Whether a node is no member any more.
    func isRevoked(_ node: NodeID) -> Bool { revocations.contains { $0.node == node } }

    /// Every revocation that an operator has signed.
    var signedRevocations: [Revocation] { revocations }

    func note(_ revocation: Revocation) { revocations.append(revocation) }

    /// A second machine of the same identity.
    func addCopy(of node: SimulatedNode) -> SimulatedNode {
        let name = node.name + String(repeating: "+", count: disks(of: node).count)
        let copy = add(name, node.identity, wall: Int64(clamping: node.clock.wall))
        copy.isCopy = true
        return copy
    }

    /// A machine that is off.
    @discardableResult
    func add(_ name: String, _ identity: DataDirectory.Identity, wall: Int64) -> SimulatedNode {
        let node = SimulatedNode(index: nodes.count, name: name, identity: identity, wall: wall)
        nodes.append(node)
        return node
    }

    private func choose(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(random.next() % UInt64(range.count))
    }

    /// The nodes that nobody has revoked, and that nobody has switched off for good.
    private var members: [SimulatedNode] {
        nodes.filter { !isRevoked($0.id) && !$0.isCopy && !$0.isRetired }
    }

    func node(_ name: String) -> SimulatedNode? { nodes.first { $0.name == name } }

    func mark(_ mark: Mark) { report.marks[mark, default: 0] += 1 }

    func fail(_ reason: @autoclosure () -> String) {
        if failure == nil { failure = "at \(now.nanoseconds / 1_000_000) ms: " + reason() }
    }

    func say(_ text: @autoclosure () -> String) {
        if narrates { print("[\(Double(now.nanoseconds / 1_000_000) / 1000)s] \(text())") }
    }

    /// Mixes something that happened into the trace (FNV-1a).
    func trace(_ bytes: some Sequence<UInt8>) {
        var hash = report.trace
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        report.trace = hash
    }

    func trace(_ number: UInt64) {
        report.trace = (report.trace ^ number) &* 0x100_0000_01b3
    }

    // MARK: Time

    func schedule(after pause: Duration, _ act: @escaping () -> Void) {
        schedule(at: now.advanced(by: pause), act)
    }

    func schedule(at time: Instant, _ act: @escaping () -> Void) {
        events.add(at: max(time, now), act)
    }

    /// Lets virtual time go by, unless something went wrong.
    func runUntil(_ end: Instant) {
        while failure == nil, let event = events.next(by: end) {
            pass(to: event.at)
            event.act()
            if report.steps > Self.stepsMax { failure = "does not come to rest" }
        }
        if failure == nil { pass(to: end) }
    }

    private func pass(to time: Instant) {
        let step = time.since(now)
        let old = now.nanoseconds / 1_000_000
        now = max(now, time)
        let milliseconds = now.nanoseconds / 1_000_000 - old
        guard step > .zero, milliseconds > 0 else { return }
        for node in nodes { node.clock.advance(by: .milliseconds(milliseconds)) }
    }

    // MARK: Together again

    /// Ends every fault and waits until all that may hold a scope hold the same of it.
    private func converge() throws {
        healEverything()
        let begin = now
        let pause = EngineTuning().syncInterval
        let size = Double(members.count)
        var doublings = 0
        while Double(1 << doublings) < size { doublings += 1 }
        let rounds = Double(2 * doublings + 4)
        let end = now.advanced(by: pause * Int(4 * rounds))
        while failure == nil, now < end {
            runUntil(now.advanced(by: .milliseconds(500)))
            guard failure == nil else { return }
            // An operator looks at the centre once there was time for others to bring it theirs.
            if now.since(begin) > pause * 2 { signLostPolicies() }
            let difference: String?
            do { difference = try Apps.difference(members) } catch let error as Unreadable {
                failed(nodes[error.node], error.why)
                continue
            }
            if difference == nil,
                members.allSatisfy({ unseen(by: $0) == nil })
            {
                report.healed = now.since(begin)
                report.rounds = report.healed.seconds / pause.seconds
                say("healed after \(report.healed)")
                // A little longer, for what would yet go wrong.
                return runUntil(now.advanced(by: .seconds(2)))
            }
        }
        guard failure == nil else { return }
        let what =
            try Apps.difference(members)
            ?? members.lazy.compactMap { node in
                self.unseen(by: node).map { "\(node.name) does not see \($0.name) alive" }
            }.first
        throw Failed(reason: "no agreement \(4 * rounds) rounds after the heal: \(what ?? "")")
    }

    /// A member that a node should take for alive and does not.
    private func unseen(by node: SimulatedNode) -> SimulatedNode? {
        let members = node.engine?.membership.members ?? []
        let alive = Set(members.filter { $0.state == .alive }.map(\.node))
        return self.members.first { other in
            other !== node && !alive.contains(other.id)
                && (other.site == node.site || node.site == "centre" || other.site == "centre")
        }
    }
}
