// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshCore
import MeshCrypto
import MeshTrust

/// Tickets: one for each new server.
struct TicketCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ticket", abstract: "Makes, shows and cancels tickets for new servers.",
        subcommands: [Create.self, ListAll.self, Cancel.self])

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes a ticket that enrols one server.",
            discussion:
                "The ticket is a secret until it is used: whoever has it can join in its name.")

        @Option(help: "The directory of 'mesh create'.") var keys: String
        @Option(help: "The site the server will stand at.") var site: String
        @Option(help: "What people will call the server.") var node: String
        @Flag(help: "Grants everything: for a server of the centre.") var central = false
        @Option(help: "A group the server belongs to; may be given again.") var group: [String] = []
        @Option(help: "An address to dial across the WAN, HOST:PORT; may be given again.")
        var seed: [String] = []
        @Flag(
            help: """
                The server is a member only once it is approved: whoever stands before it reads you the fingerprint that \
                'meshctl join' shows there, and you run 'meshctl approve'. A copy of the ticket is then worth nothing.
                """)
        var needsApproval = false
        @Option(help: "The file to write.") var out: String

        func validate() throws {
            for name in [site, node] + group where !Name.isValid(name) {
                throw ValidationError("'\(name)' is not a name: letters, digits, '.', '_', '-'")
            }
            guard group.count <= Ticket.groupsMax, seed.count <= TicketFile.seedsMax else {
                throw ValidationError(
                    "at most \(Ticket.groupsMax) groups and \(TicketFile.seedsMax) seeds")
            }
            for address in seed where Address(address) == nil {
                throw ValidationError("'\(address)' is not HOST:PORT")
            }
        }

        func run() throws {
            try KeyFolder(keys).makeTicket(
                site: site, node: node, isCentral: central, groups: group, seeds: seed,
                needsApproval: needsApproval, to: out)
        }
    }

    struct ListAll: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "Shows the tickets that were made, and what became of them.",
            discussion: """
                A ticket is used if the server that is asked has a certificate that was made with it, unused if it has
                none. A box that joined and has met nobody yet looks unused.
                """)

        @OptionGroup var connection: Connection
        @OptionGroup var output: Output
        @Option(help: "The directory of 'mesh create'.") var keys: String
        @Flag(help: "Only tickets that are unused.") var unused = false

        func run() async throws {
            let tickets = try await IssuedTickets(KeyFolder(keys), connection.client())
            let shown = tickets.all.filter { !unused || tickets.state(of: $0) == .unused }
            switch output.output {
            case .name: for one in shown { Console.line(one.name) }
            case .json: try Console.json(shown.map { tickets.line($0) })
            case .ndjson: for one in shown { try Console.json(tickets.line(one)) }
            case .table, .wide:
                let rows = shown.map { one in
                    [
                        one.name, "\(one.site)/\(one.node)", Console.date(one.created),
                        tickets.state(of: one).text,
                    ]
                }
                Console.table(
                    ["TICKET", "SERVER", "MADE", "STATE"], rows, noHeaders: output.noHeaders)
            }
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Cancels tickets, so that nobody can join with one or with a copy of it.",
            discussion: """
                Signs with the revoke key, and hands the revocation to a server, from which it goes to all. A site that is
                cut off learns of it once its line is back, or from a stick: meshctl trust export.
                A ticket whose server is known is refused. But a server that has joined, and of which the server that is asked
                has not heard, because its line is down, is no member any more once this reaches it: its site stops writing.
                """)

        @OptionGroup var connection: Connection
        @Argument(help: "Tickets by their names in 'ticket list'.") var tickets: [String] = []
        @Option(help: "The directory of 'mesh create', with revoke.key.") var keys: String
        @Option(help: "All unused tickets that are older than so many days.")
        var olderThan: UInt64?
        @Flag(help: "Do not ask.") var yes = false

        func validate() throws {
            guard tickets.isEmpty != (olderThan == nil) else {
                throw ValidationError("name tickets, or give --older-than DAYS")
            }
        }

        func run() async throws {
            let (folder, client) = (KeyFolder(keys), try connection.client())
            let issued = try await IssuedTickets(folder, client)
            let chosen = try olderThan.map { issued.unused(olderThan: $0) } ?? named(issued)
            for one in chosen {
                let server = "\(one.site)/\(one.node)"
                Console.line("\(one.name)  \(server), made \(Console.date(one.created))")
            }
            guard !chosen.isEmpty else { return Console.complain("no ticket is to be cancelled") }
            Console.line("! a server that has joined with one, and is not known yet, is taken out")
            if !yes { try Console.demand("cancel", given: nil, to: "cancel \(chosen.count)") }
            for revocation in try folder.cancel(chosen) {
                _ = try await client.revoke(revocation.encoded)
            }
            Console.complain("\(chosen.count) tickets are cancelled")
        }

        private func named(_ issued: IssuedTickets) throws -> [IssuedTicket] {
            try Set(tickets).sorted().map { name in
                let found = issued.all.filter { $0.name == name }
                guard let one = found.first else {
                    throw Failure("\(keys) has made no ticket '\(name)'", code: 4)
                }
                switch issued.state(of: one) {
                case .unused: return one
                case .cancelled: throw Failure("'\(name)' is cancelled already")
                case .used(let node):
                    throw Failure(
                        "'\(name)' is used: \(one.site)/\(one.node) (\(node)) is a member by it; 'meshctl revoke' takes it out"
                    )
                }
            }
        }
    }
}

