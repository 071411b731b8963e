// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshTesting
import Testing

/// What the API says to whoever asks for what it does not have.
@Suite(.serialized) struct `Of a request that it cannot carry out a server` {
    private func node() throws -> Node { try Node.withMenu() }

    private func head(_ node: Node, _ method: String, _ path: String) throws -> [String] {
        try Programs.run(
            "/usr/bin/curl",
            ["-sS", "-o", "/dev/null", "-D", "-", "-X", method, node.base + path]
        ).output.components(separatedBy: "\r\n")
    }

    @Test(arguments: [
        ("PATCH", "/v1/records/menu/a", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("DELETE", "/v1/records/menu", "GET, HEAD, OPTIONS"), ("GET", "/v1/batch", "OPTIONS, POST"),
        ("PUT", "/v1/revocations", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/metrics", "GET, HEAD, OPTIONS"),
    ])
    func `names the methods that a path takes`(
        method: String, path: String, allow: String
    ) throws {
        let answer = try head(try node(), method, path)
        #expect(answer.first?.hasPrefix("HTTP/1.1 405") == true)
        #expect(answer.contains("Allow: \(allow)"))
    }

    @Test func `tells them to OPTIONS too, and knows HEAD where it knows GET`() throws {
        let node = try node()
        let options = try head(node, "OPTIONS", "/v1/changes")
        #expect(options.first?.hasPrefix("HTTP/1.1 204") == true)
        #expect(options.contains("Allow: GET, HEAD, OPTIONS"))
        for path in ["/v1/status", "/v1/records/menu", "/v1/namespaces", "/v1/digest/menu@all"] {
            let (get, head) = (
                try node.curl(path).status,
                try Programs.run(
                    "/usr/bin/curl",
                    ["-sS", "-I", "-o", "/dev/null", "-w", "%{http_code}", node.base + path]
                ).output
            )
            #expect("\(get)" == head, "\(path)")
        }
    }

    @Test func `says that nothing is there`() throws {
        let node = try node()
        for path in [
            "/v1", "/v1/", "/v2/records", "/v1/recordss/menu", "/v1/peers/x", "//v1/peers",
        ] {
            let answer = try node.curl(path)
            #expect(answer.status == 404 && answer.body.contains("not_found"), "\(path)")
        }
    }

    @Test func `names a parameter that it does not know, or that stands twice`() throws {
        let node = try node()
        let misspelt = try node.curl("/v1/records/menu?limmit=3")
        #expect(misspelt.status == 400 && misspelt.body.contains("'limmit'"))
        #expect(misspelt.body.contains("after, limit, prefix, site"))
        #expect(try node.curl("/v1/records/menu?limit=3&limit=4").body.contains("stands twice"))
        #expect(try node.curl("/v1/records/menu?prefix=%ff").body.contains("bad_query"))
        #expect(try node.curl("/v1/records/menu?prefix=%zz").body.contains("bad_query"))
        #expect(try node.curl("/v1/records/menu/a?siblings=yes").body.contains("bad_siblings"))
        #expect(try node.curl("/v1/changes?follow=no").body.contains("bad_follow"))
        #expect(try node.curl("/v1/changes?since=00-1").status == 410)
        #expect(try node.curl("/v1/changes?since=00--1").body.contains("bad_cursor"))
    }

    @Test func `refuses a value that says that it is JSON and is not`() throws {
        let node = try node()
        func put(_ type: String, _ body: String) throws -> (status: Int, body: String) {
            try node.curl(
                "/v1/records/menu/a", "-X", "PUT", "-H", "Content-Type: \(type)", "-d", body)
        }
        #expect(try put("application/json", #"{"price":}"#).body.contains("byte 9"))
        #expect(try put("application/vnd.x+json; charset=utf-8", "x").status == 400)
        #expect(try put("application/json", #"{"price":1}"#).status == 201)
        #expect(try put("text/plain", "{").status == 200)
        let batch = try node.curl(
            "/v1/batch", "-X", "POST", "-H", "Content-Type: application/json", "-d",
            #"{"namespace":"menu","writes":[{"op":"put","key":"t","text":"no JSON"},{"op":"put","key":"u","text":"{","content_type":"application/json"}]}"#
        )
        #expect(batch.status == 400 && batch.body.contains("write 1"))
        #expect(try node.curl("/v1/records/menu/t").status == 404)
    }

    @Test func `heeds weak tags and lists of them, and takes a weak one for no state`() throws {
        let node = try node()
        let put = ["-X", "PUT", "-H", "Content-Type: text/plain", "-d", "one"]
        let made = try node.curl("/v1/records/menu/a", put)
        let etags = made.body.components(separatedBy: "\"etags\":[\"").last ?? ""
        let tag = etags.prefix { $0 != "\"" }
        for field in ["W/\"\(tag)\"", "\"x\", \"\(tag)\"", "*"] {
            let answer = try node.curl("/v1/records/menu/a", "-H", "If-None-Match: \(field)")
            #expect(answer.status == 304, "\(field)")
        }
        #expect(try node.curl("/v1/records/menu/a", "-H", "If-None-Match: \"a").status == 400)
        func status(_ field: String) throws -> Int {
            try node.curl("/v1/records/menu/a", put + ["-H", field]).status
        }
        #expect(try status("If-Match: W/\"\(tag)\"") == 412)
        #expect(try status("If-Match: \"\(tag)\"") == 200)
    }

    @Test func `ends a feed whose token was taken back`() throws {
        let node = try node()
        let file = "\(node.scratch.path)/board"
        #expect(
            try Programs.ctl(node, "token", "create", "--allow", "menu:r", "--out", file)
                .code == 0)
        let secret = try String(contentsOfFile: file, encoding: .utf8)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        let feed = Process()
        feed.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
        feed.arguments = [
            "-sSN", "-o", "\(node.scratch.path)/feed", node.base + "/v1/changes", "-H",
            "Authorization: Bearer \(secret)",
        ]
        try Launch.lock.withLock { try feed.run() }
        let heard = eventually {
            let told = try? String(contentsOfFile: "\(node.scratch.path)/feed", encoding: .utf8)
            return told?.contains("still here") == true
        }
        #expect(heard)
        _ = try Programs.ctl(node, "token", "revoke", "board")
        // Another token of that name is another token.
        let folder = "\(node.scratch.path)/new"
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true)
        #expect(
            try Programs.ctl(
                node, "token", "create", "--allow", "menu:r", "--out", "\(folder)/board"
            ).code == 0)
        let put = ["-X", "PUT", "-H", "Content-Type: text/plain", "-d", "secret"]
        let ends = Date().addingTimeInterval(30)
        while feed.isRunning, Date() < ends {
            #expect(try node.curl("/v1/records/menu/a", put).status < 300)
            usleep(200_000)
        }
        #expect(!feed.isRunning)
        if feed.isRunning { feed.terminate() }
        let told = try String(contentsOfFile: "\(node.scratch.path)/feed", encoding: .utf8)
        #expect(!told.contains("secret"))
    }
}
