// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Mesh
internal import MeshCore
internal import MeshEngine
internal import MeshLink
internal import MeshMembership
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust
internal import Synchronization

/// A process: what the shell of a real node does around the engine, on virtual time.
extension Simulation {
    func start(_ node: SimulatedNode) {
        guard !node.isUp, !node.isRetired else { return }
        network.off.remove(node.index)
        node.life += 1
        node.isPaused = false
        node.inbox = []
        do throws(StoreError) { try node.openStore(seed: random.next(), memory: node.memory) } catch
        {
            if node.isRotten { return replaceDisk(node) }
            // The library below makes a first entry in the log where it sees none, and it looks for
            // one on the host's own disks.
            if isPassing(error) || (error == .diskFull && node.disk.fault == .full) {
                mark(.diskFailed)
                return schedule(after: .seconds(2)) { self.start(node) }
            }
            guard node.disk.isDead else { return fail("\(node.name) does not start: \(error)") }
            // The power failed once more, in the middle of the recovery.
            cutPower(node)
            mark(.diedRecovering)
            return schedule(after: .seconds(2)) { self.start(node) }
        }
        node.memory = nil
        guard let store = node.store else { return }
        let ticket = node.identity.certificate.ticket
        let incarnation = store.incarnation
        let life = store.author.life
        if let last = node.lastLife { mark(last == life ? .lifeKept : .lifeNew) }
        node.lastLife = life
        let membership = Membership(
            Membership.Identity(
                key: node.identity.nodeKey, mesh: node.identity.root.meshID, site: ticket.site,
                isCentral: ticket.isCentral),
            incarnation: incarnation, port: 7374, seed: random.next(), now: now)
        node.engine = Engine(
            own: node.identity.certificate, membership: membership,
            seeds: node.identity.seeds.compactMap { Address($0) },
            seed: random.next(), now: now)
        node.storeFree = now
        say("\(node.name) is up, life \(life)")
        let revocations = (try? store.revocations()) ?? []
        connectFollower(node)
        post(node, .revoked(revocations))
        post(node, .known(MeshNode.knownNodes(store)))
        post(node, .keepsLosers(of: (try? store.nodesWithLosers()) ?? []))
        tick(node, life: node.life)
    }

    private func tick(_ node: SimulatedNode, life: Int) {
        guard node.life == life, node.isUp else { return }
        if !node.isPaused { post(node, .tick(wall: node.clock.wall)) }
        watch(node)
        schedule(after: random.jittered(.milliseconds(200), by: 0.1)) {
            self.tick(node, life: life)
        }
    }

    /// Notes what the member table says, and that limits hold.
    private func watch(_ node: SimulatedNode) {
        guard let members = node.engine?.membership.members else { return }
        if let broken = node.engine?.brokenLimit { fail("\(node.name) breaks a limit: \(broken)") }
        for member in members {
            if member.state == .away {
                node.absent.insert(member.node)
            } else if member.state == .alive, node.absent.remove(member.node) != nil {
                mark(.memberBack)
            }
        }
        let gateway = node.engine?.membership.gateway
        if let last = node.lastGateway, last != gateway { mark(.gatewayMoved) }
        node.lastGateway = gateway
    }

    /// What a disk has not been told to keep is gone, or half there.
    private func cutPower(_ node: SimulatedNode) {
        let isLiar = node.disk.fault == .lying
        let loss = node.disk.cutPower(&random)
        if loss.lost > 0 { mark(isLiar ? .diskLied : .writesLost) }
        if loss.torn > 0 { mark(.writesTorn) }
        say("\(node.name) lost its power: \(loss)")
        // What it had said would last is on other disks, or nowhere.
        if isLiar { lose(node, but: []) }
    }

    /// The process is gone at once, with its machine's power or without.
    func crash(_ node: SimulatedNode, power: Bool) {
        guard node.isUp else { return }
        node.disk.freeze()
        node.store?.close()
        node.store = nil
        node.engine = nil
        let ends = node.ends
        node.life += 1
        if power {
            forget(node)
            network.off.insert(node.index)
            cutPower(node)
        } else {
            node.disk.thaw()
            for number in ends.keys.sorted() { if let end = ends[number] { close(end, "reset") } }
            node.ends = [:]
            say("\(node.name) was killed")
        }
    }

    /// The process ends in good order.
    func stop(_ node: SimulatedNode) {
        guard node.isUp else { return }
        for number in node.ends.keys.sorted() { send(node, LinkID(number), .goodbye) }
        let ends = node.ends
        node.engine = nil
        node.store?.close()
        node.store = nil
        node.life += 1
        if node.disk.isDead {
            network.off.insert(node.index)
            let isLiar = node.disk.fault == .lying
            _ = node.disk.cutPower(&random)
            if isLiar { lose(node, but: []) }
        }
        for number in ends.keys.sorted() { if let end = ends[number] { close(end, "goodbye") } }
        node.ends = [:]
        say("\(node.name) was stopped")
    }

