// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshDiscovery
internal import MeshLink
internal import MeshTransport

/// What discovery sent, heard and refused, so that an operator can be told why nobody is found.
package struct DiscoveryLog: Sendable {
    /// What went out and came in on one interface.
    package struct Interface: Sendable {
        /// Its name.
        package let name: String
        /// The address that beacons come from.
        package var address = ""
        /// Beacons sent.
        package var sent: UInt64 = 0
        /// Beacons that could not be sent.
        package var lost: UInt64 = 0
        /// Why the last of those could not.
        package var error: String?
        /// This node's own beacons, which came back: multicast works on this host.
        package var own: UInt64 = 0
        /// Beacons of other nodes of the mesh.
        package var heard: UInt64 = 0
        /// When the last of those came.
        package var last: Instant?
    }

    /// Somebody who was turned away, or could not be believed.
    package struct Stranger: Sendable {
        /// Where it is.
        package let host: String
        /// A stable word for the cause.
        package var code: String
        /// What happened, for a person.
        package var reason: String
        /// How often.
        package var count: UInt64 = 0
    }

    /// Stands for an interface where routers brought beacons from other networks.
    static let routed = "routed"
    /// Most strangers that are remembered; further ones are only counted.
    static let strangersMax = 32

    private var heard: [String: Interface] = [:]
    /// Hosts whose beacons or connections came to nothing.
    package private(set) var strangers: [Stranger] = []
    /// Strangers that there was no room for.
    package private(set) var overflow: UInt64 = 0
    /// Interfaces on which beacons are sent now.
    package var interfaces: [Interface] = []
    /// Since when beacons have been sent.
    package var began: Instant?
    /// Settings that come to nothing on this host, in words.
    package var complaints: [String] = []

    mutating func hear(on interface: String, isOwn: Bool, at now: Instant) {
        var entry = heard[interface, default: Interface(name: interface)]
        if isOwn {
            entry.own += 1
        } else {
            entry.heard += 1
            entry.last = now
        }
        heard[interface] = entry
    }

    mutating func use(_ traffic: [BeaconPort.Traffic]) {
        interfaces = traffic.map { one in
            var interface = heard[one.name] ?? Interface(name: one.name)
            (interface.address, interface.sent) = (one.address, one.sent)
            (interface.lost, interface.error) = (one.lost, one.error)
            return interface
        }
        if let far = heard[Self.routed] { interfaces.append(far) }
    }

    mutating func refuse(_ host: String, _ code: String, _ reason: String) {
        if let index = strangers.firstIndex(where: { $0.host == host && $0.code == code }) {
            strangers[index].count += 1
            strangers[index].reason = reason
        } else if strangers.count < Self.strangersMax {
            strangers.append(Stranger(host: host, code: code, reason: reason, count: 1))
        } else {
            overflow += 1
        }
    }
}

extension LinkError {
    /// The kind of cause, for whoever dialled.
    var cause: DialFailure.Cause {
        switch self {
        case .selfConnect: .ownAddress
        case .noCommonVersion: .noCommonVersion
        case .certificate, .keyMismatch: .certificateRefused
        case .notAPeer, .unknownEpoch, .handshake, .turnedAway: .wrongMesh
        case .badLength, .badFrame, .badMessage, .unexpected: .unreachable
        }
    }
}
