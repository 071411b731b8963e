// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
package import MeshCore
package import MeshCrypto
package import MeshReplication
package import MeshRules
package import MeshTrust
internal import Synchronization

/// The records of one node: jobs come in, are judged by the rules in one transaction after the
/// other, and are answered once the transaction is durable.
///
/// Jobs that wait together share one transaction, one signature for each scope and one sync to
/// disk. After an error of the disk nothing more is acknowledged: what waits is refused, `failed`
/// is called, and the process is to end and come up again through recovery.
package final class Store: Sendable {
    /// What others want to hear of the store.
    package struct Observers: Sendable {
        /// Commits of this node, durable, ready for peers.
        package var committed: @Sendable ([CommitsMessage]) -> Void = { _ in }
        /// Something changed.
        package var changed: @Sendable (FeedNews) -> Void = { _ in }
        /// Nodes were revoked; of their logs only what stands is left.
        package var revoked: @Sendable ([Revocation]) -> Void = { _ in }
        /// The disk failed; no further write will be acknowledged.
        package var failed: @Sendable (StoreError) -> Void = { _ in }

        /// Hears nothing until set.
        package init() {}
    }

    private struct Waiting {
        var jobs: [Job] = []
        var isBusy = false
        var (isClosed, isEnded, hasFailed) = (false, false, false)
        /// Writes of apps are refused; what peers send is taken.
        var isLeaving = false
        var idle: [@Sendable () -> Void] = []
        var observers = Observers()
    }

    /// What goes on from one transaction to the next.
    struct Present {
        var life: Life
        var epoch: [UInt8]
        var stamp = HybridTime(0)
        var revoked: Set<NodeID>
        var revokedTickets: Set<[UInt8]>
        var clockCorrection: Int64 = 0
    }

    /// The directory's lock, held as long as the store lives.
    private let lock: DataDirectory.Lock?
    private let random: @Sendable (Int) -> [UInt8]
    private let wall: @Sendable () -> UInt64
    let records: any RecordStore
    /// What is kept beside the records.
    package let notes: Notes
    /// The tokens of local apps.
    package let tokens: AppTokens
    /// Keys that are kept for other servers.
    package let deposits: Deposits
    /// The seal of this server's records; nil where they lie as they are.
    package let seal: StorageSeal?
    /// This node's identity.
    package let identity: DataDirectory.Identity
    private let lease: WriterLease
    private let waiting = Mutex(Waiting())
    let present: Mutex<Present>
    private let ownCertificates: Mutex<[Certificate]>
    private let feedEnd: Mutex<FeedPosition>
    let policyCache = Mutex(PolicyCache())
    let keyCache = Mutex(KeyCache())
    /// Answers to lists.
    package let lists = ListCache()
    /// Counters for metrics.
    package let statistics = StoreStatistics()

    /// Opens or creates the store of a joined node in SQLite.
    ///
    /// - Parameters:
    ///   - path: of the database; what is kept beside the records lies next to it.
    ///   - random: bytes by chance, as many as asked for.
    ///   - wallMilliseconds: the wall clock, for stamps.
    ///   - memory: see `StartDecision`.
    ///   - seal: under which records lie in their rows; nil for none.
    package convenience init(
        path: String, identity: DataDirectory.Identity, lock: DataDirectory.Lock?,
        seal: StorageSeal? = nil,
        random: @escaping @Sendable (Int) -> [UInt8] = Sodium.random,
        wallMilliseconds: @escaping @Sendable () -> UInt64, memory: StoredStart? = nil
    ) throws(StoreError) {
        let trust = TrustDirectory(root: identity.root, own: identity.certificate)
        try self.init(
            records: try SQLiteRecords(path: path, trust: trust, seal: seal),
            notes: try Notes(path: path + "-notes"), identity: identity, lock: lock, seal: seal,
            random: random, wallMilliseconds: wallMilliseconds, memory: memory)
    }

    /// Opens the store of a joined node, wherever its records are kept.
    package init(
        records: any RecordStore, notes: Notes, identity: DataDirectory.Identity,
        lock: DataDirectory.Lock?, seal: StorageSeal? = nil,
        random: @escaping @Sendable (Int) -> [UInt8] = Sodium.random,
        wallMilliseconds: @escaping @Sendable () -> UInt64, memory: StoredStart? = nil
    ) throws(StoreError) {
        do {
            let chance = random(24)
            let now = wallMilliseconds()
            let node = identity.certificate.node
            lease = try records.lease { stored in
                StartDecision(stored, node: node, random: chance, wall: now, memory: memory)
            }
            self.records = records
            self.notes = notes
            tokens = AppTokens(notes)
            deposits = Deposits(notes, seal)
            self.seal = seal
            self.identity = identity
            self.lock = lock
            self.random = random
            wall = wallMilliseconds
            let (revocations, retired) = try records.read {
                (try $0.revocations(), try $0.retired())
            }
            present = Mutex(
                Present(
                    life: lease.start.life, epoch: lease.start.epoch,
                    revoked: Set(revocations.map(\.node) + retired),
                    revokedTickets: Set(revocations.flatMap(\.serials))))
            feedEnd = Mutex(lease.feed)
            ownCertificates = Mutex([identity.certificate])
        } catch {
            throw StoreError(error)
        }
        do {
            try records.keep(identity.certificate)
            try readOwnCertificates()
        } catch {
            // The certificate lies in its own file too; the copy is for peers.
            guard StoreError(error) == .diskFull else { throw StoreError(error) }
            statistics.isDiskFull.store(true, ordering: .relaxed)
        }
    }

    /// Sets who hears of the store; call before the first job.
    package func observe(_ observers: Observers) { waiting.withLock { $0.observers = observers } }

    /// This node as it writes now.
    package var author: Author {
        Author(node: identity.certificate.node, life: present.withLock { $0.life })
    }

    /// The number by which neighbours know this process.
    package var incarnation: Incarnation { lease.start.incarnation }

    /// What this process remembers of its beginning, as a machine that is put back does.
    package var memory: StoredStart {
        StoredStart(
            node: author.node, life: author.life, incarnation: incarnation, epoch: epoch)
    }

    /// The last position of the change feed.
    package var lastPosition: FeedPosition { feedEnd.withLock { $0 } }

    /// Names what positions of the feed count in; cursors of another are looked up or refused.
    package var epoch: [UInt8] { present.withLock { $0.epoch } }

    /// By how many milliseconds this host's clock is behind what its peers agree on; negative where
    /// it is before it. Stamps are given by the corrected clock.
    package func correctClock(by milliseconds: Int64) {
        present.withLock { $0.clockCorrection = milliseconds }
    }

    // MARK: Jobs

    /// Writes for an app; returns when the writes are durable here.
    package func write(_ request: WriteRequest) async throws(StoreError) -> [Receipt] {
        let result = await withCheckedContinuation { continuation in
            write(request) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// Writes for an app; answers on the store's queue when the writes are durable here.
    package func write(
        _ request: WriteRequest, done: @escaping @Sendable (Result<[Receipt], StoreError>) -> Void
    ) {
        submit(.write(request, done))
    }

    /// Takes no writes of apps from now on, or takes them again. What was accepted before is done.
    package func refuseWrites(_ isLeaving: Bool) {
        waiting.withLock { $0.isLeaving = isLeaving }
        // One that was lost meanwhile could not be written again.
        if !isLeaving { bringBackRevocations() }
    }

    /// Verifies and stores what a peer sent.
    package func ingest(_ messages: [CommitsMessage]) async throws(StoreError) -> [IngestOutcome] {
        let result = await withCheckedContinuation { continuation in
            submit(.ingest(messages) { continuation.resume(returning: $0) })
        }
        return try result.get()
    }

    /// Verifies and stores what a peer sent; answers on the store's queue.
    package func ingest(
        _ messages: [CommitsMessage],
        done: @escaping @Sendable (Result<[IngestOutcome], StoreError>) -> Void
    ) {
        submit(.ingest(messages, done))
    }

    /// Has what was found rotten taken out, and fetched again.
    func quarantine(_ damage: Set<Damage>) {
        if !damage.isEmpty { submit(.damaged(damage)) }
    }

    func submit(_ job: Job) {
        enum Verdict { case start, queued, refused(StoreError) }
        let verdict: Verdict = waiting.withLock { waiting in
            if waiting.isClosed { return .refused(.closed) }
            if waiting.isLeaving, case .write = job { return .refused(.leaving) }
            guard waiting.jobs.count < StoreLimits.jobsWaiting else { return .refused(.busy) }
            waiting.jobs.append(job)
            if waiting.isBusy { return .queued }
            waiting.isBusy = true
            return .start
        }
        switch verdict {
        case .start: performNext()
        case .queued: break
        case .refused(let error):
            statistics.refusedJobs.add(1, ordering: .relaxed)
            job.fail(error)
        }
    }

    private func performNext() {
        enum Next { case jobs([Job]), failed([Job]), idle([@Sendable () -> Void]) }
        let next: Next = waiting.withLock { waiting in
            if waiting.hasFailed {
                defer { waiting.jobs = [] }
                // After an error of the disk what waited is refused, whatever the disk says now.
                if !waiting.jobs.isEmpty { return .failed(waiting.jobs) }
            }
            let taken = Array(waiting.jobs.prefix(StoreLimits.jobsPerTransaction))
            waiting.jobs.removeFirst(taken.count)
            if !taken.isEmpty { return .jobs(taken) }
            waiting.isBusy = false
            defer { waiting.idle = [] }
            return .idle(waiting.idle)
        }
        switch next {
        case .jobs(let jobs): perform(jobs)
        case .failed(let jobs):
            for job in jobs { job.fail(.closed) }
            performNext()
        case .idle(let callbacks): for callback in callbacks { callback() }
        }
    }

    private func perform(_ jobs: [Job]) {
        let input = present.withLock { present in
            let corrected = Int64(clamping: wall()) &- present.clockCorrection
            return RuleInput(
                life: present.life, spareLife: Life(Self.number(random(8))),
                spareEpoch: random(8), stamp: present.stamp, wall: UInt64(max(0, corrected)))
        }
        let context = RuleContext(
            root: identity.root, key: identity.nodeKey,
            certificates: ownCertificates.withLock { $0 })
        let transaction = RecordTransaction(jobs.flatMap(\.rules), context, input)
        records.perform(transaction, under: lease) { result in
            switch result {
            case .success(let committed): self.conclude(jobs, committed)
            case .failure(let error):
                let observers = self.stopUnlessFull(error)
                for job in jobs { job.fail(error) }
                observers?.failed(error)
            }
            self.performNext()
        }
    }

    /// Reads this node's certificates anew: they add up.
    func readOwnCertificates() throws {
        let node = identity.certificate.node
        let facts = try records.read { try $0.facts(.certificates(of: node)) }
        let own = facts.certificates[node] ?? [identity.certificate]
        ownCertificates.withLock { $0 = own }
    }

    private static func number(_ bytes: [UInt8]) -> UInt64 {
        var reader = WireReader(bytes)
        return (try? reader.u64()) ?? 0
    }

    private func conclude(_ jobs: [Job], _ committed: Committed) {
        let conclusion = committed.conclusion
        let observers = waiting.withLock { $0.observers }
        statistics.note(conclusion.counts)
        statistics.isDiskFull.store(false, ordering: .relaxed)
        present.withLock {
            $0.life = conclusion.life
            $0.epoch = conclusion.epoch ?? $0.epoch
            $0.stamp = conclusion.stamp
            $0.revoked.formUnion(conclusion.revoked.map(\.node))
            $0.revokedTickets.formUnion(conclusion.revoked.flatMap(\.serials))
        }
        let news = feedEnd.withLock { end in
            defer { end = max(end, committed.feed) }
            return FeedNews(
                after: end, through: max(end, committed.feed),
                touchesMesh: conclusion.touched.touchesMesh)
        }
        keyCache.withLock { $0.forget(conclusion.touched) }
        lists.forget(conclusion.touched)
        if conclusion.touchesPolicies { policyCache.withLock { $0.forget() } }
        var answers = conclusion.answers[...]
        // Whoever is answered may ask at once who else holds what was written.
        if !conclusion.committed.isEmpty { observers.committed(conclusion.committed) }
        for job in jobs { Self.answer(job, &answers) }
        if !conclusion.revoked.isEmpty { observers.revoked(conclusion.revoked) }
        if conclusion.hasLostRevocations { bringBackRevocations() }
        if committed.hasChanged { observers.changed(news) }
        quarantine(committed.damage)
        if conclusion.wantsTrim { submit(.trim) }
        if (records as? SQLiteRecords)?.wantsRefresh == true {
            // The jobs are answered: what fails from here on is nobody's answer.
            do { try records.consult { _ in } } catch {
                let error = StoreError(error)
                stopUnlessFull(error)?.failed(error)
            }
        }
    }

    private static func answer(_ job: Job, _ answers: inout ArraySlice<JobAnswer>) {
        switch job {
        case .write(_, let done):
            guard case .written(let result)? = answers.popFirst() else {
                preconditionFailure("a write was answered as one")
            }
            done(result.mapError { StoreError($0) })
        case .ingest(let messages, let done):
            let outcomes = messages.map { _ in
                guard case .ingested(let outcome)? = answers.popFirst() else {
                    preconditionFailure("a message was answered as one")
                }
                return outcome
            }
            done(.success(outcomes))
        case .damaged, .judgeAnew, .trim: _ = answers.popFirst()
        }
    }

    /// - Returns: whom to tell that the disk failed; nil where it is only full.
    private func stopUnlessFull(_ failure: StoreError) -> Observers? {
        if failure == .diskFull {
            statistics.isDiskFull.store(true, ordering: .relaxed)
            return nil
        }
        return waiting.withLock {
            $0.isClosed = true
            $0.hasFailed = true
            return $0.observers
        }
    }

    /// Waits until every job so far is answered and whoever observes has heard of it.
    package func settle() {
        let done = DispatchSemaphore(value: 0)
        let isIdle = waiting.withLock { waiting in
            if waiting.isBusy { waiting.idle.append { done.signal() } }
            return !waiting.isBusy
        }
        if !isIdle { done.wait() }
    }

    /// Finishes what waits, and checkpoints.
    package func close() {
        let isFirst = waiting.withLock { waiting in
            defer { (waiting.isClosed, waiting.isEnded) = (true, true) }
            return !waiting.isEnded
        }
        guard isFirst else { return }
        settle()
        records.close()
        notes.close()
    }
}
