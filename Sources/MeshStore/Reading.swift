// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshReplication
package import MeshRules
package import MeshTrust
internal import Synchronization

/// One version of a key as it is shown.
package struct StoredVersion: Sendable {
    /// Its place.
    package let dot: Dot
    /// The record.
    package let record: MeshReplication.Record
    /// The position in this node's change feed.
    package let position: FeedPosition
    /// The merge kind of the policy under which it was written.
    let merge: MergeKind

    /// Whether it is shown before another of its key.
    func precedes(_ other: StoredVersion) -> Bool {
        switch (merge, other.merge) {
        case (.log, .log): position < other.position
        case (.register, .register): (record.stamp, dot) > (other.record.stamp, other.dot)
        case (.log, .register): true
        case (.register, .log): false
        }
    }
}

/// A key with all its live versions, the shown one first.
package struct KeyState: Sendable {
    /// The key.
    package let key: RecordKey
    /// Live versions, deletions among them, in the order of display.
    package let versions: [StoredVersion]

    /// Puts versions in the order of display, each write once, though several servers took it. Of
    /// values the one with the latest stamp comes first; of entries of a log the one that was
    /// held here first, since any order by stamp or hash could be chosen by a thief.
    init(_ key: RecordKey, _ versions: [StoredVersion]) {
        self.key = key
        self.versions =
            versions.count == 1
            ? versions
            : Self.distinct(versions).sorted { $0.precedes($1) }
        etag = EntityTag.of(versions.map(\.dot))
    }

    /// Of records of one write the one that would come first without the others.
    private static func distinct(_ versions: [StoredVersion]) -> [StoredVersion] {
        var first: [OneWrite: StoredVersion] = [:]
        let writes = versions.map { OneWrite($0.record, $0.merge) }
        for (write, version) in zip(writes, versions) {
            guard let write else { continue }
            if let known = first[write], !version.precedes(known) { continue }
            first[write] = version
        }
        if first.isEmpty { return versions }
        return zip(writes, versions).filter { write, version in
            write.map { first[$0]?.dot == version.dot } ?? true
        }.map(\.1)
    }

    /// What is shown of a version: itself, or the record of the same write that stands for it.
    package func shown(for version: StoredVersion) -> StoredVersion {
        guard let write = OneWrite(version.record, version.merge) else { return version }
        return versions.first { OneWrite($0.record, $0.merge) == write } ?? version
    }

    init(_ key: RecordKey, held versions: [(held: HeldVersion, position: FeedPosition)]) {
        self.init(
            key,
            versions.map { held, position in
                StoredVersion(
                    dot: held.dot, record: held.record, position: position, merge: held.merge)
            })
    }

    /// Names the state: equal on two nodes that hold the same versions.
    package let etag: String

    /// The shown version, if the key holds a value.
    package var value: StoredVersion? {
        versions.first.flatMap { $0.record.kind == .put ? $0 : nil }
    }

    /// What a list shows of the key: its value, or every entry of a log, since none of those is
    /// less true than another.
    package var listed: [StoredVersion] {
        guard let value else { return [] }
        return value.merge == .log ? versions.filter { $0.record.kind == .put } : [value]
    }
}

/// One change of the feed.
package struct StoredChange: Sendable {
    /// The scope.
    package let scope: Scope
    /// The key.
    package let key: RecordKey
    /// The version that came to live; nil where versions went and none came, so that the key is to
    /// be looked at anew.
    package let version: StoredVersion?
    /// Where the feed tells of it.
    package let position: FeedPosition
    /// What stands of the key now; nil if nothing does, or where that was not asked for.
    package let state: KeyState?
}

extension RecordSnapshot {
    func state(of key: KeyName) throws -> KeyState? {
        let versions = try versions(of: key)
        return versions.isEmpty ? nil : KeyState(key.key, held: versions)
    }

    /// Looks each key up for itself, as a store may that has no better way.
    package func states(
        in scope: Scope, from start: [UInt8], including: Bool, limit: Int
    ) throws -> [(key: [UInt8], versions: [(held: HeldVersion, position: FeedPosition)])] {
        try keys(in: scope, from: start, including: including, limit: limit).map { bytes in
            let key = try? RecordKey(validating: bytes)
            return (
                bytes, try key.map { try versions(of: KeyName(scope: scope, key: $0)) } ?? []
            )
        }
    }
}

