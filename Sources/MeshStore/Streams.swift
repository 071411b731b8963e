// SPDX-License-Identifier: Apache-2.0

internal import GRDB
package import MeshCore
internal import MeshCrypto
package import MeshReplication
internal import MeshTrust
internal import Synchronization

/// Some messages of a stream, and what is left of it.
package struct StreamChunk: Sendable {
    /// Messages to send, in order.
    package var messages: [CommitsMessage] = []
    /// The rest of the request; nil if the stream is done.
    package var rest: StreamRequest?
    /// Records that no longer match their hash: not sent, to be fetched anew.
    package var damaged: [Dot] = []

    /// Nothing to send.
    package init() {}
}

extension Store {
    /// Reads the next part of what a peer is to get, about `SyncTuning.commitsBytes` of it.
    package func next(_ request: StreamRequest) throws -> StreamChunk {
        let chunk = try read { db in
            guard let scope = try Queries.scopeID(db, request.scope) else { return StreamChunk() }
            switch request {
            case .tail(let name, let author, let after):
                guard let id = try Queries.authorID(db, author) else { return StreamChunk() }
                let log = Writer.LogKey(scope: scope, author: id)
                return try tail(db, log, name, author, after)
            case .dots(let name, let author, let entries):
                guard let id = try Queries.authorID(db, author) else { return StreamChunk() }
                let log = Writer.LogKey(scope: scope, author: id)
                return try dots(db, log, name, author, entries)
            }
        }
        if !chunk.damaged.isEmpty { try markDamaged(chunk.damaged, in: request.scope) }
        return chunk
    }

    private func tail(
        _ db: Database, _ log: Writer.LogKey, _ scope: Scope, _ author: Author, _ after: UInt64
    ) throws -> StreamChunk {
        var chunk = StreamChunk()
        let end = try db.first(
            "SELECT frontier, header, signature FROM log WHERE scope = ? AND author = ?",
            .int(log.scope), .int(log.author)
        ) { ($0.sequence(0), $0.bytes(1), $0.bytes(2)) }
        guard let (frontier, headHeader, headSignature) = end, frontier > after else {
            return chunk
        }
        let batches = try db.rows(
            """
            SELECT header, signature, proof FROM batch WHERE scope = ? AND author = ?
            AND first > ? AND first <= ? ORDER BY first LIMIT 256
            """, .int(log.scope), .int(log.author), .sequence(after), .sequence(frontier),
            map: Queries.batch)
        var commits: [Commit] = []
        var bytes = 0
        var through = after
        for batch in batches {
            let commit = try load(db, log, batch, keeping: nil, &chunk.damaged)
            let size = commit.records.reduce(256) { $0 + $1.count + 4 }
            if !commits.isEmpty, bytes + size > SyncTuning.commitsBytes { break }
            commits.append(commit)
            bytes += size
            through = batch.header.last
        }
        if commits.count == batches.count, batches.count < 256 {
            // Nothing lives after these: the log's last header proves where it ends.
            if through < frontier {
                let end = try head(headHeader, headSignature)
                guard end.header.first > through || commits.isEmpty else {
                    throw StoreError.unusable("the end of \(author)'s log in \(scope) overlaps it")
                }
                commits.append(end)
                through = frontier
            }
        } else {
            chunk.rest = .tail(scope, author, after: through)
        }
        if !commits.isEmpty {
            chunk.messages = [
                CommitsMessage(
                    scope: scope, author: author, after: after, through: through, commits: commits)
            ]
        }
        return chunk
    }

    private func head(_ header: [UInt8], _ signature: [UInt8]) throws -> Commit {
        let header = try CommitHeader(decoding: header)
        var reader = WireReader(signature)
        let proof = CommitProof(noneOf: header)
        return Commit(
            header: header, signature: try reader.signature(), proof: proof, records: [])
    }

    private func dots(
        _ db: Database, _ log: Writer.LogKey, _ scope: Scope, _ author: Author,
        _ entries: [SyncPart.LeafEntry]
    ) throws -> StreamChunk {
        var chunk = StreamChunk()
        var wanted = entries.flatMap { entry in
            entry.bits.offsets.map { entry.leaf * DigestTree.leafSpan + 1 + UInt64($0) }
        }[...]
        var bytes = 0
        var looked = 0
        while let sequence = wanted.first {
            looked += 1
            guard bytes < SyncTuning.commitsBytes, looked <= StoreLimits.dotsPerRead else {
                chunk.rest = .dots(scope, author, Self.entries(wanted))
                break
            }
            guard
                let batch = try Queries.batch(db, log.scope, log.author, holding: sequence)
            else {
                wanted.removeFirst()
                continue
            }
            let here = Set(wanted.prefix { $0 <= batch.header.last })
            wanted = wanted.dropFirst(here.count)
            let commit = try load(db, log, batch, keeping: here, &chunk.damaged)
            if commit.records.isEmpty { continue }
            bytes += commit.records.reduce(256) { $0 + $1.count + 4 }
            chunk.messages.append(
                CommitsMessage(
                    scope: scope, author: author, after: 0, through: 0, commits: [commit]))
        }
        return chunk
    }

