// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
package import MeshReplication
package import MeshRules
package import MeshStore
package import MeshTrust
internal import Synchronization

/// Records in a few dictionaries: the port's meaning, with which every database is compared.
///
/// Nothing here is fast or durable; digests are computed from nothing each time they are asked for.
package final class DictionaryRecords: RecordStore {
    private let state: Mutex<State>
    private let root: RootDocument

    package init(root: RootDocument) {
        self.root = root
        state = Mutex(State())
    }

    struct Row {
        var id: Digest
        var record: Record
        var bytes: [UInt8]
        var merge: MergeKind
        var position: UInt64
        var gone: (number: UInt64, by: Dot, undo: UndoShare)?
    }

    struct Log {
        var head = LogHead.none
        var end: (header: CommitHeader, signature: Signature)?
        var commits: [UInt64: (header: CommitHeader, signature: Signature, proof: CommitProof)] =
            [:]
        var rows: [UInt64: Row] = [:]
        var holes: Set<UInt64> = []
    }

    struct State {
        var logs: [LogName: Log] = [:]
        var notices: [KeyName: UInt64] = [:]
        var losers: [Digest: (node: NodeID, message: CommitsMessage?)] = [:]
        var evidence: [LogName: [(header: CommitHeader, signature: Signature)]] = [:]
        var certificates: [NodeID: [Certificate]] = [:]
        var revocations: [Revocation] = []
        var answers: [String: StoredAnswer] = [:]
        var position: UInt64 = 0
        var lease: UInt64 = 0
        var stored: StoredStart?
        var epochs: [(name: [UInt8], start: UInt64)] = []
        var commitsWritten = 0
    }

    /// How often the row of a commit, with its proof, was written.
    package var commitsWritten: Int { state.withLock(\.commitsWritten) }

    package func lease(
        _ start: @escaping @Sendable (StoredStart?) -> StartDecision
    ) throws -> WriterLease {
        state.withLock { state in
            let decision = start(state.stored)
            state.lease += 1
            state.stored = StoredStart(
                node: decision.node, life: decision.life, incarnation: decision.incarnation,
                epoch: decision.epoch)
            if state.epochs.last?.name != decision.epoch {
                state.epochs.append((decision.epoch, state.position))
            }
            return WriterLease(
                number: state.lease, start: decision, feed: FeedPosition(state.position))
        }
    }

    package func perform(
        _ transaction: RecordTransaction, under lease: WriterLease,
        done: @escaping @Sendable (Result<Committed, StoreError>) -> Void
    ) {
        let result: Result<Committed, StoreError> = state.withLock { state in
            guard state.lease == lease.number else { return .failure(.leaseLost) }
            var transaction = transaction
            let before = state.position
            var needs = transaction.begin()
            while true {
                let facts = DictionarySnapshot(state, root).facts(needs)
                switch transaction.resume(facts) {
                case .more(let changes, let more):
                    for change in changes { state.apply(change, in: root.meshID) }
                    needs = more
                case .done(let changes, let conclusion):
                    for change in changes { state.apply(change, in: root.meshID) }
                    return .success(
                        Committed(
                            conclusion: conclusion, feed: FeedPosition(state.position),
                            hasChanged: state.position != before || conclusion.epoch != nil,
                            damage: []))
                }
            }
        }
        done(result)
    }

    package func read<T>(_ body: (any RecordSnapshot) throws -> T) throws -> T {
        try body(DictionarySnapshot(state.withLock { $0 }, root))
    }

    package func consult<T>(_ body: (any RecordIndex) throws -> T) throws -> T {
        try body(DictionarySnapshot(state.withLock { $0 }, root))
    }

    /// Dictionaries derive nothing.
    package func inspect(
        after place: ScrubPlace, limit: Int
    ) throws -> (damage: Set<Damage>, isMended: Bool) { ([], false) }

    package func keep(_ certificate: Certificate) throws {
        state.withLock { state in
            var list = state.certificates[certificate.node] ?? []
            if !list.contains(certificate) { list.append(certificate) }
            state.certificates[certificate.node] = list.sorted {
                $1.ticket.serial.lexicographicallyPrecedes($0.ticket.serial)
            }
        }
    }

    package func close() {}
}

