// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshTesting
import Synchronization

/// The built programs, run as a user runs them.
enum Programs {
    static let build = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        .path
    static let top = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path

    struct Result {
        let code: Int32
        let output: String
        let errors: String
    }

    @discardableResult
    static func run(
        _ program: String, _ arguments: [String], input: String? = nil,
        environment: [String: String] = [:]
    ) throws -> Result {
        let process = Process()
        let path = program.hasPrefix("/") ? program : "\(build)/\(program)"
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let (output, errors, inward) = (Pipe(), Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = inward
        try Launch.lock.withLock { try process.run() }
        if let input { inward.fileHandleForWriting.write(Data(input.utf8)) }
        try inward.fileHandleForWriting.close()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        let complaints = errors.fileHandleForReading.readDataToEndOfFile()
        for pipe in [output, errors] { try pipe.fileHandleForReading.close() }
        process.waitUntilExit()
        return Result(
            code: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
            errors: String(decoding: complaints, as: UTF8.self))
    }

    static func ctl(_ node: Node, _ arguments: String..., input: String? = nil) throws -> Result {
        try run("meshctl", arguments + ["--data", node.data], input: input)
    }
}

/// Asks until an answer holds, for at most twenty seconds.
func eventually(_ holds: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<200 {
        if try holds() { return true }
        usleep(100_000)
    }
    return false
}

/// How a node sees all servers of a name: the column STATE of `meshctl peers`.
func state(of node: String, at other: Node) throws -> [String] {
    try Programs.ctl(other, "peers", "--no-headers").output.split(separator: "\n")
        .map { $0.split(separator: " ").map(String.init) }
        .filter { $0.first == node && $0.count > 3 }.map { $0[3] }
}

/// A folder that goes away.
final class Scratch {
    let path = NSTemporaryDirectory() + "mesh-programs-\(UUID().uuidString)"
    private var isMounted = false

    init() throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    /// A disk of its own; nil where this user may not mount one.
    init?(mebibytes: Int) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let result = try Programs.run(
            "/bin/mount", ["-t", "tmpfs", "-o", "size=\(mebibytes)m", "none", path])
        guard result.code == 0 else { return nil }
        isMounted = true
    }

    deinit {
        if isMounted { _ = try? Programs.run("/bin/umount", ["-l", path]) }
        try? FileManager.default.removeItem(atPath: path)
    }

    func file(_ name: String, _ text: String) throws -> String {
        try text.write(toFile: "\(path)/\(name)", atomically: true, encoding: .utf8)
        return "\(path)/\(name)"
    }
}

/// Ports that nobody else on this machine has.
///
/// They lie below those that the system deals out to whoever dials: one of these could be any
/// client's the moment before a server binds it.
enum Ports {
    private static let range = 10_000..<32_000
    private static let last = Mutex(Int.random(in: range))

    /// The next port that is free for TCP and UDP, on every address.
    static func next() -> Int {
        last.withLock { port in
            repeat {
                port = port + 1 < range.upperBound ? port + 1 : range.lowerBound
            } while !isFree(port, SOCK_STREAM) || !isFree(port, SOCK_DGRAM)
            return port
        }
    }