    // MARK: Engine

    func post(_ node: SimulatedNode, _ input: Input) {
        guard node.isUp else { return }
        node.inbox.append(input)
        drain(node)
    }

    /// One input after the other, never within another.
    func drain(_ node: SimulatedNode) {
        guard !node.isStepping, !node.isPaused else { return }
        node.isStepping = true
        defer { node.isStepping = false }
        while !node.inbox.isEmpty, node.isUp, failure == nil {
            let input = node.inbox.removeFirst()
            let effects = node.engine?.step(input, at: now) ?? []
            report.steps += 1
            trace(UInt64(node.index) << 32 | UInt64(effects.count))
            for effect in effects where node.isUp { perform(node, effect) }
        }
    }

    private func perform(_ node: SimulatedNode, _ effect: Effect) {
        switch effect {
        case .send(let id, let message):
            trace(message.encoded.prefix(64))
            if case .holding(let bytes) = message { heed(node, saysIn: bytes) }
            send(node, id, message)
        case .close(let id, let reason):
            if reason == .silence { mark(.linkLost) }
            if let end = node.ends[id.number] { close(end, "\(reason)") }
        case .dial(let address):
            trace(address.description.utf8)
            dial(node, address)
        case .datagram(let address, let bytes):
            trace(bytes.prefix(32))
            send(bytes, from: node, to: address)
        case .beacon(let counter): sendBeacon(node, counter: counter)
        case .correctClock(let duration):
            node.store?.correctClock(by: duration.nanoseconds / 1_000_000)
            mark(.clockCorrected)
        case .adopt, .enrol, .keeper:
            preconditionFailure("no scenario changes the secret, approves or seals a server")
        case .handedOver(let answer): handedOver(node, answer)
        case .acknowledged(let number, let reached): acknowledged(node, number, reached)
        case .note(let notice, _): say("\(node.name): \(notice)")
        case .compare, .ingest, .read, .keep, .show, .heed, .remember, .depart, .keepKey,
            .findKey, .measure:
            if let work = StoreWork(effect) { submit(node, work) }
        }
    }

    // MARK: Store

    private func submit(_ node: SimulatedNode, _ work: StoreWork) {
        let life = node.life
        let factor = node.disk.fault == .slow ? 100 : 1
        let took = Duration.microseconds(Int(200 + random.next() % 2000) * factor)
        node.storeFree = max(now, node.storeFree).advanced(by: took)
        schedule(at: node.storeFree) {
            guard node.life == life, let store = node.store else { return }
            self.perform(node, store, work)
        }
    }

    private func perform(_ node: SimulatedNode, _ store: Store, _ work: StoreWork) {
        var answer: Input?
        if case .ingest(let id, let ticket) = work {
            let result = Self.wait { store.ingest([ticket.message], done: $0) }
            let outcome = (try? result?.get())?.first ?? StoreWork.unavailable
            answer = .ingested(id, ticket, outcome)
            say(describe(ticket.message, outcome, at: node))
        } else {
            answer = work.perform(on: store)
        }
        if case .compared(_, _, .outcome(let outcome))? = answer, !outcome.streams.isEmpty {
            mark(.compared)
        }
        let life = node.life
        collect(node, store)
        if let answer, node.life == life { post(node, answer) }
    }

    private func describe(
        _ message: CommitsMessage, _ outcome: IngestOutcome, at node: SimulatedNode
    ) -> String {
        let what =
            message.isRun
            ? "after \(message.after) through \(message.through)"
            : message.commits.map { commit in
                let header = commit.header
                let name = header.id(in: trust.root.meshID)
                return "commit \(header.first)…\(header.last) \(name) with "
                    + "\(commit.records.count) records"
            }.joined(separator: ", ")
        return "\(node.name) was sent \(message.author) of \(message.scope) \(what): "
            + "stored \(outcome.stored), advanced \(outcome.hasAdvanced), "
            + "refused \(outcome.refusal?.rawValue ?? "-")"
            + (outcome.isFork ? ", shows a fork" : "")
            + (outcome.waits.map { ", waits for \($0)" } ?? "")
    }

    /// An app writes; what is acknowledged must last.
    func write(_ node: SimulatedNode, _ namespace: String) {
        guard let store = node.store else { return }
        do {
            guard let prepared = try apps.request(node, store, namespace, &random) else { return }
            say("\(apps.narrated) as \(prepared.ids)")
            write(node, prepared)
        } catch { failed(node, error) }
    }

