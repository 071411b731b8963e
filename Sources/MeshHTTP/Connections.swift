// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Who is connected, and who may be.
///
/// Whoever shows a token, or is on this host, is known, and shares the allowance of connections.
/// All others are strangers until they do. Strangers have few places of their own; where those are
/// taken the newest is let in, and the host that has most of them loses its oldest. An app that
/// brings its token at once gets through, however many addresses somebody else has on the network.
final class Connections: Sendable {
    /// A connection by its channel: an address may be connected twice, to two ports.
    typealias ID = ObjectIdentifier

    private enum Standing {
        /// Came as the so many-th.
        case stranger(UInt64)
        case known
    }

    private struct Connection {
        let host: String
        var standing: Standing
        let turnAway: @Sendable () -> Void
    }

    private struct State {
        var all: [ID: Connection] = [:]
        var strangers: [String: [UInt64: ID]] = [:]
        var strangerCount = 0
        var entered: UInt64 = 0
    }

    private let known: Allowance
    private let strangersMax: Int
    private let turnedAway: @Sendable () -> Void
    private let state = Mutex(State())

    /// - Parameters:
    ///   - known: how many connections those who are known may have.
    ///   - strangers: how many all others may have.
    ///   - turnedAway: called whenever a stranger makes way for another, to count it.
    init(known: Allowance, strangers: Int, turnedAway: @escaping @Sendable () -> Void) {
        self.known = known
        strangersMax = strangers
        self.turnedAway = turnedAway
    }

    /// Takes a new connection in.
    ///
    /// - Parameters:
    ///   - isKnown: whether it comes from this host.
    ///   - turnAway: ends the connection, where it has to make way.
    /// - Returns: false if there is no room for it.
    func enter(
        _ id: ID, of host: String, isKnown: Bool,
        turnAway: @escaping @Sendable () -> Void
    ) -> Bool {
        if isKnown, !known.take(1, for: host) { return false }
        let displaced: (@Sendable () -> Void)? = state.withLock { state in
            state.entered += 1
            let standing = isKnown ? Standing.known : .stranger(state.entered)
            state.all[id] = Connection(host: host, standing: standing, turnAway: turnAway)
            if isKnown { return nil }
            let displaced = state.strangerCount < strangersMax ? nil : Self.displaced(&state)
            state.strangers[host, default: [:]][state.entered] = id
            state.strangerCount += 1
            return displaced
        }
        if let displaced {
            turnedAway()
            displaced()
        }
        return true
    }

    /// The oldest of the host that has most.
    private static func displaced(_ state: inout State) -> (@Sendable () -> Void)? {
        let most = state.strangers.values.map(\.count).max() ?? 0
        // Of several that have as many, that which has waited longest.
        let oldest = state.strangers.values.filter { $0.count == most }
            .compactMap { $0.min { $0.key < $1.key } }.min { $0.key < $1.key }
        guard let id = oldest?.value, let connection = state.all.removeValue(forKey: id) else {
            preconditionFailure("a stranger has a connection")
        }
        forget(connection, &state)
        return connection.turnAway
    }

    private static func forget(_ connection: Connection, _ state: inout State) {
        guard case .stranger(let number) = connection.standing else { return }
        state.strangers[connection.host]?[number] = nil
        if state.strangers[connection.host]?.isEmpty == true {
            state.strangers[connection.host] = nil
        }
        state.strangerCount -= 1
    }

    /// A request on a connection has shown who it is from.
    ///
    /// - Returns: false if there is no room for one more that is known, or if the connection had to
    ///   make way before that: its request must not be carried out, since nobody would hear of it.
    func greet(_ id: ID) -> Bool {
        enum Found { case stranger(String), known, gone }
        let found: Found = state.withLock { state in
            guard let connection = state.all[id] else { return .gone }
            if case .known = connection.standing { return .known }
            return .stranger(connection.host)
        }
        switch found {
        case .gone: return false
        case .known: return true
        case .stranger(let host):
            guard known.take(1, for: host) else { return false }
            let standing: Found = state.withLock { state in
                guard let connection = state.all[id] else { return .gone }
                if case .known = connection.standing { return .known }
                Self.forget(connection, &state)
                state.all[id]?.standing = .known
                return .stranger(host)
            }
            // Another request of it was first, or it is gone.
            if case .stranger = standing { return true }
            known.give(1, of: host)
            if case .known = standing { return true }
            return false
        }
    }

    /// A connection has ended.
    func leave(_ id: ID) {
        let wasKnown: String? = state.withLock { state in
            guard let connection = state.all.removeValue(forKey: id) else { return nil }
            Self.forget(connection, &state)
            if case .known = connection.standing { return connection.host }
            return nil
        }
        if let wasKnown { known.give(1, of: wasKnown) }
    }
}