    static func entries(_ sequences: some Collection<UInt64>) -> [SyncPart.LeafEntry] {
        var entries: [SyncPart.LeafEntry] = []
        for sequence in sequences {
            let leaf = DigestTree.leaf(of: sequence)
            let bit: UInt64 = 1 << ((sequence - 1) % DigestTree.leafSpan)
            let before = entries.last?.leaf == leaf ? entries.removeLast().bits.bits : 0
            entries.append(SyncPart.LeafEntry(leaf: leaf, bits: LeafBits(before | bit)))
        }
        return entries
    }

    /// A stored commit with its records, each checked against its hash before it leaves this node.
    private func load(
        _ db: Database, _ log: Writer.LogKey, _ batch: Queries.Batch,
        keeping wanted: Set<UInt64>?, _ damaged: inout [Dot]
    ) throws -> Commit {
        var records: [[UInt8]] = []
        var dropped: [Int: Digest] = [:]
        var missing = Set(batch.proof.presentOffsets)
        var rotten: [Dot] = []
        let mesh = identity.root.meshID
        let header = batch.header
        try db.each(
            """
            SELECT sequence, id, bytes FROM record WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ? ORDER BY sequence
            """, .int(log.scope), .int(log.author), .sequence(header.first),
            .sequence(header.last)
        ) { row in
            let sequence = row.sequence(0)
            let offset = Int(sequence - header.first)
            let id = row.digest(1) ?? .zero
            guard missing.remove(offset) != nil else { return true }
            guard wanted?.contains(sequence) ?? true else {
                dropped[offset] = id
                return true
            }
            let bytes = row.bytes(2)
            if Record.id(of: bytes, in: mesh) == id {
                records.append(bytes)
            } else {
                rotten.append(Dot(author: header.author, sequence: sequence))
            }
            return true
        }
        guard missing.isEmpty, rotten.isEmpty else {
            // Rows are gone or rotten: nothing of this commit can be shown to belong to it until
            // they are mended.
            damaged += rotten
            damaged += missing.sorted().map {
                Dot(author: header.author, sequence: header.first + UInt64($0))
            }
            return Commit(
                header: header, signature: batch.signature, proof: CommitProof(noneOf: header),
                records: [])
        }
        return Commit(
            header: header, signature: batch.signature, proof: batch.proof.dropping(dropped),
            records: records)
    }

    /// Makes damaged places holes: the rows go, and the next comparison fetches them from a peer.
    package func markDamaged(_ dots: [Dot], in scope: Scope) throws {
        try change { db in
            guard let scopeID = try Queries.scopeID(db, scope) else { return }
            for dot in dots {
                guard let author = try Queries.authorID(db, dot.author) else { continue }
                try Self.makeHole(
                    db, Writer.LogKey(scope: scopeID, author: author), dot.sequence,
                    identity.root.meshID)
            }
        }
        statistics.damaged.add(dots.count, ordering: .relaxed)
        try writerForgets()
    }

    /// Where the records prove themselves against the signed root, what rotted is the identities
    /// beside them: those are written anew.
    ///
    /// - Returns: whether all of the commit's records are whole.
    private static func mendIdentities(
        _ db: Database, _ log: Writer.LogKey, _ batch: Queries.Batch, _ mesh: MeshID
    ) throws -> Bool {
        let rows = try db.rows(
            """
            SELECT sequence, bytes FROM record WHERE scope = ? AND author = ?
            AND sequence BETWEEN ? AND ? ORDER BY sequence
            """, .int(log.scope), .int(log.author), .sequence(batch.header.first),
            .sequence(batch.header.last)
        ) { (sequence: $0.sequence(0), id: Record.id(of: $0.bytes(1), in: mesh)) }
        let sequences = batch.proof.presentOffsets.map { batch.header.first + UInt64($0) }
        guard rows.map(\.sequence) == sequences,
            batch.proof.root(present: rows.map(\.id)) == batch.header.root
        else { return false }
        for row in rows {
            try db.run(
                "UPDATE record SET id = ? WHERE scope = ? AND author = ? AND sequence = ?",
                .digest(row.id), .int(log.scope), .int(log.author), .sequence(row.sequence))
            try db.run(
                "INSERT OR IGNORE INTO dirty VALUES(?, ?, ?)", .int(log.scope), .int(log.author),
                .sequence(DigestTree.leaf(of: row.sequence)))
        }
        return true
    }

