// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MeshClient
import MeshCore
import MeshReplication

/// Every node known, one a line.
struct Peers: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows every node of the mesh that is known here.",
        discussion: "Lines that begin with ! are trouble; the exit code is then 2.")

    @OptionGroup var connection: Connection
    @OptionGroup var output: Output
    @Option(help: "Only nodes of this site.") var site: String?
    @Option(help: "Only nodes in this state: self, alive, suspect, away, left or revoked.")
    var state: String?

    func run() async throws {
        let client = try connection.client()
        try await output.show {
            var view = try await client.peers()
            view.peers = view.peers.filter {
                (site ?? $0.site) == $0.site && (state ?? $0.state) == $0.state
            }
            try show(view)
            if view.peers.isEmpty { return ExitCode(4) }
            return view.trouble.isEmpty ? .success : ExitCode(2)
        }
    }

    private func show(_ view: PeersView) throws {
        switch output.output {
        case .json: try Console.json(view)
        case .ndjson: for peer in view.peers { try Console.json(peer) }
        case .name: for peer in view.peers { Console.line(peer.node) }
        case .table, .wide:
            var header = [
                "NODE", "SITE", "ROLE", "STATE", "PATH", "RTT", "BEHIND", "CONTENT", "LAST-SYNC",
                "VERSION",
            ]
            if output.output == .wide { header += ["SINCE", "CLOCK", "ID"] }
            let rows = view.peers.map { peer in
                var row = [
                    peer.state == "self" ? peer.node + "*" : peer.node, peer.site, peer.role,
                    peer.state, peer.path,
                    peer.rttSeconds.map { "\(($0 * 10_000).rounded() / 10)ms" } ?? "-",
                    peer.behind.map { "\($0)" } ?? "-", peer.content ?? "-",
                    Console.age(peer.lastSyncSeconds), peer.version ?? "-",
                ]
                if output.output == .wide {
                    row += [
                        Console.age(peer.stateSeconds), Console.offset(peer.clockOffsetSeconds),
                        peer.id,
                    ]
                }
                return row
            }
            Console.table(header, rows, noHeaders: output.noHeaders)
            for line in view.trouble { Console.line("! \(line)") }
        }
    }
}

/// This node at a glance.
struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shows this node.")

    @OptionGroup var connection: Connection
    @OptionGroup var output: Output

    func run() async throws {
        let client = try connection.client()
        try await output.show {
            let view = try await client.status()
            switch output.output {
            case .json, .ndjson: try Console.json(view)
            case .name: Console.line(view.node)
            case .table, .wide: show(view)
            }
            return view.trouble.isEmpty ? .success : ExitCode(2)
        }
    }

    private func show(_ view: StatusView) {
        let rows = [
            ["mesh", "\(view.mesh) \(view.meshId.prefix(16))"],
            ["node", "\(view.node) (\(view.role)) at \(view.site), \(view.id.prefix(16))"],
            ["version", "\(view.version), incarnation \(view.incarnation)"],
            ["up", Console.age(view.uptimeSeconds)],
            ["links", "\(view.linked)"],
            ["gateway", view.gateway ?? "-"],
            ["clock", "\(Console.offset(view.clockOffsetSeconds)) (peers, at the median)"],
            [
                "disk",
                "\(Console.size(view.diskBytes)) used, \(Console.size(view.diskFreeBytes)) free",
            ],
            [
                "beacons",
                view.interfaces.isEmpty ? "none" : view.interfaces.joined(separator: ", "),
            ],
        ]
        Console.table(["", ""], rows, noHeaders: true)
        for scope in view.scopes {
            Console.line("scope    \(scope.scope)  \(scope.records) records")
        }
        for address in view.addresses {
            let state = address.error.map { "failed \(address.failures) times: \($0)" } ?? "ok"
            Console.line("\(address.rung)     \(address.address)  \(state)")
        }
        for line in view.trouble { Console.line("! \(line)") }
    }
}

/// What is held, in a form that is equal on two nodes when they hold the same.
struct DigestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "digest", abstract: "Shows root, live records and frontier of each scope.")

    @OptionGroup var connection: Connection
    @OptionGroup var output: Output
    @Argument(help: "One scope, such as orders@site/s12.") var scope: String?

    func run() async throws {
        let client = try connection.client()
        try await output.show {
            let view = try await client.digest(scope)
            switch output.output {
            case .json: try Console.json(view)
            case .ndjson: for digest in view.digests { try Console.json(digest) }
            case .name:
                for digest in view.digests { Console.line("\(digest.scope) \(digest.root)") }
            case .table, .wide:
                let rows = view.digests.map { digest in
                    [
                        digest.scope,
                        output.output == .wide ? digest.root : String(digest.root.prefix(16)),
                        "\(digest.records)", "\(digest.logs.count)",
                        "\(Console.sum(digest.logs.map(\.frontier)))",
                    ]
                }
                Console.table(
                    ["SCOPE", "ROOT", "RECORDS", "AUTHORS", "FRONTIER"], rows,
                    noHeaders: output.noHeaders)
            }
            return .success
        }
    }
}

/// Compares with every peer now.
struct Sync: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Has the node compare with its peers now, not at the next interval.")

    @OptionGroup var connection: Connection

    func run() async throws { try await connection.client().syncNow() }
}

