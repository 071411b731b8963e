// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshClient
import MeshContent
import MeshCore
import MeshCrypto
import MeshReplication
import MeshTrust

/// What the keys of a mesh have signed so far, as a server shows it and as it verifies, and what of
/// it is to stand once they are retired.
struct Survey {
    let root: RootDocument
    /// The tickets that the folder's note names.
    let issued: [IssuedTicket]
    var takesAll = false
    /// Servers whose certificates stand all the same.
    var also: Set<String> = []

    private(set) var stands: Set<Digest>
    private var used: Set<[UInt8]> = []
    private var kept: Set<String> = []
    private var dropped: Set<String> = []
    private var policies: Set<String> = []
    private var revocations: Set<String> = []
    private var charters: Set<String> = []
    private var found: Set<String> = []

    init(root: RootDocument, issued: [IssuedTicket]) {
        self.root = root
        self.issued = issued
        stands = root.honours.adding([])
    }

    /// Those of `also` that the server does not know.
    var missing: Set<String> { also.subtracting(found) }

    /// Asks a server; what does not verify counts for nothing.
    mutating func look(_ client: NodeClient, _ folder: KeyFolder) async throws {
        for text in try await client.allCertificates().certificates {
            guard let bytes = Hex.decode(text),
                let certificate = try? Certificate(decoding: bytes, root: root)
            else { continue }
            note(certificate)
        }
        for view in try await client.namespaces().namespaces {
            guard let bytes = view.document.flatMap({ Hex.decode($0) }),
                let document = try? PolicyDocument(decoding: bytes, root: root),
                document.stands(under: root)
            else { continue }
            stands.insert(Honours.name(of: document.body, for: .definition))
            policies.insert(
                "\(document.namespace) (audience \(view.audience), writers \(view.writers), merge \(view.merge))"
            )
        }
        for view in try await client.revocations().revocations {
            guard let bytes = Hex.decode(view.document),
                let revocation = try? Revocation(decoding: bytes, root: root), revocation.stands
            else { continue }
            stands.insert(Honours.name(of: revocation.body, for: .revocation))
            revocations.insert(
                "\(view.site ?? "-")/\(view.node), \(Console.date(view.createdMs)): \(view.reason)")
        }
        for change in (try? folder.secrets(of: root))?.changes ?? [] {
            stands.insert(Honours.name(of: change.body, for: .secret))
        }
        for channel in try await client.content().channels.map(\.channel) {
            guard let signed = try await Publication.latest(client, channel, root) else { continue }
            note(signed.charter)
        }
        for name in try folder.channels() {
            if let charter = try folder.charter(name) { note(charter) }
        }
    }

    private mutating func note(_ charter: Charter) {
        guard charter.stands else { return }
        stands.insert(Honours.name(of: charter.body, for: .charter))
        charters.insert("\(charter.channel), epoch \(charter.epoch)")
    }

    private mutating func note(_ certificate: Certificate) {
        let ticket = certificate.ticket
        let name = "\(ticket.site)/\(ticket.node)"
        let line = "\(name) (\(certificate.node.description.prefix(8)))"
        let isNamed = also.contains(name)
        if isNamed { found.insert(name) }
        used.insert(ticket.serial)
        let isIssued = issued.contains { $0.serial == ticket.serial }
        guard takesAll || isNamed || isIssued else {
            return _ = dropped.insert(line)
        }
        stands.insert(Honours.name(of: ticket.body, for: .ticket))
        kept.insert(line)
    }

    /// Says what stands and what does not.
    func show(_ role: KeysCommand.Rotate.Role) {
        func list(_ title: String, _ lines: some Collection<String>) {
            if lines.isEmpty { return }
            Console.line("\(title):")
            for line in lines.sorted() { Console.line("  \(line)") }
        }
        switch role {
        case .enrol:
            list("servers that stay", kept)
            list("policies that stand", policies)
            list("! servers that are out, with all that they wrote", dropped)
            list(
                "! tickets that nobody has used, the server says: they end, and who joined by one is out",
                issued.filter { !used.contains($0.serial) }.map { "\($0.site)/\($0.node)" })
        case .revoke: list("revocations that stand", revocations)
        case .root: list("channels that go on", charters)
        case .secret: break
        }
    }
}
