// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MeshClient
import MeshCore
import MeshCrypto
import MeshTrust

/// What is in the way.
struct Why: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Names the first cause that keeps a node or a scope from being in step.",
        discussion: """
            SUBJECT is a node (till-1, or hq/till-1 where sites share names), a scope (orders@site/s12), a
            namespace, or an address that is dialled (centre.example:7374).
            Codes: unreachable, wrong_mesh, no_common_version, certificate_refused, revoked, left,
            no_grant, policy_unknown, disk_full, clock_suspect, behind, damaged; relayed and in_step are fine.
            """)

    @OptionGroup var connection: Connection
    @OptionGroup var output: Output
    @Argument(help: "A node, scope, namespace or address.") var subject: String

    func run() async throws {
        let client = try connection.client()
        try await output.show {
            let view = try await client.why(subject)
            switch output.output {
            case .json, .ndjson: try Console.json(view)
            case .name: Console.line(view.code)
            case .table, .wide:
                Console.line("\(view.code): \(view.detail)")
                for address in view.addresses {
                    let end = address.error.map { "failed \(address.failures) times: \($0)" }
                    Console.line("  \(address.rung) \(address.address)  \(end ?? "ok")")
                }
                if let next = view.next { Console.line("next: \(next)") }
            }
            return view.isFine ? .success : ExitCode(view.code == "behind" ? 2 : 3)
        }
    }
}

/// How servers find each other, rung by rung.
struct Discovery: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what was sent, heard and dialled, and why nobody is found.")

    @OptionGroup var connection: Connection
    @OptionGroup var output: Output

    func run() async throws {
        let client = try connection.client()
        try await output.show {
            let view = try await client.discovery()
            switch output.output {
            case .json, .ndjson: try Console.json(view)
            case .name: for address in view.addresses { Console.line(address.address) }
            case .table, .wide: show(view)
            }
            return view.causes.isEmpty ? .success : ExitCode(2)
        }
    }

    private func show(_ view: DiscoveryView) {
        let interfaces = view.interfaces.map { one in
            [
                one.name, one.address, "\(one.sent)", "\(one.own)", "\(one.heard)",
                Console.age(one.heardSeconds),
            ]
        }
        Console.table(
            ["INTERFACE", "ADDRESS", "SENT", "ECHOED", "HEARD", "LAST"], interfaces,
            noHeaders: output.noHeaders)
        if !view.addresses.isEmpty {
            Console.line()
            let rows = view.addresses.map { one in
                [
                    one.rung, one.address, one.node ?? "-", "\(one.dials)", "\(one.failures)",
                    one.error ?? "-",
                ]
            }
            Console.table(
                ["RUNG", "ADDRESS", "NODE", "DIALLED", "FAILED", "ERROR"], rows,
                noHeaders: output.noHeaders)
        }
        for cause in view.causes { Console.line("! \(cause)") }
    }
}

/// Ends this node's part in the mesh.
struct Leave: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Takes this server out of the mesh for good.",
        discussion: """
            Waits up to 15 s until a linked server was proven to hold all records that this one holds, tells all, and
            ends meshd. Apps cannot write here meanwhile. The data stays on disk; meshd does not start on it again.
            Files that were published here and are not fetched yet do not count: see 'meshctl content status' first.
            """)

    @OptionGroup var connection: Connection
    @Flag(help: "Leave also where nobody holds everything; what is only here stays only here.")
    var force = false

    func run() async throws {
        let view = try await connection.client().leave(force: force)
        Console.complain(
            view.heir.map { "left; \($0) holds all records that were here" } ?? "left by force")
    }
}

/// A new box for an old place.
struct Replace: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a ticket for a new box that takes a server's name and place.",
        discussion: """
            Asks a server of the mesh for OLD's certificate, and makes a ticket like it. Once the new box has joined, OLD is
            shown as left everywhere, also if it comes back; what it still had is taken from it.
            """)

    @OptionGroup var connection: Connection
    @Argument(help: "The server's name, or SITE/NAME.") var old: String
    @Option(help: "The directory of 'mesh create'.") var keys: String
    @Option(help: "An address to dial across the WAN, HOST:PORT; may be given again.")
    var seed: [String] = []
    @Option(help: "The file to write.") var out: String

    @Option(help: "The server's name once more, instead of typing it when asked.")
    var confirm: String?

    func run() async throws {
        try Sodium.start()
        let folder = KeyFolder(keys)
        let certificate = try await folder.certificates(of: old, from: try connection.client())
            .newest
        let known = certificate.ticket
        Console.line("A ticket for a new box in the place of:")
        Console.show(certificate)
        try Console.demand(known.node, given: confirm, to: "make it")
        try folder.makeTicket(
            site: known.site, node: known.node, isCentral: known.isCentral, groups: known.groups,
            seeds: seed, needsApproval: known.needsApproval, to: out)
    }
}
