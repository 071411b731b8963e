// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshStore

/// Which namespace's part of which site is meant.
struct Place: ParsableArguments {
    @Option(help: "The site whose part is meant, where it is not the node's own.") var site: String?
}

/// A secret on its way into a file.
enum SecretFile {
    static func write(_ text: String, to path: String) throws {
        do { try DataDirectory.write(Array((text + "\n").utf8), to: path, mode: 0o600) } catch {
            throw Failure("\(error)")
        }
    }
}

/// Writes a key.
struct Put: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes a key; returns when it is durable on the node.",
        discussion: """
            With --ack site:2 it returns when two servers of the site hold it on their disks, with --ack central when a server
            of the centre does. Where that takes longer than --wait, the write stands, standard error says who holds
            it, and the exit code is 2.
            """)

    @OptionGroup var connection: Connection
    @OptionGroup var place: Place
    @Argument(help: "The namespace.") var namespace: String
    @Argument(help: "The key.") var key: String
    @Argument(help: "The value; standard input where none or - is given.") var value: String?
    @Option(help: "The media type.") var type = "application/octet-stream"
    @Option(help: "Only if the key's state is still this one.") var ifMatch: String?
    @Flag(help: "Only if the key holds no value.") var ifAbsent = false
    @Option(help: "Where it is to be durable: local, site:K or central.") var ack: String?
    @Option(help: "How long to wait for that, such as 500ms (the usual) or 2s.") var wait: String?

    func run() async throws {
        let body: [UInt8]
        if let value, value != "-" {
            body = Array(value.utf8)
        } else {
            body = Array(FileHandle.standardInput.readDataToEndOfFile())
        }
        let answer = try await connection.client().put(
            namespace, key, body, contentType: type, site: place.site, ifMatch: ifMatch,
            ifAbsent: ifAbsent, ack: ack, wait: wait)
        Console.line(answer.etags.first ?? "")
        guard !answer.reached else { return }
        Console.complain(
            "written, but not known to be as durable as \(answer.ack): it is on \(answer.durableOn.joined(separator: ", "))"
        )
        throw ExitCode(2)
    }
}

/// Reads a key.
struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints a key's value as it was written.",
        discussion: "Exits with 4 where there is none. Tells on standard error of siblings.")

    @OptionGroup var connection: Connection
    @OptionGroup var place: Place
    @Argument(help: "The namespace.") var namespace: String
    @Argument(help: "The key.") var key: String
    @Flag(help: "Shows all live versions as JSON.") var siblings = false

    func run() async throws {
        let client = try connection.client()
        if siblings {
            let view = try await client.siblings(namespace, key, site: place.site)
            for record in view.records { try Console.json(record) }
            return
        }
        let value = try await client.value(namespace, key, site: place.site)
        Console.write(value.body)
        if Console.isTerminal, value.body.last != 10 { Console.line() }
        if value.siblings > 0 {
            Console.complain("\(value.siblings) other versions live (see --siblings)")
        }
    }
}

/// Deletes a key.
struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Deletes a key.")

    @OptionGroup var connection: Connection
    @OptionGroup var place: Place
    @Argument(help: "The namespace.") var namespace: String
    @Argument(help: "The key.") var key: String

    func run() async throws {
        _ = try await connection.client().delete(namespace, key, site: place.site)
    }
}

/// Lists keys.
struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists keys with their values.")

    @OptionGroup var connection: Connection
    @OptionGroup var place: Place
    @OptionGroup var output: Output
    @Argument(help: "The namespace.") var namespace: String
    @Option(help: "Only keys that begin so.") var prefix = ""
    @Option(help: "At most so many.") var limit: Int?

    func run() async throws {
        let client = try connection.client()
        try await output.show {
            var left = limit ?? .max
            var after: String?
            var rows: [RecordView] = []
            repeat {
                let page = try await client.list(
                    namespace, prefix: prefix, after: after, limit: min(500, left), site: place.site
                )
                rows += page.records
                left -= page.records.count
                after = page.next
            } while after != nil && left > 0
            try show(rows)
            return rows.isEmpty ? ExitCode(4) : .success
        }
    }

    private func show(_ rows: [RecordView]) throws {
        switch output.output {
        case .json: try Console.json(RecordsView(records: rows, next: nil))
        case .ndjson: for row in rows { try Console.json(row) }
        case .name: for row in rows { Console.line(row.key) }
        case .table, .wide:
            let width = output.output == .wide ? 1000 : 60
            let lines = rows.map { row in
                [
                    row.key, row.twin == true ? "\(row.siblings) twin" : "\(row.siblings)",
                    row.contentType,
                    (row.text ?? "(\(row.body.count) bytes)").replacingOccurrences(
                        of: "\n", with: " "
                    )
                    .prefix(width).description,
                ]
            }
            Console.table(
                ["KEY", "SIBLINGS", "TYPE", "VALUE"], lines, noHeaders: output.noHeaders)
        }
    }
}

/// Follows changes.
struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints changes as they come, one line of JSON each.",
        discussion:
            "Resume with --since and the cursor of the last line; 'now' skips what is there.")

    @OptionGroup var connection: Connection
    @Argument(help: "Only this namespace.") var namespace: String?
    @Option(help: "A cursor, or now.") var since = "now"

    func run() async throws {
        let client = try connection.client()
        for try await change in try await client.changes(since: since, namespace: namespace) {
            try Console.json(change)
        }
    }
}

/// Prints a namespace.
struct Export: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints all records of a namespace, one line of JSON each.",
        discussion: """
            With --signed prints the commits with their signatures and certificates instead, which
            tools/verify-export.py checks without anything of this program.
            Values come in the order of their keys. To go on after a break, give --after and the last key that was printed.
            """)

    @OptionGroup var connection: Connection
    @OptionGroup var place: Place
    @Argument(help: "The namespace.") var namespace: String
    @Flag(help: "Signed commits instead of values.") var signed = false
    @Option(help: "Begin behind this key.") var after: String?

    func validate() throws {
        if signed, after != nil {
            throw ValidationError("commits have no order of keys: --after goes without --signed")
        }
    }

    func run() async throws {
        let client = try connection.client()
        if signed {
            for try await line in try await client.signedExport(namespace) {
                Console.write(line + [10])
            }
            return
        }
        var progress = ExportProgress()
        var next = after
        repeat {
            let page = try await client.list(namespace, after: next, site: place.site)
            for record in page.records { try Console.json(record) }
            progress.show(more: page.records.count)
            next = page.next
        } while next != nil
        progress.end()
    }
}
