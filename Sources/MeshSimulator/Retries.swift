// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshOracle
internal import MeshRules
internal import MeshStore

/// Apps whose answer was lost ask again, of the same server or of a neighbour.
extension Simulation {
    /// An app asks again: it is answered the same, and nothing is written.
    func retry(_ node: SimulatedNode) {
        guard !node.answered.isEmpty else { return }
        let (prepared, receipts) = node.answered[Int(random.next() % UInt64(node.answered.count))]
        if random.next() % 2 == 0 { return retry(prepared, of: node, answered: receipts) }
        write(node, prepared.request) { result in
            self.mark(.retried)
            if case .success(let again) = result, again != receipts {
                self.fail("\(node.name) did again what an app had asked for once")
            }
        }
    }

    /// An app asks a neighbour for what it had asked a server for, whether that did it or not.
    func retry(_ prepared: Apps.Prepared, of node: SimulatedNode, answered: [Receipt]?) {
        guard prepared.request.idempotency != nil,
            let other = nodes.first(where: {
                $0 !== node && $0.site == node.site && $0.isUp && !$0.isPaused && !$0.isRetired
            }), let store = other.store
        else { return }
        let scope = prepared.request.scope
        var seen: [(id: Oracle.WriteID, saw: [Oracle.WriteID])] = []
        do {
            for (id, write) in zip(prepared.ids, prepared.request.writes) {
                seen.append((id, Apps.values(try store.get(write.key, in: scope))))
            }
        } catch { return failed(other, error) }
        write(other, prepared.request) { result in
            if case .failure(.idempotencyMismatch) = result {
                return self.fail("\(other.name) takes one request for two")
            }
            guard case .success(let receipts) = result else { return }
            self.mark(.retriedElsewhere)
            let places = receipts.map { $0.dot?.description ?? "-" }
            self.say("\(other.name) is asked for \(prepared.ids) again: \(places)")
            let known = Set((answered ?? []).compactMap(\.dot))
            for ((id, saw), receipt) in zip(seen, receipts) {
                guard let dot = receipt.dot else { continue }
                if dot.author.node == other.id, !known.contains(dot),
                    self.takenTwice[scope, default: []].insert(dot).inserted
                {
                    // A box that moved here brings no names of its former site.
                    if saw.contains(id), case .site = scope.audience {
                        self.fail("\(other.name) did again what it showed: \(id)")
                    }
                    self.mark(.takenTwice)
                    self.apps.oracle.again(id, saw: saw, on: other.index)
                } else {
                    self.apps.oracle.place([id], on: other.index)
                }
                self.apps.oracle.acknowledge(id, on: other.index)
            }
        }
    }
}
