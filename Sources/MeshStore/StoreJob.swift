// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshRules
internal import MeshTrust

extension Store {
    /// What waits for the next transaction, with whoever waits for its answer.
    enum Job {
        case write(WriteRequest, @Sendable (Result<[Receipt], StoreError>) -> Void)
        case ingest([CommitsMessage], @Sendable (Result<[IngestOutcome], StoreError>) -> Void)
        case damaged(Set<Damage>)
        case judgeAnew(retired: Set<NodeID>, revocations: [Revocation])
        case trim

        /// What the rules are asked.
        var rules: [RecordJob] {
            switch self {
            case .write(let request, _): [.write(request)]
            case .ingest(let messages, _): messages.map { .ingest($0) }
            case .damaged(let damage): [.damaged(damage)]
            case .judgeAnew(let nodes, let list): [.judgeAnew(retired: nodes, revocations: list)]
            case .trim: [.trim]
            }
        }

        func fail(_ error: StoreError) {
            switch self {
            case .write(_, let done): done(.failure(error))
            case .ingest(_, let done): done(.failure(error))
            case .damaged, .judgeAnew, .trim: break
            }
        }
    }
}
