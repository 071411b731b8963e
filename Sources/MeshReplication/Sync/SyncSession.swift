// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// One comparison of digests with one peer: a function from turn and index to turn.
///
/// The initiator sends a summary and both answer turn by turn until the initiator has nothing to
/// ask: one hash if all is equal; else roots, frontiers, and only where frontiers agree and roots
/// do not a descent to the leaf. The session tells which records to send; it never says that
/// anything is to be deleted. The protocol is specified in the article `SyncProtocol`.
package struct SyncSession: Sendable {
    /// Which end this is.
    package enum Role: Sendable {
        case initiator, responder
    }

    /// What a turn leads to.
    package struct Outcome: Sendable {
        /// The turn to send back; the responder always answers, the initiator stops when it is
        /// empty.
        package var reply = SyncTurn()
        /// What to send of our records.
        package var streams: [StreamRequest] = []
        /// The peer says that every shared scope is equal.
        package var isInStep = false
        /// How many such comparisons cover all scopes.
        package var windows = 1
        /// Records that the peer's frontiers lack of ours.
        package var theyLack: UInt64 = 0
        /// Records that our frontiers lack of the peer's.
        package var weLack: UInt64 = 0
        /// Logs that differ and that one end cannot take further now.
        package var held = 0

        /// Nothing follows yet.
        package init() {}
    }

    /// Which end this is.
    package let role: Role
    /// How many turns were taken; bounded by `SyncTuning.turnsMax`.
    package private(set) var turns = 0

    let salt: Salt
    private let mayShare: @Sendable (Scope) -> Bool
    private let held: [Scope: Set<Author>]
    private let round: Int
    private var window = SyncWindow.all
    /// What is known of the logs of scopes, as long as one turn is answered.
    private var tries: [Scope: AuthorTrie] = [:]
    private var shared: [Scope] = []
    private var summarised: [UInt8] = []
    var replyBytes = 0
    /// The logs that were spoken of, by the tag that names them on this link.
    private var spoken: [UInt64: LogName] = [:]

    /// Begins a session.
    ///
    /// - Parameters:
    ///   - round: counts the comparisons on a link; with many scopes each is about other ones.
    ///   - held: logs that this end cannot take further now, and so does not ask for.
    ///   - mayShare: whether both ends are granted to read a scope; nothing else is spoken of.
    package init(
        role: Role, salt: Salt, round: Int = 0,
        held: Set<LogName> = [],
        mayShare: @escaping @Sendable (Scope) -> Bool
    ) {
        self.role = role
        self.round = round
        self.salt = salt
        self.held = Dictionary(grouping: held, by: \.scope).mapValues { Set($0.map(\.author)) }
        self.mayShare = mayShare
    }

    /// The initiator's first turn.
    package mutating func begin(_ index: some RecordIndex) throws -> SyncTurn {
        window = SyncWindow(round: round, scopes: try index.scopes().count(where: mayShare))
        summarised = listed(try roots(index))
        return SyncTurn([.summary(salt.tag(summarised), window)])
    }

    /// Answers one turn of the peer.
    ///
    /// - Throws: `SyncRefusal` if the turn breaks the protocol; whatever the index throws.
    package mutating func answer(
        _ turn: SyncTurn, _ index: some RecordIndex
    ) throws -> Outcome {
        turns += 1
        guard turns <= SyncTuning.turnsMax else { throw SyncRefusal.endless }
        var outcome = Outcome()
        replyBytes = 0
        tries = [:]
        for part in turn.parts {
            // What is left over is found in the next round.
            guard outcome.streams.count < SyncTuning.streamsMax else { break }
            try answer(part, index, &outcome)
        }
        outcome.windows = window.count
        return outcome
    }

    private func roots(_ index: some RecordIndex) throws -> [(scope: Scope, root: Digest)] {
        var roots: [(scope: Scope, root: Digest)] = []
        for scope in try index.scopes() where mayShare(scope) && window.holds(scope) {
            roots.append((scope, try index.trie(of: scope).root))
        }
        return Array(roots.prefix(SyncSpecification.scopesMax))
    }

    /// Scopes of which nothing is known but that logs of them are held.
    private func heldScopes(
        beside roots: [(scope: Scope, root: Digest)]
    ) -> [(scope: Scope, root: Digest)] {
        let known = Set(roots.map(\.scope))
        let others = held.keys.filter {
            !known.contains($0) && mayShare($0) && window.holds($0)
        }
        return others.sorted().prefix(SyncSpecification.scopesMax - roots.count).map {
            ($0, AuthorTrie().root)
        }
    }

    /// What is known of the logs of a scope; of one that is held, at least that.
    ///
    /// A log that is held may be one of which nothing could be taken yet: passed over in silence it
    /// would be sent from its beginning in each round.
    private mutating func trie(
        of scope: Scope, _ index: some RecordIndex
    ) throws -> AuthorTrie {
        if let known = tries[scope] { return known }
        var trie = try index.trie(of: scope)
        for author in held[scope] ?? [] where trie.state(of: author) == nil {
            trie.set(LogState(author: author, frontier: 0, root: .zero))
        }
        tries[scope] = trie
        return trie
    }

    /// What a summary is the salted hash of.
    private func listed(_ roots: [(scope: Scope, root: Digest)]) -> [UInt8] {
        var writer = WireWriter()
        writer.u8(0)
        for (scope, root) in roots {
            writer.scope(scope)
            writer.append(root)
        }
        return writer.bytes
    }

    /// What only an end that holds the same can say: the hash of the list under another first byte.
    private func proof(_ list: [UInt8]) -> [UInt8] { salt.tag([1] + list.dropFirst()) }

    private mutating func answer(
        _ part: SyncPart, _ index: some RecordIndex, _ outcome: inout Outcome
    ) throws {
        switch part {
        case .summary(let hash, let window):
            guard role == .responder else { throw SyncRefusal.unexpected }
            self.window = window
            let roots = try roots(index)
            let list = listed(roots)
            let isEqual = salt.tag(list) == hash
            outcome.isInStep = isEqual
            // A list is in order, wherever the names of held scopes stand among the others.
            let all = (roots + heldScopes(beside: roots)).sorted { $0.scope < $1.scope }
            shared = all.map(\.scope)
            add(isEqual ? .inStep(proof(list)) : .scopes(entries(all)), &outcome)
        case .inStep(let answer):
            guard role == .initiator else { throw SyncRefusal.unexpected }
            // Whoever only says so does not hold what is here.
            guard answer == proof(summarised) else { throw SyncRefusal.unproven }
            outcome.isInStep = true
        case .scopes(let entries): try compare(scopes: entries, index, &outcome)
        case .authors(let scope, let path, let isAnswer, let entries):
            try compare(authors: entries, path, isAnswer, at: scope, index, &outcome)
        case .branches(let scope, let path, let hashes):
            try compare(branches: hashes, path, at: scope, index, &outcome)
        case .nodes(let scope, let author, let level, let entries):
            try compare(nodes: entries, level, of: author, at: scope, index, &outcome)
        case .leaves(let scope, let author, let entries):
            try compare(leaves: entries, of: author, at: scope, index, &outcome)
        case .wants(let place, let author, let entries):
            let scope = try scope(place)
            if let state = try state(of: author, in: scope, index) {
                let last = DigestTree.last(at: 0, of: state.frontier)
                let here = entries.filter { $0.leaf <= last }
                if !here.isEmpty { outcome.streams.append(.dots(scope, state.author, here)) }
            }
        }
    }

    private func entries(_ roots: [(scope: Scope, root: Digest)]) -> [SyncPart.ScopeEntry] {
        roots.map { SyncPart.ScopeEntry(scope: $0.scope, root: salt.short($0.root)) }
    }

    func scope(_ place: Int) throws -> Scope {
        guard place < shared.count else { throw SyncRefusal.unknownScope }
        return shared[place]
    }

    /// The name of a log on this link, which later parts use.
    private mutating func tag(_ author: Author, in scope: Scope) -> UInt64 {
        var writer = WireWriter(reserving: 64 + Author.byteCount)
        writer.scope(scope)
        writer.author(author)
        let tag = salt.short(Blake2b.hash(writer.bytes))
        spoken[tag] = LogName(scope: scope, author: author)
        return tag
    }

    /// What is known of a log that was spoken of; nil for any other.
    func state(of tag: UInt64, in scope: Scope, _ index: some RecordIndex) throws -> LogState? {
        guard let log = spoken[tag], log.scope == scope else { return nil }
        return try index.trie(of: scope).state(of: log.author)
    }

    /// Adds a part while the turn has room; what finds none is found in the next round.
    mutating func add(_ part: SyncPart, _ outcome: inout Outcome) {
        var writer = WireWriter()
        part.encode(to: &writer)
        let isFirst = outcome.reply.parts.isEmpty
        guard isFirst || replyBytes + writer.bytes.count <= SyncTuning.turnBytes else { return }
        replyBytes += writer.bytes.count
        outcome.reply.parts.append(part)
    }
}

