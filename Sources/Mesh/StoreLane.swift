// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
package import MeshCore
internal import MeshCrypto
package import MeshEngine
package import MeshReplication
package import MeshStore
internal import MeshTrust
internal import Synchronization

/// What the engine asks of the store.
package enum StoreWork: Sendable {
    case ingest(LinkID, IngestTicket)
    case compare(LinkID, SyncSession, SyncTurn?)
    case read(LinkID, StreamRequest)
    case keep(LinkID, [UInt8])
    case show(LinkID, NodeID)
    case heed(LinkID, [UInt8])
    case remember(NodeID, Address)
    case depart(NodeID, [UInt8]?)
    case keepKey(LinkID, NodeID, Bytes32)
    case findKey(LinkID, NodeID, Digest)
    case measure(LinkID?, LogName, UInt64)

    /// The work that an effect asks for; nil for an effect that is not the store's.
    package init?(_ effect: Effect) {
        switch effect {
        case .compare(let id, let session, let turn): self = .compare(id, session, turn)
        case .ingest(let id, let ticket): self = .ingest(id, ticket)
        case .read(let id, let request): self = .read(id, request)
        case .keep(let id, let bytes): self = .keep(id, bytes)
        case .show(let id, let node): self = .show(id, node)
        case .heed(let id, let bytes): self = .heed(id, bytes)
        case .remember(let node, let address): self = .remember(node, address)
        case .depart(let node, let words): self = .depart(node, words)
        case .keepKey(let id, let node, let key): self = .keepKey(id, node, key)
        case .findKey(let id, let node, let name): self = .findKey(id, node, name)
        case .measure(let id, let log, let place): self = .measure(id, log, place)
        case .send, .close, .dial, .datagram, .beacon, .correctClock, .note, .adopt, .enrol,
            .handedOver, .keeper, .acknowledged:
            return nil
        }
    }

    /// The link for which it is done; nil if it is for none.
    var link: LinkID? {
        switch self {
        case .ingest(let id, _), .compare(let id, _, _), .read(let id, _), .keep(let id, _),
            .show(let id, _), .heed(let id, _), .keepKey(let id, _, _), .findKey(let id, _, _):
            id
        case .measure(let id, _, _): id
        case .remember, .depart: nil
        }
    }

    /// What the engine is told where the store could not take a message: a later comparison brings
    /// it again.
    package static var unavailable: IngestOutcome {
        var outcome = IngestOutcome()
        outcome.refusal = .unavailable
        return outcome
    }

    /// Does everything but an ingest, which goes through the store's writer.
    ///
    /// - Returns: the answer to the engine, if there is one.
    package func perform(on store: Store) -> Input? {
        switch self {
        case .ingest: return nil
        case .compare(let id, let session, let turn): return compare(store, id, session, turn)
        case .read(let id, let request):
            let chunk = (try? store.next(request)) ?? StreamChunk()
            return .chunk(id, chunk.messages, rest: chunk.rest)
        case .keep(let id, let bytes):
            let certificate = try? Certificate(decoding: bytes, root: store.identity.root)
            guard let certificate, (try? store.keep(certificate)) != nil else {
                return .certificate(id, nil)
            }
            return .certificate(id, certificate)
        case .remember(let node, let address):
            // Only a hint for the next start: where it can't be kept, nothing is lost.
            try? store.remember(node, at: address)
            return nil
        case .depart(let node, let words):
            // Members tell each other again whenever they link.
            try? store.depart(node, words: words)
            return nil
        case .heed(let id, let bytes):
            let revocation = try? Revocation(decoding: bytes, root: store.identity.root)
            if let revocation { store.revoke(revocation) { _ in } }
            return .heeded(id, isGood: revocation != nil)
        case .keepKey(let id, let node, let key):
            let isKept = (try? store.deposits.keep(key, of: node)) != nil
            return .keptKey(id, isKept ? StorageSeal.name(of: key) : nil)
        case .findKey(let id, let node, let name):
            return .foundKey(id, (try? store.deposits.key(name, of: node)) ?? nil)
        case .measure(let id, let log, let place):
            let end = (try? place == 0 ? store.end(of: log) : store.held(place, of: log)) ?? nil
            return .measured(id, log, end)
        case .show(let id, let node):
            // The newest comes first: by that one the node is known.
            let certificates = (try? store.certificates(of: node)) ?? []
            return .shown(id, certificates.map(\.encoded))
        }
    }

    private func compare(
        _ store: Store, _ id: LinkID, _ session: SyncSession, _ turn: SyncTurn?
    ) -> Input {
        var session = session
        let result: ComparisonResult
        do {
            result = .outcome(
                try store.consult { index in
                    guard let turn else {
                        var outcome = SyncSession.Outcome()
                        outcome.reply = try session.begin(index)
                        return outcome
                    }
                    return try session.answer(turn, index)
                })
        } catch let refusal as SyncRefusal {
            result = .refused(refusal)
        } catch {
            result = .failed
        }
        return .compared(id, session, result)
    }
}