/// A ticket that was made, as the key folder has noted it.
struct IssuedTicket {
    let serial: [UInt8]
    let created: UInt64
    let site: String
    let node: String

    /// The hash of what was signed; a thief of the enrol key can make another of the same serial.
    let document: Digest?

    /// What people call the ticket: the end of its serial, which is chance.
    var name: String { Hex.encode(serial.suffix(6)) }

    /// The line in the folder's note.
    var line: String {
        "\(Hex.encode(serial)) \(created) \(site) \(node)"
            + (document.map { " \($0)" } ?? "")
    }

    init(_ ticket: Ticket, created: UInt64) {
        (serial, self.created) = (ticket.serial, created)
        (site, node) = (ticket.site, ticket.node)
        document = Honours.name(of: ticket.body, for: .ticket)
    }

    init?(line: Substring) {
        let parts = line.split(separator: " ")
        guard (4...5).contains(parts.count), let serial = Hex.decode(String(parts[0])),
            serial.count == Ticket.serialByteCount, let created = UInt64(parts[1])
        else { return nil }
        (self.serial, self.created) = (serial, created)
        (site, node) = (String(parts[2]), String(parts[3]))
        let hash = parts.count == 5 ? Hex.decode(String(parts[4])).flatMap { Digest($0) } : nil
        guard parts.count == 4 || hash != nil else { return nil }
        document = hash
    }
}

/// The tickets of a key folder, and what a server knows of them by signed documents.
struct IssuedTickets {
    enum State: Equatable {
        case unused, cancelled
        case used(by: String)

        var text: String {
            switch self {
            case .unused: "unused"
            case .cancelled: "cancelled"
            case .used(let node): "used by \(node)"
            }
        }
    }

    /// A line for programs.
    struct Line: Encodable {
        let ticket: String
        let site: String
        let node: String
        let createdMs: UInt64
        let state: String
    }

    let all: [IssuedTicket]
    private var users: [[UInt8]: String] = [:]
    private var cancelled: Set<[UInt8]> = []

    /// Asks a server; what does not verify up to the root document in the folder counts for
    /// nothing.
    init(_ folder: KeyFolder, _ client: NodeClient) async throws {
        try Sodium.start()
        let root = try folder.root()
        all = try folder.issuedTickets()
        for text in try await client.allCertificates().certificates {
            guard let bytes = Hex.decode(text),
                let certificate = try? Certificate(decoding: bytes, root: root)
            else { continue }
            users[certificate.ticket.serial] = String(certificate.node.description.prefix(8))
        }
        for one in try await client.revocations().revocations {
            guard let bytes = Hex.decode(one.document),
                let revocation = try? Revocation(decoding: bytes, root: root)
            else { continue }
            cancelled.formUnion(revocation.serials)
        }
    }

    func state(of ticket: IssuedTicket) -> State {
        if cancelled.contains(ticket.serial) { return .cancelled }
        return users[ticket.serial].map { .used(by: $0) } ?? .unused
    }

    func line(_ ticket: IssuedTicket) -> Line {
        Line(
            ticket: ticket.name, site: ticket.site, node: ticket.node, createdMs: ticket.created,
            state: state(of: ticket).text)
    }

    func unused(olderThan days: UInt64) -> [IssuedTicket] {
        let now = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        let (age, isOver) = days.multipliedReportingOverflow(by: 86_400_000)
        guard !isOver, age <= now else { return [] }
        return all.filter { state(of: $0) == .unused && $0.created < now - age }
    }
}

extension KeyFolder {
    private static let noteOfTickets = "tickets"

    /// Notes a ticket before anybody can have it.
    func note(_ ticket: Ticket) throws {
        let created = ticket.serial.prefix(6).reduce(0) { $0 << 8 | UInt64($1) }
        let lines = try issuedTickets() + [IssuedTicket(ticket, created: created)]
        let text = lines.map { $0.line + "\n" }.joined()
        try write(Array(text.utf8), Self.noteOfTickets)
    }

    /// Every ticket that was made with this folder.
    func issuedTickets() throws -> [IssuedTicket] {
        guard FileManager.default.fileExists(atPath: "\(path)/\(Self.noteOfTickets)") else {
            return []
        }
        let text = String(decoding: try read(Self.noteOfTickets), as: UTF8.self)
        return try text.split(separator: "\n").enumerated().map { index, line in
            guard let ticket = IssuedTicket(line: line) else {
                throw Failure("\(path)/\(Self.noteOfTickets):\(index + 1): this is no ticket")
            }
            return ticket
        }
    }

    /// Signs that nobody is a member by some tickets: documents of as many as one can name.
    func cancel(_ tickets: [IssuedTicket]) throws -> [Revocation] {
        let (key, mesh) = try revokeKey()
        let now = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        let most = Revocation.serialsMax
        return stride(from: 0, to: tickets.count, by: most).map { start in
            let some = tickets[start..<min(start + most, tickets.count)]
            return Revocation(
                of: .zero, created: now, reason: "tickets that nobody uses", cuts: [],
                serials: some.map(\.serial), key: key, mesh: mesh)
        }
    }
}
