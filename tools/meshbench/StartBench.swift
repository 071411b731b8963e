// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshStore
import MeshTrust
import MeshCrypto

/// How long the real program takes to be ready with a million records, and what it costs at rest.
enum StartBench {
    static func run(program: String) async throws -> [String: Any] {
        let bed = try Bed()
        defer { bed.remove() }
        let data = "\(bed.directory)/node"
        let identity = try join(bed, data)
        let store = try bed.store("\(data)/mesh.sqlite", identity)
        let author = bed.identity("w")
        try store.keep(author.certificate)
        var messages = try bed.log(author, "w", count: 1_000_000, bytes: 100, perCommit: 1000)
        messages.insert(try bed.policy(author), at: 0)
        for start in stride(from: 0, to: messages.count, by: 16) {
            _ = try await store.ingest(Array(messages[start..<min(start + 16, messages.count)]))
        }
        let bytes = try store.diskBytes()
        store.close()
        var times: [Double] = []
        var reads: [Double] = []
        for _ in 0..<5 {
            let node = try Running(program, data)
            times.append(node.readyAfter * 1000)
            reads.append(Double(node.bytesRead))
            node.stop()
        }
        return [
            "ready_ms": Measure.rounded(Measure.median(times)), "records": 1_000_000,
            "database_bytes": bytes, "bytes_read_until_ready": Int(Measure.median(reads)),
        ]
    }

    /// Residence and processor time of a node that does nothing, over half a minute.
    static func idle(program: String) throws -> [String: Any] {
        let bed = try Bed()
        defer { bed.remove() }
        let data = "\(bed.directory)/node"
        _ = try join(bed, data)
        let node = try Running(program, data)
        Thread.sleep(forTimeInterval: 3)
        let before = node.processorSeconds
        Thread.sleep(forTimeInterval: 30)
        let used = node.processorSeconds - before
        let resident = node.residentBytes
        node.stop()
        return [
            "rss_mib": Measure.rounded(Double(resident) / 1_048_576),
            "cpu_percent": Measure.rounded(used / 30 * 100),
        ]
    }

    private static func join(_ bed: Bed, _ data: String) throws -> DataDirectory.Identity {
        let ticketKey = Bed.key()
        let ticket = Ticket(
            key: ticketKey.publicKey.id, serial: Sodium.random(16), site: "hq", node: "n",
            isCentral: true, groups: [], grants: Grant.central)
        let file = TicketFile(
            root: bed.root, enrol: bed.enrol, secrets: MeshSecrets(bed.secret),
            ticketSeed: ticketKey.seed,
            ticket: ticket, seeds: [])
        _ = try DataDirectory(data).join(file)
        return try DataDirectory(data).identity()
    }
}

/// A meshd of its own, on loopback only.
final class Running {
    private let process = Process()
    private(set) var readyAfter = 0.0
    private(set) var bytesRead = 0

    init(_ program: String, _ data: String) throws {
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = [
            "--data", data, "--mesh-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:17399",
            "--discovery-interfaces", "lo",
        ]
        let pipe = Pipe()
        process.standardError = pipe
        let start = ContinuousClock.now
        try process.run()
        var text = ""
        while !text.contains("meshd: ready") {
            let data = pipe.fileHandleForReading.availableData
            guard !data.isEmpty else { fatalError("meshd ended: \(text)") }
            text += String(decoding: data, as: UTF8.self)
        }
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        readyAfter = Double(seconds) + Double(attoseconds) / 1e18
        bytesRead = field("io", "rchar:")
        pipe.fileHandleForReading.readabilityHandler = { _ = $0.availableData }
    }

    private func field(_ file: String, _ name: String) -> Int {
        let path = "/proc/\(process.processIdentifier)/\(file)"
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
        return line.flatMap { Int($0.split(whereSeparator: { $0 == " " || $0 == "\t" })[1]) } ?? 0
    }

    var residentBytes: Int { field("status", "VmRSS:") * 1024 }

    var processorSeconds: Double {
        let path = "/proc/\(process.processIdentifier)/stat"
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12])
        else {
            return 0
        }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    func stop() {
        process.terminate()
        process.waitUntilExit()
    }
}