/// Does what the engine asks of the store, in order for each link, on a thread of its own, but for
/// what the store's writer does.
///
/// In order, so that a comparison sees what was sent before it; links in turn, so that commits of
/// a neighbour do not wait behind another's flood. Messages of commits that wait together are
/// stored in one transaction.
final class StoreLane: Sendable {
    private struct State {
        var work = FairQueue<LinkID?, StoreWork>()
        var isBusy = false
        var isClosed = false
    }

    /// Most work that is taken at once, and most messages of one transaction.
    private static let atOnce = 64
    /// Bytes of records after which a transaction takes no further message: what it changes is to
    /// fit into the database's cache.
    private static let bytesAtOnce = 2 << 20

    private let store: Store
    private let answer: @Sendable (Input) -> Void
    private let queue = DispatchQueue(label: "mesh.lane")
    private let state = Mutex(State())

    /// - Parameter answer: takes an answer to the engine.
    init(store: Store, answer: @escaping @Sendable (Input) -> Void) {
        self.store = store
        self.answer = answer
    }

    /// What waits here is bounded by the credit of each link and one turn a link.
    func add(_ work: StoreWork) {
        let isIdle = state.withLock { state in
            if state.isClosed { return false }
            state.work.add(work, for: work.link)
            defer { state.isBusy = true }
            return !state.isBusy
        }
        if isIdle { queue.async { self.run() } }
    }

    /// Does what waits, up to an ingest: the store answers that itself, and the lane goes on from
    /// there only if more waits. No thread waits for the disk meanwhile.
    private func run() {
        while true {
            let work: [StoreWork] = state.withLock { state in
                if state.work.isEmpty { state.isBusy = false }
                return state.work.take(atMost: Self.atOnce)
            }
            if work.isEmpty { return }
            if !perform(work[...]) { return }
        }
    }

    /// - Returns: false where the rest is done once the store has answered.
    private func perform(_ work: ArraySlice<StoreWork>) -> Bool {
        var rest = work
        while let item = rest.first {
            guard case .ingest = item else {
                rest.removeFirst()
                if let input = item.perform(on: store) { answer(input) }
                continue
            }
            var tickets: [(LinkID, IngestTicket)] = []
            var bytes = 0
            while bytes < Self.bytesAtOnce, case .ingest(let id, let ticket)? = rest.first {
                rest.removeFirst()
                tickets.append((id, ticket))
                for commit in ticket.message.commits {
                    bytes += commit.records.reduce(0) { $0 + $1.count }
                }
            }
            ingest(tickets, then: rest)
            return false
        }
        return true
    }

    private func ingest(_ tickets: [(LinkID, IngestTicket)], then rest: ArraySlice<StoreWork>) {
        store.ingest(tickets.map(\.1.message)) { result in
            let outcomes: [IngestOutcome] =
                switch result {
                case .success(let all): all
                case .failure: tickets.map { _ in StoreWork.unavailable }
                }
            for ((id, ticket), outcome) in zip(tickets, outcomes) {
                self.answer(.ingested(id, ticket, outcome))
            }
            let isDone = self.state.withLock { state in
                let isDone = state.isClosed || (rest.isEmpty && state.work.isEmpty)
                if isDone { state.isBusy = false }
                return isDone
            }
            if isDone { return }
            // What else the lane does may take long, and the store has other work.
            self.queue.async { if self.perform(rest) { self.run() } }
        }
    }

    /// Begins nothing more. What waits was acknowledged to nobody, and comes again with the next
    /// comparison: an end does not wait for a neighbour's flood.
    func stop() {
        state.withLock { state in
            state.isClosed = true
            state.work.removeAll()
        }
    }

    /// Stops, and waits for what has begun; what the store has taken it finishes itself.
    func close() async {
        stop()
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume() }
        }
    }
}
