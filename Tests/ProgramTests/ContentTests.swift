// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@Suite(.serialized) struct `Content` {
    /// A centre that can publish a page and a file with a space in its name.
    private func stage() throws -> PublishingStage {
        let stage = try PublishingStage()
        try stage.write("index.html", "<h1>one</h1>")
        try stage.write("img/a b.txt", String(repeating: "0123456789", count: 30_000))
        return stage
    }

    @Test func `is published, served with conditions and ranges, and reaches another site`() throws
    {
        let stage = try stage()
        #expect(try stage.publish("--dry-run").output.contains("would publish menu 1.2"))
        #expect(try stage.publish("--message", "first").output == "menu 1.2\n")
        #expect(
            try eventually { try stage.node.curl("/content/menu/").body == "<h1>one</h1>" })
        let path = "/content/menu/img/a%20b.txt"
        let head = try stage.node.curl(path, "-I").body
        #expect(head.contains("200 OK") && head.contains("Content-Length: 300000"))
        #expect(head.contains("Mesh-Release: 1.2") && head.contains("text/plain"))
        let etag = head.split(separator: "\"")[1]
        #expect(
            try stage.node.curl(path, "-H", "If-None-Match: \"\(etag)\"").status == 304)
        for (range, status, body) in [
            ("bytes=0-3", 206, "0123"), ("bytes=-4", 206, "6789"), ("bytes=299998-", 206, "89"),
            ("bytes=299999-400000", 206, "9"), ("bytes=300000-", 416, ""), ("bytes=-0", 416, ""),
        ] {
            let answer = try stage.node.curl(path, "-H", "Range: \(range)")
            #expect(answer.status == status && answer.body == body, "\(range)")
        }
        for range in ["bytes=5-2", "bytes=a-b", "bytes=0-1,4-5", "lines=0-1", "bytes=--1"] {
            #expect(try stage.node.curl(path, "-I", "-H", "Range: \(range)").status == 200)
        }
        #expect(
            try stage.node.curl(path, "-I", "-H", "Range: bytes=0-1", "-H", "If-Range: \"x\"")
                .status == 200)
        #expect(try stage.node.curl("/content/menu").status == 308)
        #expect(try stage.node.curl("/content/other/").status == 404)
        for path in ["/content/menu/../../etc/passwd", "/content/menu/%2e%2e/x", "/content/menu/%"]
        {
            #expect([400, 404].contains(try stage.node.curl(path).status))
        }
        #expect(try stage.node.curl("/content/menu/", "-H", "Host: evil.com").status == 403)
        #expect(try stage.node.curl("/content/menu/", "-X", "POST").status == 404)

        let site = try Node("b", site: "s1", joining: stage.node)
        #expect(try eventually { try site.curl("/content/menu/").status == 200 })
        let status = try Programs.ctl(stage.node, "content", "status")
        #expect(
            try eventually {
                try Programs.ctl(stage.node, "content", "status").output.split(separator: "\n")
                    .count == 3
            }, "\(status.output)")
        #expect(try Programs.ctl(site, "content", "list").output.contains("first"))
    }

    @Test func `goes back with what was signed before, forward with the keys, never backwards`()
        throws
    {
        let stage = try stage()
        _ = try stage.publish()
        #expect(try Programs.ctl(stage.node, "content", "rollback", "menu").code == 1)
        try stage.write("index.html", "<h1>two</h1>")
        #expect(try stage.publish().output == "menu 1.4\n")
        #expect(
            try eventually { try stage.node.curl("/content/menu/").body == "<h1>two</h1>" })
        #expect(
            try Programs.ctl(stage.node, "content", "diff", "menu").output.contains("~ index.html"))
        #expect(try Programs.ctl(stage.node, "content", "rollback", "menu").output == "menu 1.5\n")
        #expect(
            try eventually { try stage.node.curl("/content/menu/").body == "<h1>one</h1>" })
        let again = try Programs.ctl(
            stage.node, "content", "rollback", "menu", "1.4", "--keys", stage.keys)
        #expect(again.output == "menu 1.6\n")
        #expect(
            try eventually { try stage.node.curl("/content/menu/").body == "<h1>two</h1>" })
        // Who has other keys than the channel's publishes nothing.
        let thief = "\(stage.node.scratch.path)/thief"
        _ = try Programs.run("/bin/cp", ["-r", stage.keys, thief])
        for name in try FileManager.default.contentsOfDirectory(atPath: thief)
        where name.hasPrefix("publish-") || name.hasPrefix("charter-") {
            try FileManager.default.removeItem(atPath: "\(thief)/\(name)")
        }
        let refused = try Programs.run(
            "meshctl",
            [
                "content", "publish", "menu", stage.folder, "--keys", thief, "--data",
                stage.node.data,
            ])
        #expect(refused.code == 1 && refused.errors.contains("must"))
        // New keys outrank every version of the old ones.
        #expect(
            try Programs.ctl(stage.node, "content", "rotate", "menu", "--keys", stage.keys).output
                == "menu epoch 2\n")
        try stage.write("index.html", "<h1>three</h1>")
        #expect(try stage.publish().output == "menu 2.2\n")
        #expect(
            try eventually { try stage.node.curl("/content/menu/").body == "<h1>three</h1>" })
        // Over a restart it serves what it served.
        stage.node.kill()
        try stage.node.start()
        #expect(try stage.node.curl("/content/menu/").body == "<h1>three</h1>")
    }

    @Test func `that changed on disk is not served, and is mended from a neighbour`() throws {
        let stage = try stage()
        _ = try stage.publish()
        let other = try Node("b", site: "s1", joining: stage.node)
        #expect(try eventually { try other.curl("/content/menu/").status == 200 })
        let place = "\(other.data)/content/menu/active/img/a b.txt"
        chmod(place, 0o644)
        let file = try #require(FileHandle(forWritingAtPath: place))
        try file.seek(toOffset: 1000)
        file.write(Data("evil".utf8))
        try file.close()
        #expect(try Programs.ctl(other, "content", "verify", "menu").code == 2)
        let whole = String(repeating: "0123456789", count: 30_000)
        for _ in 0..<20 {
            let answer = try other.curl("/content/menu/img/a%20b.txt")
            #expect(answer.status == 503 || answer.body == whole)
        }
        #expect(
            try eventually { try Programs.ctl(other, "content", "verify", "menu").code == 0 })
        #expect(try other.curl("/content/menu/img/a%20b.txt").body == whole)
    }

    @Test func `is old or new after any kill, and reaches its end all the same`() throws {
        let stage = try stage()
        _ = try stage.publish()
        let other = try Node("b", site: "s1", joining: stage.node)
        var versions: Set<String> = ["one"]
        #expect(try eventually { try other.curl("/content/menu/").status == 200 })
        for round in 0..<6 {
            let text = "\(round) " + String(repeating: "\(round)", count: 400_000)
            for name in ["x", "y", "z"] { try stage.write(name, text) }
            versions.insert(text)
            _ = try stage.publish()
            usleep(UInt32(40_000 * round))
            other.kill()
            // Whatever moment it was: every file of what is served is of one release.
            let tree = "\(other.data)/content/menu/active"
            let files = ["x", "y", "z"].map {
                FileManager.default.contents(atPath: "\(tree)/\($0)").map {
                    String(decoding: $0, as: UTF8.self)
                }
            }
            #expect(Set(files).count == 1)
            if let found = files[0] { #expect(versions.contains(found)) }
            try other.start()
        }
        #expect(
            try eventually {
                try other.curl("/content/menu/x", "-r", "0-0").body == "5"
            })
        #expect(try Programs.ctl(other, "content", "verify", "menu").code == 0)
    }

    @Test func `is carried by a file to a site that has no line`() throws {
        let stage = try stage()
        let other = try Node("b", site: "s1", joining: stage.node)
        _ = try stage.publish()
        #expect(try eventually { try other.curl("/content/menu/").status == 200 })
        stage.node.kill()
        // The centre's files go on a stick; a server that never met it takes them in.
        try stage.node.start()
        let stick = "\(stage.node.scratch.path)/stick"
        #expect(try Programs.ctl(stage.node, "content", "export", "menu", "--out", stick).code == 0)
        stage.node.kill()
        other.kill()
        try FileManager.default.removeItem(atPath: other.data + "/content")
        try other.start()
        #expect(try Programs.ctl(other, "content", "import", stick).output == "release 1.2\n")
        #expect(try eventually { try other.curl("/content/menu/").body == "<h1>one</h1>" })
        // One changed byte, and nothing of it is taken.
        var bytes = try #require(FileManager.default.contents(atPath: stick))
        bytes[bytes.count - 10] ^= 1
        try bytes.write(to: URL(fileURLWithPath: stick + "-bad"))
        other.kill()
        try FileManager.default.removeItem(atPath: other.data + "/content")
        try other.start()
        let refused = try Programs.ctl(other, "content", "import", stick + "-bad")
        #expect(refused.code == 1 && refused.errors.contains("hash"))
        #expect(try other.curl("/content/menu/").status == 404)
    }

    @Test func `that its folder cannot hold safely is refused with words`() throws {
        let stage = try stage()
        try FileManager.default.createSymbolicLink(
            atPath: stage.folder + "/link", withDestinationPath: "/etc/passwd")
        let refused = try stage.publish()
        #expect(refused.code == 1 && refused.errors.contains("symbolic link"))
        #expect(try stage.publish("--skip-links").code == 0)
        try stage.write("IMG", "a file named as the folder")
        #expect(
            try stage.publish("--skip-links").errors.contains("a file and a folder of one name"))
        try FileManager.default.removeItem(atPath: stage.folder + "/IMG")
        try stage.write("con.txt", "")
        #expect(try stage.publish("--skip-links").errors.contains("the name of a device"))
    }
}
