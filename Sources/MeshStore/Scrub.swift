// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication
internal import MeshRules
internal import MeshTrust
internal import Synchronization

/// What a part of a scrub has done.
package struct ScrubStep: Sendable {
    /// Where to go on; the beginning where all was walked.
    package let next: ScrubPlace
    /// How many bytes were read, to keep to a rate.
    package let byteCount: Int
    /// How many things were found rotten.
    package let found: Int
}

extension Store {
    /// How many pages were met that are not what was written there.
    package var rottenPageCount: Int { (records as? SQLiteRecords)?.rottenPageCount ?? 0 }

    /// How many transactions there were since the start.
    package var writtenCount: Int { statistics.transactions.load(ordering: .relaxed) }

    /// Forgets pages of the database that are remembered from a busy time; nobody waits for it.
    package func forgetPages() { (records as? SQLiteRecords)?.forgetPages() }

    /// Gives memory back to the system that nobody uses any more.
    package func giveBackMemory() { Allocator.giveBack() }

    /// Where the last process stopped to scrub.
    package var scrubPlace: ScrubPlace {
        guard let bytes = (try? notes.all(.scrub))?.first?.value else { return .beginning }
        var reader = WireReader(bytes)
        let numbers = (0..<3).compactMap { _ in try? reader.u64() }
        return numbers.count == 3 ? ScrubPlace(numbers: numbers) : .beginning
    }

    /// Keeps where a scrub has come to; where it can't be kept, the next one begins anew.
    package func keepScrubPlace(_ place: ScrubPlace) {
        var writer = WireWriter()
        for number in place.numbers { writer.u64(number) }
        try? notes.keep(.scrub, [], writer.bytes)
    }

    /// Walks the next commits: what the store derives from them, the header's signature, the rows,
    /// their hashes, and the root that they and the proof must lead to.
    ///
    /// A commit whose row has rotted is noted as it is read. What is found is taken out and fetched
    /// again; nothing else goes with it.
    package func scrub(after place: ScrubPlace, limit: Int = 64) throws -> ScrubStep {
        let mesh = identity.root.meshID
        var (damage, isMended) = try records.inspect(after: place, limit: limit)
        let step = try records.read { snapshot in
            var bytes = 0
            let (commits, next) = try snapshot.commits(afterScrub: place, limit: limit)
            for held in commits {
                bytes += 256
                guard held.header.isSigned(held.signature, in: mesh) else {
                    damage.insert(.commit(held.header.log, held.header.range))
                    continue
                }
                let rows = try snapshot.rows(of: held.header.log, in: held.header.range)
                bytes += rows.reduce(0) { $0 + $1.bytes.count }
                damage.formUnion(Self.faults(of: held, rows))
            }
            damage.formUnion(snapshot.damage)
            return ScrubStep(
                next: next ?? .beginning, byteCount: bytes,
                found: damage.count + (isMended ? 1 : 0))
        }
        quarantine(damage)
        return step
    }

    private static func faults(of held: HeldCommit, _ rows: [StoredRow]) -> Set<Damage> {
        let log = held.header.log
        let ids = Dictionary(rows.map { ($0.sequence, $0.id) }, uniquingKeysWith: { one, _ in one })
        var faults: Set<Damage> = []
        var present: [Digest] = []
        for offset in held.proof.presentOffsets {
            let sequence = held.header.first + UInt64(offset)
            if let id = ids[sequence] {
                present.append(id)
            } else {
                faults.insert(.record(log, sequence))
            }
        }
        // All rows match their own hashes: what leads elsewhere is the commit's proof.
        if faults.isEmpty, held.proof.root(present: present) != held.header.root {
            faults.insert(.commit(log, held.header.range))
        }
        return faults
    }
}
