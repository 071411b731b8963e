// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import GRDB
internal import GRDBSQLite
internal import MeshCore
package import MeshCrypto
package import MeshReplication
package import MeshRules
package import MeshTrust
internal import Synchronization

/// Records in SQLite: one writer, readers beside it, one process.
package final class SQLiteRecords: RecordStore {
    private let pool: DatabasePool
    private let watch: PageWatch
    private let trust: TrustDirectory
    private let seal: RowSeal
    private let queue = DispatchQueue(label: "mesh.store.writer")
    private let writer: Mutex<Writer>
    private let digests = Mutex(SQLiteDigests())

    /// What only the writer touches.
    private struct Writer {
        var changes: SQLiteChanges?
        /// The start that is still to be written, because the disk was full when it was made.
        var unsaved: WriterLease?
        /// What was made anew since the last transaction of the rules.
        var mended: Set<Damage> = []
    }

    /// Opens or creates the database; `seal` is that of its records, nil for none.
    package init(
        path: String, trust: TrustDirectory, seal: StorageSeal? = nil
    ) throws(StoreError) {
        self.seal = RowSeal(seal)
        do {
            try Schema.refuseNewer(path)
            let ballast = Ballast(path: path + "-ballast")
            watch = try PageLayer.watch(path)
            pool = try ballast.opening {
                try SchemaText.opening(path) {
                    try DatabasePool(path: path, configuration: Schema.configuration())
                }
            }
            try Schema.prepare(pool)
            try self.seal.match(pool, path)
            ballast.keep()
            self.trust = trust
            writer = Mutex(Writer())
        } catch { throw StoreError(error) }
    }

    // MARK: The right to write

    package func lease(
        _ start: @escaping @Sendable (StoredStart?) -> StartDecision
    ) throws -> WriterLease {
        try guarded { try takeOver(start) }
    }

    private func takeOver(
        _ start: @escaping @Sendable (StoredStart?) -> StartDecision
    ) throws -> WriterLease {
        try writer.withLock { writer in
            let lease: WriterLease
            do {
                lease = try pool.change { db in
                    try SQLiteMending.start(db, seal)
                    let lease = try SQLiteStart.judge(db, start)
                    try SQLiteStart.save(lease, db)
                    return lease
                }
            } catch {
                // A full disk is no error of the disk: what is there is read and told to others.
                guard StoreError(error) == .diskFull else { throw StoreError(error) }
                lease = try pool.look { try SQLiteStart.judge($0, start) }
                writer.unsaved = lease
            }
            writer.changes = try pool.look { db in
                SQLiteChanges(
                    try StoredCounters.read(db),
                    dirty: try db.first("SELECT count(*) FROM dirty") { Int($0.int(0)) } ?? 0,
                    trust: trust, seal: seal)
            }
            return lease
        }
    }

    // MARK: Writing

    package func perform(
        _ transaction: RecordTransaction, under lease: WriterLease,
        done: @escaping @Sendable (Result<Committed, StoreError>) -> Void
    ) {
        queue.async {
            let result: Result<Committed, StoreError>
            do {
                result = .success(try self.guardedChange { try self.perform(transaction, lease) })
            } catch {
                result = .failure(StoreError(error))
            }
            done(result)
        }
    }

    private func perform(
        _ transaction: RecordTransaction, _ lease: WriterLease
    ) throws -> Committed {
        try writer.withLock { writer in
            guard let changes = writer.changes else { throw StoreError.closed }
            let before = changes.counters
            do {
                let committed = try pool.change { db in
                    if let unsaved = writer.unsaved { try SQLiteStart.save(unsaved, db) }
                    guard try SQLiteStart.holds(lease, db) else { throw StoreError.leaseLost }
                    let committed = try run(transaction, changes, db, writer.mended)
                    guard watch.isSettled else { throw PageFault() }
                    return committed
                }
                writer.unsaved = nil
                writer.mended = []
                changes.trim()
                return committed
            } catch {
                changes.forget(before)
                throw error
            }
        }
    }

    private func run(
        _ transaction: RecordTransaction, _ changes: SQLiteChanges, _ db: Database,
        _ mended: Set<Damage>
    ) throws -> Committed {
        var transaction = transaction
        var needs = transaction.begin()
        var damage = mended
        let before = changes.counters.arrival
        changes.begin(wall: transaction.input.wall)
        while true {
            var snapshot = SQLiteSnapshot(db, caches: changes.caches, trust: trust, seal: seal)
            var facts = try snapshot.facts(needs)
            if let missed = snapshot.missed, try SQLiteMending.mendPlaces(missed, db) {
                changes.forget(changes.counters)
                snapshot = SQLiteSnapshot(db, caches: changes.caches, trust: trust, seal: seal)
                facts = try snapshot.facts(needs)
                damage.insert(.places)
            }
            facts.undoUsage = changes.counters.undo
            damage.formUnion(facts.damage)
            switch transaction.resume(facts) {
            case .more(let list, let more):
                try changes.apply(list, db)
                needs = more
            case .done(let list, var conclusion):
                try changes.apply(list, db)
                conclusion.counts.recordsRevoked = changes.takeCutCount()
                changes.note(stamp: conclusion.stamp)
                let hasChanged =
                    changes.counters.arrival != before || conclusion.epoch != nil
                if hasChanged || !list.isEmpty { try changes.save(db) }
                return Committed(
                    conclusion: conclusion, feed: FeedPosition(changes.counters.arrival),
                    hasChanged: hasChanged, damage: damage)
            }
        }
    }

    package func inspect(
        after place: ScrubPlace, limit: Int
    ) throws -> (damage: Set<Damage>, isMended: Bool) {
        func look() throws -> SQLiteInspection {
            try pool.look { db in
                let snapshot = SQLiteSnapshot(db, caches: SQLiteCaches(), trust: trust, seal: seal)
                return try SQLiteInspection(snapshot, after: place, limit: limit)
            }
        }
        return try guarded {
            var found = try look()
            var damage: Set<Damage> = []
            if found.areIndexesWrong {
                try mend { try SQLiteMending.rebuild("record", seal, $0) }
                damage.insert(.index)
            }
            if found.areCommitsWrong { try mend { try SQLiteMending.rebuild("batch", seal, $0) } }
            let isRebuilt = found.areIndexesWrong || found.areCommitsWrong
            // What could not be found may be there.
            if isRebuilt { found = try look() }
            let lost = found.lostCommits
            if !lost.isEmpty {
                try mend { db in for one in lost { try SQLiteMending.restore(one, db) } }
            }
            let isMended = isRebuilt || !lost.isEmpty
            if !lost.isEmpty { found = try look() }
            if found.areDigestsWrong { try mend(SQLiteMending.forgetDigests) }
            return (damage.union(found.damage), isMended || found.areDigestsWrong)
        }
    }

    /// Forgets pages that were read and are not in use; nobody waits for it.
    func forgetPages() { pool.releaseMemoryEventually() }

    /// How many pages were met that are not what was written there.
    var rottenPageCount: Int { watch.metCount }

    /// A page of the file is not what was written there.
    private struct PageFault: Error {}

    /// Answers with what no rotten page has a part in: does again what met one.
    private func guarded<T>(_ body: () throws -> T) throws -> T {
        try noting {
            for _ in 0..<StoreLimits.looksAtPages {
                // Of two readers on one connection the second sees pages that the first has met.
                if !watch.isSettled { try lookAtPages() }
                let settled = watch.settledCount
                let result = Result { try body() }
                if watch.metCount == settled { return try result.get() }
            }
            throw Self.changing
        }
    }

    /// Does what changes something: again if it gave up where it had met a rotten page, and never
    /// once it is durable.
    private func guardedChange<T>(_ body: () throws -> T) throws -> T {
        try noting {
            for _ in 0..<StoreLimits.looksAtPages {
                if !watch.isSettled { try lookAtPages() }
                do { return try body() } catch {
                    if watch.isSettled, !(error is PageFault) { throw error }
                }
            }
            throw Self.changing
        }
    }

    private static let changing = StoreError.database(
        code: SQLITE_CORRUPT, message: "the disk changes what it holds")

    /// Has the next start look at everything where SQLite finds the file broken.
    private func noting<T>(_ body: () throws -> T) throws -> T {
        do { return try body() } catch let refusal as SyncRefusal { throw refusal } catch {
            let failure = StoreError(error)
            if case .database(let code, _) = failure, code & 0xff == SQLITE_CORRUPT {
                try? pool.change { db in try Meta.set(db, "suspect", [1]) }
            }
            throw failure
        }
    }

    /// Makes anew what rotten pages have broken, but for rows: they show their rot themselves.
    private func lookAtPages() throws {
        try writer.withLock { writer in
            if watch.isSettled { return }
            let isMended = try pool.writeWithoutTransaction { db in
                // What the writer has in memory may be better than what readers find on the disk.
                db.releaseMemory()
                try SQLiteMending.lookAtFile(db)
                var isMended = false
                try db.inTransaction {
                    isMended = try SQLiteMending.lookAtAll(db, seal)
                    return .commit
                }
                return isMended
            }
            // A reader may keep what the disk has answered only once.
            pool.invalidateReadOnlyConnections()
            if isMended { writer.mended.insert(.index) }
            if let counters = writer.changes?.counters { writer.changes?.forget(counters) }
            watch.settle()
            pool.writeWithoutTransaction { PageLayer.sumSettledPages($0.sqliteConnection) }
        }
    }

    private func mend(_ body: (Database) throws -> Void) throws {
        try writer.withLock { writer in
            try pool.change(body)
            if let counters = writer.changes?.counters { writer.changes?.forget(counters) }
        }
    }

    package func keep(_ certificate: Certificate) throws {
        try writer.withLock { _ in
            try pool.change { db in try trust.keep(certificate, db) }
        }
    }

    package func close() {
        queue.sync {
            try? pool.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
            try? pool.close()
        }
    }

    // MARK: Reading

    package func read<T>(_ body: (any RecordSnapshot) throws -> T) throws -> T {
        try guarded {
            try pool.look { db in
                try body(SQLiteSnapshot(db, caches: SQLiteCaches(), trust: trust, seal: seal))
            }
        }
    }

    package func consult<T>(_ body: (any RecordIndex) throws -> T) throws -> T {
        try guarded {
            let digests = try upToDate()
            return try pool.look { db in
                try body(
                    SQLiteSnapshot(
                        db, caches: SQLiteCaches(), trust: trust, seal: seal, digests: digests))
            }
        }
    }

    /// Brings the digests up to date with the records; cheap where nothing changed.
    private func upToDate() throws -> SQLiteDigests {
        try writer.withLock { writer in
            let dirtyCount = writer.changes?.dirty.count ?? 1
            return try digests.withLock { digests in
                if !digests.areBuilt { try pool.look { try digests.build($0) } }
                guard dirtyCount > 0 else { return digests }
                do {
                    let refresh = try pool.change { db in
                        let refresh = try DigestRefresh(db)
                        try refresh.persist(db)
                        return refresh
                    }
                    digests.unsaved = DigestRefresh()
                    try pool.look { try digests.note(refresh, $0) }
                    writer.changes?.forgetDirty()
                } catch {
                    guard StoreError(error) == .diskFull else { throw error }
                    try pool.look { db in
                        digests.unsaved = try DigestRefresh(db)
                        try digests.note(digests.unsaved, db)
                    }
                }
                return digests
            }
        }
    }

    /// Whether so many leaves have changed that digests should be brought up to date meanwhile.
    package var wantsRefresh: Bool {
        writer.withLock { ($0.changes?.dirty.count ?? 0) > StoreLimits.dirtyLeaves }
    }
}
