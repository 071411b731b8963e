// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto
package import MeshReplication
internal import MeshRules

/// Some messages of a stream, and what is left of it.
package struct StreamChunk: Sendable {
    /// Messages to send, in order.
    package var messages: [CommitsMessage] = []
    /// The rest of the request; nil if the stream is done.
    package var rest: StreamRequest?

    /// Nothing to send.
    package init() {}
}

extension Store {
    /// Reads the next part of what a peer is to get, about `SyncTuning.commitsBytes` of it.
    ///
    /// Every record and every commit is verified as it is read; what has rotted is not sent.
    package func next(_ request: StreamRequest) throws -> StreamChunk {
        var missing: Set<Damage> = []
        let chunk = try read { snapshot in
            var reader = StreamReader(snapshot: snapshot)
            defer { missing = reader.missing }
            switch request {
            case .tail(let scope, let author, let after):
                let log = LogName(scope: scope, author: author)
                return try reader.withEvidence(try reader.tail(log, after), of: log)
            case .dots(let scope, let author, let entries):
                let log = LogName(scope: scope, author: author)
                return try reader.withEvidence(try reader.dots(log, entries), of: log)
            case .commits(let scope, let author, let places, let withRecords):
                return try reader.naming(
                    try reader.commits(
                        LogName(scope: scope, author: author), places,
                        keeping: withRecords ? nil : []))
            case .evidence(let scope, let author):
                return try reader.evidence(LogName(scope: scope, author: author))
            case .losers(let node):
                var chunk = StreamChunk()
                chunk.messages = try snapshot.losers(of: node)
                return try reader.naming(chunk)
            }
        }
        quarantine(missing)
        return chunk
    }
}

/// Reads commits as a peer gets them: the records that live, with the proof for those.
struct StreamReader {
    let snapshot: any RecordSnapshot
    /// Rows that are missing though their commit counts them.
    private(set) var missing: Set<Damage> = []

    init(snapshot: any RecordSnapshot) { self.snapshot = snapshot }

    mutating func tail(_ log: LogName, _ after: UInt64) throws -> StreamChunk {
        var chunk = StreamChunk()
        guard let end = try snapshot.end(of: log), end.frontier > after else { return chunk }
        let held = try snapshot.commits(of: log, after: after, limit: StoreLimits.commitsPerRead)
            .filter { $0.header.first <= end.frontier }
        let isWhole = held.count < StoreLimits.commitsPerRead
        var commits: [Commit] = []
        var bytes = 0
        var seen = 0
        for one in held {
            let commit = try load(one, keeping: nil)
            let size = commit.records.reduce(256) { $0 + $1.count + 4 }
            if !commits.isEmpty, bytes + size > SyncTuning.commitsBytes { break }
            seen += 1
            // What has gone is passed over, but for the end of what was looked at, and for the
            // first, which says what its life inherited.
            let isNeeded = one.header.first == 1 || (seen == held.count && !isWhole)
            if commit.records.isEmpty, !isNeeded { continue }
            commits.append(commit)
            bytes += size
        }
        var through = commits.last?.header.last ?? after
        if seen < held.count || !isWhole {
            chunk.rest = .tail(log.scope, log.author, after: through)
        } else if through < end.frontier, commits.isEmpty || end.header.first > through {
            // Nothing lives after these: the log's last header proves where it ends. Where the peer
            // has another commit in its place, this shows that the log was written twice.
            commits.append(
                Commit(
                    header: end.header, signature: end.signature,
                    proof: CommitProof(noneOf: end.header), records: []))
            through = end.frontier
        }
        // A log begins with what its life inherited: without that nobody can take it.
        let hasBeginning = after > 0 || commits.first?.header.first == 1
        guard let last = commits.last, last.header.last == through, hasBeginning else {
            return StreamChunk()
        }
        chunk.messages = [
            CommitsMessage(
                scope: log.scope, author: log.author, after: after, through: through,
                commits: commits)
        ]
        return chunk
    }

