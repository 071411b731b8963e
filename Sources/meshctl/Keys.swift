// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshAPI
import MeshClient
import MeshCore
import MeshCrypto
import MeshTrust

/// The life of the mesh's own keys.
struct KeysCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Shows and changes the mesh's own keys.",
        subcommands: [Status.self, Rotate.self, Send.self])

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows which keys hold, and which of them are in KEYS.",
            discussion: """
                Where a server answers, it shows the version of the root document that holds there. Servers link only where
                both have the same version, so all that 'meshctl peers' shows as alive have that of the server asked.
                """)

        @OptionGroup var connection: Connection
        @Option(help: "The directory of 'mesh create'.") var keys: String

        func run() async throws {
            try Sodium.start()
            let folder = KeyFolder(keys)
            let root = try folder.root()
            let current = root.current
            Console.line("mesh:     \(root.name) (\(root.meshID))")
            Console.line("version:  \(root.version), made \(Console.date(current.created))")
            let stands =
                root.versions.count == 1
                ? "no key was ever retired"
                : "\(root.honours.count) documents by retired keys stand"
            Console.line("retired:  \(stands)")
            Console.line(
                "secret:   "
                    + Self.text { "epoch \(try folder.secrets(of: root).newest.epoch)" })
            let held = try folder.signingKeys("root-").filter {
                current.rootKeys.contains($0.publicKey.id)
            }
            Console.line(
                "root:     \(current.threshold) of \(current.rootKeys.count) must sign; \(held.count) of them are in \(keys)"
            )
            for (role, named) in [("enrol", current.enrolKeys), ("revoke", current.revokeKeys)] {
                let text = Self.text { "\(keys)/\(try folder.key(role, among: named).file)" }
                Console.line("\(role):".padding(toLength: 10, withPad: " ", startingAt: 0) + text)
            }
            do {
                let view = try await connection.client().root()
                let isOther = view.meshId != root.meshID.description
                Console.line(
                    isOther
                        ? "server:   it is of another mesh, '\(view.name)'"
                        : "server:   version \(view.version), secret of epoch \(view.secretEpoch)")
                if !isOther, view.version < root.version {
                    Console.line("! the server has an older version (meshctl keys send)")
                }
                if !isOther, view.version > root.version {
                    Console.line("! the server has a newer version than \(keys)/root")
                }
            } catch { Console.line("server:   unknown: \(Self.reason(error))") }
        }

        /// What is so, or why it is not known.
        private static func text(_ body: () throws -> String) -> String {
            do { return try body() } catch { return reason(error) }
        }

        private static func reason(_ error: any Error) -> String {
            Failure(of: error)?.message ?? "\(error)"
        }
    }

    struct Send: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hands what is in KEYS to a server, from which it goes to all.",
            discussion: """
                The root document, and over the server's own socket the changes of the mesh's secret. For a site that nobody
                reaches take the folder there, without its keys: the files root and honours-*, and, for the secret, mesh.secret
                and secrets.
                """)

        @OptionGroup var connection: Connection
        @Option(help: "The directory of 'mesh create'.") var keys: String

        func run() async throws {
            try Sodium.start()
            let (folder, client) = (KeyFolder(keys), try connection.client())
            let root = try folder.root()
            try await client.take(root)
            let hasSecret = FileManager.default.fileExists(atPath: "\(keys)/mesh.secret")
            if connection.url == nil, hasSecret {
                try await client.take(try folder.secrets(of: root))
            }
        }
    }
}

extension NodeClient {
    /// Hands a root document over, and waits until the server serves by it.
    func take(_ root: RootDocument) async throws {
        let answer = try await bring(root: root.carried)
        guard answer.isNew == true else {
            return Console.complain("the server had version \(root.version) already")
        }
        try await wait("the server took version \(root.version)") { $0.version >= root.version }
        Console.complain(
            "the server has version \(root.version) of the root document now, and gives it to all that it links with"
        )
    }

    /// Hands the changes of the secret over that the server has not, and waits until it serves by
    /// the newest.
    func take(_ secrets: MeshSecrets) async throws {
        let epoch = try await root().secretEpoch
        let news = secrets.changes.filter { $0.secret.epoch > epoch }
        guard !news.isEmpty else {
            return Console.complain("the server knows the secret of epoch \(epoch) already")
        }
        for change in news {
            guard try await bring(secret: change.encoded).isNew else { continue }
            // It begins anew with each.
            let epoch = change.secret.epoch
            try await wait("the server took the secret of epoch \(epoch)") {
                $0.secretEpoch >= epoch
            }
        }
        Console.complain(
            "the server knows the secret of epoch \(secrets.newest.epoch) now, and tells all that it links with"
        )
    }

    /// Asks a server that begins anew until it serves by what it took, for at most 20 seconds.
    private func wait(_ done: String, _ holds: (RootView) -> Bool) async throws {
        for _ in 0..<100 {
            try await Task.sleep(for: .milliseconds(200))
            if let view = try? await root(), holds(view) { return }
        }
        throw Failure("\(done) and does not answer since; see its log")
    }
}

