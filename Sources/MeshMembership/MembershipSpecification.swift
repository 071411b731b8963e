// SPDX-License-Identifier: Apache-2.0

/// Constants that members must agree on; changing one breaks peers. See `MembershipProtocol`.
package enum MembershipSpecification {
    /// The first byte of a datagram.
    package static let version: UInt8 = 1
    /// Longest datagram, sealed, in bytes: one packet on any line, IPv6 and tunnels among them.
    package static let datagramBytesMax = 1200
    /// Bytes before the sealed part: version, name of the key, counter.
    package static let headerByteCount = 17
    /// Bytes that the seal adds.
    package static let sealByteCount = 16
    /// Longest plaintext of a datagram, in bytes.
    package static let payloadBytesMax = datagramBytesMax - headerByteCount - sealByteCount
    /// Most rumours of one datagram or message; the rest of a longer one is not read.
    package static let rumoursMax = 64
    /// Longest address that a rumour may tell, in bytes.
    package static let addressBytesMax = 64
    /// Rings on which the members of a large site find their neighbours.
    package static let rings = 4
    /// Most members of a site that all link with each other.
    package static let fullMeshMax = 2 * rings + 1
    /// Datagrams that may overtake each other.
    package static let replayWindow: UInt64 = 64
}

/// When a member does things by itself, and how much it keeps: each node's own affair.
///
/// Sources: Das et al., "SWIM", DSN 2002; Dadgar et al., "Lifeguard", DSN-W 2018.
package struct MembershipTuning: Sendable {
    /// The pause between two probes.
    package var period = Duration.seconds(1)
    /// How long a direct answer may take before others are asked to try.
    package var timeout = Duration.milliseconds(500)
    /// The same for a suspect, an accused member, and one whose link has just broken off; and how
    /// long who asks for others waits before it says that it got no answer.
    package var urgentTimeout = Duration.milliseconds(200)
    /// How many others are asked to try.
    package var relays = 3
    /// A suspicion that enough others share lasts so long, times log₁₀ of the members.
    package var suspicion = Duration.seconds(2)
    /// A suspicion that nobody shares lasts so many times longer.
    package var suspicionFactor = 6
    /// How many other accusers bring a suspicion to its shortest.
    package var accusers = 3
    /// How long a neighbour is taken to be alive that only others have told of.
    package var strangerMax = Duration.seconds(5)
    /// How long others are believed that a member answers them, after it last proved it itself.
    package var relayTrust = Duration.seconds(10)
    /// How long a member may then take to prove it.
    package var proofPatience = Duration.seconds(3)
    /// How long a dial to a suspect may take until it counts as one in vain.
    package var reachMax = Duration.seconds(10)
    /// The highest score of bad local health; each point adds one to every timeout.
    package var healthMax = 8
    /// A pause between two ticks after which this node doubts itself before it doubts others.
    package var pauseMax = Duration.seconds(3)
    /// The first pause between two tries to reach a member that is away; it doubles.
    package var awayPause = Duration.seconds(2)
    /// The longest such pause.
    package var awayPauseMax = Duration.seconds(60)
    /// The least pause between two answers to rumours about this node itself.
    package var refutePause = Duration.milliseconds(200)
    /// A rumour is told so many times, times log₁₀ of the members, rounded up.
    package var retellings = 4
    /// Most rumours that wait to be told along.
    package var rumoursWaiting = 4096
    /// Most vouches that wait for a certificate.
    package var vouchesWaiting = 1024
    /// Most members of the own site whose vouches for one subject are kept.
    package var vouchers = 64
    /// Most probes made for others at once.
    package var relayedMax = 64

    /// The defaults.
    package init() {}
}
