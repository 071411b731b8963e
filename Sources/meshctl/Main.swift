// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Glibc
import MeshClient
import MeshStore

/// The operator's hand.
@main
struct Main: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "meshctl", abstract: "Looks at a mesh and works on it.",
        discussion: """
            Talks to the node of this host through its admin socket, or to another over HTTP.
            Exit codes: 0 ok, 1 error, 2 degraded or behind, 3 blocked, 4 no match, 64 usage, 69 no daemon.
            """,
        version: "0.1.0",
        subcommands: [
            MeshCommand.self, TicketCommand.self, Approve.self, Join.self, Replace.self,
            Leave.self, Revoke.self, TrustCommand.self, KeysCommand.self, Unlock.self, Peers.self,
            Status.self, Why.self, Discovery.self, NamespaceCommand.self, Put.self, Get.self,
            Delete.self, List.self, Watch.self, ContentCommand.self, Import.self, Export.self,
            TokenCommand.self, DigestCommand.self, Sync.self, Completion.self,
        ])

    static func main() async {
        // A reader that goes away (a pager, head) ends us quietly.
        signal(SIGPIPE, SIG_DFL)
        MemoryDumps.forbid()
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            guard let failure = Failure(of: error) else { exit(withError: error) }
            Console.complain(failure.message)
            Glibc.exit(failure.code)
        }
    }
}

/// Why a command came to nothing, with its exit code.
struct Failure: Error {
    let code: Int32
    let message: String

    init(_ message: String, code: Int32 = 1) {
        self.message = message
        self.code = code
    }

    /// What an error says to a person; nil for one of the command line itself.
    init?(of error: any Error) {
        switch error {
        case let problem as Problem:
            self.init(
                problem.detail, code: problem.status == 404 ? 4 : problem.status == 507 ? 3 : 1)
        case ClientError.unreachable(let why): self.init("no node answers: \(why)", code: 69)
        case ClientError.unexpected(let why):
            self.init("the server's answer is not one of this API: \(why)")
        case let failure as Failure: self = failure
        default: return nil
        }
    }
}

/// Prints a script for a shell's completion.
struct Completion: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints a completion script.",
        discussion: "For example: meshctl completion bash > /etc/bash_completion.d/meshctl")

    @Argument(help: "bash, zsh or fish.") var shell: String

    func run() throws {
        guard let kind = CompletionShell(rawValue: shell) else {
            throw ValidationError("'\(shell)' is not bash, zsh or fish")
        }
        Console.write(Array(Main.completionScript(for: kind).utf8) + [10])
    }
}
