// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshStore

/// Everything at once, by chance.
extension Simulation {
    func mix(until end: Instant) {
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
        let namespace = pick(["notes", "notes", "orders", "desk", "prices", "club"])
        if node.isUp, !node.isPaused {
            if chance(0.08) { retry(node) } else { write(node, namespace) }
        }
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
        switch random.next() % 31 {
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
            perform(.cable(name, isOut: true))
            later(.cable(name, isOut: false))
        case 12: perform(.image(name))
        case 13:
            perform(node.image == nil || chance(0.5) ? .wipe(name) : .restore(name))
            later(.start(name))
        case 14: perform(.sleep(name, years: 3))
        case 15: revokeByChance(node)
        case 16, 17: perform(node.snapshot == nil ? .snapshot(name) : .revert(name))
        case 18: copyByChance(node, for: back)
        case 19, 20:
            perform(.disk(name, pick(DiskFault.allCases)))
            if chance(0.5) { later(.power(name, afterWrites: 0)) }
            schedule(after: back + .seconds(1)) { self.perform(.disk(name, nil)) }
            schedule(after: back + .seconds(2)) { self.perform(.start(name)) }
        case 21, 22:
            for _ in 0..<4 { perform(.rot(name)) }
            later(.scrub(name))
        case 23, 24, 25: lieByChance(name)
        case 26: defineByChance(back: back)
        case 27: perform(.rename(name))
        case 28: if chance(0.5) { perform(.replace(name)) }
        case 29: if chance(0.5) { perform(.leave(name)) }
        default: network.loss = pick([0, 0.02, 0.1, 0.3])
        }
    }

    /// Central servers that do not hear each other define a namespace, each in its way.
    private func defineByChance(back: Duration) {
        let centres = nodes.filter { $0.site == "centre" && !$0.isCopy }
        for (place, centre) in centres.enumerated() {
            if place > 0 { cable(centre, isOut: true) }
            perform(.define(centre.name, namespace: "club", way: place))
            schedule(after: back) { self.cable(centre, isOut: false) }
        }
    }

    /// A machine is copied, after a clean stop or as it runs, and both are at work for a while.
    private func copyByChance(_ node: SimulatedNode, for time: Duration) {
        guard !node.isCopy, disks(of: node).count == 1 else { return }
        if chance(0.5) { perform(.stop(node.name)) }
        perform(.copy(node.name))
        perform(.start(node.name))
        schedule(after: time) {
            for copy in self.nodes where copy.isCopy && copy.id == node.id { self.retire(copy) }
        }
    }

    private func lieByChance(_ name: String) {
        let lie = pick(Lie.allCases)
        // Hundreds of values of one key cost each reader of it as much: in few runs.
        if lie == .crowd, chance(0.8) { return }
        perform(.lie(name, lie))
    }

    /// Now and then a server of a site is stolen, and the centre hears of it.
    private func revokeByChance(_ node: SimulatedNode) {
        let centre = nodes[0]
        // Without the only centre, or its copy, the sites are apart for good. With a centre that
        // nobody had heard, namespaces that it alone defined are lost.
        guard chance(0.3), node.site != "centre", centre.isUp, !centre.isPaused,
            !isRevoked(node.id)
        else { return }
        perform(.revoke(node.name, through: centre.name))
    }
}
