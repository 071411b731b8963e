// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshReplication
package import MeshRules
package import MeshTrust

/// Where records are kept: the port between the rules and a database.
///
/// Facts for a whole job go out in one trip and changes for a whole transaction come in, so a
/// database on the network is an adapter and not a rewrite. An adapter judges nothing.
/// `SQLiteRecords` is what servers run; the tests compare it with one that is a few dictionaries.
package protocol RecordStore: Sendable {
    /// Takes the right to write; whoever had it before has it no more.
    ///
    /// - Parameter start: judges what the last process left, and says how this one goes on.
    func lease(_ start: @escaping @Sendable (StoredStart?) -> StartDecision) throws -> WriterLease

    /// Does what a transaction of the rules asks, in one transaction of the database.
    ///
    /// - Parameter done: hears once the changes are durable, or that nothing has changed.
    func perform(
        _ transaction: RecordTransaction, under lease: WriterLease,
        done: @escaping @Sendable (Result<Committed, StoreError>) -> Void)

    /// Reads one consistent state; never waits for a writer.
    func read<T>(_ body: (any RecordSnapshot) throws -> T) throws -> T

    /// Reads one state with digests that are up to date.
    func consult<T>(_ body: (any RecordIndex) throws -> T) throws -> T

    /// Looks whether what the store derives from its records agrees with the commits that a scrub
    /// walks next, and makes anew what does not.
    ///
    /// - Returns: what only a peer can mend, and whether anything was made anew.
    func inspect(
        after place: ScrubPlace, limit: Int
    ) throws -> (damage: Set<Damage>, isMended: Bool)

    /// Keeps a certificate that was verified.
    func keep(_ certificate: Certificate) throws

    /// Ends, in good order.
    func close()
}

/// The right to write, until another takes it.
package struct WriterLease: Hashable, Sendable {
    /// Counts who had it.
    package let number: UInt64
    /// How this process goes on.
    package let start: StartDecision
    /// Where the feed stands.
    package let feed: FeedPosition

    /// Names a lease.
    package init(number: UInt64, start: StartDecision, feed: FeedPosition) {
        self.number = number
        self.start = start
        self.feed = feed
    }
}

/// A transaction that is durable.
package struct Committed: Sendable {
    /// What the rules say of it.
    package let conclusion: Conclusion
    /// The end of the feed after it.
    package let feed: FeedPosition
    /// Whether it changed anything.
    package let hasChanged: Bool
    /// What was found rotten on the way.
    package let damage: Set<Damage>

    /// Describes a transaction.
    package init(
        conclusion: Conclusion, feed: FeedPosition, hasChanged: Bool, damage: Set<Damage>
    ) {
        self.conclusion = conclusion
        self.feed = feed
        self.hasChanged = hasChanged
        self.damage = damage
    }
}

/// A place in the feed of changes, handed out in the order of commit; only its store can read it.
package struct FeedPosition: Hashable, Comparable, Sendable {
    /// Counts changes.
    package let number: UInt64

    /// Names a position.
    package init(_ number: UInt64) { self.number = number }

    /// Before everything.
    package static let beginning = FeedPosition(0)

    /// Earlier is less.
    package static func < (lhs: FeedPosition, rhs: FeedPosition) -> Bool {
        lhs.number < rhs.number
    }
}

/// One entry of the feed.
package enum FeedEntry: Sendable {
    /// A record came to live.
    case came(Scope, HeldVersion, at: FeedPosition)
    /// Records of a key went and nothing came: by a cut, a fork or damage.
    case went(KeyName, at: FeedPosition)
}

/// A stored record with its bytes, verified as it was read.
package struct StoredRow: Sendable {
    /// Its place.
    package let sequence: UInt64
    /// Its identity.
    package let id: Digest
    /// Its bytes.
    package let bytes: [UInt8]
    /// Whether nothing supersedes it.
    package let isLive: Bool

    /// Describes a row.
    package init(sequence: UInt64, id: Digest, bytes: [UInt8], isLive: Bool) {
        self.sequence = sequence
        self.id = id
        self.bytes = bytes
        self.isLive = isLive
    }
}

