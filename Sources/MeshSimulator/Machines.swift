// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshEngine
internal import MeshOracle
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// Disks and machines that are copied, lost, and put back.
extension Simulation {
    func performOnMachine(_ action: Scenario.Action) {
        switch action {
        case .wipe(let name): if let node = named(name) { wipe(node) }
        case .image(let name): if let node = named(name) { image(node) }
        case .restore(let name): if let node = named(name) { restore(node) }
        case .snapshot(let name): if let node = named(name) { snapshot(node) }
        case .revert(let name): if let node = named(name) { revert(node) }
        case .copy(let name): if let node = named(name) { copy(node) }
        case .retire(let name): if let node = named(name) { retire(node) }
        case .rename(let name): if let node = named(name) { rename(node) }
        case .replace(let name): if let node = named(name) { replace(node) }
        case .leave(let name): if let node = named(name) { leave(node) }
        default: break
        }
    }

    private func wipe(_ node: SimulatedNode) {
        crash(node, power: true)
        node.disk.wipe()
        lose(node, but: [])
    }

    private func image(_ node: SimulatedNode) {
        node.image = node.disk.image
        node.imageHeld = apps.oracle.held(on: node.index)
        node.isImageRotten = node.isRotten
    }

    private func restore(_ node: SimulatedNode) {
        guard let image = node.image else { return }
        crash(node, power: true)
        node.disk.restore(image)
        node.isRotten = node.isImageRotten
        lose(node, but: node.imageHeld)
    }

    /// A disk holds less than it did.
    func lose(_ node: SimulatedNode, but kept: Set<Oracle.WriteID>) {
        node.wasEmptied = true
        node.answered = []
        apps.oracle.lose(node.index, but: kept)
    }

    /// The machine is saved as it runs, with its memory.
    private func snapshot(_ node: SimulatedNode) {
        guard let store = node.store else { return }
        node.snapshot = (node.disk.image, store.memory, apps.oracle.held(on: node.index))
        node.isSnapshotRotten = node.isRotten
    }

    /// The machine is put back to what was saved. Its process goes on, as if nothing had been, in
    /// the life and the places in which it had written before.
    private func revert(_ node: SimulatedNode) {
        guard let snapshot = node.snapshot else { return }
        crash(node, power: true)
        node.disk.restore(snapshot.image)
        node.isRotten = node.isSnapshotRotten
        node.memory = snapshot.memory
        lose(node, but: snapshot.held)
        apps.oracle.fork(disks(of: node), but: snapshot.held)
        start(node)
    }

    /// Another machine starts from a copy of the disk.
    private func copy(_ node: SimulatedNode) {
        let copy = addCopy(of: node)
        copy.disk.restore(node.disk.image)
        copy.isRotten = node.isRotten
        apps.oracle.place(apps.oracle.held(on: node.index), on: copy.index)
        start(copy)
    }

    /// A copy is switched off for good: what it alone holds is gone.
    func retire(_ copy: SimulatedNode) {
        if copy.isCopy { switchOff(copy) }
    }

    private func switchOff(_ node: SimulatedNode) {
        crash(node, power: true)
        network.off.insert(node.index)
        node.isRetired = true
        node.life += 1
        node.disk.wipe()
        lose(node, but: [])
    }

    /// The box is enrolled again under another name, and goes on with what it holds.
    private func rename(_ node: SimulatedNode) {
        guard !node.isCopy, !node.isRetired, disks(of: node).count == 1 else { return }
        stop(node)
        let name = node.identity.certificate.ticket.node
        node.identity = trust.renamed(node.identity, name + "-b")
        mark(.renamed)
        start(node)
    }

    /// The box is broken; another one is enrolled under its name, and begins with nothing.
    private func replace(_ node: SimulatedNode) {
        // Who knows nobody yet begins with the first server, at its address.
        guard node !== nodes[0], !node.isCopy, !node.isRetired, disks(of: node).count == 1,
            !isRevoked(node.id)
        else { return }
        switchOff(node)
        mark(.replaced)
        let ticket = node.identity.certificate.ticket
        start(
            add(
                node.name + "'",
                trust.identity(
                    ticket.node, site: ticket.site, isCentral: ticket.isCentral,
                    seeds: node.identity.seeds),
                wall: Int64(clamping: node.clock.wall)))
    }

    /// The box is to leave for good: no app writes there until it is known whether it may.
    private func leave(_ node: SimulatedNode) {
        guard node !== nodes[0], node.isUp, !node.isPaused, !node.isCopy, !node.isRetired,
            disks(of: node).count == 1, !isRevoked(node.id), let store = node.store
        else { return }
        store.refuseWrites(true)
        collect(node, store)
        guard node.isUp else { return }
        do { post(node, .handOver(scopes: try store.scopes(), isForced: false)) } catch {
            store.refuseWrites(false)
            failed(node, error)
        }
    }

    /// Whether the box may leave is known. What it had acknowledged its heir owes from now on.
    func handedOver(_ node: SimulatedNode, _ answer: HandOver) {
        guard case .to(let id) = answer, let heir = nodes.first(where: { $0.id == id && $0.isUp })
        else {
            if case .to = answer { post(node, .stay) }
            node.store?.refuseWrites(false)
            return mark(.stayed)
        }
        post(node, .leave)
        apps.oracle.leave(node.index, to: heir.index)
        // A bit has flipped there, and nobody knows yet what it took.
        if heir.isRotten { apps.oracle.lose(heir.index) }
        mark(.left)
        // Nothing starts on its disk again; the words go out before the power does.
        node.isRetired = true
        schedule(after: .milliseconds(500)) { self.switchOff(node) }
    }

    /// Every disk of an identity.
    func disks(of node: SimulatedNode) -> Set<Oracle.DiskID> {
        Set(nodes.filter { $0.id == node.id }.map(\.index))
    }
}