extension KeysCommand {
    /// A further version of the root document.
    struct Rotate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes a key of the mesh out of use and puts a new one in its place.",
            discussion: """
                Needs as many root keys in KEYS as must sign. Writes the next version of the root document there, and hands it
                to a server, from which it goes to all; each begins anew with it, which takes a moment.

                Nobody can tell when a signature was made. So what the old key had signed is listed: what is on the list
                stands, anything else of that key counts nowhere from now on, and servers that joined by it are out with all
                that they wrote. 'rotate enrol' lists the certificates of the tickets that KEYS/tickets names, and those of
                --also; --all takes every one that the server shows. --except leaves something out, such as what a thief has
                signed: look at each line. Make sure that the server that is asked knows all servers: ask the centre.
                Tickets that nobody has used are not listed: make new ones.

                enrol    signs tickets and policies: after the theft of the operator's laptop
                revoke   signs revocations
                root     signs this document: after the loss of one root key, while enough others are there
                secret   opens links: after a box was stolen, so that its thief is shut out before any handshake once
                         eight changes have passed; needs the enrol key alone, and the server's own socket. The last
                         eight open links, so a site that is cut off meanwhile links again and is told
                publish  'meshctl content rotate'
                """)

        enum Role: String, ExpressibleByArgument, CaseIterable {
            case enrol, revoke, root, secret
        }

        @OptionGroup var connection: Connection
        @Argument(help: "enrol, revoke, root or secret.") var role: Role
        @Option(help: "The directory of 'mesh create', with root-*.key.") var keys: String
        @Option(
            help:
                "A server that stays though KEYS/tickets does not name it: SITE/NAME, or an identity."
        )
        var also: [String] = []
        @Option(help: "What does not stand: the beginning of a name that --dry-run shows.")
        var except: [String] = []
        @Flag(help: "Let every certificate stand that the server shows.") var all = false
        @Flag(help: "Show what would stand, and stop.") var dryRun = false
        @Option(help: "The mesh's name, instead of typing it when asked.") var confirm: String?

        func run() async throws {
            try Sodium.start()
            let folder = KeyFolder(keys)
            let root = try folder.root()
            let client = try connection.client()
            try Self.compare(root, try await client.root())
            if role == .secret { return try await changeSecret(folder, root, client) }
            var survey = try await look(client, folder, root)
            survey.show()
            if dryRun { return }
            let signers = try folder.rootKeys(of: root, for: "a new root document")
            while true {
                try Console.demand(root.name, given: confirm, to: "retire the \(role.rawValue) key")
                // Somebody may have thought for long: what has come meanwhile is asked for too.
                let now = try await look(client, folder, root)
                if now.stands == survey.stands { break }
                survey = now
                Console.line("What the server knows has changed meanwhile:")
                survey.show()
                if confirm != nil { throw Failure("nothing was done; look at it, and ask again") }
            }
            let next = try folder.next(role, after: root, survey.stands, signers)
            try folder.write(next)
            Console.complain("version \(next.version) of the root document is in \(keys)/root")
            try await client.take(next)
        }

        private func look(
            _ client: NodeClient, _ folder: KeyFolder, _ root: RootDocument
        ) async throws -> Survey {
            var survey = Survey(
                role, root: root, issued: try folder.issuedTickets(), takesAll: all, also: also,
                except: except)
            try await survey.look(client, folder)
            if let fault = survey.fault { throw Failure(fault) }
            return survey
        }

        private func changeSecret(
            _ folder: KeyFolder, _ root: RootDocument, _ client: NodeClient
        ) async throws {
            guard connection.url == nil else {
                throw Failure(
                    "the new secret goes over the server's own socket alone (--socket or --data)")
            }
            let epoch = try folder.secrets(of: root).newest.epoch
            Console.line("the mesh's secret is of epoch \(epoch)")
            if dryRun { return }
            try Console.demand(root.name, given: confirm, to: "change the mesh's secret")
            let secrets = try folder.changeSecret(of: root)
            Console.complain("the secret of epoch \(secrets.newest.epoch) is in \(keys)/secrets")
            try await client.take(secrets)
        }

        private static func compare(_ root: RootDocument, _ view: RootView) throws {
            guard view.meshId == root.meshID.description else {
                throw Failure("the server is of another mesh, '\(view.name)'; nothing was done")
            }
            let served = Hex.decode(view.document).flatMap { try? RootDocument(carried: $0) }
            guard view.version != root.version || served?.encoded == root.encoded else {
                throw Failure(
                    "the server's version \(view.version) of the root document is another than that in KEYS; nothing was done"
                )
            }
            guard view.version == root.version else {
                throw Failure(
                    "the server has version \(view.version) of the root document, and KEYS version \(root.version); nothing was done"
                        + (view.version < root.version ? " (run: meshctl keys send)" : ""))
            }
        }
    }
}

extension KeyFolder {
    /// Makes new keys of a role and the version of the root document that names them.
    fileprivate func next(
        _ role: KeysCommand.Rotate.Role, after root: RootDocument, _ stands: Set<Digest>,
        _ signers: [SigningKey]
    ) throws -> RootDocument {
        guard stands.count <= Honours.countMax else {
            throw Failure(
                "\(stands.count) documents would stand; a list has at most \(Honours.countMax)")
        }
        let (number, current) = (root.version + 1, root.current)
        var signers = signers
        var (roots, enrol, revoke) = (current.rootKeys, current.enrolKeys, current.revokeKeys)
        func make(_ name: String) throws -> SigningKey {
            let key = try Self.newKey()
            try writeSecret(key.seed.array, name)
            return key
        }
        switch role {
        case .secret: preconditionFailure("the secret is none of the root document's keys")
        case .enrol: enrol = [try make("enrol-\(number).key").publicKey.id]
        case .revoke: revoke = [try make("revoke-\(number).key").publicKey.id]
        case .root:
            let new = try roots.indices.map { try make("root-\(number)-\($0 + 1).key") }
            roots = new.map(\.publicKey.id)
            signers += new
        }
        let now = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        do {
            return try root.next(
                created: now, threshold: current.threshold, roots: roots, enrol: enrol,
                revoke: revoke, honours: Honours(stands), signers: signers)
        } catch {
            throw Failure("\(error)")
        }
    }
}
