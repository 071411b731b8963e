// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshTrust

/// One state of the database, as the rules and readers see it; each row is verified as it is read.
final class SQLiteSnapshot: RecordSnapshot {
    let db: Database
    let caches: SQLiteCaches
    let trust: TrustDirectory
    let mesh: MeshID
    let seal: RowSeal
    private(set) var damage: Set<Damage> = []
    /// A record that a commit counts, that is no hole, and that its place does not lead to.
    private(set) var missed: (log: LogKey, sequence: UInt64)?
    private let digests: SQLiteDigests

    init(
        _ db: Database, caches: SQLiteCaches, trust: TrustDirectory, seal: RowSeal,
        digests: SQLiteDigests = SQLiteDigests()
    ) {
        self.db = db
        self.caches = caches
        self.trust = trust
        self.seal = seal
        self.digests = digests
        mesh = trust.root.meshID
    }

    func found(_ one: Damage) { damage.insert(one) }

    // MARK: Records

    /// The columns that `record(_:)` reads, in its order.
    static let recordColumns =
        "arrival, scope, author, sequence, key, id, bytes, merge, gone, undo, by_author, by_sequence, sum"

    /// A row that is what was written.
    struct RecordRow {
        let arrival: UInt64
        let log: LogName
        let held: HeldVersion
        let bytes: [UInt8]
        let isLive: Bool
    }

    /// Verifies a row: its sum, its hash and its key. A rotten one is noted.
    ///
    /// Where only its sum or name has rotted it is read all the same, and mended: whoever was shown
    /// nothing and then writes there would replace it everywhere.
    func record(_ row: SQLRow) throws -> RecordRow? {
        let arrival = row.sequence(0)
        let bytes = seal.opened(row.bytes(6))
        let hash = Record.id(of: bytes, in: mesh)
        let place = Self.place(row, id: row.fixed(5) ?? .zero)
        let isWhole = place.sum == row.bits(12)
        let isNamed = isWhole || Self.place(row, id: hash).sum == row.bits(12)
        guard try isNamed || isProven(hash, place),
            let scope = try caches.scope(db, place.log.scope),
            let author = try caches.author(db, place.log.author),
            let merge = MergeKind(rawValue: place.merge)
        else {
            found(.row(arrival))
            return nil
        }
        let log = LogName(scope: scope, author: author)
        if !isWhole { found(.record(log, place.sequence)) }
        guard !isWhole || hash == place.id, let record = try? Record(decoding: bytes),
            row.bytes(4) == record.key.utf8
        else {
            found(.record(log, place.sequence))
            return nil
        }
        let dot = Dot(author: author, sequence: place.sequence)
        return RecordRow(
            arrival: arrival, log: log,
            held: HeldVersion(dot: dot, id: hash, record: record, merge: merge), bytes: bytes,
            isLive: place.gone == nil)
    }

    /// Rows of a query that begins with `recordColumns`.
    func records(_ rest: String, _ values: SQLValue...) throws -> [RecordRow] {
        var all: [RecordRow] = []
        try db.each("SELECT \(Self.recordColumns) FROM record \(rest)", list: values) { row in
            if let one = try record(row) { all.append(one) }
            return true
        }
        return all
    }

    /// The records of a log in a range, ascending.
    func records(of log: LogName, in range: ClosedRange<UInt64>) throws -> [RecordRow] {
        guard let key = try caches.key(db, log) else { return [] }
        // A rotten index may lead to rows of other places.
        return try records(
            "WHERE scope = ? AND author = ? AND sequence BETWEEN ? AND ? ORDER BY sequence",
            .int(key.scope), .int(key.author), .sequence(range.lowerBound),
            .sequence(range.upperBound)
        ).filter { $0.log == log && range.contains($0.held.dot.sequence) }
    }

    func rows(of log: LogName, in range: ClosedRange<UInt64>) throws -> [StoredRow] {
        try records(of: log, in: range).map {
            StoredRow(
                sequence: $0.held.dot.sequence, id: $0.held.id, bytes: $0.bytes, isLive: $0.isLive)
        }
    }

