// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import MeshTrust

/// What was written and acknowledged, against which every store is held.
struct Ledger {
    private struct Place: Hashable {
        let scope: Scope
        let dot: Dot
    }

    private struct Entry {
        let id: Digest
        var holders: Set<Int> = []
    }

    private struct Cell: Hashable {
        let scope: Scope
        let key: RecordKey
    }

    /// What a node has shown of a key.
    private struct History {
        var live: [Dot: Version] = [:]
        var superseded: Set<Dot> = []
    }

    /// The namespaces of every simulated mesh.
    static let namespaces: [String: NamespacePolicy] = [
        "notes": NamespacePolicy(audience: .all, writers: .any, merge: .register),
        "prices": NamespacePolicy(audience: .all, writers: .central, merge: .register),
        "orders": NamespacePolicy(audience: .site, writers: .site, merge: .log),
        "desk": NamespacePolicy(audience: .site, writers: .site, merge: .register),
    ]

    private let mesh: MeshID
    private var entries: [Place: Entry] = [:]
    private var versions: [Cell: [Version]] = [:]
    private var acknowledged: [(place: Place, key: RecordKey)] = []
    private var histories: [Int: [Cell: History]] = [:]
    private var written = 0
    private var revoked = RevokedLogs()
    private(set) var revocations: [Revocation] = []

    init(mesh: MeshID) { self.mesh = mesh }

    var acknowledgedCount: Int { acknowledged.count }

    /// The centre defines the namespaces.
    func govern(_ simulation: Simulation, _ centre: SimulatedNode) throws {
        for (name, policy) in Self.namespaces.sorted(by: { $0.key < $1.key }) {
            let write = Write(.put, try NamespacePolicy.key(of: name), body: policy.encoded)
            simulation.write(
                centre, WriteRequest(scope: NamespacePolicy.scope, writes: [write]))
        }
    }

    /// A write that an app on a node would make; nil if it may not write there.
    mutating func request(
        _ node: SimulatedNode, _ namespace: String, _ random: inout SeededGenerator
    ) -> WriteRequest? {
        guard let policy = Self.namespaces[namespace] else { return nil }
        let isCentral = node.identity.certificate.ticket.isCentral
        if policy.writers == .central, !isCentral { return nil }
        let scope = policy.scope(of: namespace, site: node.site)
        written += 1
        // A log takes each key once; elsewhere few keys, so that writers meet.
        let name = policy.merge == .log ? "w/\(written)" : "k/\(random.next() % 6)"
        guard let key = try? RecordKey(name) else { return nil }
        let kind: Record.Kind =
            policy.merge == .register && random.next() % 8 == 0 ? .delete : .put
        let body = kind == .put ? Array("\(node.name) \(written)".utf8) : []
        return WriteRequest(
            scope: scope, writes: [Write(kind, key, contentType: "", body: body)])
    }

    mutating func acknowledge(_ request: WriteRequest, _ receipts: [Receipt]) {
        for (write, receipt) in zip(request.writes, receipts) {
            acknowledged.append((Place(scope: request.scope, dot: receipt.dot), write.key))
        }
    }

    /// A node's disk was lost, or put back to an older state.
    mutating func lostDisk(_ node: SimulatedNode) {
        histories[node.index] = nil
        for place in entries.keys { entries[place]?.holders.remove(node.index) }
        node.audited = 0
    }

    /// A node is no member any more: what its logs hold past their cuts counts for nobody, and
    /// what only its own disk held is lost with it.
    mutating func revoke(_ node: SimulatedNode, _ revocation: Revocation) {
        revoked.add(revocation)
        revocations.append(revocation)
        for place in entries.keys { entries[place]?.holders.remove(node.index) }
    }

    func isRevoked(_ node: NodeID) -> Bool { revoked.contains(node) }

    /// A node heard of a revocation: its keys may go back once.
    mutating func forget(_ node: SimulatedNode) { histories[node.index] = nil }

    private func stands(_ place: Place) -> Bool {
        place.dot.sequence <= revoked.end(of: place.dot.author, in: place.scope) ?? .max
    }

    /// A record came to live on a node.
    ///
    /// - Returns: whether it lives beside others of its key.
    mutating func note(
        _ change: StoredChange, at node: SimulatedNode, _ store: Store
    ) throws -> Bool {
        let version = change.version
        let place = Place(scope: change.scope, dot: version.dot)
        let id = Record.id(of: version.record.encoded, in: mesh)
        let isOwn = version.dot.author.node == node.id
        if let entry = entries[place] {
            guard entry.id == id else {
                throw Simulation.Failed(reason: "a dot twice: \(version.dot) in \(change.scope)")
            }
        } else {
            guard isOwn else {
                throw Simulation.Failed(
                    reason: "it holds what nobody wrote: \(version.dot) in \(change.scope)")
            }
            versions[Cell(scope: place.scope, key: version.record.key), default: []].append(
                Version(
                    dot: version.dot, context: version.record.context,
                    stamp: version.record.stamp))
            entries[place] = Entry(id: id)
        }
        if !isRevoked(node.id) { entries[place]?.holders.insert(node.index) }
        return try follow(change, at: node, store)
    }

