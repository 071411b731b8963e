// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
package import MeshReplication

/// What an engine drops, refuses or finds late, and what else it counts.
package enum EngineEvent: String, Sendable {
    case ackLate = "ack_late"
    case ackMet = "ack_met"
    case ackOverLimit = "ack_over_limit"
    case certificateInVain = "certificate_in_vain"
    case certificateOverLimit = "certificate_over_limit"
    case beaconPortRefused = "beacon_port_refused"
    case certificateRefused = "certificate_refused"
    case certificateUnasked = "certificate_unasked"
    case commitsDuplicate = "commits_duplicate"
    case commitsGap = "commits_gap"
    case commitsMalformed = "commits_malformed"
    case commitsOverCredit = "commits_over_credit"
    case commitsPushed = "commits_pushed"
    case depositRefused = "deposit_refused"
    case depositUnasked = "deposit_unasked"
    case holdingForged = "holding_forged"
    case holdingOther = "holding_other"
    case holdingUnasked = "holding_unasked"
    case holdingUnknown = "holding_unknown"
    case keyHanded = "key_handed"
    case keyWantedFromAfar = "key_wanted_from_afar"
    case keyWantedOverLimit = "key_wanted_over_limit"
    case linkClosed = "link_closed"
    case linkDuplicate = "link_duplicate"
    case linkGrafted = "link_grafted"
    case linkNotApproved = "link_not_approved"
    case linkOverLimit = "link_over_limit"
    case linkRevoked = "link_revoked"
    case linkTicketUsed = "link_ticket_used"
    case logWaits = "log_waits"
    case logsHeardOverLimit = "logs_heard_over_limit"
    case logsHeldOverLimit = "logs_held_over_limit"
    case losersOverLimit = "losers_over_limit"
    case toldOutside = "told_outside_networks"
    case memberAway = "member_away"
    case memberRevoked = "member_revoked"
    case messageLate = "message_late"
    case messageMalformed = "message_malformed"
    case messageUnknown = "message_unknown"
    case pongUnasked = "pong_unasked"
    case promiseOverLimit = "promise_over_limit"
    case pruneRefused = "prune_refused"
    case pushOverLimit = "push_over_limit"
    case revocationOverLimit = "revocation_over_limit"
    /// Changes of the mesh's secret beyond those that one link may show.
    case scopesOverLimit = "scopes_over_limit"
    case secretOverLimit = "secret_over_limit"
    case rumoursMalformed = "rumours_malformed"
    case streamNotGranted = "stream_not_granted"
    case streamOverLimit = "stream_over_limit"
    case syncFailed = "sync_failed"
    case syncFruitless = "sync_fruitless"
    case syncLate = "sync_late"
    case syncRefused = "sync_refused"
    case syncUnanswered = "sync_unanswered"
    case ticketUsedTwice = "ticket_used_twice"
    case waitingOverLimit = "waiting_over_limit"
    case wantOverLimit = "want_over_limit"
    case wantRefused = "want_refused"
}

/// What an engine counts, for metrics.
package struct EngineCounters: Sendable, Equatable {
    private var events = Counters<EngineEvent>()
    private var refusals = Counters<Refusal>()

    /// Nothing happened yet.
    package init() {}

    /// How often something happened.
    package subscript(event: EngineEvent) -> UInt64 { events[event] }

    /// How many messages of records were refused for a reason.
    package subscript(refused refusal: Refusal) -> UInt64 { refusals[refusal] }

    /// What happened at least once, by its stable name.
    package var named: [String: UInt64] {
        let refused = refusals.named.map { ("refused_" + $0.key, $0.value) }
        return events.named.merging(refused) { $1 }
    }

    mutating func add(_ event: EngineEvent, _ count: UInt64 = 1) { events.add(event, count) }

    mutating func add(refused refusal: Refusal) { refusals.add(refusal) }
}
