// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Records on their way to a peer: a run of one author's log, or some places of it.
///
/// `after` and `through` say what the message covers: everything that lives at the sender after the
/// one and up to the other. A receiver that knows the log up to `after` knows it up to `through`
/// when it has stored the message. `through` is always the end of a signed commit in the message
/// (or `after`, where places are filled), so no peer can push a frontier past what the author
/// wrote.
package struct CommitsMessage: Hashable, Sendable {
    /// Where the records live.
    package let scope: Scope
    /// Whose log.
    package let author: Author
    /// What the receiver is taken to know.
    package let after: UInt64
    /// What it then knows.
    package let through: UInt64
    /// The commits, ascending, each with the records of it that live at the sender.
    package let commits: [Commit]

    /// Names a run; `through` is `after` where places are filled.
    package init(
        scope: Scope, author: Author, after: UInt64, through: UInt64, commits: [Commit]
    ) {
        self.scope = scope
        self.author = author
        self.after = after
        self.through = through
        self.commits = commits
    }

    /// The log that is meant.
    package var log: LogName { LogName(scope: scope, author: author) }

    /// Whether it moves a frontier, and does not only fill places.
    package var isRun: Bool { through > after }

    /// Records that are in it.
    package var recordCount: UInt64 { commits.reduce(0) { $0 + UInt64($1.records.count) } }

    /// Which records of its only commit are in it, by their offsets.
    package var presentOffsets: Set<Int> { Set(commits.first?.proof.presentOffsets ?? []) }

    /// A message with one commit, with the records of another part of it too; nil if the other has
    /// another commit.
    package func uniting(_ other: CommitsMessage) -> CommitsMessage? {
        guard commits.count == 1, other.commits.count == 1,
            let commit = commits[0].uniting(other.commits[0])
        else { return nil }
        return CommitsMessage(
            scope: scope, author: author, after: after, through: through, commits: [commit])
    }

    /// The canonical bytes.
    package var encoded: [UInt8] {
        var writer = WireWriter(
            reserving: 256 + commits.reduce(0) { $0 + $1.records.reduce(512) { $0 + $1.count + 4 } }
        )
        writer.scope(scope)
        writer.author(author)
        writer.u64(after)
        writer.u64(through)
        var table = AuthorTable()
        var body = WireWriter(reserving: writer.bytes.capacity)
        for commit in commits { commit.encode(to: &body, &table) }
        table.encode(to: &writer)
        writer.count(commits.count)
        writer.append(body.bytes)
        return writer.bytes
    }

    /// Decodes a message and checks that its parts agree; no signature is looked at yet.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        guard bytes.count <= SyncSpecification.commitsBytesMax else {
            throw .tooLong("commits", bytes.count, limit: SyncSpecification.commitsBytesMax)
        }
        var reader = WireReader(bytes)
        scope = try reader.scope()
        author = try reader.author()
        after = try reader.sequence(orZero: true)
        through = try reader.sequence(orZero: true)
        var table = try AuthorTable(from: &reader)
        var room = SyncSpecification.expandedBytesMax
        var commits: [Commit] = []
        for _ in 0..<(try reader.count("commits", limit: SyncSpecification.commitsMax)) {
            let commit = try Commit(from: &reader, &table, room: &room)
            guard commit.header.scope == scope, commit.header.author == author else {
                throw .invalid("scope or author of a commit")
            }
            if let last = commits.last, last.header.last >= commit.header.first {
                throw .unordered("commits")
            }
            commits.append(commit)
        }
        try table.finish()
        try reader.finish()
        self.commits = commits
        guard let first = commits.first, let last = commits.last else { throw .invalid("commits") }
        guard through == after || (through > after && last.header.last == through) else {
            throw .invalid("end of the run")
        }
        // A log begins with what its life inherits, also where nothing of that commit lives.
        guard after > 0 || through == after || first.header.first == 1 else {
            throw .invalid("beginning of the log")
        }
        guard through == after || first.header.last > after else {
            throw .invalid("beginning of the run")
        }
    }
}
