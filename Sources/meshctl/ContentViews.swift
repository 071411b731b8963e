// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshContent
import MeshCore

/// What the views of content share: which channels, and how they are printed.
struct ContentLook: ParsableArguments {
    @OptionGroup var connection: Connection
    @OptionGroup var output: Output
    @Argument(help: "One channel only.") var channel: String?

    /// Prints once, or again and again; exit code 4 where the channel is not known.
    func show(
        table: (ContentView) -> Void, verdict: (ContentView) -> ExitCode
    ) async throws {
        let client = try connection.client()
        try await output.show {
            var view = try await client.content()
            if let channel { view.channels.removeAll { $0.channel != channel } }
            switch output.output {
            case .json, .ndjson: try Console.json(view)
            case .name: for one in view.channels { Console.line(one.channel) }
            case .table, .wide: table(view)
            }
            return channel != nil && view.channels.isEmpty ? ExitCode(4) : verdict(view)
        }
    }
}

/// The releases of every channel.
struct ContentList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists channels and their releases.")

    @OptionGroup var look: ContentLook

    func run() async throws {
        try await look.show { view in
            let rows = view.channels.flatMap { channel in
                channel.releases.reversed().map { release in
                    [
                        channel.channel, release.release,
                        release.release == channel.own.active ? "active" : "-",
                        release.isHere ? "here" : "-", "\(release.files)",
                        Console.size(release.bytes), release.audience,
                        Console.date(release.createdMs), release.message,
                    ]
                }
            }
            Console.table(
                [
                    "CHANNEL", "RELEASE", "STATE", "FILES-ARE", "FILES", "SIZE", "FOR",
                    "CREATED",
                    "MESSAGE",
                ], rows, noHeaders: look.output.noHeaders)
        } verdict: { _ in
            .success
        }
    }
}

/// How far every server is.
struct ContentStatus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows how far each server is with each channel.",
        discussion:
            "At the centre this is the whole roll-out; at a site, the site. Exit code 2 while anyone is behind, 3 where one failed."
    )

    @OptionGroup var look: ContentLook

    func run() async throws {
        try await look.show { view in
            show(view)
        } verdict: { view in
            let phases = view.channels.flatMap { [$0.own] + $0.servers }.map(\.phase)
            if phases.contains("failed") { return ExitCode(3) }
            return phases.allSatisfy { $0 == "active" } ? .success : ExitCode(2)
        }
    }

    private func show(_ view: ContentView) {
        var rows: [[String]] = []
        for channel in view.channels {
            let servers = channel.servers.sorted { ($0.site, $0.node) < ($1.site, $1.node) }
            for (index, line) in ([channel.own] + servers).enumerated() {
                let share =
                    line.bytesAll == 0 ? 100 : Double(line.bytesHere) / Double(line.bytesAll) * 100
                let isOwn = index == 0
                rows.append([
                    channel.channel, line.site, line.node + (isOwn ? "*" : ""),
                    line.active ?? "-", line.target, line.phase,
                    String(format: "%.0f%%", min(share, 100)),
                    isOwn && channel.bytesPerSecond > 1
                        ? Console.size(UInt64(clamping: Int64(min(channel.bytesPerSecond, 1e15))))
                            + "/s" : "-",
                    isOwn ? channel.expectedSeconds.map { Console.age($0) } ?? "-" : "-",
                    Console.age(line.toldSeconds),
                ])
            }
        }
        Console.table(
            [
                "CHANNEL", "SITE", "NODE", "ACTIVE", "TARGET", "STATE", "HERE", "RATE", "ENDS-IN",
                "TOLD",
            ], rows, noHeaders: look.output.noHeaders)
        if let age = view.freshSeconds, age > 1800 {
            Console.line(
                "! the centre was last heard \(Console.age(age)) ago: newer releases may stand there"
            )
        } else if view.freshSeconds == nil {
            Console.line("! the centre was never heard")
        }
        for channel in view.channels {
            if let last = channel.releases.last, last.isHalted {
                Console.line(
                    "! \(channel.channel) \(last.release) is halted, since a server of an early ring was not well: publish a better one"
                )
            }
            for line in [channel.own] + channel.servers {
                if let reason = line.reason {
                    Console.line("! \(channel.channel) on \(line.node): \(reason)")
                }
            }
        }
    }
}

/// Reads everything that is served.
struct Verify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Has the node read every file that it serves of a channel and check it.")

    @OptionGroup var connection: Connection
    @Argument(help: "The channel.") var channel: String

    func run() async throws {
        let view = try await connection.client().verifyContent(channel)
        Console.line("\(view.chunks) chunks read, \(view.damaged) damaged")
        if view.damaged > 0 {
            Console.complain("the damaged are fetched anew, and not served meanwhile")
            throw ExitCode(2)
        }
    }
}

/// What a release changed.
struct Diff: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows which files differ between two releases of a channel.")

    @OptionGroup var connection: Connection
    @Argument(help: "The channel.") var channel: String
    @Argument(help: "The older release; the one before the newer.") var from: String?
    @Argument(help: "The newer release; the latest.") var to: String?

    func run() async throws {
        let client = try connection.client()
        guard let view = try await client.content().channels.first(where: { $0.channel == channel })
        else { throw Failure("there is no channel '\(channel)'", code: 4) }
        let newer = to ?? view.releases.last?.release
        let index = view.releases.firstIndex { $0.release == newer } ?? 0
        let older = from ?? (index > 0 ? view.releases[index - 1].release : nil)
        let files = try await [older, newer].asyncMap { name -> [String: Manifest.File] in
            guard let name else { return [:] }
            guard let release = view.releases.first(where: { $0.release == name }),
                let bytes = try await client.manifest(release.manifest)
            else { throw Failure("the files of '\(name)' are not on the node any more", code: 4) }
            return Dictionary(
                try Manifest(decoding: bytes).files.map { ($0.path, $0) },
                uniquingKeysWith: { first, _ in first })
        }
        for path in Set(files[0].keys).union(files[1].keys).sorted() {
            switch (files[0][path], files[1][path]) {
            case (nil, let new?): Console.line("+ \(path)  \(Console.size(new.byteCount))")
            case (_?, nil): Console.line("- \(path)")
            case (let old?, let new?) where old != new:
                let known = Set(old.chunks.map(\.id))
                let fresh = new.chunks.filter { !known.contains($0.id) }
                    .reduce(0) { $0 + UInt64($1.byteCount) }
                Console.line(
                    "~ \(path)  \(Console.size(fresh)) of \(Console.size(new.byteCount)) in new chunks"
                )
            default: break
            }
        }
    }
}

extension Array {
    fileprivate func asyncMap<T>(_ body: (Element) async throws -> T) async throws -> [T] {
        var result: [T] = []
        for element in self { result.append(try await body(element)) }
        return result
    }
}

/// A line that is written again and again, on a terminal only.
final class ProgressBar {
    private let label: String
    private let total: UInt64?
    private var last: UInt64 = 0

    init(_ label: String, of total: UInt64? = nil) {
        self.label = label
        self.total = total
    }

    func show(_ bytes: UInt64) {
        guard Console.isErrorTerminal, bytes &- last > 8 << 20 || bytes == total else { return }
        last = bytes
        let share = total.map { " of \(Console.size($0))" } ?? ""
        FileHandle.standardError.write(
            Data("\r\(label) \(Console.size(bytes))\(share)\u{1B}[K".utf8))
    }

    func end() {
        if Console.isErrorTerminal { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
    }
}