    mutating func dots(
        _ log: LogName, _ entries: [SyncPart.LeafEntry]
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
                chunk.rest = .dots(log.scope, log.author, SyncPart.entries(wanted))
                break
            }
            guard let held = try snapshot.commit(of: log, holding: sequence) else {
                wanted.removeFirst()
                continue
            }
            let here = Set(wanted.prefix { $0 <= held.header.last })
            wanted = wanted.dropFirst(here.count)
            let commit = try load(held, keeping: here)
            if commit.records.isEmpty { continue }
            bytes += commit.records.reduce(256) { $0 + $1.count + 4 }
            chunk.messages.append(filling(log, commit))
        }
        return chunk
    }

    mutating func commits(
        _ log: LogName, _ places: [UInt64], keeping wanted: Set<UInt64>?
    ) throws -> StreamChunk {
        var chunk = StreamChunk()
        for place in places.prefix(StoreLimits.commitsPerRead) {
            if let held = try snapshot.commit(of: log, holding: place) {
                chunk.messages.append(filling(log, try load(held, keeping: wanted)))
            } else if let end = try snapshot.end(of: log), end.header.range.contains(place) {
                // Nothing lives of it, so nothing but its header is kept.
                chunk.messages.append(bare(log, end.header, end.signature))
            }
        }
        return chunk
    }

    func evidence(_ log: LogName) throws -> StreamChunk {
        var chunk = StreamChunk()
        chunk.messages = try snapshot.evidence(of: log).map { bare(log, $0.header, $0.signature) }
        return chunk
    }

    private func bare(
        _ log: LogName, _ header: CommitHeader, _ signature: Signature
    ) -> CommitsMessage {
        filling(
            log,
            Commit(
                header: header, signature: signature, proof: CommitProof(noneOf: header),
                records: []))
    }

    /// Adds what shows that the log was written twice, and what `naming` adds.
    func withEvidence(_ chunk: StreamChunk, of log: LogName) throws -> StreamChunk {
        if chunk.messages.isEmpty { return chunk }
        var chunk = try naming(chunk)
        chunk.messages += try evidence(log).messages
        return chunk
    }

    /// Puts headers first that prove places which records name, and which no log that is held
    /// shows: they were lost, or wait. Who was not there when that came out would wait for them.
    ///
    /// What the first records need comes first, so that each answer takes the peer further.
    func naming(_ chunk: StreamChunk) throws -> StreamChunk {
        var before: [CommitsMessage] = []
        var seen: Set<LogName> = []
        var shown: [Scope: Set<Author>] = [:]
        for message in chunk.messages {
            let scope = message.scope
            if shown[scope] == nil {
                shown[scope] = Set(try snapshot.logsWithEvidence(in: scope).map(\.author))
            }
            guard let authors = shown[scope], !authors.isEmpty else { continue }
            for dot in named(by: message) where authors.contains(dot.author) {
                let log = LogName(scope: scope, author: dot.author)
                guard before.count < StoreLimits.evidencePerRead,
                    try snapshot.end(of: log)?.frontier ?? 0 < dot.sequence,
                    seen.insert(log).inserted,
                    let furthest = try snapshot.evidence(of: log)
                        .max(by: { $0.header.last < $1.header.last })
                else { continue }
                before.append(bare(log, furthest.header, furthest.signature))
            }
        }
        var chunk = chunk
        chunk.messages = before + chunk.messages
        return chunk
    }

    private func named(by message: CommitsMessage) -> [Dot] {
        message.commits.flatMap { commit in
            commit.header.inherits.map { entry in
                Dot(
                    author: Author(node: message.author.node, life: entry.life),
                    sequence: entry.through)
            } + commit.records.flatMap { (try? Record(decoding: $0))?.context.dots ?? [] }
        }
    }

    private func filling(_ log: LogName, _ commit: Commit) -> CommitsMessage {
        CommitsMessage(
            scope: log.scope, author: log.author, after: 0, through: 0, commits: [commit])
    }

    /// A stored commit with the records of it that live and are wanted.
    mutating func load(_ held: HeldCommit, keeping wanted: Set<UInt64>?) throws -> Commit {
        let header = held.header
        var records: [[UInt8]] = []
        var dropped: [Int: Digest] = [:]
        var lacking = Set(held.proof.presentOffsets)
        for row in try snapshot.rows(of: header.log, in: header.range) {
            let offset = Int(row.sequence - header.first)
            guard lacking.remove(offset) != nil else { continue }
            if row.isLive, wanted?.contains(row.sequence) ?? true {
                records.append(row.bytes)
            } else {
                dropped[offset] = row.id
            }
        }
        guard lacking.isEmpty else {
            // Rows are gone or rotten: until they are mended nothing of this commit can be shown to
            // belong to it.
            for offset in lacking {
                missing.insert(.record(header.log, header.first + UInt64(offset)))
            }
            return Commit(
                header: header, signature: held.signature, proof: CommitProof(noneOf: header),
                records: [])
        }
        return Commit(
            header: header, signature: held.signature, proof: held.proof.dropping(dropped),
            records: records)
    }
}
