// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshEngine
internal import MeshOracle
internal import MeshReplication
internal import MeshRules
internal import MeshStore

/// What a scenario makes happen, by the line or by chance.
extension Simulation {
    func perform(_ action: Scenario.Action) {
        say("\(action)")
        switch action {
        case .write(let name, let namespace, let count):
            guard let node = named(name) else { return }
            for index in 0..<count {
                schedule(after: .milliseconds(20 * index)) { self.write(node, namespace) }
            }
        case .retry(let name, let count):
            guard let node = named(name) else { return }
            for index in 0..<count {
                schedule(after: .milliseconds(20 * index)) { self.retry(node) }
            }
        case .wan(let site, let isCut):
            if isCut { network.cut.insert(site) } else { mend(site) }
        case .oneWay(let site, let isOutward):
            if isOutward { network.cutOutward.insert(site) } else { network.cutInward.insert(site) }
        case .loss(let part): network.loss = part
        case .mix(let time): mix(until: now.advanced(by: time))
        case .cable(let name, let isOut): if let node = named(name) { cable(node, isOut: isOut) }
        case .image, .restore, .wipe, .snapshot, .revert, .copy, .retire, .rename, .replace,
            .leave:
            performOnMachine(action)
        case .disk, .rot, .scrub: performOnDisk(action)
        case .lie(let name, let lie): if let node = named(name) { tell(lie, from: node) }
        case .define(let name, let namespace, let way):
            if let node = named(name) { define(namespace, Apps.definitions[way], at: node) }
        case .kill, .stop, .start, .pause, .resume, .power, .clock, .sleep, .revoke:
            performOnNode(action)
        }
    }

    func named(_ name: String) -> SimulatedNode? {
        let found = node(name)
        if found == nil { fail("the scenario names '\(name)', which is not there") }
        return found
    }

    private func mend(_ site: String) {
        network.cut.remove(site)
        network.cutOutward.remove(site)
        network.cutInward.remove(site)
        flush()
    }

    func cable(_ node: SimulatedNode, isOut: Bool) {
        if isOut {
            network.unplugged.insert(node.index)
        } else {
            network.unplugged.remove(node.index)
            flush()
        }
    }

    /// A central server defines a namespace.
    func define(_ namespace: String, _ policy: NamespacePolicy, at node: SimulatedNode) {
        guard let store = node.store, (try? store.policy(of: namespace)) == nil,
            let key = try? NamespacePolicy.key(of: namespace)
        else { return }
        let document = trust.policy(policy, of: namespace, created: node.clock.wall)
        let write = Write(.put, key, body: document.encoded)
        let request = WriteRequest(scope: NamespacePolicy.scope, writes: [write])
        self.write(node, request) { _ in
            self.definitions[namespace, default: []].insert(policy)
            if self.definitions[namespace]?.count ?? 0 > 1 { self.mark(.defined) }
        }
    }

    /// A policy that the centre has lost, and that nobody could bring it, is signed again by the
    /// operator, whose keys are elsewhere: its only record rotted, or went with a disk.
    func signLostPolicies() {
        var policies = Apps.namespaces
        for (name, ways) in definitions { policies[name] = ways.count == 1 ? ways.first : nil }
        for (name, policy) in policies.sorted(by: { $0.key < $1.key }) {
            define(name, policy, at: nodes[0])
        }
    }

    private func performOnNode(_ action: Scenario.Action) {
        switch action {
        case .kill(let name): if let node = named(name) { crash(node, power: false) }
        case .stop(let name): if let node = named(name) { stop(node) }
        case .start(let name): if let node = named(name) { start(node) }
        case .pause(let name): named(name)?.isPaused = true
        case .resume(let name): if let node = named(name) { resume(node) }
        case .power(let name, let writes): if let node = named(name) { power(node, writes) }
        case .clock(let name, let step):
            named(name)?.clock.jump(by: step)
            mark(.clockWrong)
        case .sleep(let name, let years): if let node = named(name) { sleep(node, years) }
        case .revoke(let name, let witness):
            if let node = named(name), let other = named(witness) { revoke(node, through: other) }
        default: break
        }
    }

    /// What the witness knows of the node stands; the node itself goes on, and links with nobody.
    ///
    /// Where the witness is down, or finds its file malformed just then, the operator asks again.
    private func revoke(_ node: SimulatedNode, through witness: SimulatedNode, tries: Int = 30) {
        guard let store = witness.store, let logs = try? store.logs(of: node.id, before: nil),
            let shown = try? Apps.everything(store)
        else {
            guard tries > 1 else {
                return fail("\(witness.name) cannot be asked to revoke \(node.name)")
            }
            return schedule(after: .seconds(1)) {
                self.revoke(node, through: witness, tries: tries - 1)
            }
        }
        let revocation = trust.revocation(of: node.identity.certificate, cuts: logs.map(\.cut))
        note(revocation)
        let disks = Set(nodes.filter { $0.id == node.id }.map(\.index))
        apps.oracle.revoke(disks, witness: shown)
        revoke(revocation, at: witness)
    }

    private func resume(_ node: SimulatedNode) {
        node.isPaused = false
        drain(node)
        flush()
    }

    private func power(_ node: SimulatedNode, _ writes: Int) {
        node.disk.failAfter(writes: writes)
        // Where nothing runs, the next start is what the power fails in.
        guard node.isUp else { return }
        let life = node.life
        schedule(after: writes == 0 ? .zero : .seconds(5)) {
            if node.life == life { self.crash(node, power: true) }
        }
    }

    /// Years pass for everyone but a node that is off; the others do what they do in a few seconds.
    private func sleep(_ node: SimulatedNode, _ years: Int) {
        stop(node)
        mark(.yearsAway)
        let year = Duration.seconds(31_556_952)
        for count in 0..<max(1, years) {
            schedule(after: .seconds(count)) {
                for other in self.nodes where other !== node { other.clock.jump(by: year) }
            }
        }
        schedule(after: .seconds(years + 1)) {
            // The box's own clock has gone on, if its battery has lasted.
            if self.chance(0.5) { node.clock.jump(by: year * years) }
            self.start(node)
        }
    }

    /// Ends every fault; everything that is down comes up.
    func healEverything() {
        say("healing everything")
        let changed = network.off
        network = SimulatedNetwork()
        network.off = changed
        for node in nodes where node.isCopy { retire(node) }
        for node in nodes where !node.isCopy && !node.isRetired {
            node.disk.failAfter(writes: nil)
            node.disk.set(nil)
            if node.isPaused { resume(node) }
            start(node)
            // What has rotted is found by the scrub at the latest.
            if node.isRotten { scrub(node) }
            if node.wasEmptied { mark(.refilled) }
        }
        // What was lost with the centre's disk before it spread, the operator brings in again.
        for revocation in signedRevocations { revoke(revocation, at: nodes[0]) }
        flush()
    }
}