    // MARK: Commits

    /// The columns that `commit(_:_:)` reads.
    static let commitColumns = "first, last, header, signature, proof, sum"

    /// Verifies a commit's row; a rotten one is noted.
    func commit(_ row: SQLRow, of log: LogName, _ key: LogKey) -> HeldCommit? {
        let (first, last) = (row.sequence(0), row.sequence(1))
        let (header, signature, proof) = (row.bytes(2), row.bytes(3), row.bytes(4))
        var reader = WireReader(proof)
        guard Sums.batch(key, first, last, header, signature, proof) == row.bits(5),
            let decoded = try? CommitHeader(decoding: header), decoded.log == log,
            decoded.first == first, decoded.last == last, let signature = Signature(signature),
            let proof = try? CommitProof(from: &reader, count: decoded.count)
        else {
            found(.commit(log, first...max(first, min(last, first &+ 1023))))
            return nil
        }
        return HeldCommit(header: decoded, signature: signature, proof: proof, rows: [:])
    }

    func commits(of log: LogName, after sequence: UInt64, limit: Int) throws -> [HeldCommit] {
        guard let key = try caches.key(db, log) else { return [] }
        // One that another has in the place of several may begin before the sequence.
        let earliest = sequence - min(sequence, UInt64(CommitHeader.recordsMax))
        return try db.rows(
            """
            SELECT \(Self.commitColumns) FROM batch WHERE scope = ? AND author = ? AND first > ?
            AND last > ? ORDER BY first LIMIT ?
            """, .int(key.scope), .int(key.author), .sequence(earliest), .sequence(sequence),
            .int(Int64(limit))
        ) { commit($0, of: log, key) }.compactMap(\.self)
    }

    func commit(of log: LogName, holding sequence: UInt64) throws -> HeldCommit? {
        guard let key = try caches.key(db, log) else { return nil }
        return try commits(of: log, key, overlapping: sequence...sequence).first
    }

    /// The commits that overlap a range of one log, ascending.
    func commits(
        of log: LogName, _ key: LogKey, overlapping range: ClosedRange<UInt64>
    ) throws -> [HeldCommit] {
        // A commit has at most 1,024 records, so nothing that begins earlier can reach the range.
        let earliest = range.lowerBound - min(range.lowerBound, UInt64(CommitHeader.recordsMax))
        var all: [HeldCommit] = []
        try db.each(
            """
            SELECT \(Self.commitColumns) FROM batch WHERE scope = ? AND author = ?
            AND first BETWEEN ? AND ? ORDER BY first DESC
            """,
            list: [
                .int(key.scope), .int(key.author), .sequence(earliest), .sequence(range.upperBound),
            ]
        ) { row in
            // Commits of one log do not overlap: before one that ends too early all do. A row that
            // has rotted says nothing of those before it.
            guard let one = commit(row, of: log, key) else { return true }
            guard one.header.last >= range.lowerBound else { return false }
            if one.header.range.overlaps(range) { all.append(one) }
            return true
        }
        return all.reversed()
    }

    /// A commit with what is held of its records, and whether they are still what they were.
    func withRows(_ commit: HeldCommit, _ key: LogKey) throws -> HeldCommit {
        var rows: [UInt64: HeldCommit.Row] = [:]
        try db.each(
            """
            SELECT \(Self.recordColumns) FROM record WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ?
            """,
            list: [
                .int(key.scope), .int(key.author), .sequence(commit.header.first),
                .sequence(commit.header.last),
            ]
        ) { row in
            let hash = Record.id(of: seal.opened(row.bytes(6)), in: mesh)
            let place = Self.place(row, id: row.fixed(5) ?? .zero)
            guard commit.header.range.contains(place.sequence) else { return true }
            let isNamed = place.sum == row.bits(12)
            rows[place.sequence] = HeldCommit.Row(
                id: isNamed ? place.id : hash, isLive: place.gone == nil, isNamed: isNamed,
                isWhole: !isNamed || hash == place.id)
            return true
        }
        for offset in commit.proof.presentOffsets where missed == nil {
            let sequence = commit.header.first + UInt64(offset)
            if rows[sequence] == nil, try !isHole(key, sequence) { missed = (key, sequence) }
        }
        return HeldCommit(
            header: commit.header, signature: commit.signature, proof: commit.proof, rows: rows)
    }

