// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshTesting
import Testing

/// The article that shows how the API is used.
@Suite(.serialized) struct `The reference` {
    private struct Example {
        let command: String
        let answer: String
    }

    private static func article() throws -> String {
        let top = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        return try String(
            contentsOf: top.appending(path: "Sources/MeshAPI/MeshAPI.docc/Reference.md"),
            encoding: .utf8)
    }

    /// Every command of the article, with the line that follows it.
    private static func examples(_ article: String) -> [Example] {
        let lines = article.split(separator: "\n").map(String.init)
        return zip(lines, lines.dropFirst()).filter { line, _ in
            line.hasPrefix("curl ") || line.hasPrefix("meshctl ")
        }.map { Example(command: $0, answer: $1) }
    }

    private func node() throws -> Node {
        let node = try Node.withMenu()
        _ = try Programs.ctl(
            node, "namespace", "create", "--keys", "\(node.scratch.path)/keys", "orders",
            "--audience", "all", "--writers", "any", "--merge", "log")
        return node
    }

    /// Runs a command as a person would; its status, then all that it printed.
    private func run(_ command: String, _ node: Node) throws -> (status: String, output: String) {
        let isCurl = command.hasPrefix("curl ")
        let whole =
            isCurl
            ? "curl -sS -w '\\n%{http_code}' " + command.dropFirst(5)
            : "\(Programs.build)/\(command)"
        let result = try Programs.run(
            "/bin/sh", ["-c", whole + (isCurl ? "" : "; echo; echo $?")],
            environment: [
                "NODE": node.base, "DATA": node.data, "KEYS": "\(node.scratch.path)/keys",
                "ADMIN": "--unix-socket \(node.data)/admin.sock http://mesh",
            ])
        let lines = result.output.split(separator: "\n")
        return (String(lines.last ?? ""), result.output)
    }

    @Test func `says what a server answers`() throws {
        let node = try node()
        let examples = Self.examples(try Self.article())
        #expect(examples.count > 35)
        for example in examples {
            let parts = example.answer.split(separator: " ", maxSplits: 2).map(String.init)
            #expect(parts.first == "→", "\(example.command) has no answer")
            let (status, output) = try run(example.command, node)
            #expect(parts.count > 1 && status == parts[1], "\(example.command): \(output)")
            if parts.count > 2 {
                #expect(output.contains(parts[2]), "\(example.command): \(output)")
            }
        }
    }

    @Test func `names every route`() throws {
        let article = try Self.article()
        let answer = try node().curl("/v1/openapi.json")
        let document = try JSONSerialization.jsonObject(with: Data(answer.body.utf8))
        let paths = try #require((document as? [String: Any])?["paths"] as? [String: [String: Any]])
        #expect(paths.count > 30)
        for (path, methods) in paths {
            for method in methods.keys {
                let route = "\(method.uppercased()) \(path)"
                #expect(article.contains(route + "\n") || article.contains(route + "`"))
            }
        }
    }
}
