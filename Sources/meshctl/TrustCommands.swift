// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshCore
import MeshCrypto
import MeshTrust

/// Takes a server out of the mesh, whether it agrees or not.
struct Revoke: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Takes a stolen or broken server out of the mesh for ever.",
        discussion: """
            Signs with the revoke key in the directory of 'mesh create', and hands the revocation to a server, from which
            it goes to all. No server links with NODE again. Writes of NODE that the server that is asked has seen are
            kept; all others are discarded. So ask a server that holds all that NODE may write: the centre, or a neighbour
            of NODE. Apps that follow changes are to list anew afterwards. With --since, only writes with an earlier time
            are kept. NODE's own clock gave that time, and a thief may have set it back: look at what is left.

            Nobody is a member by NODE's tickets any more, also no other server that was made with a copy of one. Where
            NODE is the copy, and the other server is yours, give --keep-ticket; better still, replace the other too.

            A site that is cut off learns of it once its line is back, or from a stick: meshctl trust export.
            """)

    @OptionGroup var connection: Connection
    @Argument(help: "The server's name, SITE/NAME, or the beginning of its identity.")
    var node: String
    @Option(help: "The directory of 'mesh create', with revoke.key.") var keys: String
    @Option(help: "Why, for those who ask 'meshctl why'.") var reason = ""
    @Option(help: "Nothing that NODE wrote since then stands: 2026-05-01T18:00:00Z.")
    var since: String?
    @Flag(help: "Let others be members that joined with the same ticket.") var keepTicket = false
    @Flag(help: "Show what would stand, and stop.") var dryRun = false
    @Flag(help: "Revoke NODE also where nothing that it wrote would stand.") var erase = false
    @Option(help: "The server's name once more, instead of typing it when asked.")
    var confirm: String?

    func validate() throws {
        guard reason.utf8.count <= Revocation.reasonBytesMax else {
            throw ValidationError("--reason has at most \(Revocation.reasonBytesMax) bytes")
        }
        if let since, Self.milliseconds(since) == nil {
            throw ValidationError("'\(since)' is not a time such as 2026-05-01T18:00:00Z")
        }
    }

    private static func milliseconds(_ text: String) -> UInt64? {
        guard let date = try? Date(text, strategy: .iso8601) else { return nil }
        return UInt64(max(0, date.timeIntervalSince1970 * 1000))
    }

    func run() async throws {
        try Sodium.start()
        let client = try connection.client()
        let folder = KeyFolder(keys)
        let (victim, certificates) = try await folder.certificates(of: node, from: client)
        let time = since.flatMap(Self.milliseconds)
        Console.show(victim)
        var revocation: Revocation
        while true {
            let plan = try await client.revocationPlan(victim.node.description, since: time)
            show(plan, of: victim)
            revocation = try sign(try cuts(of: plan), of: certificates, folder)
            if dryRun { return }
            try refuseEmpty(revocation)
            try Console.demand(victim.ticket.node, given: confirm, to: "revoke it")
            if confirm != nil { break }
            // Somebody may have thought for long: what has come meanwhile is shown, and asked for.
            let now = try await client.revocationPlan(victim.node.description, since: time)
            if try cuts(of: now) == revocation.cuts { break }
            Console.line("What the server knows has changed meanwhile:")
        }
        let answer = try await client.revoke(revocation.encoded)
        let name = victim.ticket.node
        Console.complain(
            answer.isNew ? "\(name) is revoked" : "\(name) was revoked like this before")
    }

    private func show(_ plan: RevocationPlanView, of victim: Certificate) {
        Console.line("What stands of its writes, as the server that is asked says:")
        let rows = plan.logs.map { log in
            ["  \(log.scope)", log.life, "\(log.through) of \(log.known)"]
        }
        if rows.isEmpty { Console.line("  nothing") }
        Console.table(["  SCOPE", "LIFE", "RECORDS"], rows, noHeaders: rows.isEmpty)
        let (name, site) = (victim.ticket.node, victim.ticket.site)
        if plan.isSelf { Console.line("! \(name) is the very server that is asked") }
        if plan.neighbours.isEmpty { Console.line("! \(name) is the last server of \(site)") }
        for neighbour in plan.absent {
            Console.line("! \(neighbour) of \(site) is not there: what only it has of \(name) goes")
        }
        if !plan.unheld.isEmpty {
            Console.line(
                "! the server that is asked does not hold \(plan.unheld.joined(separator: ", ")): all that \(name) wrote there goes; better ask the centre, or a server of \(site) (--url)"
            )
        }
        if since != nil { Console.line("! records that were acknowledged go") }
    }

    /// How far each log stands: the server's word, within what a revocation can say.
    private func cuts(of plan: RevocationPlanView) throws -> [Revocation.Cut] {
        let cuts = try plan.logs.filter { $0.through > 0 }.map { log -> Revocation.Cut in
            guard let scope = Scope(log.scope), let life = UInt64(log.life, radix: 16) else {
                throw Failure(
                    "the server's answer names no log: '\(log.scope)', life '\(log.life)'")
            }
            return Revocation.Cut(scope: scope, life: Life(life), through: log.through)
        }
        guard Revocation.fits(reason: reason, cuts: cuts) else {
            throw Failure(
                "records live in \(cuts.count) logs of \(node); a revocation names at most \(Revocation.cutsMax), in \(Revocation.byteCountMax) bytes"
            )
        }
        return cuts.sorted()
    }

    private func refuseEmpty(_ revocation: Revocation) throws {
        guard revocation.cuts.isEmpty, !erase else { return }
        throw Failure(
            "nothing that '\(node)' wrote would stand, since the server that is asked knows none of it, or says so; ask another server (--url), or give --erase if that is meant"
        )
    }

    private func sign(
        _ cuts: [Revocation.Cut], of victim: [Certificate], _ folder: KeyFolder
    ) throws -> Revocation {
        let (key, mesh) = try folder.revokeKey()
        let now = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        guard let node = victim.first?.node else { throw Failure("no server is named") }
        // A copy of any of its tickets makes no member any more.
        let tickets = Set(victim.map(\.ticket.serial)).prefix(Revocation.serialsMax)
        let serials = keepTicket ? [] : Array(tickets)
        return Revocation(
            of: node, created: now, reason: reason, cuts: cuts, serials: serials, key: key,
            mesh: mesh)
    }
}