    private static func makeHole(
        _ db: Database, _ log: Writer.LogKey, _ sequence: UInt64, _ mesh: MeshID
    ) throws {
        let values: [SQLValue] = [.int(log.scope), .int(log.author), .sequence(sequence)]
        guard let batch = try Queries.batch(db, log.scope, log.author, holding: sequence) else {
            return
        }
        let offset = Int(sequence - batch.header.first)
        guard batch.proof.present[offset] else { return }
        if try mendIdentities(db, log, batch, mesh) { return }
        try db.run("INSERT OR IGNORE INTO damage VALUES(?, ?, ?)", values[0], values[1], values[2])
        let id = try db.first(
            "SELECT id FROM record WHERE scope = ? AND author = ? AND sequence = ?", values[0],
            values[1], values[2]
        ) { $0.digest(0) ?? .zero }
        try db.run(
            "DELETE FROM record WHERE scope = ? AND author = ? AND sequence = ?", values[0],
            values[1], values[2])
        try db.run(
            "INSERT OR IGNORE INTO dirty VALUES(?, ?, ?)", values[0], values[1],
            .sequence(DigestTree.leaf(of: sequence)))
        let table = "scope = ? AND author = ? AND first = ?"
        let place: [SQLValue] = [values[0], values[1], .sequence(batch.header.first)]
        if let id {
            let proof = batch.proof.dropping([offset: id])
            if !proof.isEmpty {
                try db.run(
                    "UPDATE batch SET proof = ? WHERE \(table)", .bytes(proof.encoded), place[0],
                    place[1], place[2])
                return
            }
        }
        // The whole commit is fetched again; what is left of it would not prove itself.
        let range = batch.header.first...batch.header.last
        try db.run("DELETE FROM batch WHERE \(table)", place[0], place[1], place[2])
        try db.run(
            "DELETE FROM record WHERE scope = ? AND author = ? AND sequence BETWEEN ? AND ?",
            values[0], values[1], .sequence(range.lowerBound), .sequence(range.upperBound))
        for leaf in DigestTree.leaf(of: range.lowerBound)...DigestTree.leaf(of: range.upperBound) {
            try db.run(
                "INSERT OR IGNORE INTO dirty VALUES(?, ?, ?)", values[0], values[1], .sequence(leaf)
            )
        }
    }

    /// How many places are waiting to be fetched again.
    package func damageCount(in scope: Scope? = nil) throws -> Int {
        try read { db in
            guard let scope else {
                return try db.first("SELECT count(*) FROM damage") { Int($0.int(0)) } ?? 0
            }
            return try db.first(
                "SELECT count(*) FROM damage JOIN scope ON scope.id = scope WHERE name = ?",
                .text(scope.description)
            ) { Int($0.int(0)) } ?? 0
        }
    }

    /// Checks the next rows in order of arrival against their hashes, and makes holes of bad ones.
    ///
    /// - Returns: where to go on; 0 at the end.
    package func scrub(after position: UInt64, limit: Int = 1000) throws -> UInt64 {
        var bad: [(Scope, Dot)] = []
        let mesh = identity.root.meshID
        let last = try read { db in
            let rows = try db.rows(
                """
                SELECT arrival, scope.name, author, sequence, record.id, bytes FROM record
                JOIN scope ON scope.id = record.scope WHERE arrival > ? ORDER BY arrival LIMIT ?
                """, .sequence(position), .int(Int64(limit))
            ) { row in
                let isGood = Record.id(of: row.bytes(5), in: mesh) == row.digest(4)
                return (row.sequence(0), isGood, row.text(1), row.int(2), row.sequence(3))
            }
            for (_, isGood, name, author, sequence) in rows where !isGood {
                guard let scope = Scope(name) else { continue }
                bad.append(
                    (scope, Dot(author: try Queries.author(db, author), sequence: sequence)))
            }
            return rows.count < limit ? 0 : rows.last?.0 ?? 0
        }
        for (scope, dot) in bad { try markDamaged([dot], in: scope) }
        return last
    }
}
