// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A centre with a folder that it publishes, and what came of it.
struct PublishingStage {
    let node: Node
    let folder: String
    var keys: String { "\(node.scratch.path)/keys" }

    init() throws {
        node = try Node()
        folder = "\(node.scratch.path)/site"
        try FileManager.default.createDirectory(
            atPath: folder + "/img", withIntermediateDirectories: true)
    }

    func write(_ name: String, _ text: String) throws {
        try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
    }

    func publish(at other: Node? = nil, _ arguments: String...) throws -> Programs.Result {
        try publish(at: other, arguments)
    }

    func publish(at other: Node? = nil, _ arguments: [String]) throws -> Programs.Result {
        try Programs.run(
            "meshctl",
            [
                "content", "publish", "menu", folder, "--keys", keys, "--data",
                (other ?? node).data,
            ] + arguments)
    }

    func count(_ event: String, at other: Node) throws -> Int {
        let line = try other.curl("/metrics").body.split(separator: "\n").first {
            $0.contains("event=\"\(event)\"")
        }
        return line.flatMap { Int($0.split(separator: " ").last ?? "") } ?? 0
    }
}
