// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Logging
import Mesh
import MeshCrypto
import MeshHTTP
import MeshStore
import ServiceLifecycle
import Synchronization
import UnixSignals

/// The node: a server of the mesh, in the foreground, until SIGTERM.
@main
struct Main: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "meshd", abstract: "A server of the mesh.",
        discussion: """
            Runs in the foreground and logs to standard error. Says 'meshd: ready' once it serves.
            Exit codes: 0 ended in good order, 1 error, 64 wrong usage or configuration.
            """, version: meshVersion)

    @Option(help: "The data directory of a joined node.") var data: String?
    @Option(help: "A YAML or JSON file of settings.") var config: String?
    @Option(help: "Where links are accepted, HOST:PORT.") var meshListen: String?
    @Option(help: "Addresses to dial, HOST:PORT, with commas between.") var meshSeeds: String?
    @Option(help: "Whether records and content are compressed on links to other sites.")
    var meshCompression: String?
    @Option(help: "Whether to find neighbours by multicast.") var discoveryEnabled: String?
    @Option(help: "Interfaces for beacons, with commas between.") var discoveryInterfaces: String?
    @Option(
        help: """
            Networks, with commas between, in which a server may be dialled because another says that \
            it is there; by default all that are not routed on the internet. Networks of this host's \
            interfaces, seeds and beacons need no mention.
            """) var discoveryNetworks: String?
    @Option(help: "The IPv4 group of beacons.") var discoveryGroup: String?
    @Option(help: "The IPv6 group of beacons.") var discoveryGroup6: String?
    @Option(help: "The UDP port of beacons.") var discoveryPort: String?
    @Option(help: "How many routers a beacon may cross, plus one.") var discoveryTtl: String?
    @Option(help: "How much this server wants to keep its site's links to others, 0 to 255.")
    var gatewayPriority: String?
    @Option(help: "The folder of content; DATA/content.") var contentDirectory: String?
    @Option(help: "Releases of a channel that are kept.") var contentKeep: String?
    @Option(help: "Seconds that a release waits for the site's other servers.")
    var contentPatience: String?
    @Option(help: "A shell command that says by its exit code whether a release is well.")
    var contentProbe: String?
    @Option(help: "KiB a second that content may take from other sites.") var contentRate: String?
    @Option(help: "When content may come from other sites: 22:00-06:00.") var contentHours: String?
    @Option(help: "MiB that content leaves free for records.") var contentReserve: String?
    @Option(help: "true serves content without a token.") var contentOpen: String?
    @Option(help: "Where content alone is served, HOST:PORT; beside the API if not set.")
    var contentListen: String?
    @Option(help: "Where apps are served, HOST:PORT, or none.") var httpListen: String?
    @Option(help: "Names by which apps may call this server.") var httpHosts: String?
    @Option(help: "Origins whose pages may use this server: http://menu.example:8080.")
    var httpOrigins: String?
    @Option(help: "open, or token: whether programs on this host need a token.")
    var httpLoopback: String?
    @Flag(help: "Serve other addresses than loopback without TLS.") var httpPlaintext = false
    @Flag(help: "Accept a data directory that forgets (tmpfs).") var storeVolatile = false
    @Option(help: "trace, debug, info, notice, warning, error, critical.") var logLevel: String?
    @Option(help: "text or json.") var logFormat: String?

    private var flags: [String: String] {
        var flags: [String: String] = [:]
        flags["data"] = data
        flags["mesh.listen"] = meshListen
        flags["mesh.seeds"] = meshSeeds
        flags["mesh.compression"] = meshCompression
        flags["discovery.enabled"] = discoveryEnabled
        flags["discovery.interfaces"] = discoveryInterfaces
        flags["discovery.networks"] = discoveryNetworks
        flags["discovery.group"] = discoveryGroup
        flags["discovery.group6"] = discoveryGroup6
        flags["discovery.port"] = discoveryPort
        flags["discovery.ttl"] = discoveryTtl
        flags["gateway.priority"] = gatewayPriority
        flags["content.directory"] = contentDirectory
        flags["content.keep"] = contentKeep
        flags["content.patience"] = contentPatience
        flags["content.probe"] = contentProbe
        flags["content.rate"] = contentRate
        flags["content.hours"] = contentHours
        flags["content.reserve"] = contentReserve
        flags["content.open"] = contentOpen
        flags["content.listen"] = contentListen
        flags["http.listen"] = httpListen
        flags["http.hosts"] = httpHosts
        flags["http.origins"] = httpOrigins
        flags["http.loopback"] = httpLoopback
        flags["http.plaintext"] = httpPlaintext ? "true" : nil
        flags["store.volatile"] = storeVolatile ? "true" : nil
        flags["log.level"] = logLevel
        flags["log.format"] = logFormat
        return flags
    }

    func run() async throws {
        Allocator.configure()
        MemoryDumps.forbid()
        // New files are the owner's alone.
        umask(0o077)
        let environment = ProcessInfo.processInfo.environment
        let fallback = "/etc/mesh/mesh.yaml"
        let file =
            config ?? environment["MESH_CONFIG"]
            ?? (FileManager.default.fileExists(atPath: fallback) ? fallback : nil)
        let settings: Settings
        do {
            settings = try await Settings(file: file, environment: environment, flags: flags)
        } catch {
            complain("\(error)")
            throw ExitCode(64)
        }
        guard let level = Logger.Level(rawValue: settings.logLevel) else {
            complain("log.level: '\(settings.logLevel)' is not a level")
            throw ExitCode(64)
        }
        let isJSON = settings.isJSONLog
        LoggingSystem.bootstrap { _ in LineLogHandler(logLevel: level, isJSON: isJSON) }
        raiseFileLimit()
        do { try await serve(settings) } catch {
            complain("\(error)")
            throw ExitCode(1)
        }
    }

    /// Links, apps and files share the descriptors; the usual 1,024 are not the system's own limit.
    private func raiseFileLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    private func complain(_ text: String) {
        FileHandle.standardError.write(Data("meshd: \(text)\n".utf8))
    }

    private func serve(_ settings: Settings) async throws {
        let logger = Logger(label: "mesh")
        let key = try await Unlocking.key(
            settings.mesh, known: KeyHandover.take(), logger: logger
        ) {
            FileHandle.standardError.write(
                Data("meshd: locked; waits for another server that keeps the key\n".utf8))
            Supervisor.tellLocked()
        }
        let node = try MeshNode(settings.mesh, key: key, logger: logger)
        let api = APIServer(node: node, configuration: settings.api, logger: logger)
        let readiness = Readiness(expected: 1 + api.endpoints) {
            FileHandle.standardError.write(Data("meshd: ready\n".utf8))
            Supervisor.tellReady()
        }
        let service = NodeService(node: node, api: api, readiness: readiness)
        // A node that leaves its mesh ends by itself.
        let services = ServiceGroup(
            configuration: .init(
                services: [
                    .init(service: service, successTerminationBehavior: .gracefullyShutdownGroup)
                ], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        let endings = EndRequests()
        await endings.hear()
        try await services.run()
        if node.wantsToBeginAnew { Self.beginAnew(with: node.key, unless: endings) }
    }

    /// Becomes a new process under the same number: whatever judged by the old keys is gone.
    private static func beginAnew(with key: UnlockedKey?, unless endings: EndRequests) {
        // What comes from here on waits for the new process.
        endings.holdBack()
        guard !endings.hasCome else { return }
        if let key { KeyHandover.leave(key) }
        let words = CommandLine.arguments.map { strdup($0) } + [nil]
        execv("/proc/self/exe", words)
    }
}

/// The node and its API as one service: either's end is the end of both.
struct NodeService: Service {
    let node: MeshNode
    let api: APIServer
    let readiness: Readiness

    func run() async throws {
        let (api, node, readiness) = (api, node, readiness)
        try await cancelWhenGracefulShutdown {
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await api.run { await readiness.reach() } }
                tasks.addTask { try await node.run { _ in await readiness.reach() } }
                defer { tasks.cancelAll() }
                // The node ends last, so that what was acknowledged is on disk.
                do { try await tasks.next() } catch is CancellationError {}
                tasks.cancelAll()
                while true {
                    do {
                        guard try await tasks.next() != nil else { break }
                    } catch is CancellationError {}
                }
            }
        }
    }
}

/// Counts the endpoints that are open, and says so once when all are.
actor Readiness {
    private var missing: Int
    private let announce: @Sendable () -> Void

    init(expected: Int, announce: @escaping @Sendable () -> Void) {
        missing = expected
        self.announce = announce
    }

    func reach() {
        missing -= 1
        if missing == 0 { announce() }
    }
}

/// Hears of signals that ask the process to end, beside those who shut it down by them: a process
/// that was asked does not begin anew.
final class EndRequests: Sendable {
    private let count = Atomic(0)

    /// Hears from now on, for as long as the process lives.
    func hear() async {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        Task { for await _ in signals { count.add(1, ordering: .relaxed) } }
    }

    /// Whether one has come.
    var hasCome: Bool { count.load(ordering: .relaxed) > 0 }

    /// Lets what comes to this thread wait.
    func holdBack() {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT] { sigaddset(&set, number) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }
}