/// Revocations by hand: for sites that no line reaches.
struct TrustCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trust",
        abstract: "Shows revocations, and carries them and the root document by hand.",
        subcommands: [ListAll.self, ExportAll.self, ImportAll.self])

    struct ListAll: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Shows the servers that were revoked.")

        @OptionGroup var connection: Connection
        @OptionGroup var output: Output

        func run() async throws {
            let view = try await connection.client().revocations()
            switch output.output {
            case .json: try Console.json(view)
            case .ndjson: for one in view.revocations { try Console.json(one) }
            case .name: for one in view.revocations { Console.line(one.node) }
            case .table, .wide:
                let rows = view.revocations.map { one in
                    [
                        one.node, one.site ?? "-", Console.date(one.createdMs),
                        String(one.id.prefix(8)), one.reason.isEmpty ? "-" : one.reason,
                    ]
                }
                Console.table(
                    ["NODE", "SITE", "REVOKED", "ID", "REASON"], rows, noHeaders: output.noHeaders)
            }
        }
    }

    struct ExportAll: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "export",
            abstract: "Writes the root document and all revocations to a file; nothing is secret.")

        @OptionGroup var connection: Connection
        @Argument(help: "The file to write.") var file: String

        func run() async throws {
            let client = try connection.client()
            var view = try await client.revocations()
            let root = try await client.root()
            view.root = root.document
            let data = try MeshJSON.encode(view) + [10]
            guard FileManager.default.createFile(atPath: file, contents: Data(data)) else {
                throw Failure("\(file) cannot be written")
            }
            Console.complain(
                "version \(root.version) of the root document and \(view.revocations.count) revocations are in \(file)"
            )
        }
    }

    struct ImportAll: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "import",
            abstract: "Hands what is in a file to a node, which verifies each document.")

        @OptionGroup var connection: Connection
        @Argument(help: "The file.") var file: String

        func run() async throws {
            guard let data = FileManager.default.contents(atPath: file) else {
                throw Failure("\(file) cannot be read")
            }
            guard let view = try? MeshJSON.decode(RevocationsView.self, from: data) else {
                throw Failure("\(file) is not a file of 'meshctl trust export'")
            }
            let client = try connection.client()
            try Sodium.start()
            if let root = view.root { try await bring(root, client) }
            var count = 0
            for (index, one) in view.revocations.enumerated() {
                guard let document = Hex.decode(one.document) else {
                    throw Failure("\(file): revocation \(index + 1) is not hexadecimal")
                }
                do { count += try await client.revoke(document).isNew ? 1 : 0 } catch let problem
                    as Problem
                {
                    throw Failure("\(file): revocation \(index + 1): \(problem.detail)")
                }
            }
            Console.complain("\(count) of \(view.revocations.count) revocations were new")
        }

        /// First of all, since later documents may be by keys that only it names.
        private func bring(_ text: String, _ client: NodeClient) async throws {
            guard let bytes = Hex.decode(text), let root = try? RootDocument(carried: bytes) else {
                throw Failure("\(file): the root document in it is malformed")
            }
            guard root.version > 1 else { return }
            do { try await client.take(root) } catch let problem as Problem {
                throw Failure("\(file): the root document: \(problem.detail)")
            }
        }
    }
}
