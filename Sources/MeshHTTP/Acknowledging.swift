// SPDX-License-Identifier: Apache-2.0

internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust
internal import NIOHTTP1

/// How durable an app wants a write to be, and how long it waits for that.
struct AckDemand: Sendable {
    /// How long an app waits that does not say.
    static let waitUsual = Duration.milliseconds(500)
    static let waitMax = Duration.seconds(30)

    let level: AckLevel
    let wait: Duration

    /// Finds out how durable a write is that is durable here.
    ///
    /// - Parameter reply: takes the outcome once it is reached or the patience ends, on any thread.
    func judge(
        _ receipts: [Receipt], in scope: Scope, _ node: MeshNode,
        reply: @escaping @Sendable (AckOutcome) -> Void
    ) {
        let own = node.certificate.node
        // What changed nothing is as durable as what stands there.
        let places = receipts.flatMap { $0.dot.map { [$0] } ?? $0.live }
        guard level != .local, let dot = places.max() else {
            return reply(AckOutcome(level, .init(holders: [own], isMet: true)))
        }
        // A neighbour's write was synced to his disk before it came here; of further servers only
        // he can ask.
        guard dot.author.node == own else {
            let author = (try? node.store.certificate(of: dot.author.node)) ?? nil
            let ticket = node.certificate.ticket
            let isNear = author?.ticket.site == ticket.site
            let isMet =
                switch level {
                case .local: true
                case .site(let count): count <= (isNear ? 2 : 1)
                case .central: ticket.isCentral || author?.ticket.isCentral == true
                }
            let holders = author == nil ? [own] : [own, dot.author.node]
            return reply(AckOutcome(level, .init(holders: holders, isMet: isMet)))
        }
        node.acknowledge(dot, in: scope, level, within: wait) { reached in
            let place = "\(dot.author.life)-\(dot.sequence)"
            let name = scope.description.split(separator: "/").joined(separator: "%2F")
            let ask = "/v1/acknowledgements/\(name)/\(place)?ack=\(level.name)"
            reply(AckOutcome(level, reached, ask: reached.isMet ? nil : ask))
        }
    }
}

/// How durable a write became.
struct AckOutcome: Sendable {
    let level: AckLevel
    let reached: Acknowledgements.Reached
    /// Where to ask later; nil where it is reached.
    let ask: String?

    init(_ level: AckLevel, _ reached: Acknowledgements.Reached, ask: String? = nil) {
        self.level = level
        self.reached = reached
        self.ask = ask
    }
}

extension Routes {
    /// How durable a request wants its write to be, or its namespace does.
    func demand(_ request: Request, of namespace: String) throws -> AckDemand {
        let level = try request.parameter("ack").map { text throws in
            guard let level = AckLevel(name: text) else {
                throw Problem(
                    .badAck, "ack=\(text): it is local, central, or site:K with K from 1 to 16")
            }
            return level
        }
        let wait = try request.parameter("wait").map { text throws in
            guard let wait = Self.duration(text), wait <= AckDemand.waitMax else {
                throw Problem(
                    .badWait, "wait=\(text): it is a time such as 500ms or 2s, of 30s at most")
            }
            return wait
        }
        return AckDemand(
            level: try level ?? store.acknowledged(of: namespace),
            wait: wait ?? AckDemand.waitUsual)
    }

    private static func duration(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard (1...5).contains(digits.count), let count = Int(digits) else { return nil }
        return switch text.dropFirst(digits.count) {
        case "ms": .milliseconds(count)
        case "s": .seconds(count)
        default: nil
        }
    }

    /// Servers by their names.
    func names(_ nodes: [NodeID]) -> [String] {
        let own = node.certificate
        return nodes.map { id in
            let card = id == own.node ? own : (try? store.certificate(of: id)) ?? nil
            return card.map { "\($0.ticket.site)/\($0.ticket.node)" } ?? id.description
        }
    }

    /// How durable an earlier write of this server is now.
    func acknowledgement(_ call: Call) throws -> Answer {
        guard let scope = Scope(call.name) else {
            throw Problem(.badScope, "'\(call.name)' is no scope such as orders@site/s12")
        }
        guard call.access.mayRead(scope.namespace) || call.access.mayWrite(scope.namespace) else {
            throw Problem.forbidden("the token does not allow to read \(scope.namespace)")
        }
        let parts = call.last.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let life = UInt64(parts[0], radix: 16),
            let sequence = UInt64(parts[1]), (1...Dot.sequenceMax).contains(sequence)
        else {
            throw Problem(.badPlace, "'\(call.last)' is no place that this server has told")
        }
        let author = Author(node: node.certificate.node, life: Life(life))
        let log = LogName(scope: scope, author: author)
        guard let end = try store.end(of: log), end.through >= sequence else {
            throw Problem.notFound("this server knows of no such write in \(scope)")
        }
        let demand = try demand(call.request, of: scope.namespace)
        let receipt = Receipt(
            dot: Dot(author: author, sequence: sequence), live: [], isNew: false)
        return .later {
            let outcome = await withCheckedContinuation { continuation in
                demand.judge([receipt], in: scope, node) { continuation.resume(returning: $0) }
            }
            let view = AcknowledgementView(
                ack: outcome.level.name, reached: outcome.reached.isMet,
                durableOn: names(outcome.reached.holders))
            return try Self.json(view, status: outcome.reached.isMet ? .ok : .accepted)
        }
    }
}