    private func firstHole(_ log: LogKey) throws -> UInt64? {
        try db.first(
            "SELECT sequence FROM damage WHERE scope = ? AND author = ? ORDER BY sequence LIMIT 1",
            .int(log.scope), .int(log.author)
        ) { max($0.sequence(0), 1) }
    }

    private func isHole(_ log: LogKey, _ sequence: UInt64) throws -> Bool {
        try db.first(
            "SELECT 1 FROM damage WHERE scope = ? AND author = ? AND sequence = ?",
            .int(log.scope), .int(log.author), .sequence(sequence)
        ) { _ in true } != nil
    }

    /// The last commit of a log that is held and whole.
    func lastCommit(of log: LogName) throws -> HeldCommit? {
        guard let key = try caches.key(db, log) else { return nil }
        var found: HeldCommit?
        try db.each(
            """
            SELECT \(Self.commitColumns) FROM batch WHERE scope = ? AND author = ?
            ORDER BY first DESC
            """, list: [.int(key.scope), .int(key.author)]
        ) { row in
            found = commit(row, of: log, key)
            return found == nil
        }
        return found
    }

    /// The next commit of a log before or after a place, if it is whole.
    func nearest(to place: UInt64, of log: LogName, isBefore: Bool) throws -> CommitHeader? {
        guard let key = try caches.key(db, log) else { return nil }
        return try db.first(
            """
            SELECT \(Self.commitColumns) FROM batch WHERE scope = ? AND author = ?
            AND first \(isBefore ? "<" : ">") ? ORDER BY first \(isBefore ? "DESC" : "") LIMIT 1
            """, .int(key.scope), .int(key.author), .sequence(place)
        ) { commit($0, of: log, key)?.header }?.flatMap(\.self)
    }

    func commits(
        afterScrub place: ScrubPlace, limit: Int
    ) throws -> (commits: [HeldCommit], next: ScrubPlace?) {
        guard place.numbers.count == 3 else { return ([], nil) }
        let (scope, author) = (Int64(clamping: place.numbers[0]), Int64(clamping: place.numbers[1]))
        var commits: [HeldCommit] = []
        var walked: [ScrubPlace] = []
        var (records, isFull) = (0, false)
        try db.each(
            """
            SELECT \(Self.commitColumns), scope, author FROM batch
            WHERE (scope, author, first) > (?, ?, ?) ORDER BY scope, author, first LIMIT ?
            """,
            list: [.int(scope), .int(author), .sequence(place.numbers[2]), .int(Int64(limit))]
        ) { row in
            let key = LogKey(scope: row.int(6), author: row.int(7))
            walked.append(ScrubPlace(numbers: [row.sequence(6), row.sequence(7), row.sequence(0)]))
            isFull = walked.count == limit
            guard let scope = try caches.scope(db, key.scope),
                let author = try caches.author(db, key.author),
                let held = commit(row, of: LogName(scope: scope, author: author), key)
            else { return true }
            commits.append(held)
            records += held.header.count
            isFull = isFull || records >= StoreLimits.recordsPerScrub
            return !isFull
        }
        // Rotten numbers may be any: the walk only ever goes on.
        let last = walked.max { $0.numbers.lexicographicallyPrecedes($1.numbers) }
        let goesOn = last.map { place.numbers.lexicographicallyPrecedes($0.numbers) } ?? false
        return (commits, isFull && goesOn ? last : nil)
    }

    // MARK: Logs

    func end(
        of log: LogName
    ) throws -> (frontier: UInt64, header: CommitHeader, signature: Signature)? {
        guard let key = try caches.key(db, log), let row = try logRow(key, log) else { return nil }
        return (row.frontier, row.header, row.signature)
    }