    private static func isFree(_ port: Int, _ kind: __socket_type) -> Bool {
        let descriptor = socket(AF_INET, Int32(kind.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}

/// A meshd of its own on loopback, without beacons.
final class Node {
    let scratch: Scratch
    let data: String
    let port: Int
    let link: Int
    private let seeds: [String]
    private let multicast: Int?
    var options: [String] = []
    private var process = Process()
    private(set) var log = ""

    /// Makes a mesh and its first, central node; or joins another's mesh.
    init(
        _ name: String = "centre", site: String = "hq", joining other: Node? = nil,
        multicast: Int? = nil, seeds: [String] = [], in folder: Scratch? = nil,
        options: [String] = []
    ) throws {
        self.multicast = multicast
        self.options = options
        scratch = try folder ?? other?.scratch ?? Scratch()
        data = "\(scratch.path)/\(name)"
        (port, link) = (Ports.next(), Ports.next())
        self.seeds =
            seeds + (multicast == nil ? other.map { ["127.0.0.1:\($0.link)"] } ?? [] : [])
        let keys = "\(scratch.path)/keys"
        if other == nil {
            try Programs.run(
                "meshctl", ["mesh", "create", keys, "--name", "test", "--no-passphrase"])
        }
        let ticket = "\(data).ticket"
        try Programs.run(
            "meshctl",
            ["ticket", "create", "--keys", keys, "--site", site, "--node", name, "--out", ticket]
                + (other == nil ? ["--central"] : []))
        try Programs.run("meshctl", ["join", ticket, "--data", data])
        try start()
    }

    /// A new box with a ticket that was made already, which dials another.
    init(box: String, ticket: String, dialling other: Node) throws {
        multicast = nil
        scratch = other.scratch
        data = "\(scratch.path)/\(box)"
        (port, link) = (Ports.next(), Ports.next())
        seeds = ["127.0.0.1:\(other.link)"]
        try Programs.run("meshctl", ["join", ticket, "--data", data])
        try start()
    }

    /// A second server from a copy of another's disk.
    init(copying other: Node) throws {
        multicast = other.multicast
        scratch = other.scratch
        data = other.data + "-copy"
        (port, link) = (Ports.next(), Ports.next())
        seeds = []
        try Programs.run("/bin/cp", ["-r", other.data, data])
        try? FileManager.default.removeItem(atPath: data + "/admin.sock")
        try start()
    }

    func start() throws {
        process = Process()
        log = ""
        process.executableURL = URL(fileURLWithPath: "\(Programs.build)/meshd")
        process.arguments = [
            "--data", data, "--mesh-listen", "127.0.0.1:\(link)", "--http-listen",
            "127.0.0.1:\(port)",
            "--store-volatile",
        ]
        if let multicast {
            process.arguments? += [
                "--discovery-interfaces", "lo", "--discovery-port", "\(multicast)",
            ]
        } else {
            process.arguments? += ["--discovery-enabled", "false"]
        }
        process.arguments? += options
        process.environment = ProcessInfo.processInfo.environment.merging(["TEST_DATA": data]) {
            $1
        }
        if !seeds.isEmpty { process.arguments? += ["--mesh-seeds", seeds.joined(separator: ",")] }
        let pipe = Pipe()
        process.standardError = pipe
        // What outlives a test that crashed must not hold the output of all tests open.
        process.standardOutput = FileHandle.nullDevice
        try Launch.lock.withLock { try process.run() }
        while !log.contains("meshd: ready\n") {
            let data = pipe.fileHandleForReading.availableData
            guard !data.isEmpty else { throw NSError(domain: "meshd ended: \(log)", code: 1) }
            log += String(decoding: data, as: UTF8.self)
        }
        pipe.fileHandleForReading.readabilityHandler = { _ = $0.availableData }
    }

    /// How long it took to end.
    func stop() -> Double {
        let start = Date()
        process.terminate()
        process.waitUntilExit()
        return Date().timeIntervalSince(start)
    }

    var pid: Int32 { process.processIdentifier }
    var isRunning: Bool { process.isRunning }
    var exitCode: Int32 { process.terminationStatus }

    func kill() {
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    deinit { if process.isRunning { kill() } }

    /// curl's answer: the status, then the body.
    /// Where its API is.
    var base: String { "http://127.0.0.1:\(port)" }

    func curl(_ path: String, _ arguments: String...) throws -> (status: Int, body: String) {
        try curl(path, arguments)
    }

    func curl(_ path: String, _ arguments: [String]) throws -> (status: Int, body: String) {
        let result = try Programs.run(
            "/usr/bin/curl",
            ["-s", "--max-time", "30", "-w", "\n%{http_code}", "--path-as-is"] + arguments
                + [base + path])
        let lines = result.output.split(separator: "\n", omittingEmptySubsequences: false)
        return (Int(lines.last ?? "") ?? 0, lines.dropLast().joined(separator: "\n"))
    }
}

extension Node {
    /// A node with the namespace `menu`, which it may write.
    static func withMenu() throws -> Node {
        let node = try Node()
        _ = try Programs.ctl(
            node, "namespace", "create", "--keys", "\(node.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "central", "--merge", "register")
        return node
    }
}
