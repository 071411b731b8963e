// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshEngine
internal import MeshOracle
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust

/// The apps of every simulated mesh: what they write, and what they have been shown.
///
/// An app reads a key, is shown all its values, and writes. The oracle is told what the app knew
/// and what it was answered, and nothing else.
struct Apps {
    /// The namespaces that the centre makes at the start.
    static let namespaces: [String: NamespacePolicy] = [
        "notes": NamespacePolicy(audience: .all, writers: .any, merge: .register),
        "prices": NamespacePolicy(audience: .all, writers: .central, merge: .register),
        "orders": NamespacePolicy(audience: .site, writers: .site, merge: .log),
        "desk": NamespacePolicy(audience: .site, writers: .site, merge: .register),
    ]

    /// Ways in which a central server may define the namespace `club`; each alone is right.
    static let definitions = [
        NamespacePolicy(audience: .all, writers: .any, merge: .register),
        NamespacePolicy(audience: .site, writers: .site, merge: .register),
        NamespacePolicy(audience: .all, writers: .any, merge: .log),
    ]

    /// A request with what the oracle calls its writes.
    struct Prepared {
        let request: WriteRequest
        let ids: [Oracle.WriteID]
    }

    var oracle = Oracle()
    private var named = 0
    /// What was done last, for a person who looks for a mistake.
    private(set) var narrated = ""

    static func cell(_ scope: Scope, _ key: RecordKey) -> Oracle.Cell {
        Oracle.Cell(scope: scope.description, key: key.description)
    }

    /// The values of a key, as an app reads them: each names the write that made it.
    static func values(_ state: KeyState?) -> [Oracle.WriteID] {
        (state?.versions ?? []).filter { $0.record.kind == .put }.map { number($0.record.body) }
    }

    private static func number(_ body: [UInt8]) -> Oracle.WriteID {
        let text = String(decoding: body, as: UTF8.self)
        return text.first == "w" ? Int(text.dropFirst()) ?? -1 : -1
    }

    /// Everything that a store shows of the namespaces that apps use.
    static func everything(_ store: Store) throws -> [Oracle.Cell: [Oracle.WriteID]] {
        var all: [Oracle.Cell: [Oracle.WriteID]] = [:]
        for scope in try store.scopes() where !scope.namespace.hasPrefix("_") {
            var after: RecordKey?
            while true {
                let page = try store.states(scope, after: after, limit: 200)
                for state in page {
                    let values = values(state)
                    if !values.isEmpty { all[cell(scope, state.key)] = values }
                }
                guard page.count == 200, let last = page.last else { break }
                after = last.key
            }
        }
        return all
    }

    // MARK: Writing

    /// What an app on a node would write; nil if it may not write there.
    mutating func request(
        _ node: SimulatedNode, _ store: Store, _ namespace: String,
        _ random: inout SeededGenerator
    ) throws -> Prepared? {
        guard let policy = try store.policy(of: namespace) else { return nil }
        let isCentral = node.identity.certificate.ticket.isCentral
        if policy.writers == .central, !isCentral { return nil }
        let scope = policy.scope(of: namespace, site: node.site)
        narrated = ""
        let count = random.next() % 6 == 0 ? 1 + Int(random.next() % 20) : 1
        var shown: [RecordKey: [Oracle.WriteID]] = [:]
        var writes: [Write] = []
        var ids: [Oracle.WriteID] = []
        for _ in 0..<count {
            let (key, kind) = try choose(policy.merge, &random)
            let state = try store.get(key, in: scope)
            let isFirst = shown[key] == nil
            let seen = shown[key] ?? Self.values(state)
            if policy.merge == .log, !isFirst || state != nil { continue }
            // There is nothing to delete: an app asks, and nothing comes of it.
            if kind == .delete, seen.isEmpty { continue }
            let cell = Self.cell(scope, key)
            if isFirst { oracle.observe(cell, shows: seen, on: node.index) }
            narrated += "\(node.name) writes \(kind) of \(cell), having seen \(seen); "
            let id = oracle.write(
                cell, policy.merge == .log ? .log : .register, isDeletion: kind == .delete,
                saw: seen, on: node.index)
            shown[key] = kind == .put ? [id] : []
            writes.append(
                Write(
                    kind, key, body: kind == .put ? Array("w\(id)".utf8) : [],
                    condition: condition(state, isFirst, &random)))
            ids.append(id)
        }
        guard !writes.isEmpty else { return nil }
        var request = WriteRequest(scope: scope, writes: writes)
        if random.next() % 3 == 0 {
            named += 1
            request.idempotency = ("n\(named)", Blake2b.hash(Array("\(ids)".utf8)))
        }
        return Prepared(request: request, ids: ids)
    }

    private func choose(
        _ merge: MergeKind, _ random: inout SeededGenerator
    ) throws -> (RecordKey, Record.Kind) {
        // A log takes each key once; elsewhere few keys, so that writers meet.
        let number = merge == .log ? random.next() % 1_000_000 : random.next() % 6
        let kind: Record.Kind = merge == .register && random.next() % 6 == 0 ? .delete : .put
        return (try RecordKey(merge == .log ? "w/\(number)" : "k/\(number)"), kind)
    }

    private func condition(
        _ state: KeyState?, _ isFirst: Bool, _ random: inout SeededGenerator
    ) -> Write.Condition {
        guard random.next() % 3 == 0, isFirst else { return .none }
        return state.map { .matches([$0.etag]) } ?? .holdsNone
    }

    mutating func acknowledge(_ prepared: Prepared) {
        for id in prepared.ids { oracle.acknowledge(id) }
    }

    mutating func refuse(_ prepared: Prepared) {
        for id in prepared.ids { oracle.refuse(id) }
    }

    // MARK: Following