/// How a peer broke the protocol; the session ends.
package enum SyncRefusal: Error, Hashable {
    /// More turns than any honest comparison needs.
    case endless
    /// A part that this role never gets.
    case unexpected
    /// A scope that was not agreed on.
    case unknownScope
    /// The peer says that it holds the same and cannot show it.
    case unproven
}

// MARK: Scopes and authors

extension SyncSession {
    /// The responder's list comes to the initiator; the initiator's additions come to the
    /// responder.
    private mutating func compare(
        scopes theirs: [SyncPart.ScopeEntry], _ index: some RecordIndex,
        _ outcome: inout Outcome
    ) throws {
        if role == .responder {
            let known = Set(shared)
            for entry in theirs {
                guard !known.contains(entry.scope) else { throw SyncRefusal.unexpected }
                guard mayShare(entry.scope) else { throw SyncRefusal.unknownScope }
                shared.append(entry.scope)
            }
            return
        }
        guard theirs.allSatisfy({ mayShare($0.scope) }) else { throw SyncRefusal.unknownScope }
        let mine = try roots(index)
        let theirScopes = Set(theirs.map(\.scope))
        let onlyMine = mine.filter { !theirScopes.contains($0.scope) }
        shared = theirs.map(\.scope) + onlyMine.map(\.scope)
        if !onlyMine.isEmpty { add(.scopes(entries(onlyMine)), &outcome) }
        let myRoots = Dictionary(uniqueKeysWithValues: mine.map { ($0.scope, $0.root) })
        for (place, entry) in theirs.enumerated() {
            guard let root = myRoots[entry.scope] else {
                add(describe(try trie(of: entry.scope, index), .root, at: place), &outcome)
                continue
            }
            if salt.short(root) == entry.root { continue }
            add(describe(try trie(of: entry.scope, index), .root, at: place), &outcome)
        }
        for (scope, _) in onlyMine {
            for state in try index.trie(of: scope).states {
                outcome.streams.append(.tail(scope, state.author, after: 0))
                outcome.theyLack.add(state.frontier)
            }
        }
    }

