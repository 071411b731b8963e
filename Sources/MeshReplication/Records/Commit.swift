// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// The signed head of a commit: a run of records that one author wrote to one scope at once.
///
/// One signature stands for up to 1,024 records, and each commit names the one before it, so an
/// author's log is a hash chain. Layout: the article `CommitFormat`.
package struct CommitHeader: Hashable, Sendable {
    /// Most records of one commit.
    package static let recordsMax = 1024
    /// Most bytes of a commit's encoded records, with four for the length of each.
    package static let recordBytesMax = 960 * 1024
    /// Longest encoded header, in bytes.
    package static let byteCountMax = 512

    /// Where the records live.
    package let scope: Scope
    /// Who wrote them.
    package let author: Author
    /// The sequence of the first record.
    package let first: UInt64
    /// How many records there are.
    package let count: Int
    /// The identity of the author's commit before this one in the scope; zero for the first.
    package let previous: Digest
    /// The root of the Merkle tree over the records' identities.
    package let root: Digest

    /// Fills in a header.
    package init(
        scope: Scope, author: Author, first: UInt64, count: Int, previous: Digest, root: Digest
    ) {
        self.scope = scope
        self.author = author
        self.first = first
        self.count = count
        self.previous = previous
        self.root = root
    }

    /// The sequence of the last record.
    package var last: UInt64 { first + UInt64(count) - 1 }

    /// The canonical bytes, which are signed.
    package var encoded: [UInt8] {
        var writer = WireWriter(reserving: 256)
        writer.scope(scope)
        writer.author(author)
        writer.u64(first)
        writer.u16(UInt16(count))
        writer.append(previous)
        writer.append(root)
        writer.u8(0)
        return writer.bytes
    }

    /// Decodes exactly one header.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        scope = try reader.scope()
        author = try reader.author()
        first = try reader.sequence()
        count = Int(try reader.u16())
        guard (1...Self.recordsMax).contains(count) else {
            throw .tooLong("records of a commit", count, limit: Self.recordsMax)
        }
        guard first <= Dot.sequenceMax - UInt64(count) else { throw .invalid("sequence") }
        previous = try reader.bytes32()
        root = try reader.bytes32()
        guard try reader.u8() == 0 else { throw .invalid("extension") }
        try reader.finish()
    }

    /// The commit's name: the hash of what is signed.
    package func id(in mesh: MeshID) -> Digest {
        Blake2b.hash(SigningContext.commit.message(mesh: mesh, body: encoded))
    }
}

/// A commit with the records of it that its holder has, and the proof that they belong to it.
package struct Commit: Hashable, Sendable {
    /// What was signed.
    package let header: CommitHeader
    /// The author's signature over the header.
    package let signature: Signature
    /// Which records are here, and the hashes that stand for the others.
    package let proof: CommitProof
    /// The encoded records that are here, in order.
    package let records: [[UInt8]]

    /// Joins the pieces; there are as many records as the proof says are present.
    package init(
        header: CommitHeader, signature: Signature, proof: CommitProof, records: [[UInt8]]
    ) {
        precondition(records.count == proof.presentCount, "one record for each present leaf")
        self.header = header
        self.signature = signature
        self.proof = proof
        self.records = records
    }

    /// Signs a commit of all its records.
    package init(
        signing records: [[UInt8]], ids: [Digest], scope: Scope, author: Author, first: UInt64,
        previous: Digest, key: SigningKey, mesh: MeshID
    ) {
        let header = CommitHeader(
            scope: scope, author: author, first: first, count: records.count, previous: previous,
            root: CommitProof.root(of: ids))
        self.init(
            header: header, signature: key.sign(header.encoded, for: .commit, in: mesh),
            proof: CommitProof(allPresent: records.count), records: records)
    }

    /// The sequences of the records that are here, in order.
    package var sequences: [UInt64] { proof.presentOffsets.map { header.first + UInt64($0) } }

    /// Appends the commit as it travels.
    package func encode(to writer: inout WireWriter) {
        writer.medium(header.encoded)
        writer.append(signature.bytes)
        proof.encode(to: &writer)
        for record in records { writer.long(record) }
    }

    /// Decodes a commit; nothing is verified yet.
    package init(from reader: inout WireReader) throws(WireError) {
        header = try CommitHeader(
            decoding: reader.medium("commit header", limit: CommitHeader.byteCountMax))
        signature = try reader.signature()
        proof = try CommitProof(from: &reader, count: header.count)
        var records: [[UInt8]] = []
        for _ in 0..<proof.presentCount {
            records.append(try reader.long("record", limit: Record.byteCountMax))
        }
        self.records = records
    }

    /// The identities of the present records if the proof leads to the signed root; nil if not.
    package func verifiedIDs(in mesh: MeshID) -> [Digest]? {
        let ids = records.map { Record.id(of: $0, in: mesh) }
        return proof.root(present: ids) == header.root ? ids : nil
    }

    /// Whether the header's signature is the author's.
    package func isSigned(in mesh: MeshID) -> Bool {
        VerifyingKey(header.author.node)
            .verify(signature, of: header.encoded, for: .commit, in: mesh)
    }
}