/// What one transaction added to the feed.
package struct FeedNews: Sendable {
    /// The feed's end before it.
    package let after: FeedPosition
    /// The feed's end now.
    package let through: FeedPosition
    /// Whether anything of the mesh's own namespaces has changed.
    package let touchesMesh: Bool
}

extension Store {
    /// Reads a consistent snapshot; what it finds rotten is taken out and fetched again.
    func read<T>(_ body: (any RecordSnapshot) throws -> T) throws -> T {
        let (result, damage) = try records.read { snapshot in
            (try body(snapshot), snapshot.damage)
        }
        quarantine(damage)
        return result
    }

    /// Runs a comparison of digests on one snapshot.
    package func consult<T>(_ body: (any RecordIndex) throws -> T) throws -> T {
        try records.consult(body)
    }

    /// The state of a key; nil if nothing is known of it.
    ///
    /// What is asked for again and again, as a menu board does, is remembered until it changes.
    package func get(_ key: RecordKey, in scope: Scope) throws -> KeyState? {
        let name = KeyName(scope: scope, key: key)
        let (known, generation) = keyCache.withLock { ($0[name], $0.generation) }
        if let known { return known }
        let state = try read { try $0.state(of: name) }
        if let state { keyCache.withLock { $0.note(state, of: name, read: generation) } }
        return state
    }

    /// Keys that hold values, in key order, after `after`.
    package func list(
        _ scope: Scope, prefix: [UInt8], after: RecordKey?, limit: Int
    ) throws -> [KeyState] {
        try read { snapshot in
            var states: [KeyState] = []
            let last = after?.utf8 ?? []
            var start = prefix.lexicographicallyPrecedes(last) ? last : prefix
            var including = start != last
            while states.count < limit {
                let count = min(256, limit - states.count)
                let found = try snapshot.states(
                    in: scope, from: start, including: including, limit: count)
                for (bytes, versions) in found {
                    guard bytes.starts(with: prefix) else { return states }
                    start = bytes
                    guard let key = try? RecordKey(validating: bytes), !versions.isEmpty else {
                        continue
                    }
                    let state = KeyState(key, held: versions)
                    if state.value != nil { states.append(state) }
                }
                including = false
                if found.count < count { break }
            }
            return states
        }
    }

    /// Keys of which anything lives, deletions among them, in key order.
    package func states(
        _ scope: Scope, after: RecordKey?, limit: Int
    ) throws -> [KeyState] {
        try read { snapshot in
            try snapshot.keys(in: scope, from: after?.utf8 ?? [], including: false, limit: limit)
                .compactMap { try? RecordKey(validating: $0) }
                .compactMap { try snapshot.state(of: KeyName(scope: scope, key: $0)) }
        }
    }

    /// What changed after a position of the feed, in order.
    ///
    /// - Parameter showsState: of which scopes the present state of each key is looked up too, in
    ///   the same snapshot: a page of changes is one read, not one for each change.
    package func changes(
        after position: FeedPosition, limit: Int, showsState: (Scope) -> Bool = { _ in false }
    ) throws -> (changes: [StoredChange], position: FeedPosition) {
        try read { snapshot in
            var reached = position
            var states: [KeyName: KeyState?] = [:]
            func state(of name: KeyName) throws -> KeyState? {
                guard showsState(name.scope) else { return nil }
                if let known = states[name] { return known }
                let state = try snapshot.state(of: name)
                states[name] = .some(state)
                return state
            }
            var (changes, bytes): ([StoredChange], Int) = ([], 0)
            for entry in try snapshot.feed(after: position, limit: limit) {
                // Keys may hold many versions.
                if bytes > StoreLimits.pageBytes { break }
                reached = entry.position
                let change: StoredChange
                switch entry {
                case .came(let scope, let held, let position):
                    let key = held.record.key
                    change = StoredChange(
                        scope: scope, key: key,
                        version: StoredVersion(
                            dot: held.dot, record: held.record, position: position,
                            merge: held.merge),
                        position: position,
                        state: try state(of: KeyName(scope: scope, key: key)))
                case .went(let name, let position):
                    change = StoredChange(
                        scope: name.scope, key: name.key, version: nil, position: position,
                        state: try state(of: name))
                }
                bytes += change.state?.versions.reduce(0) { $0 + $1.record.body.count } ?? 0
                changes.append(change)
            }
            return (changes, reached)
        }
    }