/// Policies.
struct NamespaceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "namespace", abstract: "Makes and shows namespaces.",
        subcommands: [Create.self, ListAll.self, Show.self], defaultSubcommand: ListAll.self)

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes a namespace: signs its policy and hands it to a central server.",
            discussion:
                "--change gives a namespace another policy, under which servers write from then on. It takes no right away: what was written under the first stays, and a stolen server can go on writing under it. Where that matters, make a namespace of another name."
        )

        @OptionGroup var connection: Connection
        @Argument(help: "The name: a-z 0-9 _ -") var name: String
        @Option(help: "all, site or group:NAME.") var audience: String
        @Option(help: "central, site or any.") var writers: String
        @Option(help: "register or log.") var merge: String
        @Option(
            help:
                "Where a write is to be durable if its app does not say: local, site:K or central."
        ) var ack = "local"
        @Option(help: "The directory of 'mesh create', with the key that signs.") var keys: String
        @Flag(help: "Signs also where the namespace has another policy.") var change = false

        func validate() throws {
            _ = try policy()
            _ = try level()
        }

        private func level() throws -> AckLevel {
            guard let level = AckLevel(name: ack) else {
                throw ValidationError(
                    "--ack is local, central, or site:1 to site:16, not '\(ack)'")
            }
            return level
        }

        private func policy() throws -> NamespacePolicy {
            guard Name.isValidNamespace(name), !name.hasPrefix("_") else {
                throw ValidationError("'\(name)' is not a name for a namespace: a-z 0-9 _ -")
            }
            guard let audience = NamespacePolicy.AudienceRule(name: audience) else {
                throw ValidationError("--audience is all, site or group:NAME, not '\(audience)'")
            }
            guard let writers = NamespacePolicy.Writers(name: writers) else {
                throw ValidationError("--writers is central, site or any, not '\(writers)'")
            }
            guard let merge = MergeKind(name: merge) else {
                throw ValidationError("--merge is register or log, not '\(merge)'")
            }
            return NamespacePolicy(audience: audience, writers: writers, merge: merge)
        }

        func run() async throws {
            let policy = try policy()
            let client = try connection.client()
            if let known = try await client.namespaces().namespaces.first(where: {
                $0.name == name && $0.current == true
            }) {
                let same = (known.audience, known.writers, known.merge, known.ack ?? "local")
                if same == (audience, writers, merge, ack) {
                    return Console.complain("'\(name)' has this policy; nothing was signed")
                }
                guard change else {
                    throw Failure(
                        "'\(name)' has another policy: audience \(known.audience), writers \(known.writers), merge \(known.merge), ack \(known.ack ?? "local"); --change signs a new one"
                    )
                }
            }
            let document = try KeyFolder(keys).define(name, policy, try level())
            _ = try await client.define(name, document.encoded)
        }
    }

    struct ListAll: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Shows all namespaces.")

        @OptionGroup var connection: Connection
        @OptionGroup var output: Output

        func run() async throws {
            let client = try connection.client()
            try await output.show {
                try NamespaceCommand.show(try await client.namespaces(), output)
                return .success
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows one namespace.")

        @OptionGroup var connection: Connection
        @OptionGroup var output: Output
        @Argument(help: "The name.") var name: String

        func run() async throws {
            var view = try await connection.client().namespaces()
            view.namespaces.removeAll { $0.name != name }
            guard !view.namespaces.isEmpty else {
                throw Failure("no namespace '\(name)' is known here", code: 4)
            }
            try NamespaceCommand.show(view, output)
        }
    }

    static func show(_ view: NamespacesView, _ output: Output) throws {
        switch output.output {
        case .json: try Console.json(view)
        case .ndjson: for namespace in view.namespaces { try Console.json(namespace) }
        case .name: for namespace in view.namespaces { Console.line(namespace.name) }
        case .table, .wide:
            let rows = view.namespaces.map {
                [$0.name, $0.audience, $0.writers, $0.merge, $0.ack ?? "local"]
            }
            Console.table(
                ["NAMESPACE", "AUDIENCE", "WRITERS", "MERGE", "ACK"], rows,
                noHeaders: output.noHeaders)
        }
    }
}

/// Tokens of local apps.
struct TokenCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Makes and takes back the tokens of local apps.",
        subcommands: [Create.self, ListAll.self, Revoke.self])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a token.")

        @OptionGroup var connection: Connection
        @Option(
            help:
                "NAMESPACE:r or NAMESPACE:w, * for every namespace of apps, _mesh:r for peers, status and metrics, _mesh:w for policies that an operator has signed; may be given again."
        )
        var allow: [String]
        @Option(help: "A name to know it by; the file's name where none is given.") var name:
            String?
        @Option(help: "The file to write the secret to.") var out: String

        func run() async throws {
            let file = String(out.split(separator: "/").last ?? "token")
            let token = try await connection.client().makeToken(name ?? file, allow: allow)
            guard let secret = token.secret else { throw Failure("the node gave no secret") }
            try SecretFile.write(secret, to: out)
        }
    }

    struct ListAll: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Shows all tokens, without their secrets.")

        @OptionGroup var connection: Connection
        @OptionGroup var output: Output

        func run() async throws {
            let view = try await connection.client().tokens()
            switch output.output {
            case .json: try Console.json(view)
            case .ndjson: for token in view.tokens { try Console.json(token) }
            case .name: for token in view.tokens { Console.line(token.name) }
            case .table, .wide:
                let rows = view.tokens.map { [$0.name, $0.allow.joined(separator: " ")] }
                Console.table(["TOKEN", "ALLOWS"], rows, noHeaders: output.noHeaders)
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Takes a token back.")

        @OptionGroup var connection: Connection
        @Argument(help: "Its name.") var name: String

        func run() async throws { try await connection.client().revokeToken(name) }
    }
}
