// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication

/// Requests that another server of the site took, so that a retry finds the first answer here.
extension RecordTransaction {
    /// Remembers what a neighbour's records say of the requests that they are of.
    mutating func rememberNames(_ admitted: Admitted) {
        let author = admitted.commit.header.author
        var answers: [String: StoredAnswer] = [:]
        for (sequence, record) in zip(admitted.commit.sequences, admitted.records) {
            guard let carried = RequestName(record.extensions) else { continue }
            let naming = RequestNaming(carried)
            let name = naming.key
            let dot = Dot(author: author, sequence: sequence)
            let receipt = Receipt(dot: dot, live: [dot], isNew: carried.isNew)
            if answers[name] == nil, let known = work.answer(name) {
                // What was answered first stands.
                guard known.isOpen(at: carried, naming.hash) else { continue }
                answers[name] = known
            }
            if answers[name] == nil {
                answers[name] = StoredAnswer(request: naming.hash, count: carried.count)
            }
            guard answers[name]?.isOpen(at: carried, naming.hash) == true else { continue }
            answers[name]?.receipts[carried.index] = receipt
        }
        for (name, answer) in answers.sorted(by: { $0.key < $1.key }) {
            work.remember(name, answer)
        }
    }
}

extension StoredAnswer {
    /// An answer of which nothing is known yet.
    fileprivate init(request: Digest, count: Int) {
        let nothing = Receipt(dot: nil, live: [], isNew: false)
        self.init(request: request, receipts: [Receipt](repeating: nothing, count: count))
    }

    /// Whether a record of the same request says what is not known yet.
    fileprivate func isOpen(at carried: RequestName, _ hash: Digest) -> Bool {
        request == hash && receipts.count == carried.count && receipts[carried.index].dot == nil
    }
}
