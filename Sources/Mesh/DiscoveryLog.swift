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
        /// Why the last beacon could not; nil once one was sent again.
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
        /// When it last was.
        package var last: Instant
    }

    /// Stands for an interface where routers brought beacons from other networks.
    static let routed = "routed"
    /// Most strangers that are remembered; the one that was met least often makes room.
    static let strangersMax = 32
    /// A stranger that was not seen for so long is not in anybody's way any more.
    static let strangerRest = Duration.seconds(600)

    private var heard: [String: Interface] = [:]
    /// Hosts whose beacons or connections came to nothing.
    package private(set) var strangers: [Stranger] = []
    /// Strangers that were forgotten for want of room.
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

    mutating func refuse(_ host: String, _ code: String, _ reason: String, at now: Instant) {
        forget(at: now)
        var place = strangers.firstIndex { $0.host == host && $0.code == code }
        if place == nil, strangers.count >= Self.strangersMax {
            overflow += 1
            let rarest = strangers.indices.min { strangers[$0].count < strangers[$1].count }
            if let rarest { strangers.remove(at: rarest) }
        }
        if place == nil {
            place = strangers.count
            strangers.append(Stranger(host: host, code: code, reason: reason, last: now))
        }
        guard let place else { return }
        strangers[place].count += 1
        (strangers[place].reason, strangers[place].last) = (reason, now)
    }

    mutating func forget(at now: Instant) {
        strangers.removeAll { now.since($0.last) > Self.strangerRest }
    }
}

extension LinkError {
    /// The kind of cause, for whoever dialled.
    var cause: DialFailure.Cause {
        switch self {
        case .selfConnect: .ownAddress
        case .noCommonVersion: .noCommonVersion
        case .certificate, .keyMismatch, .root: .certificateRefused
        case .notAPeer, .unknownEpoch, .handshake, .turnedAway: .wrongMesh
        case .rootIsOlder, .rootWasTaken: .unreachable
        case .badLength, .badFrame, .badPacking, .badMessage, .unexpected: .unreachable
        }
    }
}
