// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust

/// The one that changes records: what it keeps in memory mirrors the database between transactions.
///
/// After a rollback everything cached is forgotten and read again.
struct Writer {
    /// A log in the database's own numbers.
    struct LogKey: Hashable {
        let scope: Int64
        let author: Int64
    }

    /// The end of a log as far as it is known.
    struct LogHead {
        var frontier: UInt64
        var id: Digest
    }

    /// A live version with what pruning needs of it.
    struct LiveRow {
        let authorID: Int64
        let id: Digest
        let version: Version
    }

    /// What a transaction leads to once it is durable.
    struct Result: Sendable {
        var answers: [@Sendable () -> Void] = []
        var committed: [CommitsMessage] = []
        var hasChanged = false
        var arrival: UInt64 = 0
        var dirtyLeaves = 0
        var touchesPolicies = false
        var revoked: [Revocation] = []
        var hasLostRevocations = false
    }

    let identity: DataDirectory.Identity
    let directory: TrustDirectory
    let statistics: StoreStatistics
    let random: @Sendable (Int) -> [UInt8]
    let wall: @Sendable () -> UInt64

    var author: Author
    var arrival: UInt64
    var stamp: HybridTime
    var drafts: [Int64: Draft] = [:]
    var dropped: [LogKey: [UInt64: Digest]] = [:]
    var touchesPolicies = false
    /// What stands of the logs of revoked nodes; nil until it was read.
    var revokedLogs: RevokedLogs?
    /// Revocations that came to live in this transaction.
    var newlyRevoked: [Revocation] = []
    /// Records of revocations went with a fork of who had brought them.
    var hasLostRevocations = false
    /// The commit whose proof was kept last, and how many records were; the first looks at limits.
    var lastUndo: KeptProof?
    var undoCount = StoreLimits.undoPerTrim - 1
    private(set) var dirtyCount: Int
    private var dirty: Set<DirtyLeaf> = []
    private var lastDirty: DirtyLeaf?
    private var scopes: [Scope: Int64] = [:]
    private var authors: [Author: Int64] = [:]
    private var names: [Int64: Author] = [:]
    private var heads: [LogKey: LogHead] = [:]

    private struct DirtyLeaf: Hashable {
        let log: LogKey
        let leaf: UInt64
    }

    init(
        identity: DataDirectory.Identity, start: Startup, directory: TrustDirectory,
        statistics: StoreStatistics, random: @escaping @Sendable (Int) -> [UInt8],
        wall: @escaping @Sendable () -> UInt64
    ) {
        self.identity = identity
        self.directory = directory
        self.statistics = statistics
        self.random = random
        self.wall = wall
        author = start.author
        arrival = start.arrival
        stamp = start.stamp
        dirtyCount = start.dirtyLeaves
    }

    /// A policy was written: what is remembered of policies no longer holds, here at once, and for
    /// readers once it is durable.
    mutating func forgetPolicies() {
        directory.forgetPolicies()
        touchesPolicies = true
    }

    /// Forgets everything that a rollback may have undone.
    mutating func forget() {
        drafts = [:]
        dropped = [:]
        touchesPolicies = false
        revokedLogs = nil
        newlyRevoked = []
        hasLostRevocations = false
        lastUndo = nil
        dirty = []
        lastDirty = nil
        dirtyCount = max(dirtyCount, 1)
        scopes = [:]
        authors = [:]
        names = [:]
        heads = [:]
        directory.forgetPolicies()
    }

    /// The digests are up to date.
    mutating func forgetDirty() {
        dirty = []
        lastDirty = nil
        dirtyCount = 0
    }