/// One consistent state of a store. Whatever has rotted is left out, and noted in `damage`.
package protocol RecordSnapshot: RecordIndex {
    /// Answers what the rules ask.
    func facts(_ needs: Needs) throws -> Facts

    /// The live versions of a key, each with where the feed told of it.
    func versions(of key: KeyName) throws -> [(held: HeldVersion, position: FeedPosition)]

    /// Keys of a scope that have live versions, in their order, from one on.
    func keys(in scope: Scope, from start: [UInt8], including: Bool, limit: Int) throws -> [[UInt8]]

    /// The same keys, each with what `versions` says of it.
    func states(
        in scope: Scope, from start: [UInt8], including: Bool, limit: Int
    ) throws -> [(key: [UInt8], versions: [(held: HeldVersion, position: FeedPosition)])]

    /// Entries of the feed after a position, in order.
    func feed(after position: FeedPosition, limit: Int) throws -> [FeedEntry]

    /// Where whoever follows with a cursor of an epoch goes on; nil for an epoch that is not of
    /// this store, for a position past the epoch's end, and for one at which nothing stands: what
    /// was told there is lost.
    func resume(_ position: FeedPosition, of epoch: [UInt8]) throws -> FeedPosition?

    /// Commits of a log that end after a sequence, ascending, without rows.
    func commits(of log: LogName, after sequence: UInt64, limit: Int) throws -> [HeldCommit]

    /// The commit that holds a place, without rows.
    func commit(of log: LogName, holding sequence: UInt64) throws -> HeldCommit?

    /// Records of a range of a log, ascending.
    func rows(of log: LogName, in range: ClosedRange<UInt64>) throws -> [StoredRow]

    /// Where a log ends, and the header that proves it.
    func end(
        of log: LogName
    ) throws -> (frontier: UInt64, header: CommitHeader, signature: Signature)?

    /// Commits in the order in which a scrub walks them, after a place, without rows and without
    /// those that have rotted.
    ///
    /// - Returns: the commits, and where to go on; nil where all were walked.
    func commits(
        afterScrub place: ScrubPlace, limit: Int
    ) throws -> (commits: [HeldCommit], next: ScrubPlace?)

    /// How many records live in a scope, deletions among them.
    func liveCount(in scope: Scope) throws -> Int

    /// How many places wait to be fetched again; in all scopes if none is named.
    func holeCount(in scope: Scope?) throws -> Int

    /// Logs of which headers are kept as evidence, of one scope or of all.
    func logsWithEvidence(in scope: Scope?) throws -> [LogName]

    /// Headers that show how far a log was written, or that it was written twice.
    func evidence(of log: LogName) throws -> [(header: CommitHeader, signature: Signature)]

    /// Nodes for which commits that lost their place are kept.
    func nodesWithLosers() throws -> [NodeID]

    /// Commits of a node that lost their place, which are kept for it.
    func losers(of node: NodeID) throws -> [CommitsMessage]

    /// Every certificate.
    func certificates() throws -> [Certificate]

    /// Every revocation that was ever taken and counts.
    func revocations() throws -> [Revocation]

    /// The nodes whose every certificate is by a key that the mesh has retired.
    func retired() throws -> [NodeID]

    /// The certificates by keys that the mesh has retired.
    func retiredCertificates() throws -> [Certificate]

    /// Bytes that the store takes.
    func byteCount() throws -> Int

    /// What was found rotten so far.
    var damage: Set<Damage> { get }
}

/// How far a scrub has come, in the store's own numbers.
package struct ScrubPlace: Hashable, Sendable {
    /// Opaque; zeros at the beginning.
    package let numbers: [UInt64]

    /// Before the first commit.
    package static let beginning = ScrubPlace(numbers: [0, 0, 0])

    /// Names a place.
    package init(numbers: [UInt64]) { self.numbers = numbers }
}
