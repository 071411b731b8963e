// SPDX-License-Identifier: Apache-2.0

/// An address and what came of dialling it.
public struct AddressView: Codable, Sendable {
    /// `host:port`.
    public var address: String
    /// `seed`, `beacon`, `remembered` or `told`.
    public var rung: String
    /// Who was last met there.
    public var node: String?
    /// How often it was dialled.
    public var dials: Int
    /// Dials that failed in a row.
    public var failures: Int
    /// Why the last one failed, as a stable word: `unreachable`, `own_address`, `wrong_mesh`,
    /// `no_common_version` or `certificate_refused`.
    public var code: String?
    /// Why the last one failed, for a person.
    public var error: String?

    /// Fills in a line.
    public init(
        address: String, rung: String, node: String?, dials: Int, failures: Int, code: String?,
        error: String?
    ) {
        self.address = address
        self.rung = rung
        self.node = node
        self.dials = dials
        self.failures = failures
        self.code = code
        self.error = error
    }
}

/// The first cause that keeps a node or a scope from being in step.
public struct WhyView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// What was asked about.
    public var subject: String
    /// `unreachable`, `wrong_mesh`, `no_common_version`, `certificate_refused`, `revoked`, `left`,
    /// `no_grant`, `policy_unknown`, `disk_full`, `clock_suspect`, `behind`, `damaged`, `relayed`
    /// or `in_step`.
    public var code: String
    /// What that is here.
    public var detail: String
    /// What to do next; nil where nothing needs to be done.
    public var next: String?
    /// The addresses that were tried.
    public var addresses: [AddressView] = []

    /// Whether nothing is in the way.
    public var isFine: Bool { code == "in_step" || code == "relayed" }

    /// Names a cause.
    public init(_ subject: String, _ code: String, _ detail: String, next: String? = nil) {
        self.subject = subject
        self.code = code
        self.detail = detail
        self.next = next
    }
}

/// A node has left the mesh.
public struct LeaveView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// A peer that holds everything it held; nil where it was forced to leave.
    public var heir: String?

    /// Fills in the answer.
    public init(heir: String?) { self.heir = heir }
}

/// What discovery sent, heard and dialled.
public struct DiscoveryView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// This node's name.
    public var node: String
    /// Whether beacons are sent at all.
    public var isEnabled: Bool
    /// Interfaces on which beacons are sent.
    public var interfaces: [InterfaceView]
    /// Addresses of every rung.
    public var addresses: [AddressView]
    /// Hosts that were turned away, or whose beacons could not be used.
    public var strangers: [StrangerView]
    /// What is wrong, each with its cause.
    public var causes: [String]

    /// One interface.
    public struct InterfaceView: Codable, Sendable {
        /// Its name.
        public var name: String
        /// The address beacons come from.
        public var address: String
        /// Beacons sent.
        public var sent: UInt64
        /// Beacons that could not be sent.
        public var lost: UInt64
        /// Why the last beacon could not; absent once one was sent again.
        public var error: String?
        /// This node's own beacons that came back.
        public var own: UInt64
        /// Beacons of other nodes.
        public var heard: UInt64
        /// Seconds since the last of those.
        public var heardSeconds: Double?

        /// Fills in a line.
        public init(
            name: String, address: String, sent: UInt64, lost: UInt64, error: String?,
            own: UInt64, heard: UInt64, heardSeconds: Double?
        ) {
            self.name = name
            self.address = address
            self.sent = sent
            self.lost = lost
            self.error = error
            self.own = own
            self.heard = heard
            self.heardSeconds = heardSeconds
        }
    }

    /// Somebody who came to nothing.
    public struct StrangerView: Codable, Sendable {
        /// Where it is.
        public var host: String
        /// A stable word for the cause.
        public var code: String
        /// What happened.
        public var reason: String
        /// How often.
        public var count: UInt64

        /// Fills in a line.
        public init(host: String, code: String, reason: String, count: UInt64) {
            self.host = host
            self.code = code
            self.reason = reason
            self.count = count
        }
    }

    /// Fills in the whole.
    public init(
        node: String, isEnabled: Bool, interfaces: [InterfaceView], addresses: [AddressView],
        strangers: [StrangerView], causes: [String]
    ) {
        self.node = node
        self.isEnabled = isEnabled
        self.interfaces = interfaces
        self.addresses = addresses
        self.strangers = strangers
        self.causes = causes
    }
}
