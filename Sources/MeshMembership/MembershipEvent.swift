// SPDX-License-Identifier: Apache-2.0

/// What membership drops, refuses or finds late, and what else it counts.
package enum MembershipEvent: String, Sendable {
    case accusationUnfounded = "membership_accusation_unfounded"
    case accusedOfThePast = "membership_accused_of_the_past"
    case ackUnasked = "membership_ack_unasked"
    case ackUnproved = "membership_ack_unproved"
    case challenged = "membership_challenged"
    case datagramMalformed = "membership_datagram_malformed"
    case datagramNotAuthentic = "membership_datagram_not_authentic"
    case datagramReplayed = "membership_datagram_replayed"
    case datagramUnknownKey = "membership_datagram_unknown_key"
    case nameCollision = "membership_name_collision"
    case paused = "membership_paused"
    case pingAstray = "membership_ping_astray"
    case presenceForged = "membership_presence_forged"
    case refuteOverLimit = "membership_refute_over_limit"
    case refuted = "membership_refuted"
    case requestRefused = "membership_request_refused"
    case rumourOld = "membership_rumour_old"
    case rumourOverLimit = "membership_rumour_over_limit"
    case rumourRevoked = "membership_rumour_revoked"
    case rumourUnknown = "membership_rumour_unknown"
    case vouchForged = "membership_vouch_forged"

    init(_ refusal: DatagramKeys.Refusal) {
        self =
            switch refusal {
            case .malformed: .datagramMalformed
            case .unknownKey: .datagramUnknownKey
            case .notAuthentic: .datagramNotAuthentic
            case .replayed: .datagramReplayed
            }
    }
}
