// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshReplication

/// One write of an app.
package struct Write: Sendable {
    /// Value or deletion.
    package var kind: MeshReplication.Record.Kind
    /// The key.
    package var key: RecordKey
    /// The media type.
    package var contentType: String
    /// The value.
    package var body: [UInt8]
    /// The state of the key that the writer has seen; nil for any.
    package var ifMatch: String?
    /// Refuses to replace anything.
    package var ifAbsent: Bool

    /// Names a write.
    package init(
        _ kind: MeshReplication.Record.Kind, _ key: RecordKey, contentType: String = "",
        body: [UInt8] = [],
        ifMatch: String? = nil, ifAbsent: Bool = false
    ) {
        self.kind = kind
        self.key = key
        self.contentType = contentType
        self.body = body
        self.ifMatch = ifMatch
        self.ifAbsent = ifAbsent
    }
}

/// Writes that stand or fall together.
package struct WriteRequest: Sendable {
    /// Where to.
    package var scope: Scope
    /// What, at most `StoreLimits.batchWrites`.
    package var writes: [Write]
    /// A name under which a retry finds the first answer, with a hash of the request.
    package var idempotency: (name: String, request: Digest)?

    /// Names a request.
    package init(
        scope: Scope, writes: [Write], idempotency: (name: String, request: Digest)? = nil
    ) {
        self.scope = scope
        self.writes = writes
        self.idempotency = idempotency
    }
}

/// What became of one write.
package struct Receipt: Hashable, Sendable {
    /// The version's place.
    package let dot: Dot
    /// The versions of the key that live after it.
    let live: [Dot]
    /// Whether nothing was known of the key before.
    package let isNew: Bool

    /// The key's state after the write.
    package var etag: String { KeyState.etag(live) }
}

/// One version of a key as it is shown.
package struct StoredVersion: Hashable, Sendable {
    /// Its place.
    package let dot: Dot
    /// The record.
    package let record: MeshReplication.Record
    /// The position in this node's change feed.
    package let arrival: UInt64

    /// The version for the merge rule.
    var version: Version { Version(dot: dot, context: record.context, stamp: record.stamp) }
}

/// A key with all its live versions, the shown one first.
package struct KeyState: Hashable, Sendable {
    /// The key.
    package let key: RecordKey
    /// Live versions, deletions among them, in the order of display.
    package let versions: [StoredVersion]

    /// Names the state: equal on two nodes that hold the same versions.
    package var etag: String { KeyState.etag(versions.map(\.dot)) }

    /// The shown version, if the key holds a value.
    package var value: StoredVersion? {
        versions.first.flatMap { $0.record.kind == .put ? $0 : nil }
    }
}
