// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshEngine
internal import MeshOracle
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
        case .wan(let site, let isCut):
            if isCut { network.cut.insert(site) } else { mend(site) }
        case .oneWay(let site, let isOutward):
            if isOutward { network.cutOutward.insert(site) } else { network.cutInward.insert(site) }
        case .loss(let part): network.loss = part
        case .mix(let time): mix(until: now.advanced(by: time))
        case .kill, .stop, .start, .pause, .resume, .power, .wipe, .image, .restore, .clock, .sleep,
            .revoke:
            performOnNode(action)
        }
    }

    private func named(_ name: String) -> SimulatedNode? {
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

    private func performOnNode(_ action: Scenario.Action) {
        switch action {
        case .kill(let name): if let node = named(name) { crash(node, power: false) }
        case .stop(let name): if let node = named(name) { stop(node) }
        case .start(let name): if let node = named(name) { start(node) }
        case .pause(let name): named(name)?.isPaused = true
        case .resume(let name): if let node = named(name) { resume(node) }
        case .power(let name, let writes): if let node = named(name) { power(node, writes) }
        case .wipe(let name): if let node = named(name) { wipe(node) }
        case .image(let name): if let node = named(name) { image(node) }
        case .restore(let name): if let node = named(name) { restore(node) }
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
    private func revoke(_ node: SimulatedNode, through witness: SimulatedNode) {
        guard let store = witness.store, let logs = try? store.logs(of: node.id, before: nil) else {
            return fail("\(witness.name) cannot be asked to revoke \(node.name)")
        }
        let revocation = trust.revocation(of: node.id, cuts: logs.map(\.cut))
        guard let shown = try? Apps.everything(store) else {
            return fail("\(witness.name) cannot be read")
        }
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

    private func wipe(_ node: SimulatedNode) {
        crash(node, power: true)
        node.disk.wipe()
        node.wasEmptied = true
        apps.oracle.lose(node.index)
    }

    private func image(_ node: SimulatedNode) {
        node.image = node.disk.image
        node.imageHeld = apps.oracle.held(on: node.index)
    }

    private func restore(_ node: SimulatedNode) {
        guard let image = node.image else { return }
        crash(node, power: true)
        node.disk.restore(image)
        node.wasEmptied = true
        apps.oracle.lose(node.index, but: node.imageHeld)
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

    // MARK: By chance

    private func mix(until end: Instant) {
        network.duplicated = 0.02
        network.truncated = 0.01
        network.changed = 0.0005
        network.loss = [0, 0.02, 0.1, 0.3][Int(random.next() % 4)]
        work(until: end)
        trouble(until: end)
    }

    private func work(until end: Instant) {
        guard now < end else { return }
        let node = pick(nodes)
        let namespace = pick(["notes", "notes", "orders", "desk", "prices"])
        if node.isUp, !node.isPaused { write(node, namespace) }
        schedule(after: random.jittered(.milliseconds(400), by: 0.9)) { self.work(until: end) }
    }

    private func pick<T>(_ all: [T]) -> T { all[Int(random.next() % UInt64(all.count))] }

    private func trouble(until end: Instant) {
        guard now < end else { return }
        schedule(after: random.jittered(.seconds(5), by: 0.9)) { self.trouble(until: end) }
        let node = pick(nodes)
        let name = node.name
        let back = random.jittered(.seconds(8), by: 0.9)
        func later(_ action: Scenario.Action) { schedule(after: back) { self.perform(action) } }
        switch random.next() % 17 {
        case 0, 1:
            perform(.wan(site: node.site, isCut: true))
            later(.wan(site: node.site, isCut: false))
        case 2:
            perform(.oneWay(site: node.site, isOutward: chance(0.5)))
            later(.wan(site: node.site, isCut: false))
        case 3, 4:
            perform(.kill(name))
            later(.start(name))
        case 5:
            perform(.stop(name))
            later(.start(name))
        case 6, 7, 8:
            perform(.power(name, afterWrites: Int(random.next() % 40)))
            schedule(after: .seconds(6)) { later(.start(name)) }
        case 9:
            perform(.pause(name))
            later(.resume(name))
        case 10:
            perform(.clock(name, by: chance(0.5) ? .seconds(315_569_520) : .seconds(-315_569_520)))
        case 11:
            network.unplugged.insert(node.index)
            schedule(after: back) {
                self.network.unplugged.remove(node.index)
                self.flush()
            }
        case 12: perform(.image(name))
        case 13:
            perform(node.image == nil || chance(0.5) ? .wipe(name) : .restore(name))
            later(.start(name))
        case 14: perform(.sleep(name, years: 3))
        case 15: revokeByChance(node)
        default: network.loss = pick([0, 0.02, 0.1, 0.3])
        }
    }

    /// Now and then a server of a site is stolen, and the centre hears of it.
    private func revokeByChance(_ node: SimulatedNode) {
        let centre = nodes[0]
        guard chance(0.3), node !== centre, centre.isUp, !centre.isPaused,
            !isRevoked(node.id)
        else { return }
        perform(.revoke(node.name, through: centre.name))
    }

    /// Ends every fault; everything that is down comes up.
    func healEverything() {
        say("healing everything")
        let changed = network.off
        network = SimulatedNetwork()
        network.off = changed
        for node in nodes {
            node.disk.failAfter(writes: nil)
            if node.isPaused { resume(node) }
            start(node)
            if node.wasEmptied { mark(.refilled) }
        }
        // What was lost with the centre's disk before it spread, the operator brings in again.
        for revocation in signedRevocations { revoke(revocation, at: nodes[0]) }
        flush()
    }
}
