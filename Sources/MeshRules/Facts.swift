// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshReplication
package import MeshTrust

/// A key of a scope.
package struct KeyName: Hashable, Sendable {
    /// Where.
    package let scope: Scope
    /// Which.
    package let key: RecordKey

    /// Names a key.
    package init(scope: Scope, key: RecordKey) {
        self.scope = scope
        self.key = key
    }

    /// Hashes the key alone: a transaction names many keys and few scopes.
    package func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

/// The logs of one node in one scope: one a life.
package struct FamilyName: Hashable, Sendable {
    /// Where.
    package let scope: Scope
    /// Whose.
    package let node: NodeID

    /// Names a family of logs.
    package init(scope: Scope, node: NodeID) {
        self.scope = scope
        self.node = node
    }
}

/// What is known of a node's logs in one scope.
package struct Family: Sendable {
    /// The logs, by life.
    package private(set) var heads: [Life: LogHead]
    /// Which of the lives had seen which.
    package private(set) var lives: Lives
    /// Whether no record of the logs has rotted or is doubted because of a fork.
    package private(set) var isWhole: Bool

    /// Describes a family.
    package init(_ heads: [Life: LogHead]) {
        self.heads = heads
        lives = Self.lives(heads)
        isWhole = heads.values.allSatisfy(\.isWhole)
    }

    private static func lives(_ heads: [Life: LogHead]) -> Lives {
        Lives(heads.mapValues(\.inherits), forks: heads.compactMapValues(\.forksAt))
    }

    /// Notes what is known of a log now.
    package mutating func set(_ life: Life, _ head: LogHead) {
        let old = heads[life]
        heads[life] = head
        isWhole = isWhole && head.isWhole
        if old?.inherits != head.inherits || old?.forksAt != head.forksAt {
            lives = Self.lives(heads)
        }
    }
}

/// A record that is held, live or superseded.
package struct HeldVersion: Sendable {
    /// Its place.
    package let dot: Dot
    /// Its identity: the hash of its bytes, which whoever read it has verified.
    package let id: Digest
    /// What it says.
    package let record: Record
    /// The merge kind of the policy under which it was written.
    package let merge: MergeKind

    /// Describes a record.
    package init(dot: Dot, id: Digest, record: Record, merge: MergeKind) {
        self.dot = dot
        self.id = id
        self.record = record
        self.merge = merge
    }

    /// The version as the merge rule sees it.
    package var version: Version {
        Version(dot: dot, context: record.context, stamp: record.stamp, merge: merge)
    }
}

/// A commit that is held, with what is held of its records.
package struct HeldCommit: Sendable {
    /// A record's row.
    package struct Row: Sendable {
        /// The record's identity: as it is stored, or what its bytes hash to where the name beside
        /// them cannot be believed.
        package let id: Digest
        /// Whether nothing supersedes it.
        package let isLive: Bool
        /// Whether the stored name can be believed.
        package let isNamed: Bool
        /// Whether the bytes hash to the name.
        package let isWhole: Bool

        /// Describes a row.
        package init(id: Digest, isLive: Bool, isNamed: Bool = true, isWhole: Bool = true) {
            self.id = id
            self.isLive = isLive
            self.isNamed = isNamed
            self.isWhole = isWhole
        }
    }

    /// What was signed.
    package let header: CommitHeader
    /// The author's signature.
    package let signature: Signature
    /// Which leaves have rows here, live or superseded, and the hashes of the others.
    package let proof: CommitProof
    /// The rows, by sequence; a row that was lost is missing though the proof counts it.
    package let rows: [UInt64: Row]

    /// Describes a commit.
    package init(
        header: CommitHeader, signature: Signature, proof: CommitProof, rows: [UInt64: Row]
    ) {
        self.header = header
        self.signature = signature
        self.proof = proof
        self.rows = rows
    }
}

/// The commits beside a place of a log that no commit holds.
package struct CommitGap: Sendable {
    /// The last commit that begins before it; nil if there is none.
    package let before: CommitHeader?
    /// The first one that begins after it; nil if there is none.
    package let after: CommitHeader?

    /// Joins the two.
    package init(before: CommitHeader?, after: CommitHeader?) {
        self.before = before
        self.after = after
    }
}

/// Something stored that no longer is what was written: found as it was read, and part of no fact.
package enum Damage: Hashable, Sendable {
    /// A record that does not match its hash, or is missing though its commit counts it.
    case record(LogName, UInt64)
    /// A row whose place cannot be believed, by the store's own number for it.
    case row(UInt64)
    /// A commit's header, signature or proof, by its place.
    case commit(LogName, ClosedRange<UInt64>)
    /// What is known of the end of a log.
    case head(LogName)
    /// Records were not found by their keys, and are again.
    case index
    /// Records were not found by their places, and are again.
    case places
}

/// What a transaction must know, asked for as a set, so that any database answers in one trip.
package struct Needs: Sendable {
    /// Live versions of keys.
    package var keys: Set<KeyName> = []
    /// Logs, by scope and node. Those of the nodes that a key's versions name come by themselves.
    package var families: Set<FamilyName> = []
    /// Commits that overlap ranges of a log, with their rows.
    package var commits: [LogName: [ClosedRange<UInt64>]] = [:]
    /// The same commits, without their rows.
    package var proofs: [LogName: [ClosedRange<UInt64>]] = [:]
    /// Records of ranges of a log, live or not, and of the commits asked for that overlap them.
    package var records: [LogName: [ClosedRange<UInt64>]] = [:]
    /// The last commit that is held of each log, and the header with which the log ends.
    package var lastCommits: Set<LogName> = []
    /// The commits beside places of a log.
    package var gaps: [LogName: Set<UInt64>] = [:]
    /// Certificates.
    package var certificates: Set<NodeID> = []
    /// Every log of a node, in whatever scope.
    package var logsOf: Set<NodeID> = []
    /// What records of a log had superseded.
    package var undo: [LogName: ClosedRange<UInt64>] = [:]
    /// What is kept of the superseded records of a node.
    package var kept: Set<FamilyName> = []
    /// How much is kept of each share of superseded records.
    package var undoShares = false
    /// The superseded records that were kept longest, so many of each share.
    package var oldest: [UndoShare: Int] = [:]
    /// Answers to earlier requests.
    package var idempotency: Set<String> = []
    /// Names of what may have lost its place, of which is asked whether it is known to.
    package var losers: Set<Digest> = []

    /// Nothing.
    package init() {}

    /// The certificates of one node.
    package static func certificates(of node: NodeID) -> Needs {
        var needs = Needs()
        needs.certificates = [node]
        return needs
    }

    /// Whether nothing is asked for.
    package var isEmpty: Bool {
        keys.isEmpty && families.isEmpty && commits.isEmpty && proofs.isEmpty && records.isEmpty
            && lastCommits.isEmpty && gaps.isEmpty && certificates.isEmpty && logsOf.isEmpty
            && undo.isEmpty
            && kept.isEmpty && !undoShares && oldest.isEmpty && idempotency.isEmpty
            && losers.isEmpty
    }
}

/// The answer to `Needs`: what is not there is absent, what has rotted is only in `damage`.
package struct Facts: Sendable {
    /// Live versions of keys, in any order.
    package var keys: [KeyName: [HeldVersion]] = [:]
    /// Logs.
    package var families: [FamilyName: Family] = [:]
    /// Commits, ascending.
    package var commits: [LogName: [HeldCommit]] = [:]
    /// Records, ascending, with whether they live.
    package var records: [LogName: [(held: HeldVersion, isLive: Bool)]] = [:]
    /// Last commits.
    package var lastCommits: [LogName: HeldCommit] = [:]
    /// The headers with which those logs end.
    package var ends: [LogName: (header: CommitHeader, signature: Signature)] = [:]
    /// What stands beside the places that were asked for.
    package var gaps: [LogName: [CommitGap]] = [:]
    /// Certificates, the newest first.
    package var certificates: [NodeID: [Certificate]] = [:]
    /// Logs of nodes with how far they go.
    package var logsOf: [NodeID: [LogName: UInt64]] = [:]
    /// What is kept of what records of a log had superseded.
    package var undo: [LogName: [KeptVersion]] = [:]
    /// What is kept of the superseded records of a node.
    package var kept: [FamilyName: [KeptVersion]] = [:]
    /// The superseded records that were kept longest, in that order for each share.
    package var oldest: [KeptPlace] = []
    /// How much is kept of each class: always there.
    package var undoUsage: [UndoClass: UndoUsage] = [:]
    /// How much is kept of each share.
    package var undoShares: [UndoShare: UndoUsage] = [:]
    /// Answers to earlier requests, by name.
    package var idempotency: [String: StoredAnswer] = [:]
    /// Which of these are known, and with which of its records each is kept, by their offsets: at
    /// their author records that were written again (none), elsewhere commits kept for him.
    package var losers: [Digest: Set<Int>] = [:]
    /// Every revocation that is known: always there, asked for or not.
    package var revoked = RevokedLogs()
    /// What was found rotten on the way.
    package var damage: Set<Damage> = []

    /// Nothing is known.
    package init() {}
}

/// What was answered to a request that had a name.
package struct StoredAnswer: Sendable {
    /// What the name of an answer begins with that records of a neighbour tell of.
    package static let neighboursMark = "~"

    /// The hash of the request.
    package let request: Digest
    /// The receipts.
    package let receipts: [Receipt]

    /// Describes an answer.
    package init(request: Digest, receipts: [Receipt]) {
        self.request = request
        self.receipts = receipts
    }
}