    /// A key never goes back: what was superseded does not live again, what lived is superseded.
    private mutating func follow(
        _ change: StoredChange, at node: SimulatedNode, _ store: Store
    ) throws -> Bool {
        let cell = Cell(scope: change.scope, key: change.version.record.key)
        let state = try store.get(cell.key, in: cell.scope)
        var live: [Dot: Version] = [:]
        for version in state?.versions ?? [] {
            live[version.dot] = Version(
                dot: version.dot, context: version.record.context, stamp: version.record.stamp)
        }
        var history = histories[node.index]?[cell] ?? History()
        for dot in live.keys where history.superseded.contains(dot) {
            guard isFreed(dot, in: cell) else {
                throw Simulation.Failed(reason: "\(cell.key) went back to \(dot)")
            }
        }
        for dot in history.live.keys where live[dot] == nil {
            guard live.values.contains(where: { $0.supersedes(dot) }) else {
                throw Simulation.Failed(reason: "\(cell.key) lost \(dot), which nothing supersedes")
            }
            history.superseded.insert(dot)
        }
        history.live = live
        histories[node.index, default: [:]][cell] = history
        return live.count > 1
    }

    /// Whether what superseded a version was itself replaced by its node's next life, which had not
    /// heard of it: then nothing supersedes the version any more. See the article `RecordFormat`.
    private func isFreed(_ dot: Dot, in cell: Cell) -> Bool {
        let all = versions[cell] ?? []
        return all.contains { lost in
            lost.supersedes(dot)
                && all.contains { next in
                    next.dot.author.node == lost.dot.author.node
                        && next.dot.author.incarnation > lost.dot.author.incarnation
                        && !next.supersedes(dot)
                }
        }
    }

    // MARK: At the end

    /// What two nodes that may hold a scope hold differently; nil if nothing.
    func difference(_ nodes: [SimulatedNode]) throws -> String? {
        var roots: [Scope: (Digest, String)] = [:]
        var held: [Scope: Int] = [:]
        for node in nodes {
            guard let store = node.store else { return "\(node.name) is down" }
            let own = try store.consult { index in
                try index.scopes().map { ($0, AuthorTrie(try index.logs(of: $0)).root) }
            }
            for (scope, root) in own {
                held[scope, default: 0] += 1
                if let (other, name) = roots[scope], other != root {
                    return "\(scope) differs between \(name) and \(node.name)"
                }
                roots[scope] = (root, node.name)
            }
        }
        for (scope, count) in held {
            let readers = nodes.count { $0.identity.certificate.allows(.read, scope) }
            if readers != count { return "\(scope) is held by \(count) of \(readers)" }
        }
        return nil
    }

    /// Everything acknowledged is there, and equal roots mean equal records.
    func settle(_ nodes: [SimulatedNode]) throws {
        var contents: [Scope: Set<Place>] = [:]
        for node in nodes {
            guard let store = node.store else { continue }
            var own: [Scope: Set<Place>] = [:]
            for scope in try store.scopes() { own[scope] = [] }
            for change in try store.changes(after: 0, scopes: nil, limit: .max >> 1).changes {
                let place = Place(scope: change.scope, dot: change.version.dot)
                let id = Record.id(of: change.version.record.encoded, in: mesh)
                guard entries[place]?.id == id else {
                    throw Simulation.Failed(reason: "\(node.name) holds a forged \(place.dot)")
                }
                own[change.scope, default: []].insert(place)
            }
            for (scope, places) in own {
                if let other = contents[scope], other != places {
                    let odd = places.symmetricDifference(other).map { "\($0.dot)" }.sorted()
                    throw Simulation.Failed(
                        reason: "equal roots of \(scope), other records: \(odd) at \(node.name)")
                }
                contents[scope] = places
            }
            try check(node, store)
        }
    }

    private func check(_ node: SimulatedNode, _ store: Store) throws {
        for (place, key) in acknowledged
        where node.identity.certificate.allows(.read, place.scope) {
            // With every disk that held it, it may be gone.
            guard let entry = entries[place], !entry.holders.isEmpty, stands(place) else {
                continue
            }
            let live = (try store.get(key, in: place.scope)?.versions ?? []).map(\.dot)
            let cell = Cell(scope: place.scope, key: key)
            let isThere =
                Self.namespaces[place.scope.namespace]?.merge == .register
                ? explained(cell, by: live).contains(place.dot) : live.contains(place.dot)
            guard isThere else {
                throw Simulation.Failed(
                    reason: "\(node.name) lost the acknowledged \(place.dot) of '\(key)' in "
                        + "\(place.scope), held by \(entry.holders.sorted()); there live: \(live)")
            }
        }
    }

    /// The versions of a key that live, and all that these supersede, and so on down.
    private func explained(_ cell: Cell, by live: [Dot]) -> Set<Dot> {
        var explained = Set(live)
        let all = (versions[cell] ?? []).filter { stands(Place(scope: cell.scope, dot: $0.dot)) }
        var rest = all.filter { !explained.contains($0.dot) }
        while true {
            let known = all.filter { explained.contains($0.dot) }
            let found = rest.filter { version in
                known.contains { $0.supersedes(version.dot) }
            }
            if found.isEmpty { return explained }
            explained.formUnion(found.map(\.dot))
            rest.removeAll { explained.contains($0.dot) }
        }
    }
}
