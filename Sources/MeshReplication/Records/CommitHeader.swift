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
    /// Most earlier lives that the first commit of a log inherits.
    package static let inheritsMax = 1024
    /// Longest encoded header, in bytes.
    package static let byteCountMax = 20 * 1024

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
    /// The policy under which the records were written; zero in namespaces of the mesh itself.
    package let policy: PolicyID
    /// In the first commit of a log: what its life knew of the node's earlier ones, ascending.
    package let inherits: [Inheritance]
    /// What later versions add.
    package let extensions: Extensions

    /// Fills in a header.
    package init(
        scope: Scope, author: Author, first: UInt64, count: Int, previous: Digest, root: Digest,
        policy: PolicyID, inherits: [Inheritance] = [], extensions: Extensions = .none
    ) {
        self.scope = scope
        self.author = author
        self.first = first
        self.count = count
        self.previous = previous
        self.root = root
        self.policy = policy
        self.inherits = inherits
        self.extensions = extensions
    }

    /// The sequence of the last record.
    package var last: UInt64 { first + UInt64(count) - 1 }

    /// The sequences of its records.
    package var range: ClosedRange<UInt64> { first...last }

    /// The log that it is part of.
    package var log: LogName { LogName(scope: scope, author: author) }

    /// The canonical bytes, which are signed.
    package var encoded: [UInt8] {
        var writer = WireWriter(reserving: 256)
        writer.scope(scope)
        writer.author(author)
        writer.u64(first)
        writer.u16(UInt16(count))
        writer.append(previous)
        writer.append(root)
        writer.append(policy.hash)
        writer.count(inherits.count)
        for entry in inherits {
            writer.u64(entry.life.value)
            writer.varint(entry.through)
        }
        extensions.encode(to: &writer)
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
        policy = PolicyID(try reader.bytes32())
        var inherits: [Inheritance] = []
        for _ in 0..<(try reader.count("inherited lives", limit: Self.inheritsMax)) {
            let entry = Inheritance(
                life: Life(try reader.u64()), through: try reader.shortSequence())
            if let last = inherits.last, last.life >= entry.life { throw .unordered("lives") }
            guard entry.life != author.life else { throw .invalid("a life that inherits itself") }
            inherits.append(entry)
        }
        guard inherits.isEmpty || first == 1 else { throw .invalid("lives in a later commit") }
        self.inherits = inherits
        extensions = try Extensions(from: &reader)
        try reader.finish()
        guard bytes.count <= Self.byteCountMax else {
            throw .tooLong("commit header", bytes.count, limit: Self.byteCountMax)
        }
        guard (first == 1) == (previous == .zero) else { throw .invalid("previous commit") }
    }

    /// The commit's name: the hash of what is signed.
    package func id(in mesh: MeshID) -> Digest {
        Blake2b.hash(SigningContext.commit.message(mesh: mesh, body: encoded))
    }

    /// Whether no one machine has written both: they overlap, or follow each other unchained.
    ///
    /// - Parameter other: a header of the same log.
    package func contradicts(_ other: CommitHeader, in mesh: MeshID) -> Bool {
        if self == other { return false }
        if range.overlaps(other.range) { return true }
        let (one, next) = first < other.first ? (self, other) : (other, self)
        return one.last + 1 == next.first && next.previous != one.id(in: mesh)
    }

    /// Whether a signature over the header is its author's.
    package func isSigned(_ signature: Signature, in mesh: MeshID) -> Bool {
        VerifyingKey(author.node).isValid && isSignedByMember(signature, in: mesh)
    }

    /// The same, where a certificate of the author is known: his key was looked at with it, and to
    /// look at it again would cost as much as the signature itself.
    package func isSignedByMember(_ signature: Signature, in mesh: MeshID) -> Bool {
        VerifyingKey(author.node).verify(signature, of: encoded, for: .commit, in: mesh)
    }
}
