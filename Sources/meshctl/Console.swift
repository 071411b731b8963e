// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Glibc
import MeshClient
import MeshCore

/// Where a command finds the node.
struct Connection: ParsableArguments {
    @Option(help: "The admin socket of the local node.") var socket: String?
    @Option(help: "The data directory of the local node.") var data: String?
    @Option(help: "Another node's API, http://HOST:PORT.") var url: String?
    @Option(help: "A file with the token for --url.") var tokenFile: String?

    func client() throws -> NodeClient {
        if let url {
            guard let parts = URLComponents(string: url), parts.scheme == "http",
                let host = parts.host
            else { throw ValidationError("--url is http://HOST:PORT") }
            let token = try tokenFile.map { path in
                guard let bytes = FileManager.default.contents(atPath: path) else {
                    throw Failure("\(path) cannot be read")
                }
                return String(decoding: bytes, as: UTF8.self).trimmingCharacters(
                    in: .whitespacesAndNewlines)
            }
            return NodeClient(.http(host: host, port: parts.port ?? 7373, token: token))
        }
        let directory = data ?? ProcessInfo.processInfo.environment["MESH_DATA"] ?? "/var/lib/mesh"
        return NodeClient(.socket(socket ?? directory + "/admin.sock"))
    }
}

/// How a command prints.
struct Output: ParsableArguments {
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table, wide, json, ndjson, name
    }

    @Option(name: [.short, .customLong("output")], help: "table, wide, json, ndjson or name.")
    var output = Format.table
    @Flag(help: "Leave the header line out.") var noHeaders = false
    @Flag(help: "Print again every two seconds until interrupted.") var watch = false

    /// Prints once, or again and again.
    func show(_ body: () async throws -> ExitCode) async throws {
        while true {
            let code = try await body()
            guard watch else {
                if code != .success { throw code }
                return
            }
            try await Task.sleep(for: .seconds(2))
            if Console.isTerminal { Console.clear() }
        }
    }
}

/// Text on a terminal or into a pipe.
enum Console {
    static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }
    static var isErrorTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    /// Prints one line: the only way to standard output for text that others may have written.
    static func line(_ text: String = "") {
        FileHandle.standardOutput.write(Data((text.visible + "\n").utf8))
    }

    static func complain(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(\.visible)
        let whole = "meshctl: \(lines.joined(separator: "\n  "))\n"
        FileHandle.standardError.write(Data(whole.utf8))
    }

    /// Gives bytes as they are to a program, and as visible text to a terminal.
    static func write(_ bytes: some Collection<UInt8>) {
        guard isTerminal else { return FileHandle.standardOutput.write(Data(bytes)) }
        let text = String(decoding: bytes, as: UTF8.self)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(\.visible)
        FileHandle.standardOutput.write(Data(lines.joined(separator: "\n").utf8))
    }

    /// Empties the screen.
    static func clear() { FileHandle.standardOutput.write(Data("\u{1B}[2J\u{1B}[H".utf8)) }

    static func json(_ value: some Encodable) throws {
        let text = String(decoding: try MeshJSON.encode(value), as: UTF8.self)
        FileHandle.standardOutput.write(Data((text.visibleJSON + "\n").utf8))
    }

    /// Aligned columns without boxes, header first.
    static func table(_ header: [String], _ rows: [[String]], noHeaders: Bool) {
        let all = ((noHeaders ? [] : [header]) + rows).map { $0.map(\.visible) }
        var widths = [Int](repeating: 0, count: header.count)
        for row in all {
            for (column, cell) in row.enumerated() {
                widths[column] = max(widths[column], cell.count)
            }
        }
        for row in all {
            let cells = row.enumerated().map { column, cell in
                column == row.count - 1
                    ? cell : cell.padding(toLength: widths[column], withPad: " ", startingAt: 0)
            }
            line(cells.joined(separator: "  "))
        }
    }

    /// The sum of numbers that a server says, as far as it can be told.
    static func sum(_ numbers: [UInt64]) -> UInt64 {
        numbers.reduce(0) { sum, one in
            let (value, isOver) = sum.addingReportingOverflow(one)
            return isOver ? .max : value
        }
    }

    /// Seconds as people say them.
    static func age(_ seconds: Double?) -> String {
        guard let told = seconds, told.isFinite else { return "-" }
        // A server may say any number.
        let seconds = min(max(told, 0), 1e12)
        if seconds < 1 { return "\(Int(seconds * 1000))ms" }
        if seconds < 120 { return "\(Int(seconds))s" }
        if seconds < 7200 { return "\(Int(seconds / 60))m" }
        return seconds < 172_800 ? "\(Int(seconds / 3600))h" : "\(Int(seconds / 86_400))d"
    }

    /// A difference between clocks, with its sign.
    static func offset(_ seconds: Double?) -> String {
        guard let seconds else { return "-" }
        return (seconds < 0 ? "-" : "+") + age(abs(seconds))
    }

    /// A moment by this machine's clock.
    static func date(_ milliseconds: UInt64) -> String {
        let date = Date(timeIntervalSince1970: Double(milliseconds) / 1000)
        return date.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: false))
    }

    /// Bytes as people say them.
    static func size(_ bytes: some BinaryInteger) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(bytes)
        var unit = 0
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(bytes) B" : String(format: "%.1f %@", value, units[unit])
    }
}
