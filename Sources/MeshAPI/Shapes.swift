// SPDX-License-Identifier: Apache-2.0

public import Foundation

/// The version of every JSON answer; a field may be added under it, none changed or taken away.
public let meshAPIVersion = 1

/// The coders of every JSON answer: snake case, stable order.
public enum MeshJSON {
    /// Encodes an answer.
    public static func encode(_ value: some Encodable) throws -> Data {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(value)
    }

    /// Decodes an answer.
    public static func decode<T: Decodable>(_ type: T.Type, from data: Data) throws -> T {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: data)
    }
}

/// An error answer (RFC 9457).
public struct Problem: Codable, Error, Sendable, Equatable {
    /// A stable word for programs.
    public var code: String
    /// What went wrong in general.
    public var title: String
    /// The HTTP status.
    public var status: Int
    /// What went wrong here.
    public var detail: String

    /// Names a problem.
    public init(code: String, title: String, status: Int, detail: String) {
        self.code = code
        self.title = title
        self.status = status
        self.detail = detail
    }
}

/// One node of the mesh as this one sees it.
public struct PeerView: Codable, Sendable {
    /// The node's name.
    public var node: String
    /// Its identity, hexadecimal.
    public var id: String
    /// Its site.
    public var site: String
    /// `central` or `edge`.
    public var role: String
    /// Its groups.
    public var groups: [String]
    /// `self`, `alive`, `suspect`, `away`, `left` or `revoked`.
    public var state: String
    /// Seconds since it has been in that state; nil for this node itself.
    public var stateSeconds: Double?
    /// `lan ADDRESS`, `wan ADDRESS`, `via NODE`, or `-`.
    public var path: String
    /// The last round trip, in seconds.
    public var rttSeconds: Double?
    /// Records that it lacks of what is here: those of the last comparison, and those that came
    /// since while it was not linked; nil where none was made.
    public var behind: UInt64?
    /// How it is with its content: `ok`, channels that are as they should be of all, or `failed`.
    public var content: String?
    /// Seconds since both were proven to hold the same.
    public var lastSyncSeconds: Double?
    /// How far its clock is before this host's, in seconds, give or take a round trip.
    public var clockOffsetSeconds: Double?
    /// Its program's version.
    public var version: String?

    /// Fills in what every line has.
    public init(node: String, id: String, site: String, role: String, groups: [String]) {
        self.node = node
        self.id = id
        self.site = site
        self.role = role
        self.groups = groups
        state = "away"
        path = "-"
    }
}

/// Every node known to this one.
public struct PeersView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// This node's name.
    public var node: String
    /// All nodes, this one among them, by site and name.
    public var peers: [PeerView]
    /// What is wrong, each with what to do.
    public var trouble: [String]

    /// Fills in the list.
    public init(node: String, peers: [PeerView], trouble: [String]) {
        self.node = node
        self.peers = peers
        self.trouble = trouble
    }
}

/// What a node holds of one author's log in a scope.
public struct LogView: Codable, Sendable, Equatable {
    /// The author's node, hexadecimal.
    public var node: String
    /// The author's life, hexadecimal.
    public var life: String
    /// Every sequence up to this is known.
    public var frontier: UInt64

    /// Fills in a line.
    public init(node: String, life: String, frontier: UInt64) {
        self.node = node
        self.life = life
        self.frontier = frontier
    }
}

/// The digest of one scope; equal on two nodes when they hold the same.
public struct DigestView: Codable, Sendable {
    /// The scope.
    public var scope: String
    /// The Merkle root, hexadecimal.
    public var root: String
    /// Live records, deletions among them.
    public var records: Int
    /// The logs.
    public var logs: [LogView]

    /// Fills in a digest.
    public init(scope: String, root: String, records: Int, logs: [LogView]) {
        self.scope = scope
        self.root = root
        self.records = records
        self.logs = logs
    }
}

/// The digests of a node.
public struct DigestsView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// One a scope.
    public var digests: [DigestView]

    /// Fills in the list.
    public init(digests: [DigestView]) { self.digests = digests }
}

/// A node at a glance.
public struct StatusView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The mesh's name.
    public var mesh: String
    /// The mesh's identity, hexadecimal.
    public var meshId: String
    /// The node's name.
    public var node: String
    /// Its identity, hexadecimal.
    public var id: String
    /// Its site.
    public var site: String
    /// `central` or `edge`.
    public var role: String
    /// Its program's version.
    public var version: String
    /// Its present incarnation, hexadecimal.
    public var incarnation: String
    /// Seconds since it started.
    public var uptimeSeconds: Double
    /// How many peers are linked.
    public var linked: Int
    /// The node that keeps this site's links to other sites.
    public var gateway: String?
    /// How far the peers' clocks are before this host's, in seconds, at the median.
    public var clockOffsetSeconds: Double?
    /// Scopes with their live records.
    public var scopes: [ScopeView]
    /// Bytes of the database.
    public var diskBytes: Int
    /// Bytes free where it lies.
    public var diskFreeBytes: Int
    /// Places that wait to be fetched again after damage.
    public var holes: Int
    /// Interfaces on which beacons are sent.
    public var interfaces: [String]
    /// Addresses that were dialled, with the last error.
    public var addresses: [AddressView]
    /// What is wrong, each with what to do.
    public var trouble: [String]

    /// A scope and how much is in it.
    public struct ScopeView: Codable, Sendable {
        /// The scope.
        public var scope: String
        /// Live records, deletions among them.
        public var records: Int

        /// Fills in a line.
        public init(scope: String, records: Int) {
            self.scope = scope
            self.records = records
        }
    }

    /// Fills in the status.
    public init(
        mesh: String, meshId: String, node: String, id: String, site: String, role: String,
        version: String, incarnation: String, uptimeSeconds: Double, linked: Int,
        gateway: String?, clockOffsetSeconds: Double?, scopes: [ScopeView], diskBytes: Int,
        diskFreeBytes: Int, holes: Int,
        interfaces: [String], addresses: [AddressView], trouble: [String]
    ) {
        self.mesh = mesh
        self.meshId = meshId
        self.node = node
        self.id = id
        self.site = site
        self.role = role
        self.version = version
        self.incarnation = incarnation
        self.uptimeSeconds = uptimeSeconds
        self.linked = linked
        self.gateway = gateway
        self.clockOffsetSeconds = clockOffsetSeconds
        self.scopes = scopes
        self.diskBytes = diskBytes
        self.diskFreeBytes = diskFreeBytes
        self.holes = holes
        self.interfaces = interfaces
        self.addresses = addresses
        self.trouble = trouble
    }
}
