// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshMembership

/// Whether this node reaches other sites, as it tells its neighbours, who choose the gateway by it.
struct FarPath {
    private enum Phase {
        /// Nobody has asked yet, or it may have been mended since.
        case untried
        /// There is a link with another site.
        case linked
        /// The gateway has no such link.
        case lacking(since: Instant)
        /// It has had none for so long that another node should try.
        case broken(since: Instant)
    }

    private var phase = Phase.untried

    /// Takes what is so now.
    ///
    /// - Parameters:
    ///   - hasLink: whether a link with another site stands.
    ///   - isGateway: whether this node is to have one.
    ///   - hasAddress: whether there is another site to be reached at all.
    /// - Returns: what to tell the neighbours; nil if what was told stands.
    mutating func judge(
        hasLink: Bool, isGateway: Bool, hasAddress: Bool, _ tuning: EngineTuning, now: Instant
    ) -> Presence.WAN? {
        if hasLink {
            phase = .linked
            return .linked
        }
        switch phase {
        case .broken(let since):
            if isGateway || now.since(since) <= tuning.gatewayPenance { return nil }
            // It may have been mended since: nobody would know who does not try.
            phase = .untried
            return .untried
        case .lacking(let since) where isGateway:
            guard now.since(since) > tuning.gatewayPatience, hasAddress else { return nil }
            phase = .broken(since: now)
            return .broken
        case .untried, .linked, .lacking:
            phase = isGateway ? .lacking(since: now) : .untried
            return .untried
        }
    }
}
