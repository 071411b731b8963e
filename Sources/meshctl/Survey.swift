// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshClient
import MeshContent
import MeshCore
import MeshCrypto
import MeshReplication
import MeshTrust

/// What the keys of one role have signed so far, as a server shows it and as it verifies, and what
/// of it is to stand once they are retired.
struct Survey {
    /// One document, by what people call it: a server by its identity, any other by its hash.
    private struct Line: Hashable, Comparable {
        let name: String
        let text: String

        static func < (lhs: Line, rhs: Line) -> Bool {
            (lhs.text, lhs.name) < (rhs.text, rhs.name)
        }
    }

    let role: KeysCommand.Rotate.Role
    let root: RootDocument
    /// The tickets that the folder's note names.
    let issued: [IssuedTicket]
    /// Whether every certificate stands that the server shows.
    let takesAll: Bool
    /// Servers whose certificates stand all the same, and documents that do not.
    let (also, except): (Set<String>, Set<String>)

    private(set) var stands: Set<Digest>
    private var used: Set<Digest> = []
    private var kept: [String: Set<Line>] = [:]
    private var dropped: [String: Set<Line>] = [:]
    private var found: [String: Set<NodeID>] = [:]
    private var excepted: Set<String> = []

    init(
        _ role: KeysCommand.Rotate.Role, root: RootDocument, issued: [IssuedTicket],
        takesAll: Bool, also: [String], except: [String]
    ) {
        (self.role, self.root, self.issued, self.takesAll) = (role, root, issued, takesAll)
        (self.also, self.except) = (Set(also), Set(except))
        stands = root.honours.adding([])
    }

    /// Why the choice cannot be followed; nil if it can.
    var fault: String? {
        for name in also.sorted() {
            switch found[name]?.count ?? 0 {
            case 0: return "the server knows no \(name) (--also)"
            case 1: continue
            default: return "several servers are called \(name): name its identity (--also)"
            }
        }
        let unknown = except.filter { word in !excepted.contains { $0.hasPrefix(word) } }
        return unknown.sorted().first.map { "nothing that is shown begins with \($0) (--except)" }
    }

    /// Asks a server; what does not verify counts for nothing.
    mutating func look(_ client: NodeClient, _ folder: KeyFolder) async throws {
        switch role {
        case .enrol:
            try await lookAtServers(client)
            try await lookAtPolicies(client)
            for change in try folder.secrets(of: root).changes where change.isGood(under: root) {
                note("changes of the secret", change.body, .secret, "epoch \(change.secret.epoch)")
            }
        case .revoke:
            for view in try await client.revocations().revocations {
                guard let bytes = Hex.decode(view.document),
                    let revocation = try? Revocation(decoding: bytes, root: root),
                    revocation.stands
                else { continue }
                note(
                    "revocations", revocation.body, .revocation,
                    "\(view.site ?? "-")/\(view.node), \(Console.date(view.createdMs)): \(view.reason)"
                )
            }
        case .root: try await lookAtChannels(client, folder)
        case .secret: break
        }
    }

    private mutating func lookAtServers(_ client: NodeClient) async throws {
        for text in try await client.allCertificates().certificates {
            guard let bytes = Hex.decode(text),
                let certificate = try? Certificate(
                    decoding: bytes, root: root, mayLack: .goodKey)
            else { continue }
            let ticket = certificate.ticket
            let document = Honours.name(of: ticket.body, for: .ticket)
            used.insert(document)
            let (name, id) = ("\(ticket.site)/\(ticket.node)", certificate.node.description)
            let isNamed = also.contains { $0 == name || ($0.count >= 8 && id.hasPrefix($0)) }
            for word in also where word == name || id.hasPrefix(word) {
                found[word, default: []].insert(certificate.node)
            }
            let isIssued = certificate.stands && issued.contains { $0.document == document }
            let isKept = isNamed || isIssued || (takesAll && certificate.stands)
            sort("servers", document, id, name, isKept: isKept)
            // The operator's word for it stands or falls with it.
            guard let approval = certificate.approval else { continue }
            let word = Honours.name(of: approval.body, for: .approval)
            if stands.contains(document) { stands.insert(word) } else { stands.remove(word) }
        }
    }

    private mutating func lookAtPolicies(_ client: NodeClient) async throws {
        for view in try await client.namespaces().namespaces {
            guard let bytes = view.document.flatMap({ Hex.decode($0) }),
                let document = try? PolicyDocument(decoding: bytes, root: root),
                document.stands(under: root)
            else { continue }
            let policy = document.policy
            note(
                "policies", document.body, .definition,
                "\(document.namespace) (audience \(policy.audience.name), writers \(policy.writers.name), merge \(policy.merge.name)), \(Console.date(document.created))"
            )
        }
    }

    private mutating func lookAtChannels(
        _ client: NodeClient, _ folder: KeyFolder
    ) async throws {
        var charters: [Charter] = []
        for channel in try await client.content().channels.map(\.channel) {
            if let signed = try await Publication.latest(client, channel, root) {
                charters.append(signed.charter)
            }
        }
        for name in try folder.channels() {
            if let charter = try folder.charter(name) { charters.append(charter) }
        }
        for charter in charters where charter.stands {
            note(
                "charters", charter.body, .charter, "\(charter.channel), epoch \(charter.epoch)")
        }
    }

    private mutating func note(
        _ kind: String, _ body: [UInt8], _ context: SigningContext, _ text: String
    ) {
        let document = Honours.name(of: body, for: context)
        sort(kind, document, document.description, text, isKept: true)
    }

    private mutating func sort(
        _ kind: String, _ document: Digest, _ name: String, _ text: String, isKept: Bool
    ) {
        let isExcepted = except.contains { $0.count >= 8 && name.hasPrefix($0) }
        if isExcepted { excepted.insert(name) }
        let line = Line(name: String(name.prefix(8)), text: text)
        if isKept, !isExcepted {
            stands.insert(document)
            kept[kind, default: []].insert(line)
        } else {
            stands.remove(document)
            dropped[kind, default: []].insert(line)
        }
    }

    /// Says what stands and what does not.
    func show() {
        func list(_ title: String, _ lines: Set<Line>) {
            Console.line("\(title):")
            for line in lines.sorted() { Console.line("  \(line.name)  \(line.text)") }
        }
        for (kind, lines) in kept.sorted(by: { $0.key < $1.key }) {
            list("\(kind) that stand", lines)
        }
        for (kind, lines) in dropped.sorted(by: { $0.key < $1.key }) {
            let what = kind == "servers" ? ", and all that they wrote" : ""
            list("! \(kind) that do not\(what)", lines)
        }
        let unused = issued.filter { $0.document.map { !used.contains($0) } ?? true }
        guard role == .enrol, !unused.isEmpty else { return }
        Console.line(
            "! tickets that nobody has used, the server says: they end, and who joined by one is out:"
        )
        for ticket in unused { Console.line("  \(ticket.site)/\(ticket.node)") }
    }
}
