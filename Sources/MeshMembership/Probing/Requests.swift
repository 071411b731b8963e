// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Questions that this node asks on behalf of other members.
struct Requests: Sendable {
    /// On whose behalf, and under which of its numbers.
    struct Request: Sendable {
        let asker: NodeID
        let number: UInt32
        let target: NodeID
        fileprivate let refusalAt: Instant
        fileprivate let ends: Instant
        fileprivate var isRefused = false
    }

    private var open: [UInt32: Request] = [:]
    private let most: Int

    init(most: Int) { self.most = most }

    /// Whether no more fit.
    var isFull: Bool { open.count >= most }

    mutating func begin(
        _ number: UInt32, _ target: NodeID, for asker: NodeID, under theirs: UInt32,
        _ tuning: MembershipTuning, now: Instant
    ) {
        open[number] = Request(
            asker: asker, number: theirs, target: target,
            refusalAt: now.advanced(by: tuning.urgentTimeout),
            ends: now.advanced(by: tuning.period * 2))
    }

    /// The target has answered.
    ///
    /// - Returns: nil if nobody had asked for it.
    mutating func answer(_ number: UInt32, by sender: NodeID) -> Request? {
        guard open[number]?.target == sender else { return nil }
        return open.removeValue(forKey: number)
    }

    /// Time went by.
    ///
    /// - Returns: whom to tell that there was no answer yet.
    mutating func tick(_ now: Instant) -> [Request] {
        var refused: [Request] = []
        for (number, request) in open.sorted(by: { $0.key < $1.key }) {
            if !request.isRefused, request.refusalAt <= now {
                open[number]?.isRefused = true
                refused.append(request)
            }
            if request.ends <= now { open[number] = nil }
        }
        return refused
    }

    mutating func forgetAll() { open = [:] }
}
