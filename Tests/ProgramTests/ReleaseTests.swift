// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@Suite(.serialized) struct `A release` {
    /// What a publisher would send to begin with the latest release of a node: in a file.
    private func signed(at node: Node, _ stage: PublishingStage) throws -> String {
        func get(_ path: String, to file: String) throws {
            try Programs.run(
                "/usr/bin/curl",
                [
                    "-s", "--unix-socket", "\(node.data)/admin.sock", "-o", file,
                    "http://localhost/v1/content/\(path)",
                ])
        }
        let (release, manifest) = ("\(node.data).release", "\(node.data).manifest")
        try get("latest/menu", to: release)
        let list = try Programs.ctl(node, "content", "list", "-o", "json").output
        let name = try #require(
            list.matches(of: /"manifest" ?: ?"([0-9a-f]{64})"/).last?.output.1)
        try get("manifests/\(name)", to: manifest)
        var bytes = try Data(contentsOf: URL(fileURLWithPath: release))
        let count = UInt32(bytes.count)
        bytes.insert(contentsOf: (0..<4).map { UInt8(count >> (8 * $0) & 0xff) }, at: 0)
        bytes += try Data(contentsOf: URL(fileURLWithPath: manifest))
        let file = "\(node.data).publication"
        try bytes.write(to: URL(fileURLWithPath: file))
        return file
    }

    @Test func `of a number that stands already is one of two, everywhere the same, and told`()
        throws
    {
        let stage = try PublishingStage()
        try stage.write("index.html", "first")
        #expect(try stage.publish().output == "menu 1.2\n")
        let other = try Node("b", site: "s1", joining: stage.node)
        #expect(try eventually { try other.curl("/content/menu/").body == "first" })
        // Two publishers with the same keys that do not hear of each other.
        stage.node.kill()
        try stage.write("index.html", "one of two")
        #expect(try stage.publish(at: other).output == "menu 1.4\n")
        let rival = try signed(at: other, stage)
        other.kill()
        try stage.node.start()
        // The other has a copy of the keys from before, with its own note of the last number.
        try Data("1.2\n".utf8).write(to: URL(fileURLWithPath: "\(stage.keys)/last-release-menu"))
        try stage.write("index.html", "two of two")
        #expect(try stage.publish().output == "menu 1.4\n")
        // By a publisher's way it is refused: it is not newer than what stands.
        let late = try Programs.run(
            "/usr/bin/curl",
            [
                "-s", "--unix-socket", "\(stage.node.data)/admin.sock", "--data-binary",
                "@\(rival)", "http://localhost/v1/content/begin",
            ])
        #expect(late.output.contains("not_newer"))
        try other.start()
        for node in [stage.node, other] {
            #expect(try eventually { try stage.count("content_release_twice", at: node) > 0 })
        }
        #expect(
            try eventually {
                let bodies = try [stage.node, other].map { try $0.curl("/content/menu/").body }
                return bodies[0] == bodies[1] && bodies[0].hasSuffix("of two")
            })
        try stage.write("index.html", "last")
        #expect(try stage.publish().output == "menu 1.6\n")
        for node in [stage.node, other] {
            #expect(try eventually { try node.curl("/content/menu/").body == "last" })
        }
    }

    @Test func `of which a chunk is nowhere is named incomplete, and the one before is served`()
        throws
    {
        let stage = try PublishingStage()
        try stage.write("index.html", "first")
        #expect(try stage.publish().code == 0)
        let other = try Node("b", site: "s1", joining: stage.node)
        #expect(try eventually { try other.curl("/content/menu/").body == "first" })
        other.kill()
        try stage.write("index.html", "second")
        try stage.write("film", String(repeating: "picture", count: 60_000))
        #expect(try stage.publish().code == 0)
        #expect(try eventually { try stage.node.curl("/content/menu/").body == "second" })
        let place = "\(stage.node.data)/content/menu/active/film"
        let whole = try #require(FileManager.default.contents(atPath: place))
        chmod(place, 0o644)
        let file = try #require(FileHandle(forWritingAtPath: place))
        try file.seek(toOffset: 200_000)
        file.write(Data("rotten".utf8))
        try file.close()
        try other.start()
        #expect(
            try eventually {
                try Programs.ctl(other, "content", "status").output.contains(
                    "incomplete: 1 chunks are on no linked server")
            })
        #expect(try other.curl("/content/menu/").body == "first")
        #expect(
            try eventually {
                try Programs.ctl(stage.node, "content", "status").output.contains("incomplete:")
            })
        // The publisher brings it again, and all goes on.
        try whole.write(to: URL(fileURLWithPath: stage.folder + "/film"))
        #expect(try stage.publish().code == 0)
        #expect(try eventually { try other.curl("/content/menu/").body == "second" })
        #expect(try other.curl("/content/menu/film").body.count == 420_000)
    }

    @Test func `that comes while another is fetched is the one that is served, and the other goes`()
        throws
    {
        let stage = try PublishingStage()
        let other = try Node("b", site: "s1", joining: stage.node)
        try stage.write("index.html", "0")
        #expect(try stage.publish().code == 0)
        #expect(try eventually { try other.curl("/content/menu/").body == "0" })
        for round in 1...6 {
            try stage.write("index.html", "\(round)")
            try stage.write("film", String(repeating: "\(round)", count: 3_000_000))
            #expect(try stage.publish().code == 0)
        }
        #expect(try eventually { try other.curl("/content/menu/").body == "6" })
        let trees = "\(other.data)/content/menu/trees"
        #expect(
            try eventually {
                try FileManager.default.contentsOfDirectory(atPath: trees).count <= 4
            })
        let left = try FileManager.default.contentsOfDirectory(atPath: trees)
        #expect(!left.contains { $0.hasSuffix(".part") })
    }

    @Test func `that its site's probe refused is not tried again after a restart`() throws {
        let stage = try PublishingStage()
        let other = try Node(
            "b", site: "s1", joining: stage.node,
            options: ["--content-probe", "! grep -q bad $TEST_DATA/content/menu/active/index.html"])
        try stage.write("index.html", "good")
        #expect(try stage.publish().code == 0)
        #expect(try eventually { try other.curl("/content/menu/").body == "good" })
        try stage.write("index.html", "bad")
        #expect(try stage.publish().code == 0)
        #expect(
            try eventually { try stage.count("content_probe_failed", at: other) == 1 })
        #expect(try eventually { try other.curl("/content/menu/").body == "good" })
        other.kill()
        try other.start()
        for _ in 0..<40 {
            #expect(try other.curl("/content/menu/").body == "good")
            usleep(50_000)
        }
        #expect(
            try Programs.ctl(other, "content", "status").output.contains("the probe failed after"))
        try stage.write("index.html", "better")
        #expect(try stage.publish().code == 0)
        #expect(try eventually { try other.curl("/content/menu/").body == "better" })
    }

    @Test
    func `halts where a server of an early ring turned it away, and waits where one has no room`()
        throws
    {
        let stage = try PublishingStage()
        let first = try Node(
            "b", site: "s1", joining: stage.node, options: ["--content-reserve", "1000000"])
        let second = try Node("c", site: "s2", joining: stage.node)
        let rings = ["--stage", "site:s1", "--stage", "all", "--hold", "1"]
        try stage.write("index.html", "good")
        #expect(try stage.publish(rings).code == 0)
        #expect(
            try eventually {
                try Programs.ctl(first, "content", "status").output.contains("bytes on disk")
            })
        // The centre has had time to hear of it and to say something.
        sleep(4)
        #expect(try second.curl("/content/menu/").status == 404)
        #expect(try !Programs.ctl(stage.node, "content", "status").output.contains("is halted"))
        // There is room again; but from now on its site turns some releases away.
        first.kill()
        first.options = [
            "--content-probe", "! grep -q bad $TEST_DATA/content/menu/active/index.html",
        ]
        try first.start()
        #expect(try eventually { try second.curl("/content/menu/").body == "good" })
        try stage.write("index.html", "bad")
        #expect(try stage.publish(rings).code == 0)
        #expect(
            try eventually {
                try Programs.ctl(stage.node, "content", "status").output.contains("is halted")
            })
        #expect(try first.curl("/content/menu/").body == "good")
        #expect(try second.curl("/content/menu/").body == "good")
    }
}