    mutating func transact(_ db: Database, _ jobs: [Store.Job]) throws -> Result {
        var result = Result()
        let before = arrival
        for job in jobs {
            switch job {
            case .write(let request, let done):
                do {
                    let receipts = try write(db, request, &result)
                    result.answers.append { done(.success(receipts)) }
                } catch let refusal as WriteRefusal {
                    result.answers.append { done(.failure(refusal.error)) }
                }
            case .ingest(let messages, let done):
                // What a peer sends may end this incarnation: our own commits are closed before it.
                try sealDrafts(db, &result)
                var outcomes: [IngestOutcome] = []
                for message in messages { outcomes.append(try ingest(db, message)) }
                let answer = outcomes
                result.answers.append { done(.success(answer)) }
            }
        }
        try sealDrafts(db, &result)
        try makeCuts(db)
        try prune(db)
        trim()
        result.hasChanged = arrival != before
        if result.hasChanged { try Startup.saveCounters(db, arrival: arrival, stamp: stamp) }
        result.arrival = arrival
        result.dirtyLeaves = dirtyCount
        result.touchesPolicies = touchesPolicies
        touchesPolicies = false
        result.revoked = newlyRevoked
        result.hasLostRevocations = hasLostRevocations
        newlyRevoked = []
        hasLostRevocations = false
        return result
    }

    /// The next stamp for a record of this node.
    mutating func nextStamp() -> HybridTime {
        stamp = stamp.next(wall: wall())
        return stamp
    }

    mutating func scopeID(_ db: Database, _ scope: Scope) throws -> Int64 {
        if let id = scopes[scope] { return id }
        let name = scope.description
        try db.run("INSERT OR IGNORE INTO scope(name) VALUES(?)", .text(name))
        let id = try db.first("SELECT id FROM scope WHERE name = ?", .text(name)) { $0.int(0) } ?? 0
        scopes[scope] = id
        return id
    }

    mutating func authorID(_ db: Database, _ author: Author) throws -> Int64 {
        if let id = authors[author] { return id }
        let incarnation = SQLValue.int(Int64(bitPattern: author.incarnation.value))
        try db.run(
            "INSERT OR IGNORE INTO author(node, incarnation) VALUES(?, ?)", .digest(author.node),
            incarnation)
        let id = try db.first(
            "SELECT id FROM author WHERE node = ? AND incarnation = ?", .digest(author.node),
            incarnation
        ) { $0.int(0) }
        authors[author] = id ?? 0
        names[id ?? 0] = author
        return id ?? 0
    }

    mutating func author(_ db: Database, _ id: Int64) throws -> Author {
        if let author = names[id] { return author }
        let found = try Queries.author(db, id)
        names[id] = found
        return found
    }

    mutating func head(_ db: Database, _ log: LogKey) throws -> LogHead {
        if let head = heads[log] { return head }
        let head = try db.first(
            "SELECT frontier, head FROM log WHERE scope = ? AND author = ?", .int(log.scope),
            .int(log.author)
        ) { LogHead(frontier: $0.sequence(0), id: $0.digest(1) ?? .zero) }
        let found = head ?? LogHead(frontier: 0, id: .zero)
        heads[log] = found
        return found
    }

    /// Moves a log's end; the last commit's header is kept with it as evidence.
    mutating func advance(
        _ db: Database, _ log: LogKey, to frontier: UInt64, header: CommitHeader,
        signature: Signature
    ) throws {
        let id = header.id(in: identity.root.meshID)
        heads[log] = LogHead(frontier: frontier, id: id)
        try db.run(
            """
            INSERT INTO log VALUES(?1, ?2, ?3, ?4, ?5, ?6, zeroblob(32))
            ON CONFLICT(scope, author) DO UPDATE SET frontier = ?3, header = ?4, signature = ?5,
            head = ?6
            """, .int(log.scope), .int(log.author), .sequence(frontier), .bytes(header.encoded),
            .bytes(signature.bytes), .digest(id))
        // The root at a new height must be computed even where no leaf changed.
        try markDirty(db, log, frontier)
    }

    /// Nothing of a log is left.
    mutating func end(_ db: Database, _ log: LogKey) throws {
        heads[log] = nil
        try db.run(
            "DELETE FROM log WHERE scope = ? AND author = ?", .int(log.scope), .int(log.author))
    }

    mutating func markDirty(_ db: Database, _ log: LogKey, _ sequence: UInt64) throws {
        let leaf = DirtyLeaf(log: log, leaf: DigestTree.leaf(of: sequence))
        // Most writes follow each other, and fall in the leaf of the one before.
        if leaf == lastDirty { return }
        lastDirty = leaf
        guard dirty.insert(leaf).inserted else { return }
        dirtyCount += 1
        try db.run(
            "INSERT OR IGNORE INTO dirty VALUES(?, ?, ?)", .int(log.scope), .int(log.author),
            .sequence(leaf.leaf))
    }