    /// Where a follower goes on that has come to a position of an epoch; nil where it must list
    /// anew.
    package func resume(_ position: FeedPosition, of epoch: [UInt8]) throws -> FeedPosition? {
        try read { try $0.resume(position, of: epoch) }
    }

    /// Where a log ends, and by which commit; nil where nothing of it is here, two machines wrote
    /// it, or something of it has rotted.
    package func end(of log: LogName) throws -> HeldRun? {
        let name = FamilyName(scope: log.scope, node: log.author.node)
        var needs = Needs()
        needs.families = [name]
        let head = try read { try $0.facts(needs) }.families[name]?.heads[log.author.life]
        guard let head, head.isWhole, head.frontier > 0 else { return nil }
        return HeldRun(after: 0, through: head.frontier, commit: head.id)
    }

    /// The commit in which a place of a log is, where all of its records are here; nil where they
    /// are not, or nothing is to be said of the log.
    package func held(_ place: UInt64, of log: LogName) throws -> HeldRun? {
        guard let end = try end(of: log), place <= end.through else { return nil }
        var needs = Needs()
        needs.commits[log] = [place...place]
        let commits = try read { try $0.facts(needs) }.commits[log] ?? []
        guard let commit = commits.first(where: { $0.header.range.contains(place) }),
            commit.proof.presentCount == commit.header.count,
            commit.rows.count == commit.header.count, commit.rows.values.allSatisfy(\.isWhole)
        else { return nil }
        let header = commit.header
        return HeldRun(
            after: header.first - 1, through: header.last,
            commit: header.id(in: identity.root.meshID))
    }

    /// The scopes that hold anything here.
    package func scopes() throws -> [Scope] { try read { try $0.scopes() } }

    /// How many records live in a scope, deletions among them.
    package func liveCount(in scope: Scope) throws -> Int {
        try read { try $0.liveCount(in: scope) }
    }

    /// Bytes of the database, its log of recent changes included.
    package func diskBytes() throws -> Int { try read { try $0.byteCount() } }

    /// How many places wait to be fetched again.
    package func damageCount(in scope: Scope? = nil) throws -> Int {
        try read { try $0.holeCount(in: scope) }
    }

    /// Authors that were seen to write two things in one place.
    package func forkedAuthors() throws -> [Author] {
        let mesh = identity.root.meshID
        return try read { snapshot in
            let logs = try snapshot.logsWithEvidence(in: nil).filter { log in
                let headers = try snapshot.evidence(of: log).map(\.header)
                return LogHead.Shown(headers, in: mesh)?.forksAt != nil
            }
            return Set(logs.map(\.author)).sorted()
        }
    }

    // MARK: Certificates

    /// Nodes for which commits that lost their place are kept.
    package func nodesWithLosers() throws -> [NodeID] { try read { try $0.nodesWithLosers() } }

    /// The certificates of a node that were ever shown here, the newest first.
    package func certificates(of node: NodeID) throws -> [Certificate] {
        try read { try $0.facts(.certificates(of: node)) }.certificates[node] ?? []
    }

    /// The certificate by which a node is known now.
    package func certificate(of node: NodeID) throws -> Certificate? {
        try certificates(of: node).first
    }

    /// Keeps a certificate that was verified.
    package func keep(_ certificate: Certificate) throws {
        // Only a hint for the next start, by which it links with the same node as now.
        try? noteUse(certificate)
        if try certificates(of: certificate.node).contains(certificate) { return }
        try records.keep(certificate)
        if certificate.node == identity.certificate.node { try readOwnCertificates() }
    }

    /// The certificate by which each node is known, by name.
    package func certificates() throws -> [Certificate] {
        var newest: [NodeID: Certificate] = [:]
        for one in try allCertificates() {
            let known = newest[one.node]?.ticket.serial ?? []
            if known.lexicographicallyPrecedes(one.ticket.serial) { newest[one.node] = one }
        }
        return newest.values.sorted {
            ($0.ticket.site, $0.ticket.node, $0.node) < ($1.ticket.site, $1.ticket.node, $1.node)
        }
    }

    /// Every certificate that was ever shown here.
    package func allCertificates() throws -> [Certificate] { try read { try $0.certificates() } }

    /// Those, and those of nodes that the root document has taken out: for commands that hold keys.
    package func shownCertificates() throws -> [Certificate] {
        try read { try $0.certificates() + $0.retiredCertificates() }
    }
}
