// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

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
        previous: Digest, policy: PolicyID, inherits: [Inheritance] = [], key: SigningKey,
        mesh: MeshID
    ) {
        let header = CommitHeader(
            scope: scope, author: author, first: first, count: records.count, previous: previous,
            root: CommitProof.root(of: ids), policy: policy, inherits: inherits)
        self.init(
            header: header, signature: key.sign(header.encoded, for: .commit, in: mesh),
            proof: CommitProof(allPresent: records.count), records: records)
    }

    /// The sequences of the records that are here, in order.
    package var sequences: [UInt64] { proof.presentOffsets.map { header.first + UInt64($0) } }

    /// The commit with the records of both; nil if they are not parts of one, or malformed.
    package func uniting(_ other: Commit) -> Commit? {
        guard other.header == header, let proof = proof.merging(other.proof) else { return nil }
        var all = Dictionary(uniqueKeysWithValues: zip(other.proof.presentOffsets, other.records))
        all.merge(zip(self.proof.presentOffsets, records)) { $1 }
        return Commit(
            header: header, signature: signature, proof: proof,
            records: proof.presentOffsets.compactMap { all[$0] })
    }

    /// Appends the commit as it stands alone: the authors that its contexts name, then itself.
    package func encode(to writer: inout WireWriter) {
        var table = AuthorTable()
        var body = WireWriter()
        encode(to: &body, &table)
        table.encode(to: &writer)
        writer.append(body.bytes)
    }

    func encode(to writer: inout WireWriter, _ table: inout AuthorTable) {
        writer.medium(header.encoded)
        writer.append(signature.bytes)
        proof.encode(to: &writer)
        for record in records {
            // What is not a record is nothing that anybody here has signed or stored.
            writer.long((try? Record.compacted(record, &table)) ?? record)
        }
    }

    /// Decodes a commit that stands alone; nothing is verified yet.
    package init(from reader: inout WireReader) throws(WireError) {
        var table = try AuthorTable(from: &reader)
        var room = SyncSpecification.expandedBytesMax
        try self.init(from: &reader, &table, room: &room)
        try table.finish()
    }

    /// - Parameter room: bytes that the records may still take once their authors are written out.
    init(
        from reader: inout WireReader, _ table: inout AuthorTable, room: inout Int
    ) throws(WireError) {
        header = try CommitHeader(
            decoding: reader.medium("commit header", limit: CommitHeader.byteCountMax))
        signature = try reader.signature()
        proof = try CommitProof(from: &reader, count: header.count)
        var records: [[UInt8]] = []
        for _ in 0..<proof.presentCount {
            let compact = try reader.long("record", limit: Record.byteCountMax)
            let record = try Record.expanded(compact, &table)
            guard record.count <= room else {
                throw .tooLong(
                    "records", record.count, limit: SyncSpecification.expandedBytesMax)
            }
            room -= record.count
            records.append(record)
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
        header.isSigned(signature, in: mesh)
    }
}
