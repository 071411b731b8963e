// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Mesh
internal import Synchronization

/// What all clients may hold of one thing at a time; no client holds more than half of it.
///
/// One app that goes wild, or one host that means harm, leaves the others what they need.
final class Allowance: Sendable {
    private struct State {
        var taken = 0
        var byOwner: [String: Int] = [:]
    }

    private let total: Int
    private let refused: @Sendable () -> Void
    private let state = Mutex(State())

    /// - Parameter refused: called whenever somebody is refused, to count it.
    init(total: Int, refused: @escaping @Sendable () -> Void) {
        self.total = total
        self.refused = refused
    }

    /// - Returns: whether so much was left, and so much of the owner's half.
    func take(_ amount: Int, for owner: String) -> Bool {
        let isTaken = state.withLock { state in
            let own = state.byOwner[owner, default: 0]
            guard amount <= total - state.taken, amount <= total / 2 - own else { return false }
            state.taken += amount
            state.byOwner[owner] = own + amount
            return true
        }
        if !isTaken { refused() }
        return isTaken
    }

    func give(_ amount: Int, of owner: String) {
        state.withLock { state in
            guard let own = state.byOwner[owner], own >= amount else {
                preconditionFailure("more is given back than was taken")
            }
            state.taken -= amount
            state.byOwner[owner] = own == amount ? nil : own - amount
        }
    }
}

/// What one request, or one feed, holds of an allowance until it ends.
final class Claim: Sendable {
    private let allowance: Allowance
    private let owner: String
    private let amount = Mutex(0)

    init(on allowance: Allowance, for owner: String) {
        self.allowance = allowance
        self.owner = owner
    }

    deinit { release() }

    func take(_ more: Int) -> Bool {
        guard allowance.take(more, for: owner) else { return false }
        amount.withLock { $0 += more }
        return true
    }

    func release() {
        let held = amount.withLock { amount in
            defer { amount = 0 }
            return amount
        }
        if held > 0 { allowance.give(held, of: owner) }
    }
}

/// The limits of the API.
struct APILimits: Sendable {
    /// Bytes of bodies of all requests that are not answered yet.
    static let bodyBytes = 64 << 20
    /// Descriptors for 2,048 links, the database, the content that is fetched, and the admin
    /// socket; half of all where there are fewer.
    static let descriptorsKept = 2560
    /// Most connections of apps, however many descriptors there are.
    static let connectionsMax = 4096
    /// Of so many connections one may be of somebody who has not shown yet who it is.
    static let strangersPart = 4
    /// Seconds within which a new connection has to bring the head of a request.
    static let firstHeadSeconds: Int64 = 10
    /// Seconds after which a client that was turned away may try again.
    static let retryAfterSeconds = 1

    let connections: Connections
    let bodies: Allowance
    let feeds: Allowance

    /// - Parameter count: counts, by name, where a limit bites.
    init(count: @escaping @Sendable (String) -> Void) {
        let strangers = Self.connectionCount / Self.strangersPart
        connections = Connections(
            known: Allowance(total: Self.connectionCount - strangers) {
                count("http_connection_over_limit")
            },
            strangers: strangers, turnedAway: { count("http_stranger_turned_away") })
        bodies = Allowance(total: Self.bodyBytes) { count("http_body_over_limit") }
        feeds = Allowance(total: ChangeHub.waitersMax) { count("http_feed_over_limit") }
    }

    /// A connection may have a file of content open.
    private static var connectionCount: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 16 }
        let descriptors = Int(clamping: limit.rlim_cur)
        let kept = min(descriptorsKept, descriptors / 2)
        return min(connectionsMax, max(16, (descriptors - kept) / 2))
    }
}
