// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshTrust

/// Requests that another server of the site took, so that a retry finds the first answer here.
///
/// A member can put any name into its records. So what a neighbour's records say is an answer only
/// to a request that asks for what they hold: whoever makes one up has to write what was asked for.
extension RecordTransaction {
    /// Remembers what a neighbour's records say of the requests that they are of.
    mutating func rememberNames(_ admitted: Admitted) {
        let header = admitted.commit.header
        var told: [String: NeighboursWrites] = [:]
        for (sequence, record) in zip(admitted.commit.sequences, admitted.records) {
            guard let carried = RequestName(record.extensions) else { continue }
            let name = RequestNaming.neighbours(carried.name, in: header.scope)
            // What was told first stands.
            if work.answer(name) != nil { continue }
            let dot = Dot(author: header.author, sequence: sequence)
            told[name, default: NeighboursWrites(count: carried.count)]
                .add(record, carried, at: dot)
        }
        for (name, writes) in told.sorted(by: { $0.key < $1.key }) {
            if let answer = writes.answer { work.remember(name, answer) }
        }
    }

    /// The answer to a request that a neighbour took, as far as its records tell.
    func neighboursAnswer(to request: WriteRequest, _ naming: RequestNaming) -> [Receipt]? {
        let name = RequestNaming.neighbours(naming.name, in: request.scope)
        guard let told = work.answer(name), told.receipts.count == request.writes.count else {
            return nil
        }
        var writes: [Int: Digest] = [:]
        for (index, receipt) in told.receipts.enumerated() {
            guard let dot = receipt.dot else { continue }
            // What was cut off with its author is not there any more.
            if let end = work.revoked.end(of: dot.author, in: request.scope), dot.sequence > end {
                return nil
            }
            let write = request.writes[index]
            writes[index] = NeighboursWrites.content(
                write.kind, write.key, write.contentType, write.body)
        }
        return NeighboursWrites.hash(writes) == told.request ? told.receipts : nil
    }
}

/// What records of one commit say of one request.
private struct NeighboursWrites {
    private let count: Int
    private var receipts: [Int: Receipt] = [:]
    private var writes: [Int: Digest] = [:]

    init(count: Int) { self.count = count }

    mutating func add(_ record: Record, _ carried: RequestName, at dot: Dot) {
        guard carried.count == count, receipts[carried.index] == nil else { return }
        receipts[carried.index] = Receipt(dot: dot, live: [dot], isNew: carried.isNew)
        writes[carried.index] = Self.content(
            record.kind, record.key, record.contentType, record.body)
    }

    /// Writes of a request of which one record is enough. Of more, half have to be here, or
    /// whoever names many and sends few would fill the memory.
    private static let fewWrites = 32

    /// The answer; nil where too few of the writes are known.
    var answer: StoredAnswer? {
        guard count <= Self.fewWrites || receipts.count * 2 >= count else { return nil }
        let nothing = Receipt(dot: nil, live: [], isNew: false)
        return StoredAnswer(
            request: Self.hash(writes), receipts: (0..<count).map { receipts[$0] ?? nothing })
    }

    static func content(
        _ kind: Record.Kind, _ key: RecordKey, _ type: String, _ body: [UInt8]
    ) -> Digest {
        var writer = WireWriter(reserving: body.count + 256)
        writer.u8(kind.rawValue)
        writer.medium(key.utf8)
        writer.short(type.utf8)
        writer.append(body)
        return Blake2b.hash(writer.bytes)
    }

    static func hash(_ writes: [Int: Digest]) -> Digest {
        var writer = WireWriter(reserving: writes.count * 34)
        for (index, content) in writes.sorted(by: { $0.key < $1.key }) {
            writer.u16(UInt16(clamping: index))
            writer.append(content)
        }
        return Blake2b.hash(writer.bytes)
    }
}
