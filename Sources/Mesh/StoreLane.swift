// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import MeshCore
internal import MeshEngine
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import Synchronization

/// Does what the engine asks of the store, in order, on a thread of its own.
///
/// In order, so that a comparison sees what was sent before it. Messages of commits that wait
/// together are stored in one transaction.
final class StoreLane: Sendable {
    enum Work: Sendable {
        case ingest(LinkID, IngestTicket)
        case compare(LinkID, SyncSession, SyncTurn?)
        case read(LinkID, StreamRequest)
        case keep(LinkID, [UInt8])
        case show(LinkID, NodeID)
        case remember(NodeID, String)
    }

    private struct State {
        var work: [Work] = []
        var isBusy = false
    }

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
    func add(_ work: Work) {
        let isIdle = state.withLock { state in
            state.work.append(work)
            defer { state.isBusy = true }
            return !state.isBusy
        }
        if isIdle { queue.async { self.run() } }
    }

    private func run() {
        while true {
            let work: [Work] = state.withLock { state in
                defer { state.work = [] }
                if state.work.isEmpty { state.isBusy = false }
                return state.work
            }
            if work.isEmpty { return }
            var tickets: [(LinkID, IngestTicket)] = []
            for item in work {
                if case .ingest(let id, let ticket) = item {
                    tickets.append((id, ticket))
                    if tickets.count < 64 { continue }
                }
                ingest(&tickets)
                perform(item)
            }
            ingest(&tickets)
        }
    }

    private func ingest(_ tickets: inout [(LinkID, IngestTicket)]) {
        if tickets.isEmpty { return }
        let done = DispatchSemaphore(value: 0)
        // Where the store could not take them, a later comparison brings them again.
        var unavailable = IngestOutcome()
        unavailable.refusal = .unavailable
        let outcomes = Mutex(Array(repeating: unavailable, count: tickets.count))
        store.ingest(tickets.map(\.1.message)) { result in
            if case .success(let all) = result { outcomes.withLock { $0 = all } }
            done.signal()
        }
        done.wait()
        for ((id, ticket), outcome) in zip(tickets, outcomes.withLock { $0 }) {
            answer(.ingested(id, ticket, outcome))
        }
        tickets = []
    }

    private func perform(_ work: Work) {
        switch work {
        case .ingest: break
        case .compare(let id, let session, let turn):
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
            answer(.compared(id, session, result))
        case .read(let id, let request):
            let chunk = (try? store.next(request)) ?? StreamChunk()
            answer(.chunk(id, chunk.messages, rest: chunk.rest))
        case .keep(let id, let bytes):
            do {
                let certificate = try Certificate(decoding: bytes, root: store.identity.root)
                try store.keep(certificate)
                answer(.certificate(id, certificate))
            } catch {
                answer(.certificate(id, nil))
            }
        case .remember(let node, let address):
            // Only a hint for the next start: where it can't be kept, nothing is lost.
            try? store.remember(node, at: address)
        case .show(let id, let node):
            answer(.shown(id, (try? store.certificate(of: node))?.encoded))
        }
    }

    /// Waits until nothing is left to do.
    func close() async {
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume() }
        }
    }
}