    /// A follower of a node's feed, which outlives the node's processes.
    struct Follower {
        var position = FeedPosition.beginning
        var epoch: [UInt8] = []
        /// Its connection has ended with the server's process.
        var isCutOff = false
    }

    /// Follows a node's feed to its end, looking at each key that it tells of.
    ///
    /// - Returns: whether any key held several values, and whether the follower began anew.
    mutating func follow(
        _ node: SimulatedNode, _ store: Store
    ) throws -> (hasSiblings: Bool, isAnew: Bool) {
        if node.follower.epoch != store.epoch || node.follower.isCutOff {
            node.follower.isCutOff = false
            let resumed =
                node.follower.epoch.isEmpty
                ? nil : try store.resume(node.follower.position, of: node.follower.epoch)
            node.follower.epoch = store.epoch
            guard let resumed else { return (try listAnew(node, store), true) }
            node.follower.position = resumed
        }
        var hasSiblings = false
        while true {
            let (changes, position) = try store.changes(after: node.follower.position, limit: 500)
            for change in changes where !change.scope.namespace.hasPrefix("_") {
                let values = Self.values(try store.get(change.key, in: change.scope))
                hasSiblings = hasSiblings || values.count > 1
                let cell = Self.cell(change.scope, change.key)
                oracle.observe(cell, shows: values, on: node.index)
                oracle.tell(node.name, cell, shows: values)
            }
            guard position > node.follower.position else { return (hasSiblings, false) }
            node.follower.position = position
        }
    }

    private mutating func listAnew(_ node: SimulatedNode, _ store: Store) throws -> Bool {
        node.follower.position = store.lastPosition
        let all = try Self.everything(store)
        for (cell, values) in all { oracle.observe(cell, shows: values, on: node.index) }
        oracle.restart(node.name, all)
        return all.values.contains { $0.count > 1 }
    }

    // MARK: Judging

    /// Holds every server to what apps may rely on.
    func judge(_ nodes: [SimulatedNode]) throws -> String? {
        var shown: [(node: SimulatedNode, all: [Oracle.Cell: [Oracle.WriteID]])] = []
        for node in nodes {
            guard let store = node.store else { continue }
            shown.append((node, try Self.everything(store)))
        }
        for (node, all) in shown {
            if let fault = oracle.judge(all, reads: { node.reads($0) }) {
                return "\(node.name): \(fault)"
            }
            if let fault = oracle.judge(follower: node.name, all) { return fault }
        }
        for (index, (node, all)) in shown.enumerated() {
            for (other, theirs) in shown[(index + 1)...] {
                let difference = Oracle.difference(all, theirs) {
                    node.reads($0) && other.reads($0)
                }
                if let difference { return "\(node.name) and \(other.name): \(difference)" }
            }
        }
        return nil
    }

    /// What two nodes that may hold a scope hold differently by their digests; nil if nothing. It
    /// says when to judge, and judges nothing.
    ///
    /// - Throws: `Unreadable` where a node can't read its disk.
    static func difference(_ nodes: [SimulatedNode]) throws -> String? {
        var roots: [Scope: (Digest, SimulatedNode)] = [:]
        var held: [Scope: Int] = [:]
        for node in nodes {
            guard let store = node.store else { return "\(node.name) is down" }
            let own: [(Scope, Digest)]
            do {
                own = try store.consult { index in
                    try index.scopes().map { ($0, try index.trie(of: $0).root) }
                }
            } catch { throw Unreadable(node: node.index, why: error) }
            for (scope, root) in own {
                // A box that moved holds what it wrote at its old site, and is not sent more.
                guard node.identity.certificate.allows(.read, scope) else { continue }
                held[scope, default: 0] += 1
                if let (other, first) = roots[scope], other != root {
                    let logs = try Self.logs(first, node, scope)
                    return "\(scope) differs between \(first.name) and \(node.name): \(logs)"
                }
                roots[scope] = (root, node)
            }
        }
        for (scope, count) in held {
            let readers = nodes.count { $0.identity.certificate.allows(.read, scope) }
            if readers != count { return "\(scope) is held by \(count) of \(readers)" }
        }
        return nil
    }

    /// Which logs of a scope two nodes know differently, and what holds them.
    private static func logs(
        _ one: SimulatedNode, _ other: SimulatedNode, _ scope: Scope
    ) throws -> String {
        func states(_ node: SimulatedNode) throws -> [Author: LogState] {
            let all = try node.store?.consult { try $0.trie(of: scope).states } ?? []
            return Dictionary(all.map { ($0.author, $0) }, uniquingKeysWith: { first, _ in first })
        }
        let (mine, theirs) = (try states(one), try states(other))
        return Set(mine.keys).union(theirs.keys).sorted().filter { mine[$0] != theirs[$0] }.map {
            let log = LogName(scope: scope, author: $0)
            let held = [one, other].compactMap { node in
                node.engine?.waits.all[log].map { "\(node.name) holds it: \($0.cause)" }
            }
            let shown = [one, other].map { node in
                (try? node.store?.states(scope, after: nil, limit: 100).map { state in
                    "\(state.key): "
                        + state.versions.map { "\($0.dot) over \($0.record.context.dots)" }
                        .joined(separator: " + ")
                }) ?? []
            }
            let odd = Set(shown[0]).symmetricDifference(shown[1]).sorted()
            let frontiers = [mine, theirs].map { states in
                states[log.author].map { "\($0.frontier)" } ?? "-"
            }
            return
                "\(log.author) to \(frontiers.joined(separator: "/")) \(held.joined(separator: ", ")) \(odd)"
        }.joined(separator: "; ")
    }
}

/// A node can't read its disk.
struct Unreadable: Error {
    /// Which.
    let node: Int
    /// What it said.
    let why: any Error
}
