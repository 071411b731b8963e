// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshReplication
package import MeshTrust

/// One write of an app.
package struct Write: Sendable {
    /// Value or deletion.
    package var kind: Record.Kind
    /// The key.
    package var key: RecordKey
    /// The media type.
    package var contentType: String
    /// The value.
    package var body: [UInt8]
    /// What must be so of the key for the write to stand.
    package var condition: Condition

    /// What a writer asks of the key's state.
    package indirect enum Condition: Hashable, Sendable {
        /// Nothing.
        case none
        /// It has one of these states, named by their entity tags.
        case matches([String])
        /// It holds a value.
        case holdsValue
        /// It holds no value.
        case holdsNone
        /// It has none of these states.
        case differs([String])
        /// Both.
        case both(Condition, Condition)

        /// Whether it holds of a state; nil is a key of which nothing is known.
        func holds(of state: String?, holdsValue: Bool) -> Bool {
            switch self {
            case .none: true
            case .matches(let tags): state.map { tags.contains($0) } ?? false
            case .holdsValue: holdsValue
            case .holdsNone: !holdsValue
            case .differs(let tags): state.map { !tags.contains($0) } ?? true
            case .both(let one, let other):
                one.holds(of: state, holdsValue: holdsValue)
                    && other.holds(of: state, holdsValue: holdsValue)
            }
        }
    }

    /// Names a write.
    package init(
        _ kind: Record.Kind, _ key: RecordKey, contentType: String = "", body: [UInt8] = [],
        condition: Condition = .none
    ) {
        self.kind = kind
        self.key = key
        self.contentType = contentType
        self.body = body
        self.condition = condition
    }
}

/// Writes that stand or fall together.
package struct WriteRequest: Sendable {
    /// Where to.
    package var scope: Scope
    /// What, at most `RuleLimits.batchWrites`.
    package var writes: [Write]
    /// A name under which a retry finds the first answer, with a hash of the request.
    package var idempotency: (name: String, request: Digest)? {
        didSet { naming = idempotency.map(RequestNaming.init) }
    }
    /// The same as records and stores have it.
    private(set) var naming: RequestNaming?

    /// Names a request.
    package init(
        scope: Scope, writes: [Write], idempotency: (name: String, request: Digest)? = nil
    ) {
        self.scope = scope
        self.writes = writes
        self.idempotency = idempotency
        naming = idempotency.map(RequestNaming.init)
    }

    /// What the record of one of the writes carries.
    func extensions(of index: Int, isNew: Bool) -> Extensions {
        guard let naming else { return .none }
        let name = RequestName(
            name: naming.name, index: index, count: writes.count, isNew: isNew)
        return Extensions([name.field])
    }
}

/// A request's name as records carry it, with the hash of the request.
struct RequestNaming: Sendable {
    let name: [UInt8]
    let hash: Digest

    init(_ idempotency: (name: String, request: Digest)) {
        name = RequestName.name(of: idempotency.name)
        hash = idempotency.request
    }

    /// Under which name this server remembers what it answered.
    func key(in scope: Scope) -> String { "\(Hex.encode(name)) \(scope)" }

    /// Under which name a server remembers what records of a neighbour say.
    static func neighbours(_ name: [UInt8], in scope: Scope) -> String {
        StoredAnswer.neighboursMark + "\(Hex.encode(name)) \(scope)"
    }
}

/// What became of one write.
package struct Receipt: Hashable, Sendable {
    /// The version's place; nil where there was nothing to delete.
    package let dot: Dot?
    /// The versions of the key that live after it.
    package let live: [Dot]
    /// Whether nothing was known of the key before.
    package let isNew: Bool

    /// Describes a write.
    package init(dot: Dot?, live: [Dot], isNew: Bool) {
        self.dot = dot
        self.live = live
        self.isNew = isNew
    }

    /// The key's state after the write.
    package var etag: String { EntityTag.of(live) }
}

/// Names the causal state of a key: equal on two nodes that hold the same versions.
package enum EntityTag {
    /// The tag of a set of live versions.
    package static func of(_ dots: [Dot]) -> String {
        var writer = WireWriter()
        for dot in dots.sorted() {
            writer.author(dot.author)
            writer.u64(dot.sequence)
        }
        return Hex.encode(Blake2b.hash(writer.bytes).array.prefix(12))
    }
}

/// Why a write of an app was refused; it left no trace.
package enum WriteRefusal: Error, Hashable, Sendable {
    /// No policy of that namespace is known here.
    case unknownNamespace(String)
    /// The policy does not let this node write there.
    case notGranted(Scope)
    /// This node was revoked: nobody would take what it writes.
    case revoked
    /// The state of the key is not the one that the writer asked for.
    case preconditionFailed(current: String?)
    /// A write-once key is taken.
    case exists(RecordKey)
    /// The idempotency key was used for another request.
    case idempotencyMismatch
    /// A write of the wrong size, and which limit it breaks.
    case limit(String)
}

/// What a transaction is asked to do; several share one.
package enum RecordJob: Sendable {
    /// An app writes.
    case write(WriteRequest)
    /// A peer sent commits.
    case ingest(CommitsMessage)
    /// Something was found rotten as it was read.
    case damaged(Set<Damage>)
    /// The root document has changed: nodes are no members any more, since who enrolled them was
    /// retired, and revocations that are known count.
    case judgeAnew(retired: Set<NodeID>, revocations: [Revocation])
    /// What is kept of superseded records is to fit its room again.
    case trim
}

/// What became of a job.
package enum JobAnswer: Sendable {
    /// Of a write.
    case written(Result<[Receipt], WriteRefusal>)
    /// Of a peer's message.
    case ingested(IngestOutcome)
    /// Of any other.
    case done
}

/// Limits of the rules; each has a counter or an error where it bites.
package enum RuleLimits {
    /// Most writes of one batch.
    package static let batchWrites = 1000
    /// Bytes of records after which a commit takes no more writes of others.
    package static let draftBytes = 96 * 1024
    /// Commits of one node that lost their place and are kept for it; the oldest goes.
    package static let losers = 256
    /// Records of this node of which is remembered that they were written again.
    package static let savedLosers = 50_000
}
