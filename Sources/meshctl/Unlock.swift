// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MeshClient

/// An operator's word that a locked server gets the key of its records.
struct Unlock: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Allows that a locked server gets the key of its records from this one.",
        discussion: """
            A server that joined with --sealed has its key from others at each start. A neighbour on the same network gives it
            by itself. A server of the centre gives it only after this command: a thief may have carried the box off, and have
            it call from anywhere. Ask somebody who stands before it. If it was stolen, run 'meshctl revoke'.
            Run it at a server that keeps the key and that the locked one can dial; 'meshctl peers' there names those that wait.
            """)

    @OptionGroup var connection: Connection
    @Argument(help: "The server: its name, SITE/NAME, or identity.") var server: String
    @Option(help: "Where it calls from, if it calls from several hosts: one of them has a copy.")
    var from: String?
    @Option(help: "The server's name once more, instead of a question.") var confirm: String?

    func run() async throws {
        let client = try connection.client()
        let name = server.split(separator: "/").last.map(String.init) ?? server
        try Console.demand(name, given: confirm, to: "hand out the key of \(server)")
        let view = try await client.unlock(server, from: from)
        Console.complain(
            "\(view.site)/\(view.node) at \(view.host) may have its key, once within \(Console.age(view.holdsSeconds))"
        )
    }
}
