// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshCore
import MeshCrypto
import MeshTrust

/// An operator's word for a box that joined with a ticket of `--needs-approval`.
struct Approve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Approves a server by its fingerprint; without one, lists those that wait.",
        discussion: """
            'meshctl join' shows the fingerprint at the box, and so does 'meshctl peers' there. Have it read to you by
            somebody whom you know to stand before the box. The list shows no fingerprints: one that came over the
            network proves nothing.
            Ask the server that the box dials: one of its ticket's seeds, or a neighbour. The box calls there every half
            a minute, and is a member soon after it was approved.
            """)

    @OptionGroup var connection: Connection
    @OptionGroup var output: Output
    @Argument(help: "The fingerprint, as it was read to you.") var fingerprint: String?
    @Option(help: "The directory of 'mesh create', with enrol.key.") var keys: String

    /// A line for programs.
    struct Line: Encodable {
        let site: String
        let node: String
        let role: String
        let remote: String
        let lastHeardSeconds: Double
        let sameTicket: Int
    }

    /// A box that calls, by a certificate that was verified here.
    private struct Box {
        let certificate: Certificate
        let remote: String
        let lastHeard: Double
    }

    func run() async throws {
        try Sodium.start()
        let (folder, client) = (KeyFolder(keys), try connection.client())
        let root = try folder.root()
        // What the server says of them counts only as far as it verifies.
        let boxes = try await client.enrolments().waiting.compactMap { view -> Box? in
            guard let bytes = Hex.decode(view.certificate),
                let card = try? Certificate(decoding: bytes, root: root, mayLack: .approval),
                !card.isApproved
            else { return nil }
            return Box(certificate: card, remote: view.remote, lastHeard: view.lastHeardSeconds)
        }
        guard let fingerprint else { return try list(boxes) }
        guard let box = boxes.first(where: { $0.certificate.fingerprint.matches(fingerprint) })
        else {
            throw Failure(
                "no server of that fingerprint is shown there (\(boxes.count) others wait); nothing was done. It calls every half a minute; or copies of its ticket hold all places: then cancel the ticket, and make another",
                code: 4)
        }
        let card = box.certificate
        Console.show(card)
        Console.line("calls from: \(box.remote)")
        let rivals = Self.rivals(of: card, among: boxes)
        if rivals > 0 {
            Console.line(
                "! \(rivals) more wait with a copy of its ticket: somebody else has it, and gets nowhere with it"
            )
        }
        let approved = card.approved(by: try folder.enrolKey(of: root), in: root.meshID)
        _ = try await client.approve(approved.encoded)
        Console.complain("\(card.ticket.site)/\(card.ticket.node) is approved")
    }

    private static func rivals(of card: Certificate, among boxes: [Box]) -> Int {
        boxes.count {
            $0.certificate.ticket.serial == card.ticket.serial && $0.certificate.node != card.node
        }
    }

    private func list(_ boxes: [Box]) throws {
        let lines = boxes.map { box in
            let ticket = box.certificate.ticket
            return Line(
                site: ticket.site, node: ticket.node, role: ticket.isCentral ? "central" : "edge",
                remote: box.remote, lastHeardSeconds: box.lastHeard,
                sameTicket: Self.rivals(of: box.certificate, among: boxes))
        }
        switch output.output {
        case .name: for line in lines { Console.line("\(line.site)/\(line.node)") }
        case .json: try Console.json(lines)
        case .ndjson: for line in lines { try Console.json(line) }
        case .table, .wide:
            let rows = lines.map { line in
                [
                    "\(line.site)/\(line.node)", line.role, line.remote,
                    Console.age(line.lastHeardSeconds),
                    line.sameTicket > 0 ? "copied" : "-",
                ]
            }
            Console.table(
                ["SERVER", "ROLE", "CALLS FROM", "LAST", "TICKET"], rows,
                noHeaders: output.noHeaders)
        }
    }
}