    private struct LogRow {
        let frontier: UInt64
        let header: CommitHeader
        let signature: Signature
        let head: Digest
    }

    private func logRow(_ key: LogKey, _ log: LogName) throws -> LogRow? {
        let row = try db.first(
            """
            SELECT frontier, header, signature, head, sum FROM log WHERE scope = ? AND author = ?
            """, .int(key.scope), .int(key.author)
        ) { row in
            let (frontier, head) = (row.sequence(0), row.fixed(3) ?? Digest.zero)
            let (header, signature) = (row.bytes(1), row.bytes(2))
            guard Sums.log(key, frontier, header, signature, head) == row.bits(4),
                let decoded = try? CommitHeader(decoding: header),
                let signature = Signature(signature)
            else { return nil as LogRow? }
            return LogRow(frontier: frontier, header: decoded, signature: signature, head: head)
        }
        if case .some(.none) = row { found(.head(log)) }
        return row.flatMap(\.self)
    }

    func family(_ name: FamilyName) throws -> Family {
        if let known = caches.families[name] { return known }
        guard let scope = try caches.scopeID(db, name.scope) else { return Family([:]) }
        let authors = try db.rows(
            """
            SELECT id, life FROM author WHERE node = ?2 AND (
                EXISTS (SELECT 1 FROM log WHERE scope = ?1 AND author = author.id)
                OR EXISTS (SELECT 1 FROM evidence WHERE scope = ?1 AND author = author.id))
            """, .int(scope), .fixed(name.node)
        ) { (id: $0.int(0), life: Life($0.bits(1))) }
        var heads: [Life: LogHead] = [:]
        for (id, life) in authors {
            let key = LogKey(scope: scope, author: id)
            let log = LogName(
                scope: name.scope, author: Author(node: name.node, life: life))
            let shown = LogHead.Shown(try evidence(of: log).map(\.header), in: mesh)
            guard let row = try logRow(key, log) else {
                if shown != nil {
                    heads[life] = LogHead(frontier: 0, id: .zero, inherits: [], shown: shown)
                }
                continue
            }
            let first = try commits(of: log, key, overlapping: 1...1).first
            heads[life] = LogHead(
                frontier: row.frontier, id: row.head, inherits: first?.header.inherits ?? [],
                shown: shown, firstHole: try firstHole(key))
        }
        let family = Family(heads)
        caches.families[name] = family
        return family
    }

    // MARK: Index of digests

    func scopes() throws -> [Scope] {
        try db.rows(
            """
            SELECT name FROM scope WHERE EXISTS (SELECT 1 FROM log WHERE log.scope = scope.id)
            OR EXISTS (SELECT 1 FROM record WHERE record.scope = scope.id AND gone IS NULL)
            """
        ) { Scope($0.text(0)) }.compactMap { $0 }.sorted()
    }

    func trie(of scope: Scope) throws -> AuthorTrie {
        guard let id = try caches.scopeID(db, scope) else { return AuthorTrie() }
        return digests.tries[id] ?? AuthorTrie()
    }

    func children(
        of author: Author, in scope: Scope, level: Int, index: UInt64
    ) throws -> [Digest] {
        guard let log = try caches.key(db, LogName(scope: scope, author: author)) else {
            return [Digest](repeating: .zero, count: Int(DigestTree.fanOut))
        }
        return try digests.unsaved.children(db, log, level: level, index: index)
    }

    func liveBits(of author: Author, in scope: Scope, leaf: UInt64) throws -> LeafBits {
        guard let log = try caches.key(db, LogName(scope: scope, author: author)) else {
            return LeafBits()
        }
        var bits: UInt64 = 0
        for (offset, _) in try DigestRefresh.live(db, log, leaf) { bits |= 1 << UInt64(offset) }
        return LeafBits(bits)
    }

    func facts(_ needs: Needs) throws -> Facts { try SQLiteFacts(self).facts(needs) }
}
