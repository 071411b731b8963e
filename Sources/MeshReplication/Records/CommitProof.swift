// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// Which leaves of a commit's Merkle tree are here, and one hash for each largest part that is not.
///
/// A record whose neighbours were superseded and dropped still proves its place: an absent subtree
/// costs one hash, however many records it held. The tree's shape is that of RFC 6962: the left
/// half of `n` leaves is the largest power of two below `n`. A leaf is a record's identity.
package struct CommitProof: Hashable, Sendable {
    /// For each leaf, whether its record is here.
    package private(set) var present: [Bool]
    /// Hashes of the largest absent subtrees, from left to right.
    package private(set) var absent: [Digest]

    /// A commit with all its records.
    package init(allPresent count: Int) {
        present = [Bool](repeating: true, count: count)
        absent = []
    }

    init(present: [Bool], absent: [Digest]) {
        self.present = present
        self.absent = absent
    }

    /// How many records are here.
    package var presentCount: Int { present.count(where: { $0 }) }

    /// The leaves whose records are here, ascending.
    package var presentOffsets: [Int] { present.indices.filter { present[$0] } }

    /// Whether nothing of the commit is left.
    package var isEmpty: Bool { !present.contains(true) }

    /// The root over all the leaves.
    package static func root(of ids: [Digest]) -> Digest {
        CommitProof(allPresent: ids.count).root(present: ids) ?? .zero
    }

    static func join(_ left: Digest, _ right: Digest) -> Digest {
        var writer = WireWriter(reserving: 65)
        writer.u8(1)
        writer.append(left)
        writer.append(right)
        return Blake2b.hash(writer.bytes)
    }

    static func leftCount(of count: Int) -> Int {
        1 << (Int.bitWidth - 1 - (count - 1).leadingZeroBitCount)
    }

    /// The root that the present records' identities and the absent hashes lead to.
    ///
    /// - Returns: nil if there are too few or too many of either.
    package func root(present ids: [Digest]) -> Digest? {
        var ids = ids[...]
        var hashes = absent[...]
        let hasPresent = presentBefore()
        guard let root = root(0, present.count, &ids, &hashes, hasPresent) else { return nil }
        return ids.isEmpty && hashes.isEmpty ? root : nil
    }

    private func root(
        _ low: Int, _ count: Int, _ ids: inout ArraySlice<Digest>,
        _ hashes: inout ArraySlice<Digest>, _ before: [Int]
    ) -> Digest? {
        if before[low + count] == before[low] { return hashes.popFirst() }
        if count == 1 { return ids.popFirst() }
        let left = Self.leftCount(of: count)
        guard let first = root(low, left, &ids, &hashes, before),
            let second = root(low + left, count - left, &ids, &hashes, before)
        else { return nil }
        return Self.join(first, second)
    }

    /// How many leaves before each one are present; one entry more than there are leaves.
    private func presentBefore() -> [Int] {
        var counts = [0]
        counts.reserveCapacity(present.count + 1)
        var sum = 0
        for here in present {
            if here { sum += 1 }
            counts.append(sum)
        }
        return counts
    }

    /// The proof after some records were dropped.
    ///
    /// - Parameter dropped: identities of records that are present, by leaf.
    package func dropping(_ dropped: [Int: Digest]) -> CommitProof {
        var result = CommitProof(present: present, absent: [])
        for offset in dropped.keys { result.present[offset] = false }
        var hashes = absent[...]
        if let all = result.collect(0, present.count, presentBefore(), dropped, &hashes) {
            result.absent.append(all)
        }
        return result
    }

    /// Returns the hash of a subtree that is now absent as a whole, or keeps the hashes below it.
    private mutating func collect(
        _ low: Int, _ count: Int, _ before: [Int], _ dropped: [Int: Digest],
        _ hashes: inout ArraySlice<Digest>
    ) -> Digest? {
        if before[low + count] == before[low] { return hashes.popFirst() }
        if count == 1 { return dropped[low] }
        let left = Self.leftCount(of: count)
        let first = collect(low, left, before, dropped, &hashes)
        let mark = absent.count
        let second = collect(low + left, count - left, before, dropped, &hashes)
        switch (first, second) {
        case (let first?, let second?): return Self.join(first, second)
        case (let first?, nil): absent.insert(first, at: mark)
        case (nil, let second?): absent.append(second)
        case (nil, nil): break
        }
        return nil
    }

    /// The proof for the records of both, which are parts of one commit; nil if either is
    /// malformed.
    package func merging(_ other: CommitProof) -> CommitProof? {
        guard present.count == other.present.count else { return nil }
        var known = Subtrees()
        guard known.note(self), known.note(other) else { return nil }
        let union = zip(present, other.present).map { $0 || $1 }
        var result = CommitProof(present: union, absent: [])
        let before = result.presentBefore()
        guard result.fill(0, union.count, before, known) else { return nil }
        return result
    }

    private mutating func fill(_ low: Int, _ count: Int, _ before: [Int], _ known: Subtrees) -> Bool
    {
        if before[low + count] == before[low] {
            guard let hash = known.hashes[Subtrees.Place(low: low, count: count)] else {
                return false
            }
            absent.append(hash)
            return true
        }
        if count == 1 { return true }
        let left = Self.leftCount(of: count)
        return fill(low, left, before, known) && fill(low + left, count - left, before, known)
    }

    /// The absent subtrees of some proofs, by place.
    private struct Subtrees {
        struct Place: Hashable {
            let low: Int
            let count: Int
        }
        var hashes: [Place: Digest] = [:]

        mutating func note(_ proof: CommitProof) -> Bool {
            var rest = proof.absent[...]
            let before = proof.presentBefore()
            return note(0, proof.present.count, before, &rest) && rest.isEmpty
        }

        private mutating func note(
            _ low: Int, _ count: Int, _ before: [Int], _ rest: inout ArraySlice<Digest>
        ) -> Bool {
            if before[low + count] == before[low] {
                guard let hash = rest.popFirst() else { return false }
                hashes[Place(low: low, count: count)] = hash
                return true
            }
            if count == 1 { return true }
            let left = CommitProof.leftCount(of: count)
            return note(low, left, before, &rest) && note(low + left, count - left, before, &rest)
        }
    }

    /// Appends the bitmap and the hashes.
    package func encode(to writer: inout WireWriter) {
        var bits = [UInt8](repeating: 0, count: (present.count + 7) / 8)
        for offset in presentOffsets { bits[offset / 8] |= 1 << UInt8(offset % 8) }
        writer.append(bits)
        writer.u16(UInt16(absent.count))
        for hash in absent { writer.append(hash) }
    }

    /// The proof alone, as it is stored.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        encode(to: &writer)
        return writer.bytes
    }

    /// Decodes the proof of a commit of `count` records; the number of hashes must fit the bitmap.
    package init(from reader: inout WireReader, count: Int) throws(WireError) {
        let bits = try reader.take((count + 7) / 8)
        present = (0..<count).map { bits[$0 / 8] >> UInt8($0 % 8) & 1 == 1 }
        if count % 8 != 0, let last = bits.last, last >> UInt8(count % 8) != 0 {
            throw .invalid("presence bitmap")
        }
        let hashCount = Int(try reader.u16())
        guard hashCount <= count else { throw .tooLong("proof", hashCount, limit: count) }
        absent = []
        for _ in 0..<hashCount { absent.append(try reader.bytes32()) }
        var known = Subtrees()
        guard known.note(self) else { throw .invalid("proof") }
    }
}

extension CommitProof {
    /// The proof of a commit of which nothing is here: its root alone.
    package init(noneOf header: CommitHeader) {
        self.init(
            present: [Bool](repeating: false, count: header.count), absent: [header.root])
    }
}