    mutating func insert(
        _ db: Database, _ log: LogKey, _ sequence: UInt64, key: RecordKey, id: Digest,
        bytes: [UInt8]
    ) throws {
        arrival += 1
        try db.run(
            "INSERT INTO record VALUES(?, ?, ?, ?, ?, ?, ?)", .sequence(arrival), .int(log.scope),
            .int(log.author), .sequence(sequence), .text(key.utf8), .digest(id), .bytes(bytes))
        try markDirty(db, log, sequence)
    }

    /// The live versions of a key.
    mutating func live(_ db: Database, _ scope: Int64, _ key: RecordKey) throws -> [LiveRow] {
        struct Raw {
            let author: Int64
            let sequence: UInt64
            let id: Digest
            let bytes: [UInt8]
        }
        let raws = try db.rows(
            "SELECT author, sequence, id, bytes FROM record WHERE scope = ? AND key = ?",
            .int(scope), .text(key.utf8)
        ) {
            Raw(
                author: $0.int(0), sequence: $0.sequence(1), id: $0.digest(2) ?? .zero,
                bytes: $0.bytes(3))
        }
        var rows: [LiveRow] = []
        for raw in raws {
            // A row that no longer decodes is damage, found by its hash and fetched anew by the
            // scrub.
            guard let record = try? Record(decoding: raw.bytes) else { continue }
            let dot = Dot(author: try author(db, raw.author), sequence: raw.sequence)
            let version = Version(dot: dot, context: record.context, stamp: record.stamp)
            rows.append(LiveRow(authorID: raw.author, id: raw.id, version: version))
        }
        return rows
    }

    /// Takes a superseded record away and remembers its identity for its commit's proof.
    mutating func supersede(_ db: Database, _ scope: Int64, _ row: LiveRow) throws {
        let log = LogKey(scope: scope, author: row.authorID)
        let sequence = row.version.dot.sequence
        try db.run(
            "DELETE FROM record WHERE scope = ? AND author = ? AND sequence = ?", .int(scope),
            .int(row.authorID), .sequence(sequence))
        try markDirty(db, log, sequence)
        if let first = drafts[scope]?.first, drafts[scope]?.authorID == row.authorID,
            sequence >= first
        {
            drafts[scope]?.dropped[Int(sequence - first)] = row.id
        } else {
            dropped[log, default: [:]][sequence] = row.id
        }
    }

    /// Rewrites the proofs of commits that lost records; a commit with none left goes.
    mutating func prune(_ db: Database) throws {
        for (log, gone) in dropped {
            var rest = gone.keys.sorted()[...]
            while let sequence = rest.first {
                guard let row = try Queries.batch(db, log.scope, log.author, holding: sequence)
                else {
                    rest.removeFirst()
                    continue
                }
                let here = rest.prefix { $0 <= row.header.last }
                rest = rest.dropFirst(max(here.count, 1))
                var offsets: [Int: Digest] = [:]
                for sequence in here {
                    let offset = Int(sequence - row.header.first)
                    if row.proof.present[offset] { offsets[offset] = gone[sequence] }
                }
                try save(db, log, row.header, row.signature, row.proof.dropping(offsets))
            }
        }
        dropped = [:]
    }

    /// Stores a commit's header and proof, or removes it where nothing of it is left.
    func save(
        _ db: Database, _ log: LogKey, _ header: CommitHeader, _ signature: Signature,
        _ proof: CommitProof
    ) throws {
        if proof.isEmpty {
            try db.run(
                "DELETE FROM batch WHERE scope = ? AND author = ? AND first = ?", .int(log.scope),
                .int(log.author), .sequence(header.first))
        } else {
            try db.run(
                "INSERT OR REPLACE INTO batch VALUES(?, ?, ?, ?, ?, ?, ?)", .int(log.scope),
                .int(log.author), .sequence(header.first), .sequence(header.last),
                .bytes(header.encoded), .bytes(signature.bytes), .bytes(proof.encoded))
        }
    }

    /// Keeps what is remembered between transactions within its limits.
    private mutating func trim() {
        if heads.count > StoreLimits.cached { heads = [:] }
        if dirty.count > 16 * StoreLimits.cached {
            dirty = []
            lastDirty = nil
        }
    }
}
