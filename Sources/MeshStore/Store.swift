// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import GRDB
package import MeshCore
internal import MeshCrypto
package import MeshReplication
package import MeshTrust
package import Synchronization

/// The records of one node on disk: one writer, readers beside it, one process.
///
/// Jobs that wait together share one transaction, one signature for each scope and one sync to
/// disk. A job is answered after COMMIT returned, never before. After an error of the disk nothing
/// more is acknowledged: `failed` is called and the process is to end and come up again through
/// recovery.
package final class Store: Sendable {
    /// What others want to hear of the store.
    package struct Observers: Sendable {
        /// Commits of this node, durable, ready for peers.
        package var committed: @Sendable ([CommitsMessage]) -> Void = { _ in }
        /// Something changed; the feed's new end.
        package var changed: @Sendable (UInt64) -> Void = { _ in }
        /// Nodes were revoked; of their logs only what stands is left.
        package var revoked: @Sendable ([Revocation]) -> Void = { _ in }
        /// The disk failed; no further write will be acknowledged.
        package var failed: @Sendable (StoreError) -> Void = { _ in }

        /// Hears nothing until set.
        package init() {}
    }

    enum Job {
        case write(WriteRequest, @Sendable (Result<[Receipt], StoreError>) -> Void)
        case ingest([CommitsMessage], @Sendable (Result<[IngestOutcome], StoreError>) -> Void)
    }

    private struct Waiting {
        var jobs: [Job] = []
        var isDraining = false
        var isClosed = false
        var hasFailed = false
        var observers = Observers()
    }

    /// The directory's lock, held as long as the store lives.
    private let lock: DataDirectory.Lock?
    private let proof: TailProof?
    private let random: @Sendable (Int) -> [UInt8]
    let pool: DatabasePool
    /// This node's identity.
    package let identity: DataDirectory.Identity
    private let queue = DispatchQueue(label: "mesh.store.writer")
    private let waiting = Mutex(Waiting())
    private let writer: Mutex<Writer>
    private let present: Mutex<Author>
    let directoryCache: TrustDirectory
    /// Tokens of apps; nil until they were read, and after a change.
    let tokenCache = Mutex<[KnownToken]?>(nil)
    /// Counters for metrics.
    package let statistics = StoreStatistics()
    private let feedEnd: Mutex<UInt64>
    /// Names this database; cursors of another are refused.
    package let instance: String

    /// Opens or creates the database of a joined node.
    ///
    /// - Parameters:
    ///   - wallMilliseconds: the wall clock, for stamps.
    ///   - proof: where a clean stop leaves its token; without one each start begins a new
    ///     incarnation.
    ///   - random: bytes by chance, as many as asked for.
    package init(
        path: String, identity: DataDirectory.Identity, lock: DataDirectory.Lock?,
        proof: TailProof?, random: @escaping @Sendable (Int) -> [UInt8] = Sodium.random,
        wallMilliseconds: @escaping @Sendable () -> UInt64
    ) throws(StoreError) {
        do {
            try Schema.refuseNewer(path)
            pool = try DatabasePool(path: path, configuration: Schema.configuration())
            try Schema.prepare(pool)
            let start = try pool.write { db in
                try Startup.begin(
                    db, identity: identity, proof: proof, random: random,
                    wall: wallMilliseconds())
            }
            self.identity = identity
            self.lock = lock
            self.proof = proof
            self.random = random
            instance = start.instance
            directoryCache = TrustDirectory(root: identity.root)
            directoryCache.revoke(try pool.read { try Queries.revocations($0, identity.root) })
            feedEnd = Mutex(start.arrival)
            present = Mutex(start.author)
            writer = Mutex(
                Writer(
                    identity: identity, start: start, directory: directoryCache,
                    statistics: statistics, random: random, wall: wallMilliseconds))
        } catch {
            throw StoreError(error)
        }
    }

    /// Sets who hears of the store; call before the first job.
    package func observe(_ observers: Observers) { waiting.withLock { $0.observers = observers } }

    /// This node's present author.
    package var author: Author { present.withLock { $0 } }

    /// The last position of the change feed.
    package var lastArrival: UInt64 { feedEnd.withLock { $0 } }

    /// Writes for an app; returns when the writes are durable here.
    package func write(_ request: WriteRequest) async throws(StoreError) -> [Receipt] {
        let result = await withCheckedContinuation { continuation in
            write(request) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// Writes for an app; answers on the writer's queue when the writes are durable here.
    package func write(
        _ request: WriteRequest, done: @escaping @Sendable (Result<[Receipt], StoreError>) -> Void
    ) {
        submit(.write(request, done))
    }

    /// Waits until every job so far is answered and whoever observes has heard of it.
    package func settle() { queue.sync {} }

    /// Verifies and stores what a peer sent.
    package func ingest(_ messages: [CommitsMessage]) async throws(StoreError) -> [IngestOutcome] {
        let result = await withCheckedContinuation { continuation in
            submit(.ingest(messages) { continuation.resume(returning: $0) })
        }
        return try result.get()
    }

    /// Verifies and stores what a peer sent; answers on the writer's queue.
    package func ingest(
        _ messages: [CommitsMessage],
        done: @escaping @Sendable (Result<[IngestOutcome], StoreError>) -> Void
    ) {
        submit(.ingest(messages, done))
    }

    private func submit(_ job: Job) {
        enum Verdict { case start, queued, refused(StoreError) }
        let verdict: Verdict = waiting.withLock { waiting in
            if waiting.isClosed { return .refused(.closed) }
            guard waiting.jobs.count < StoreLimits.jobsWaiting else {
                return .refused(.busy)
            }
            waiting.jobs.append(job)
            if waiting.isDraining { return .queued }
            waiting.isDraining = true
            return .start
        }
        switch verdict {
        case .start: queue.async { self.drain() }
        case .queued: break
        case .refused(let error):
            statistics.refusedJobs.add(1, ordering: .relaxed)
            Self.fail([job], error)
        }
    }

    private static func fail(_ jobs: [Job], _ error: StoreError) {
        for job in jobs {
            switch job {
            case .write(_, let done): done(.failure(error))
            case .ingest(_, let done): done(.failure(error))
            }
        }
    }

    private func drain() {
        while true {
            let jobs: [Job] = waiting.withLock { waiting in
                let taken = Array(waiting.jobs.prefix(StoreLimits.jobsPerTransaction))
                waiting.jobs.removeFirst(taken.count)
                if taken.isEmpty { waiting.isDraining = false }
                return taken
            }
            if jobs.isEmpty { return }
            perform(jobs)
        }
    }

    /// Runs jobs in one transaction and answers them once it is durable.
    private func perform(_ jobs: [Job]) {
        let observers = waiting.withLock { $0.observers }
        do {
            let result = try writer.withLock { writer in
                let author = writer.author
                do {
                    let result = try pool.write { db in try writer.transact(db, jobs) }
                    present.withLock { $0 = writer.author }
                    return result
                } catch {
                    writer.author = author
                    writer.forget()
                    throw error
                }
            }
            statistics.transactions.add(1, ordering: .relaxed)
            statistics.isDiskFull.store(false, ordering: .relaxed)
            feedEnd.withLock { $0 = max($0, result.arrival) }
            if result.touchesPolicies { directoryCache.forgetPolicies() }
            directoryCache.revoke(result.revoked)
            for answer in result.answers { answer() }
            if !result.committed.isEmpty { observers.committed(result.committed) }
            if !result.revoked.isEmpty { observers.revoked(result.revoked) }
            if result.hasLostRevocations { bringBackRevocations() }
            if result.hasChanged { observers.changed(result.arrival) }
            // The jobs are answered: what fails from here on is nobody's answer.
            guard result.dirtyLeaves > StoreLimits.dirtyLeaves else { return }
            do { try refreshDigests() } catch { stopUnlessFull(StoreError(error), observers) }
        } catch {
            let failure = StoreError(error)
            Self.fail(jobs, failure)
            stopUnlessFull(failure, observers)
        }
    }

    private func stopUnlessFull(_ failure: StoreError, _ observers: Observers) {
        if failure == .diskFull { return statistics.isDiskFull.store(true, ordering: .relaxed) }
        waiting.withLock {
            $0.isClosed = true
            $0.hasFailed = true
        }
        observers.failed(failure)
    }

    /// Brings the stored digest trees up to date with the records; cheap when nothing changed.
    package func refreshDigests() throws {
        try writer.withLock { writer in
            guard writer.dirtyCount > 0 else { return }
            try pool.write { db in try DigestRefresh.persist(db) }
            writer.forgetDirty()
        }
    }

    /// The rows changed beneath what the writer remembers.
    func writerForgets() throws { writer.withLock { $0.forget() } }

    /// Runs a short change on the writer, for things other than records.
    func change(_ body: (Database) throws -> Void) throws {
        do { try writer.withLock { _ in try pool.write(body) } } catch {
            throw StoreError(error)
        }
    }

    /// Reads a consistent snapshot.
    func read<T>(_ body: (Database) throws -> T) throws -> T {
        do { return try pool.read(body) } catch { throw StoreError(error) }
    }

    /// Runs a comparison of digests on one snapshot.
    package func consult<T>(_ body: (any RecordIndex) throws -> T) throws -> T {
        try refreshDigests()
        return try pool.read { db in try body(try SnapshotIndex(db)) }
    }

    /// Finishes what waits, marks a clean stop, and checkpoints.
    package func close() {
        waiting.withLock { $0.isClosed = true }
        queue.sync {}
        if !waiting.withLock({ $0.hasFailed }) {
            try? writer.withLock { writer in
                try pool.write { db in
                    try Startup.end(db, writer: writer, proof: proof, random: random)
                }
            }
        }
        try? pool.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
        try? pool.close()
    }
}

/// What the store counts, for metrics.
package final class StoreStatistics: Sendable {
    package let transactions = Atomic<Int>(0)
    package let recordsWritten = Atomic<Int>(0)
    package let recordsIngested = Atomic<Int>(0)
    package let signatures = Atomic<Int>(0)
    package let verifications = Atomic<Int>(0)
    package let isDiskFull = Atomic<Bool>(false)
    package let refusedJobs = Atomic<Int>(0)
    package let forks = Atomic<Int>(0)
    package let damaged = Atomic<Int>(0)
    package let recordsRevoked = Atomic<Int>(0)
    package let recordsRestored = Atomic<Int>(0)
    package let undoDropped = Atomic<Int>(0)
}