extension DictionaryRecords.State {
    private mutating func removeLog(_ log: LogName) {
        logs[log]?.end = nil
        logs[log]?.head = .none
        evidence[log] = nil
    }

    fileprivate mutating func apply(_ change: Change, in mesh: MeshID) {
        switch change {
        case .insert(let new):
            position += 1
            guard let record = try? Record(decoding: new.bytes) else { return }
            logs[new.log, default: .init()].rows[new.sequence] = .init(
                id: new.id, record: record, bytes: new.bytes, merge: new.merge, position: position,
                gone: new.superseded.map { (position, $0.by, $0.undo) })
        case .supersede(let log, let sequence, let by, let undo),
            .rekey(let log, let sequence, let by, let undo):
            position += 1
            logs[log]?.rows[sequence]?.gone = (position, by, undo)
        case .revive(let log, let sequence):
            position += 1
            logs[log]?.rows[sequence]?.gone = nil
            logs[log]?.rows[sequence]?.position = position
        case .remove(let log, let sequence): remove(log, sequence)
        case .removePast(let log, let first):
            for sequence in (logs[log]?.rows.keys.sorted() ?? []) where sequence >= first {
                remove(log, sequence)
            }
            var content = logs[log, default: .init()]
            content.commits = content.commits.filter { $0.key < first }
            content.holes = content.holes.filter { $0 < first }
            logs[log] = content
        case .commit(let header, let signature, let proof):
            commitsWritten += 1
            logs[header.log, default: .init()].commits[header.first] = (header, signature, proof)
        case .removeCommit(let log, let first): logs[log]?.commits[first] = nil
        case .head(let log, let head, let header, let signature):
            logs[log, default: .init()].head = head
            logs[log]?.end = (header, signature)
        case .removeLog(let log): removeLog(log)
        case .notice(let name):
            position += 1
            notices[name] = position
        case .mend, .discard, .doubt: break
        case .hole(let log, let sequence): logs[log]?.holes.insert(sequence)
        case .filled(let log, let range):
            var content = logs[log, default: .init()]
            content.holes = content.holes.filter { !range.contains($0) }
            logs[log] = content
        case .evidence(let log, let headers):
            let known = evidence[log] ?? []
            let all =
                known
                + headers.filter { one in !known.contains { $0.header == one.header } }
                .map { ($0.header, $0.signature) }
            let kept = RecordTransaction.evidence(all.map(\.header), in: mesh)
            evidence[log] = all.filter { kept.contains($0.header) }
        case .forgetEvidence(let log): evidence[log] = nil
        case .loser(let name, let node, let message):
            let kept = losers[name]
            if kept != nil, message == nil { return }
            losers[name] = (node, message.map { kept?.message?.uniting($0) ?? $0 })
        case .revocation(let revocation):
            if !revocations.contains(revocation) { revocations.append(revocation) }
        case .answer(let name, let answer): answers[name] = answer
        case .life(let life):
            guard let old = stored else { return }
            stored = StoredStart(
                node: old.node, life: life, incarnation: old.incarnation, epoch: old.epoch)
        case .epoch(let name):
            guard let old = stored else { return }
            epochs = [(name, position)]
            stored = StoredStart(
                node: old.node, life: old.life, incarnation: old.incarnation, epoch: name)
        }
    }

    private mutating func remove(_ log: LogName, _ sequence: UInt64) {
        guard let row = logs[log]?.rows.removeValue(forKey: sequence), row.gone == nil else {
            return
        }
        position += 1
        notices[KeyName(scope: log.scope, key: row.record.key)] = position
    }
}

extension TestMesh {
    /// A store whose records lie in dictionaries.
    package func dictionaryStore(
        _ identity: DataDirectory.Identity, _ records: DictionaryRecords? = nil
    ) throws -> Store {
        try Store(
            records: records ?? DictionaryRecords(root: root),
            notes: Notes(path: path(identity) + "-notes"),
            identity: identity, lock: nil,
            wallMilliseconds: { 1_700_000_000_000 })
    }
}