    private mutating func describe(
        _ trie: AuthorTrie, _ path: AuthorTrie.Path, at place: Int
    ) -> SyncPart {
        guard trie.isBucket(path) else {
            return .branches(scope: place, path: path, trie.children(path).map(short))
        }
        let entries = trie.states(under: path).map { entry($0, in: shared[place]) }
        return .authors(scope: place, path: path, isAnswer: false, entries)
    }

    private mutating func entry(_ state: LogState, in scope: Scope) -> SyncPart.AuthorEntry {
        SyncPart.AuthorEntry(
            tag: tag(state.author, in: scope), frontier: state.frontier, hash: short(state.hash),
            isHeld: held[scope]?.contains(state.author) ?? false)
    }

    func short(_ digest: Digest) -> UInt64 { digest == .zero ? 0 : salt.short(digest) }

    private mutating func compare(
        branches theirs: [UInt64], _ path: AuthorTrie.Path, at place: Int,
        _ index: some RecordIndex, _ outcome: inout Outcome
    ) throws {
        let scope = try scope(place)
        guard path.depth < AuthorTrie.depthMax else { throw SyncRefusal.unexpected }
        let trie = try trie(of: scope, index)
        for (nibble, hash) in theirs.enumerated() {
            let child = path.child(nibble)
            if short(trie.hash(child)) == hash { continue }
            if hash == 0 {
                for state in trie.states(under: child) where state.frontier > 0 {
                    outcome.streams.append(.tail(scope, state.author, after: 0))
                }
            } else {
                add(describe(trie, child, at: place), &outcome)
            }
        }
    }

