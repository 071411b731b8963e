// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshReplication

/// Messages of one peer that came before what they need: a certificate, or a place in another log
/// that is on its way by another link.
///
/// They wait a short while, in order, and what follows them in their log waits behind them. What
/// does not come in that time is fetched again later. They take part of the link's credit, so they
/// are bounded with it.
struct ParkedMessages {
    /// What a message waits for.
    enum Need: Hashable {
        /// A certificate of its author.
        case certificate(NodeID)
        /// Something else.
        case other(Dependency)
    }

    /// A message that waits.
    struct Entry {
        let need: Need
        let ticket: IngestTicket
        let at: Instant

        var log: LogName { ticket.message.log }
    }

    private var entries: [Entry] = []

    var isEmpty: Bool { entries.isEmpty }

    /// Whether a message waits that is of the same log, or of the same unknown author.
    func holds(_ message: CommitsMessage) -> Need? {
        entries.first { entry in
            entry.log == message.log || entry.need == .certificate(message.author.node)
        }?.need
    }

    /// Whether anything waits for a need.
    func waits(for need: Need) -> Bool { entries.contains { $0.need == need } }

    mutating func add(_ ticket: IngestTicket, _ need: Need, now: Instant) {
        entries.append(Entry(need: need, ticket: ticket, at: now))
    }

    /// Takes out what may be tried now, in the order in which it came.
    mutating func take(where isReady: (Need) -> Bool) -> [IngestTicket] {
        let ready = entries.filter { isReady($0.need) }
        if !ready.isEmpty { entries.removeAll { isReady($0.need) } }
        return ready.map(\.ticket)
    }

    /// Takes out what has waited too long.
    mutating func takeLate(now: Instant, certificates: Duration, others: Duration) -> [Entry] {
        func isLate(_ entry: Entry) -> Bool {
            if case .certificate = entry.need { return now.since(entry.at) > certificates }
            return now.since(entry.at) > others
        }
        let late = entries.filter(isLate)
        if !late.isEmpty { entries.removeAll(where: isLate) }
        return late
    }
}
