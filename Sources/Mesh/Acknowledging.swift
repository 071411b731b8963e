// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshEngine
package import MeshReplication
internal import MeshTrust
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// Writes of apps that wait for other servers, with those who wait for the answer.
struct WaitingWrites {
    typealias Reply = @Sendable (Acknowledgements.Reached) -> Void

    private var replies: [UInt64: (reply: Reply, patience: Scheduled<Void>)] = [:]
    private var last: UInt64 = 0
    private var hasEnded = false

    /// - Returns: the write's number; nil once the node ends.
    mutating func add(_ reply: @escaping Reply, _ patience: Scheduled<Void>) -> UInt64? {
        if hasEnded { return nil }
        last += 1
        replies[last] = (reply, patience)
        return last
    }

    mutating func take(_ number: UInt64) -> Reply? {
        guard let (reply, patience) = replies.removeValue(forKey: number) else { return nil }
        patience.cancel()
        return reply
    }

    /// Nothing is answered any more by the engine.
    mutating func end() -> [Reply] {
        hasEnded = true
        return replies.keys.sorted().compactMap { take($0) }
    }
}

extension MeshNode {
    /// Waits until servers hold a write of this node that is durable here.
    ///
    /// - Parameters:
    ///   - dot: the last of its places.
    ///   - wait: how long the app is ready to wait.
    ///   - reply: takes who holds it then, on any thread, once.
    package func acknowledge(
        _ dot: Dot, in scope: Scope, _ level: AckLevel, within wait: Duration,
        reply: @escaping @Sendable (Acknowledgements.Reached) -> Void
    ) {
        let until = now.advanced(by: wait)
        let nobodyElse = Acknowledgements.Reached(holders: [certificate.node], isMet: false)
        let patience = group.next().scheduleTask(
            in: .nanoseconds(wait.nanoseconds)
        ) { _ = self.post(.patienceEnded) }
        guard let number = acknowledging.withLock({ $0.add(reply, patience) }) else {
            patience.cancel()
            return reply(nobodyElse)
        }
        let want = Acknowledgements.Want(
            number: number, log: LogName(scope: scope, author: dot.author),
            through: dot.sequence, level: level, until: until)
        if !post(.acknowledge(want)) { acknowledged(number, nobodyElse) }
    }

    func acknowledged(_ number: UInt64, _ reached: Acknowledgements.Reached) {
        acknowledging.withLock { $0.take(number) }?(reached)
    }

    /// The node ends: whoever waits is told what is so.
    func endAcknowledging() {
        let reached = Acknowledgements.Reached(holders: [certificate.node], isMet: false)
        for reply in acknowledging.withLock({ $0.end() }) { reply(reached) }
    }
}