    private func write(_ node: SimulatedNode, _ prepared: Apps.Prepared) {
        let done: (Result<[Receipt], StoreError>) -> Void = { result in
            switch result {
            case .success(let receipts):
                self.apps.acknowledge(prepared)
                self.wantMore(node, prepared, receipts)
                if prepared.request.idempotency != nil {
                    node.answered.append((prepared, receipts))
                }
                if self.network.cut.contains(node.site) { self.mark(.wroteWhileCut) }
            case .failure(let error):
                if error == .diskFull { self.mark(.diskFull) }
                if Self.isRefusal(error) { self.apps.refuse(prepared) }
            }
        }
        write(node, prepared.request, then: done) {
            self.retry(prepared, of: node, answered: nil)
        }
    }

    /// Whether an app was told that nothing was written, and not only that nobody knows.
    private static func isRefusal(_ error: StoreError) -> Bool {
        switch error {
        case .preconditionFailed, .exists, .notGranted, .unknownNamespace, .revoked, .limit,
            .idempotencyMismatch, .diskFull, .busy, .leaving:
            true
        default: false
        }
    }

    func write(
        _ node: SimulatedNode, _ request: WriteRequest,
        then: @escaping (Result<[Receipt], StoreError>) -> Void = { _ in },
        died: @escaping () -> Void = {}
    ) {
        guard let store = node.store else { return }
        let life = node.life
        let result = Self.wait { store.write(request, done: $0) }
        store.settle()
        if endsWithDisk(node) { return }
        follow(node)
        let commits = node.outbox.take()
        schedule(after: .microseconds(Int(100 + random.next() % 3000))) {
            guard node.life == life else {
                self.mark(.diedUnacknowledged)
                return died()
            }
            if let result { then(result) }
            for input in commits { self.post(node, input) }
        }
    }

    /// An operator brings a revocation in.
    func revoke(_ revocation: Revocation, at node: SimulatedNode) {
        guard let store = node.store else { return }
        guard case .success? = Self.wait({ store.revoke(revocation, done: $0) }) else {
            // Its disk fails in this very write: the operator brings it in once more.
            if node.disk.fault == .full || endsWithDisk(node) { return }
            return fail("\(node.name) does not take a revocation")
        }
        collect(node, store)
    }

    /// What the store did by itself, as the engine hears it and the audit sees it.
    func collect(_ node: SimulatedNode, _ store: Store) {
        store.settle()
        if endsWithDisk(node) { return }
        let inputs = node.outbox.take()
        count(node, store)
        follow(node)
        for input in inputs { post(node, input) }
    }

    /// What the store counted since it was looked at last.
    private func count(_ node: SimulatedNode, _ store: Store) {
        let (now, before) = (store.statistics.counts, node.counted)
        node.counted = now
        for (counter, what) in Self.counted where now[keyPath: counter] > before[keyPath: counter] {
            mark(what)
        }
    }

    private static var counted: [(KeyPath<RuleCounts, Int>, Mark)] {
        [
            (\.recordsRevoked, .recordsRevoked), (\.recordsRestored, .recordsRestored),
            (\.forks, .forked), (\.rewritten, .rewritten), (\.damaged, .rotFound),
            (\.waiting, .logWaited), (\.signedAgain, .signedAgain),
        ]
    }

    private static func wait<T: Sendable>(
        _ submit: (@escaping @Sendable (T) -> Void) -> Void
    ) -> T? {
        let done = DispatchSemaphore(value: 0)
        let box = Mutex<T?>(nil)
        submit { value in
            box.withLock { $0 = value }
            done.signal()
        }
        done.wait()
        return box.withLock { $0 }
    }

    /// The follower finds its connection closed, and comes again when it has seen that.
    private func connectFollower(_ node: SimulatedNode) {
        node.follower.isCutOff = true
        let life = node.life
        schedule(after: .milliseconds(Int(random.next() % 1000))) {
            if node.life == life { self.follow(node, isNew: true) }
        }
    }

    /// A follower of a node's feed looks at everything that changed.
    ///
    /// - Parameter isNew: whether it has just connected.
    func follow(_ node: SimulatedNode, isNew: Bool = false) {
        guard let store = node.store, failure == nil, isNew || !node.follower.isCutOff else {
            return
        }
        do {
            let seen = try apps.follow(node, store)
            if seen.hasSiblings { mark(.siblings) }
            if seen.isAnew { mark(.feedAnew) }
        } catch { failed(node, error) }
    }
}
