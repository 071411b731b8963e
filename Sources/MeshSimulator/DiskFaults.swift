// SPDX-License-Identifier: Apache-2.0

internal import MeshStore
internal import Synchronization

/// What is wrong with a disk that still works.
package enum DiskFault: String, CaseIterable, Sendable {
    /// Nothing more fits; reads go on.
    case full
    /// The next write fails, and none after it.
    case failing
    /// It says that writes last, and keeps them in a memory that goes with the power. It loses the
    /// last of them, in their order.
    case lying
    /// It takes a hundred times as long.
    case slow
}

/// Disks that still work, but not as they should.
extension Simulation {
    func performOnDisk(_ action: Scenario.Action) {
        switch action {
        case .disk(let name, let fault): named(name)?.disk.set(fault)
        case .rot(let name): if let node = named(name) { rot(node) }
        case .scrub(let name): if let node = named(name) { scrub(node) }
        default: break
        }
    }

    /// A bit flips in the database of a machine that is off for a moment: what lies in the log of a
    /// running one hides the file.
    private func rot(_ node: SimulatedNode) {
        let wasUp = node.isUp
        stop(node)
        if let place = node.disk.rot("mesh.sqlite", &random) {
            say("a bit flips in \(node.name) at \(place)")
            node.isRotten = true
            node.isSuspect = false
            // Whatever lies there is not held any more.
            lose(node, but: [])
        }
        if wasUp { start(node) }
    }

    /// Looks through everything once.
    func scrub(_ node: SimulatedNode) {
        guard let store = node.store else { return }
        do {
            var place = ScrubPlace.beginning
            repeat {
                // What was found is taken out before anything else is read.
                store.settle()
                let step = try store.scrub(after: place)
                if step.found > 0 { say("\(node.name) finds \(step.found) rotten") }
                place = step.next
            } while place != .beginning
            store.settle()
        } catch { return failed(node, error) }
        collect(node, store)
    }

    /// A process could not read its disk.
    func failed(_ node: SimulatedNode, _ error: any Error) {
        if node.disk.isDead { return }
        if node.isRotten { return restartOrReplace(node) }
        if let error = error as? StoreError, isPassing(error) { return restart(node) }
        fail("\(node.name): \(error)")
    }

    /// Whether an error is one that a failing disk gives once.
    func isPassing(_ error: StoreError) -> Bool {
        // SQLITE_IOERR, of whatever kind.
        if case .database(let code, _) = error { return code & 0xff == 10 }
        return false
    }

    /// Ends a process whose disk is gone or has failed; its supervisor starts it again.
    ///
    /// - Returns: whether it ended.
    func endsWithDisk(_ node: SimulatedNode) -> Bool {
        if node.disk.isDead {
            crash(node, power: true)
            return true
        }
        guard node.outbox.hasFailed.withLock({ $0 }) else { return false }
        if node.isRotten {
            restartOrReplace(node)
        } else {
            restart(node)
        }
        return true
    }

    private func restart(_ node: SimulatedNode) {
        mark(.diskFailed)
        crash(node, power: false)
        schedule(after: .seconds(1)) { self.start(node) }
    }

    /// A start mends what can be mended; where that does not help, the operator has to.
    private func restartOrReplace(_ node: SimulatedNode) {
        if node.isSuspect { return replaceDisk(node) }
        node.isSuspect = true
        restart(node)
    }

    /// The database's own structure has rotted: the operator puts in an empty disk.
    func replaceDisk(_ node: SimulatedNode) {
        say("\(node.name) gets another disk")
        mark(.diskReplaced)
        crash(node, power: true)
        node.disk.wipe()
        node.isRotten = false
        node.isSuspect = false
        lose(node, but: [])
        schedule(after: .seconds(1)) { self.start(node) }
    }
}
