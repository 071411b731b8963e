// SPDX-License-Identifier: Apache-2.0

/// A server that was taken out of the mesh.
public struct RevocationView: Codable, Sendable {
    /// Its name; its identity's beginning where its certificate was never seen here.
    public var node: String
    /// Its identity, hexadecimal.
    public var id: String
    /// Its site; nil where its certificate was never seen here.
    public var site: String?
    /// When, by the signer's clock, in milliseconds since 1970.
    public var createdMs: UInt64
    /// What the operator said of it.
    public var reason: String
    /// The signed document, hexadecimal.
    public var document: String

    /// Fills in a line.
    public init(
        node: String, id: String, site: String?, createdMs: UInt64, reason: String,
        document: String
    ) {
        self.node = node
        self.id = id
        self.site = site
        self.createdMs = createdMs
        self.reason = reason
        self.document = document
    }
}

/// Every revocation that a node holds.
public struct RevocationsView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The mesh's identity, hexadecimal.
    public var meshId: String
    /// One a document: a server that was revoked twice stands here twice.
    public var revocations: [RevocationView]
    /// The root document by which they were judged, as it is carried, hexadecimal; in files alone.
    public var root: String?

    /// Fills in the list.
    public init(meshId: String, revocations: [RevocationView], root: String? = nil) {
        self.meshId = meshId
        self.revocations = revocations
        self.root = root
    }
}

/// What revoking a server would mean, as far as the node asked can know.
public struct RevocationPlanView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The server's name.
    public var node: String
    /// Its identity, hexadecimal.
    public var id: String
    /// Its site.
    public var site: String
    /// Whether it is the node that was asked.
    public var isSelf: Bool
    /// Other servers of its site that are members.
    public var neighbours: [String]
    /// Those of them that are not there now: what only they hold is not known here.
    public var absent: [String]
    /// What it may write and the node that was asked does not hold; nothing of that would stand.
    public var unheld: [String]
    /// Its logs.
    public var logs: [Log]

    /// One log of the server.
    public struct Log: Codable, Sendable {
        /// Where.
        public var scope: String
        /// In which life, hexadecimal.
        public var life: String
        /// The last sequence that would stand; 0 for nothing.
        public var through: UInt64
        /// The last sequence that is known.
        public var known: UInt64

        /// Fills in a line.
        public init(scope: String, life: String, through: UInt64, known: UInt64) {
            self.scope = scope
            self.life = life
            self.through = through
            self.known = known
        }
    }

    /// Fills in the plan.
    public init(
        node: String, id: String, site: String, isSelf: Bool, neighbours: [String],
        absent: [String], unheld: [String], logs: [Log]
    ) {
        self.node = node
        self.id = id
        self.site = site
        self.isSelf = isSelf
        self.neighbours = neighbours
        self.absent = absent
        self.unheld = unheld
        self.logs = logs
    }
}

/// A revocation was taken.
public struct RevokedView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// Whether the node did not have it yet.
    public var isNew: Bool

    /// Fills in the answer.
    public init(isNew: Bool) { self.isNew = isNew }
}

/// Every certificate that a node has, for commands that look which tickets were used.
public struct AllCertificatesView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// Certificates, hexadecimal; layout: the article `TrustDocuments`.
    public var certificates: [String]

    /// Fills in the answer.
    public init(certificates: [String]) { self.certificates = certificates }
}

/// The certificates of one server: signed bytes, of which a command that holds keys believes
/// nothing that it has not verified itself.
public struct CertificatesView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The server's name.
    public var node: String
    /// Its identity, hexadecimal.
    public var id: String
    /// Its site.
    public var site: String
    /// Its certificates, hexadecimal, the newest first; layout: the article `TrustDocuments`.
    public var certificates: [String]

    /// Fills in the answer.
    public init(node: String, id: String, site: String, certificates: [String]) {
        self.node = node
        self.id = id
        self.site = site
        self.certificates = certificates
    }
}

/// A box whose certificate waits for an operator's word.
public struct EnrolmentView: Codable, Sendable {
    /// Its certificate, hexadecimal; layout: the article `TrustDocuments`.
    public var certificate: String
    /// Where it called from.
    public var remote: String
    /// How long ago it called first.
    public var sinceSeconds: Double
    /// How long ago it called last.
    public var lastHeardSeconds: Double

    /// Fills in a line.
    public init(
        certificate: String, remote: String, sinceSeconds: Double, lastHeardSeconds: Double
    ) {
        self.certificate = certificate
        self.remote = remote
        self.sinceSeconds = sinceSeconds
        self.lastHeardSeconds = lastHeardSeconds
    }
}

/// A locked server may have its key.
public struct UnlockView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The server's name.
    public var node: String
    /// Its site.
    public var site: String
    /// Its identity, hexadecimal.
    public var id: String
    /// From where it has to call.
    public var host: String
    /// For how long that holds, for one time.
    public var holdsSeconds: Double

    /// Fills in the answer.
    public init(node: String, site: String, id: String, host: String, holdsSeconds: Double) {
        (self.node, self.site, self.id, self.host) = (node, site, id, host)
        self.holdsSeconds = holdsSeconds
    }
}

/// The boxes that called a node within ten minutes and wait to be approved.
public struct EnrolmentsView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The first to call first.
    public var waiting: [EnrolmentView]

    /// Fills in the list.
    public init(waiting: [EnrolmentView]) { self.waiting = waiting }
}

/// An operator's word for a box was taken.
public struct EnrolledView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// Whether the node did not have it yet.
    public var isNew: Bool

    /// Fills in the answer.
    public init(isNew: Bool) { self.isNew = isNew }
}

/// The root document that holds at a node.
public struct RootView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The mesh's identity, hexadecimal.
    public var meshId: String
    /// What people call the mesh.
    public var name: String
    /// The version of the root document.
    public var version: UInt32
    /// When that was made, by its maker's clock, in milliseconds since 1970.
    public var createdMs: UInt64
    /// Whether the node has the list of what stands of retired keys; it comes with the first link.
    public var isWhole: Bool
    /// The newest epoch of the mesh's secret that the node knows.
    public var secretEpoch: UInt32
    /// The document as it is carried, hexadecimal; layout: the article `TrustDocuments`.
    public var document: String
    /// Whether the node did not have it yet; nil where nothing was brought.
    public var isNew: Bool?

    /// Fills in the answer.
    public init(
        meshId: String, name: String, version: UInt32, createdMs: UInt64, isWhole: Bool,
        secretEpoch: UInt32, document: String, isNew: Bool?
    ) {
        self.meshId = meshId
        self.name = name
        self.version = version
        self.createdMs = createdMs
        self.isWhole = isWhole
        self.secretEpoch = secretEpoch
        self.document = document
        self.isNew = isNew
    }
}

/// A change of the mesh's secret was taken.
public struct SecretView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// The newest epoch that the node knows.
    public var epoch: UInt32
    /// Whether the node did not have it yet.
    public var isNew: Bool

    /// Fills in the answer.
    public init(epoch: UInt32, isNew: Bool) {
        self.epoch = epoch
        self.isNew = isNew
    }
}
