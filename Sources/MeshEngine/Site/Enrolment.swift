// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshLink
package import MeshTrust

/// A box whose certificate waits for an operator's word.
package struct WaitingBox: Sendable {
    /// Its certificate: verified, and not approved.
    package let certificate: Certificate
    /// Where it called from.
    package internal(set) var remote: String
    /// When it called first.
    package let since: Instant
    /// When it called last.
    package internal(set) var lastHeard: Instant
}

/// The boxes that called here and wait for an operator's word: the article `TrustDocuments`.
///
/// Whoever copied a ticket can make as many identities as he likes, so few of one ticket are shown.
struct WaitingRoom {
    /// Most that are shown.
    static let max = 64
    /// Most of one ticket.
    static let perTicketMax = 4
    /// One that has not called for so long is not shown any more.
    static let patience = Duration.seconds(600)

    enum Entrance {
        case isNew, isKnown, isFull
    }

    private(set) var boxes: [NodeID: WaitingBox] = [:]

    /// A box has called.
    mutating func enter(_ card: Certificate, _ remote: String, _ now: Instant) -> Entrance {
        if boxes[card.node] != nil {
            boxes[card.node]?.lastHeard = now
            boxes[card.node]?.remote = remote
            return .isKnown
        }
        boxes = boxes.filter { now.since($0.value.lastHeard) < Self.patience }
        let same = boxes.values.filter { $0.certificate.ticket.serial == card.ticket.serial }
        guard boxes.count < Self.max, same.count < Self.perTicketMax else { return .isFull }
        boxes[card.node] = WaitingBox(
            certificate: card, remote: remote, since: now, lastHeard: now)
        return .isNew
    }

    /// A box waits no longer.
    mutating func leave(_ node: NodeID) { boxes[node] = nil }

    /// Who called within the patience, the first to call first.
    func waiting(_ now: Instant) -> [WaitingBox] {
        boxes.values.filter { now.since($0.lastHeard) < Self.patience }
            .sorted { ($0.since, $0.certificate.node) < ($1.since, $1.certificate.node) }
    }
}

/// A box that waits has no links. It dials, as any server does, and is given its approved
/// certificate where that is; nothing else is said on such a link.
extension Engine {
    /// The boxes that wait for an operator's word.
    package func waitingBoxes(_ now: Instant) -> [WaitingBox] { waitingRoom.waiting(now) }

    /// A box that waits has called: it is handed its approval if one is here.
    mutating func letWait(
        _ id: LinkID, _ card: Certificate, _ origin: LinkOrigin, _ now: Instant
    ) {
        counters.add(.linkNotApproved)
        switch waitingRoom.enter(card, origin.remote, now) {
        case .isNew: emit(.note(.waitsForApproval(card), nil))
        case .isKnown: break
        case .isFull: counters.add(.waitingOverLimit)
        }
        guard calls.count < limits.links else {
            return emit(.close(id, reason: .notApproved))
        }
        calls[id] = now
        emit(.show(id, card.node))
    }

    /// What is kept of a box that waits was looked up: only approved certificates are.
    mutating func answer(call id: LinkID, _ certificates: [[UInt8]]) {
        for certificate in certificates { send(id, .certificate(certificate)) }
        emit(.close(id, reason: .notApproved))
    }

    /// This box waits itself: it listens on a new link for its approval.
    mutating func listen(on id: LinkID, to card: Certificate, _ now: Instant) {
        // Another that waits has nothing to give.
        guard card.isApproved, calls.count < limits.links else {
            return emit(.close(id, reason: .notApproved))
        }
        calls[id] = now
    }

    /// A message on a link that is none yet.
    ///
    /// - Returns: whether it was expected.
    mutating func hear(call id: LinkID, _ bytes: [UInt8]) -> Bool {
        guard calls[id] != nil, !own.isApproved else { return false }
        switch try? LinkMessage(decoding: bytes) {
        case .certificate(let bytes): emit(.enrol(bytes))
        // Its ticket was cancelled.
        case .revocation(let bytes): emit(.heed(id, bytes))
        default: return false
        }
        return true
    }

    /// Nobody keeps a call open: what is to be said on it is said at once.
    mutating func endCalls(_ now: Instant) {
        for (id, since) in calls where now.since(since) > tuning.callMax {
            emit(.close(id, reason: .notApproved))
        }
    }
}
