// SPDX-License-Identifier: Apache-2.0

public import Foundation

/// A namespace's policy.
public struct NamespaceView: Codable, Sendable {
    /// The namespace.
    public var name: String
    /// `all`, `site` or `group:NAME`.
    public var audience: String
    /// `central`, `site` or `any`.
    public var writers: String
    /// `register` or `log`.
    public var merge: String
    /// How durable a write is to be where its app does not say: `local`, `site:K` or `central`.
    public var ack: String?
    /// The first digits of the policy's name in commits.
    public var id: String?
    /// Whether it is the one for new writes; another may have been made on the other side of a cut.
    public var current: Bool?
    /// What an operator has signed, hexadecimal; layout: the article `PolicyFormat`.
    public var document: String?

    /// Names a policy.
    public init(
        name: String, audience: String, writers: String, merge: String, ack: String? = nil,
        id: String? = nil, current: Bool? = nil, document: String? = nil
    ) {
        self.name = name
        self.audience = audience
        self.writers = writers
        self.merge = merge
        self.ack = ack
        self.id = id
        self.current = current
        self.document = document
    }
}

/// The policies known to a node.
public struct NamespacesView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// By name.
    public var namespaces: [NamespaceView]

    /// Fills in the list.
    public init(namespaces: [NamespaceView]) { self.namespaces = namespaces }
}

/// One version of a key.
///
/// A body that is valid JSON under a JSON media type stands as `value`, other text as `text`, other
/// bytes as `base64`.
public struct RecordView: Codable, Sendable {
    /// The scope.
    public var scope: String
    /// The key.
    public var key: String
    /// The media type.
    public var contentType: String
    /// The body, where it is text.
    public var text: String?
    /// The body, where it is not.
    public var base64: String?
    /// The key's state, for `If-Match`.
    public var etag: String
    /// Whether this version deletes the key.
    public var deleted: Bool
    /// The writer's node, hexadecimal.
    public var author: String
    /// The version's place in the writer's log.
    public var sequence: UInt64
    /// Milliseconds since 1970 by the writer's clock.
    public var writtenMs: UInt64
    /// Other live versions of the key.
    public var siblings: Int
    /// True for an entry of a log under whose key another entry stands.
    public var twin: Bool?
    /// The position in this node's change feed, for `since`.
    public var cursor: String?

    /// Fills in a version.
    public init(
        scope: String, key: String, contentType: String, body: [UInt8], etag: String,
        deleted: Bool, author: String, sequence: UInt64, writtenMs: UInt64, siblings: Int,
        twin: Bool? = nil, cursor: String?
    ) {
        self.scope = scope
        self.key = key
        self.contentType = contentType
        if let text = String(validating: body, as: UTF8.self) {
            self.text = text
        } else {
            base64 = Data(body).base64EncodedString()
        }
        self.etag = etag
        self.deleted = deleted
        self.author = author
        self.sequence = sequence
        self.writtenMs = writtenMs
        self.siblings = siblings
        self.twin = twin
        self.cursor = cursor
    }

    /// The body's bytes.
    public var body: Data {
        if let text { return Data(text.utf8) }
        return base64.flatMap { Data(base64Encoded: $0) } ?? Data()
    }
}

/// A page of records, in key order.
public struct RecordsView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The records.
    public var records: [RecordView]
    /// The key to give as `after` for the next page; nil at the end.
    public var next: String?

    /// Fills in a page.
    public init(records: [RecordView], next: String?) {
        self.records = records
        self.next = next
    }
}

/// One write of a batch.
public struct BatchWrite: Codable, Sendable {
    /// `put` or `delete`.
    public var op: String
    /// The key.
    public var key: String
    /// The media type; where none is given, that of how the value is: JSON, text or bytes.
    public var contentType: String?
    /// The body as text.
    public var text: String?
    /// The body as base64.
    public var base64: String?
    /// The state of the key that the writer has seen.
    public var ifMatch: String?
    /// Refuses to replace anything.
    public var ifAbsent: Bool?

    /// Names a write.
    public init(
        op: String, key: String, contentType: String? = nil, text: String? = nil,
        base64: String? = nil, ifMatch: String? = nil, ifAbsent: Bool? = nil
    ) {
        self.op = op
        self.key = key
        self.contentType = contentType
        self.text = text
        self.base64 = base64
        self.ifMatch = ifMatch
        self.ifAbsent = ifAbsent
    }
}

/// Several writes of one scope that stand or fall together.
public struct BatchRequest: Codable, Sendable {
    /// The namespace.
    public var namespace: String
    /// The site, where it is not the node's own.
    public var site: String?
    /// The writes.
    public var writes: [BatchWrite]

    /// Names a batch.
    public init(namespace: String, site: String? = nil, writes: [BatchWrite]) {
        self.namespace = namespace
        self.site = site
        self.writes = writes
    }
}

/// What became of writes.
public struct WriteView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The states of the keys, in the order of the writes.
    public var etags: [String]
    /// The versions' places in this node's log.
    public var sequences: [UInt64]
    /// What was asked for: `local`, `site:K` or `central`.
    public var ack: String
    /// Whether the writes are as durable as that.
    public var reached: Bool
    /// The servers that hold them on their disks, `SITE/SERVER`, the one that answers first.
    public var durableOn: [String]
    /// Where to ask later; nil where that is reached.
    public var ask: String?

    /// Fills in the answer.
    public init(
        etags: [String], sequences: [UInt64], ack: String, reached: Bool, durableOn: [String],
        ask: String? = nil
    ) {
        self.etags = etags
        self.sequences = sequences
        self.ack = ack
        self.reached = reached
        self.durableOn = durableOn
        self.ask = ask
    }
}

/// How durable an earlier write is now.
public struct AcknowledgementView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// What was asked for: `local`, `site:K` or `central`.
    public var ack: String
    /// Whether the write is as durable as that.
    public var reached: Bool
    /// The servers that hold it on their disks, `SITE/SERVER`, the one that answers first.
    public var durableOn: [String]

    /// Fills in the answer.
    public init(ack: String, reached: Bool, durableOn: [String]) {
        self.ack = ack
        self.reached = reached
        self.durableOn = durableOn
    }
}

/// An app's token, without its secret.
public struct TokenView: Codable, Sendable {
    /// Its name.
    public var name: String
    /// What it allows: `NAMESPACE:r` or `NAMESPACE:rw`, `*` for every namespace.
    public var allow: [String]
    /// The secret, once, when it is made.
    public var secret: String?

    /// Names a token.
    public init(name: String, allow: [String], secret: String? = nil) {
        self.name = name
        self.allow = allow
        self.secret = secret
    }
}

/// The tokens of a node.
public struct TokensView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// By name.
    public var tokens: [TokenView]

    /// Fills in the list.
    public init(tokens: [TokenView]) { self.tokens = tokens }
}