    /// Frontiers first: while any differs, tails are sent and the trees are left for the next
    /// round, because a tail supersedes records elsewhere and would make whole ranges differ for
    /// nothing.
    private mutating func compare(
        authors theirs: [SyncPart.AuthorEntry], _ path: AuthorTrie.Path, _ isAnswer: Bool,
        at place: Int, _ index: some RecordIndex, _ outcome: inout Outcome
    ) throws {
        let scope = try scope(place)
        let mine = try trie(of: scope, index).states(under: path)
        var unmet = Dictionary(theirs.map { ($0.tag, $0) }, uniquingKeysWith: { first, _ in first })
        var behind: [SyncPart.AuthorEntry] = []
        var damaged: [LogState] = []
        for state in mine {
            let own = entry(state, in: scope)
            let their = unmet.removeValue(forKey: own.tag)
            // An answer names only logs that differ; of the others nothing is to be sent.
            if isAnswer, their == nil { continue }
            let frontier = their?.frontier ?? 0
            if frontier < state.frontier {
                outcome.theyLack.add(state.frontier - frontier)
                if their?.isHeld == true {
                    outcome.held += 1
                } else {
                    outcome.streams.append(.tail(scope, state.author, after: frontier))
                }
            } else if frontier > state.frontier {
                outcome.weLack.add(frontier - state.frontier)
                if own.isHeld { outcome.held += 1 } else { behind.append(own) }
            } else if their?.hash != own.hash, state.frontier > 0 {
                damaged.append(state)
            }
        }
        for entry in theirs where unmet[entry.tag] != nil && entry.frontier > 0 {
            outcome.weLack.add(entry.frontier)
            behind.append(
                SyncPart.AuthorEntry(tag: entry.tag, frontier: 0, hash: 0, isHeld: false))
        }
        if isAnswer { return }
        if !behind.isEmpty {
            add(.authors(scope: place, path: path, isAnswer: true, behind), &outcome)
        }
        guard behind.isEmpty, !outcome.streams.contains(where: { $0.scope == scope }) else {
            return
        }
        for state in damaged { try open(state, in: scope, at: place, index, &outcome) }
    }

    private mutating func open(
        _ state: LogState, in scope: Scope, at place: Int, _ index: some RecordIndex,
        _ outcome: inout Outcome
    ) throws {
        let level = DigestTree.height(of: state.frontier)
        let tag = tag(state.author, in: scope)
        if level == 0 {
            let bits = try index.liveBits(of: state.author, in: scope, leaf: 0)
            add(
                .leaves(scope: place, author: tag, [SyncPart.LeafEntry(leaf: 0, bits: bits)]),
                &outcome)
        } else {
            let entry = try node(state.author, in: scope, level: level, index: 0, index)
            add(.nodes(scope: place, author: tag, level: level, [entry]), &outcome)
        }
    }

    func node(
        _ author: Author, in scope: Scope, level: Int, index: UInt64, _ records: some RecordIndex
    ) throws -> SyncPart.NodeEntry {
        let children = try records.children(of: author, in: scope, level: level, index: index)
        return SyncPart.NodeEntry(index: index, children: children.map(short))
    }
}

extension UInt64 {
    /// Adds what a peer claims, held at the end of the range.
    fileprivate mutating func add(_ more: UInt64) {
        let (sum, overflow) = addingReportingOverflow(more)
        self = overflow ? .max : sum
    }
}
