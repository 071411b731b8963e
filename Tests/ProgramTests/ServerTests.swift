// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@Suite(.serialized) struct `A server` {
    private func node() throws -> Node {
        let node = try Node()
        _ = try Programs.ctl(
            node, "namespace", "create", "--keys", "\(node.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "central",
            "--merge", "register")
        return node
    }

    @Test func `keeps a body as it came and answers conditional requests`() throws {
        let node = try node()
        let put = try node.curl(
            "/v1/records/menu/soup/1", "-X", "PUT", "-H", "Content-Type: text/plain",
            "--data-binary", "hot")
        #expect(put.status == 201)
        #expect(put.body.contains("\"durable_on\":[\"hq/centre\"]"))
        let again = try node.curl(
            "/v1/records/menu/soup/1", "-X", "PUT", "-H", "Content-Type: text/plain",
            "--data-binary", "hotter")
        #expect(again.status == 200)
        #expect(try node.curl("/v1/records/menu/soup/1").body == "hotter")
        let head = try node.curl("/v1/records/menu/soup/1", "-I").body
        #expect(head.contains("mesh-siblings: 0") || head.contains("Mesh-Siblings: 0"))
        let tag = try #require(head.split(separator: "\"").dropFirst().first).description
        #expect(
            try node.curl("/v1/records/menu/soup/1", "-H", "If-None-Match: \"\(tag)\"").status
                == 304)
        #expect(
            try node.curl(
                "/v1/records/menu/soup/1", "-X", "PUT", "-H", "If-Match: \"\(tag)\"", "-d", "x"
            ).status == 200)
        #expect(
            try node.curl(
                "/v1/records/menu/soup/1", "-X", "PUT", "-H", "If-Match: \"\(tag)\"", "-d", "y"
            ).status == 412)
        #expect(
            try node.curl(
                "/v1/records/menu/soup/1", "-X", "PUT", "-H", "If-None-Match: *", "-d", "y"
            ).status == 412)
        #expect(try node.curl("/v1/records/menu/soup/1", "-X", "DELETE").status == 200)
        #expect(try node.curl("/v1/records/menu/soup/1").status == 404)
    }

    @Test func `writes once for one idempotency key`() throws {
        let node = try node()
        let key = ["-X", "PUT", "-H", "Idempotency-Key: till-7-1", "-d", "x"]
        let first = try node.curl(
            "/v1/records/menu/a", key[0], key[1], key[2], key[3], key[4], key[5])
        let again = try node.curl(
            "/v1/records/menu/a", key[0], key[1], key[2], key[3], key[4], key[5])
        #expect(first.body == again.body)
        #expect(
            try node.curl("/v1/records/menu/b", key[0], key[1], key[2], key[3], key[4], key[5])
                .status == 422)
    }

    @Test(arguments: ["%2e%2e", "a/%2e%2e/b", "a%00b", "a%252eb", "a//b", "%ff", "%zz"])
    func `refuses a key that could be taken for something else`(key: String) throws {
        let node = try node()
        let answer = try node.curl("/v1/records/menu/\(key)", "-X", "PUT", "-d", "x")
        #expect(answer.status == 400)
        #expect(answer.body.contains("\"code\":\"bad_key\""))
    }

    @Test func `refuses requests that a browser was tricked into`() throws {
        let node = try node()
        #expect(try node.curl("/v1/status", "-H", "Host: evil.example").status == 403)
        #expect(try node.curl("/v1/status", "-H", "Origin: http://evil.example").status == 403)
        #expect(try node.curl("/v1/status", "-H", "Origin: null").status == 403)
        #expect(
            try node.curl("/v1/status", "-H", "Origin: http://127.0.0.1:\(node.port)").status == 200
        )
    }

    @Test func `gives a token its grants and no others, and nothing to a wrong one`() throws {
        let node = try node()
        _ = try Programs.ctl(node, "put", "menu", "a", "1")
        let file = "\(node.scratch.path)/till"
        #expect(
            try Programs.ctl(node, "token", "create", "--allow", "menu:r", "--out", file).code == 0)
        let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        let secret = try String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(
            in: .whitespacesAndNewlines)
        let bearer = "Authorization: Bearer \(secret)"
        #expect(try node.curl("/v1/records/menu/a", "-H", bearer).status == 200)
        #expect(
            try node.curl("/v1/records/menu/a", "-H", bearer, "-X", "PUT", "-d", "2").status == 403)
        #expect(
            try node.curl("/v1/records/menu/a", "-H", "Authorization: Bearer nonsense").status
                == 401)
        #expect(try Programs.ctl(node, "token", "revoke", "till").code == 0)
        #expect(try node.curl("/v1/records/menu/a", "-H", bearer).status == 401)
        #expect(try node.curl("/v1/tokens").status == 403)
        #expect(try node.curl("/v1/namespaces/x", "-X", "PUT", "-d", "{}").status == 422)
        #expect(
            try node.curl("/v1/namespaces/x", "-H", bearer, "-X", "PUT", "-d", "{}").status == 401)
    }

    @Test(arguments: [
        "{\"namespace\":\"menu\",\"namespace\":\"menu\",\"writes\":[]}", "{\"a\":1e400}",
        "{\"a\":\"\\ud800\"}",
        "nothing", "{\"namespace\":\"menu\"}", "",
    ])
    func `refuses JSON that two readers could take differently`(text: String) throws {
        let node = try node()
        let answer = try node.curl("/v1/batch", "-X", "POST", "-d", text)
        #expect(answer.status == 400)
        #expect(answer.body.contains("bad_json"))
    }

    @Test
    func `refuses JSON nested too deep, bodies too large, too many headers and compressed bodies`()
        throws
    {
        let node = try node()
        let deep = String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
        #expect(try node.curl("/v1/batch", "-X", "POST", "-d", deep).status == 400)
        let large = try node.scratch.file("large", String(repeating: "x", count: 65_537))
        #expect(
            try node.curl("/v1/records/menu/a", "-X", "PUT", "--data-binary", "@\(large)").status
                == 413)
        #expect(
            try node.curl(
                "/v1/records/menu/a", "-H", "X-Long: \(String(repeating: "y", count: 9000))"
            ).status == 431)
        let long = "/v1/records/menu/" + String(repeating: "k", count: 7500)
        #expect(try node.curl(long).status == 414)
        #expect(
            try node.curl(
                "/v1/records/menu/a", "-X", "PUT", "-H", "Content-Encoding: gzip", "-d", "x"
            ).status == 415)
        #expect(try node.curl("/v1/records/menu/a?ack=0", "-X", "PUT", "-d", "x").status == 400)
        #expect(try node.curl("/v1/records/menu/a?ack=99", "-X", "PUT", "-d", "x").status == 400)
    }

    @Test func `closes on a request with two lengths or too many headers`() throws {
        let node = try node()
        let start = "PUT /v1/records/menu/a HTTP/1.1\r\nHost: localhost\r\n"
        for (request, status) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
            ((0..<65).map { "X-\($0): y\r\n" }.joined() + "Content-Length: 1\r\n\r\na", 431),
            ("Host: other\r\nContent-Length: 1\r\n\r\na", 400),
        ] {
            let script =
                "exec 3<>/dev/tcp/127.0.0.1/\(node.port); printf '%b' \"$1\" >&3; timeout 5 cat <&3"
            let answer = try Programs.run("/bin/bash", ["-c", script, "_", start + request]).output
            #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(answer.prefix(40))")
            #expect(try node.curl("/v1/records/menu/a").status == 404)
        }
    }

    @Test func `takes a batch whole and resumes a feed where it was left`() throws {
        let node = try node()
        let batch =
            "{\"namespace\":\"menu\",\"writes\":[{\"op\":\"put\",\"key\":\"a\",\"text\":\"1\"},{\"op\":\"put\",\"key\":\"b\",\"text\":\"2\"}]}"
        #expect(try node.curl("/v1/batch", "-X", "POST", "-d", batch).status == 200)
        let feed = try node.curl("/v1/changes?follow=false", "-H", "Accept: application/x-ndjson")
            .body
        let lines = feed.split(separator: "\n")
        #expect(lines.count == 2)
        let cursor = try #require(
            lines.first?.split(separator: "\"cursor\":\"").last?.split(separator: "\"").first)
        let rest = try node.curl(
            "/v1/changes?follow=false&since=\(cursor)", "-H", "Accept: application/x-ndjson"
        ).body
        #expect(rest.split(separator: "\n").count == 1)
        let events = try node.curl("/v1/changes?follow=false", "-H", "Last-Event-ID: \(cursor)")
            .body
        #expect(events.contains("event: change") && events.contains("\"key\":\"b\""))
        #expect(try node.curl("/v1/changes?since=beef-1").status == 410)
        #expect(try node.curl("/v1/changes?since=nonsense").status == 400)
    }

    @Test func `serves health and metrics, and knows nothing elsewhere`() throws {
        let node = try node()
        #expect(try node.curl("/healthz").body.hasPrefix("ok"))
        #expect(try node.curl("/metrics").body.contains("mesh_links 0"))
        #expect(try node.curl("/nowhere").status == 404)
        #expect(try node.curl("/v1/records/menu/a", "-X", "PATCH").status == 405)
    }

    @Test func `lets nobody write the mesh's own records past its checks`() throws {
        let node = try node()
        let path = "/v1/records/_mesh/namespaces/orders"
        #expect(try node.curl(path, "-X", "PUT", "-d", "junk").status == 403)
        let batch =
            "{\"namespace\":\"_mesh\",\"writes\":[{\"op\":\"put\",\"key\":\"k\",\"text\":\"x\"}]}"
        #expect(try node.curl("/v1/batch", "-X", "POST", "-d", batch).status == 403)
        let twice =
            "{\"namespace\":\"menu\",\"writes\":[{\"op\":\"put\",\"key\":\"a%41\",\"text\":\"x\"}]}"
        #expect(try node.curl("/v1/batch", "-X", "POST", "-d", twice).status == 400)
        #expect(
            try node.curl(
                "/v1/records/menu/a", "-X", "PUT", "-d", "1", "-H", "If-Match;"
            ).status == 412)
    }

    @Test
    func
        `ends within five seconds of SIGTERM with nothing acknowledged lost, and begins where it was`()
        throws
    {
        let node = try node()
        #expect(try Programs.ctl(node, "put", "menu", "a", "1").code == 0)
        #expect(node.stop() < 5)
        #expect(node.exitCode == 0)
        try node.start()
        #expect(try Programs.ctl(node, "get", "menu", "a").output == "1")
        node.kill()
        try node.start()
        #expect(try Programs.ctl(node, "get", "menu", "a").output == "1")
    }

    @Test func `refuses a second process on its data, by number`() throws {
        let node = try node()
        let second = try Programs.run(
            "meshd", ["--data", node.data, "--store-volatile", "--http-listen", "none"])
        #expect(second.code == 1)
        #expect(second.errors.contains("in use by process"))
    }
}

@Suite(.serialized) struct `Two servers` {
    @Test func `replicate, and what they export proves itself to a stranger`() throws {
        let centre = try Node()
        let site = try Node("till", site: "s1", joining: centre)
        _ = try Programs.ctl(
            centre, "namespace", "create", "--keys", "\(centre.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "central",
            "--merge", "register")
        _ = try Programs.ctl(
            centre, "namespace", "create", "--keys", "\(centre.scratch.path)/keys", "orders",
            "--audience", "site", "--writers", "site",
            "--merge", "log")
        for index in 0..<5 {
            _ = try Programs.ctl(centre, "put", "menu", "k/\(index % 3)", "v\(index)")
        }
        func until(_ condition: () throws -> Bool) rethrows {
            for _ in 0..<100 where try !condition() { usleep(100_000) }
        }
        try until { try Programs.ctl(site, "get", "menu", "k/1").output == "v4" }
        #expect(try Programs.ctl(site, "get", "menu", "k/1").output == "v4")
        let csv = try centre.scratch.file(
            "o.csv", "id,what\n1,\"coffee, black\"\n2,\"a \"\"tea\"\"\"\n")
        #expect(
            try Programs.ctl(site, "import", "orders", csv, "--key", "id").output == "2 records\n")
        // The same command again writes nothing anew.
        #expect(try Programs.ctl(site, "import", "orders", csv, "--key", "id").code == 0)
        try until { try Programs.ctl(centre, "get", "orders", "2", "--site", "s1").code == 0 }
        #expect(
            try Programs.ctl(centre, "get", "orders", "2", "--site", "s1").output
                == #"{"id":"2","what":"a \"tea\""}"#)
        let (one, two) = (
            try Programs.ctl(centre, "digest", "orders@site/s1"),
            try Programs.ctl(site, "digest", "orders@site/s1")
        )
        #expect(one.output == two.output && one.code == 0)
        let export = try Programs.ctl(centre, "export", "menu", "--signed").output
        let file = try centre.scratch.file("signed.ndjson", export)
        let verifier = "\(Programs.top)/tools/verify-export.py"
        let verified = try Programs.run("/usr/bin/python3", [verifier, file])
        #expect(verified.output.contains("verified: "), "\(verified.output)\(verified.errors)")
        #expect(verified.code == 0)
        // One digit changed anywhere in a record, and it is refused.
        let place = try #require(export.range(of: "7634", options: .backwards))
        let changed = try centre.scratch.file(
            "changed.ndjson", export.replacingCharacters(in: place, with: "7635"))
        #expect(try Programs.run("/usr/bin/python3", [verifier, changed]).code == 1)
        // The site may not write what the policy leaves to the centre.
        let refused = try Programs.ctl(site, "put", "menu", "k/9", "mine")
        #expect(refused.code == 1 && refused.errors.contains("may not write"))
    }
}

@Suite struct `The programs` {
    @Test func `refuse settings that nobody knows, with file and line`() throws {
        let scratch = try Scratch()
        let cases = [
            (
                "a.yaml", "http:\n  listen: 127.0.0.1:1\n  lisen: x\n",
                "a.yaml:3: there is no setting 'http.lisen'"
            ),
            (
                "b.yaml", "discovery:\n  port: many\n",
                "b.yaml:2: discovery.port is 'many', not a whole number"
            ),
            (
                "c.json", "{\n \"mesh\": {\n  \"lissen\": 1 } }",
                "c.json:3: there is no setting 'mesh.lissen'"
            ),
        ]
        for (name, text, message) in cases {
            let result = try Programs.run("meshd", ["--config", try scratch.file(name, text)])
            #expect(result.code == 64)
            #expect(result.errors.contains(message), "\(result.errors)")
        }
        let variable = try Programs.run("meshd", [], environment: ["MESH_NONSENSE": "1"])
        #expect(variable.code == 64 && variable.errors.contains("$MESH_NONSENSE"))
    }

    @Test func `refuse to serve tokens in the clear to a network unless told to`() throws {
        let result = try Programs.run(
            "meshd", ["--data", "/nonexistent", "--http-listen", "0.0.0.0:7373"])
        #expect(result.code == 64 && result.errors.contains("http.plaintext: true"))
    }

    @Test func `say what is wrong with a ticket`() throws {
        let scratch = try Scratch()
        for (text, message) in [
            ("hello", "not a ticket"), ("mesh-ticket-1:\nabcdefgh", "checksum"),
        ] {
            let file = try scratch.file("t", text)
            chmod(file, 0o600)
            let result = try Programs.run("meshctl", ["join", file, "--data", "\(scratch.path)/d"])
            #expect(result.code == 1 && result.errors.contains(message), "\(result.errors)")
        }
    }

    @Test func `use their exit codes as they are documented`() throws {
        let scratch = try Scratch()
        #expect(try Programs.run("meshctl", ["peers", "--data", scratch.path]).code == 69)
        #expect(try Programs.run("meshctl", ["peers", "--nonsense"]).code == 64)
        #expect(try Programs.run("meshctl", ["completion", "bash"]).output.contains("_meshctl"))
        let unjoined = try Programs.run("meshd", ["--data", scratch.path, "--store-volatile"])
        #expect(unjoined.code == 1 && unjoined.errors.contains("meshctl join"))
    }

    @Test func `take names of one letter, seen from where the operator stands`() throws {
        let scratch = try Scratch()
        for words in [
            "mesh create k --name m --no-passphrase",
            "ticket create --keys k --site s --node n --out t",
            "join t --data d",
        ] {
            let result = try Programs.run(
                "/usr/bin/env",
                ["-C", scratch.path, "\(Programs.build)/meshctl"]
                    + words.split(separator: " ").map(String.init))
            #expect(result.code == 0, "\(words): \(result.errors)")
        }
    }

    @Test func `do not take a ticket twice`() throws {
        let scratch = try Scratch()
        let keys = "\(scratch.path)/keys"
        try Programs.run("meshctl", ["mesh", "create", keys, "--name", "m", "--no-passphrase"])
        let ticket = "\(scratch.path)/t"
        try Programs.run(
            "meshctl",
            ["ticket", "create", "--keys", keys, "--site", "s", "--node", "n", "--out", ticket])
        #expect(
            try Programs.run("meshctl", ["join", ticket, "--data", "\(scratch.path)/a"]).code == 0)
        #expect(!FileManager.default.fileExists(atPath: ticket))
        chmod("\(keys)/enrol.key", 0o644)
        let open = try Programs.run(
            "meshctl",
            ["ticket", "create", "--keys", keys, "--site", "s", "--node", "n", "--out", ticket])
        #expect(open.code == 1 && open.errors.contains("chmod 600"))
    }

    @Test func `take a name over whatever the clock said when its first ticket was made`() throws {
        let scratch = try Scratch()
        let keys = "\(scratch.path)/keys"
        try Programs.run("meshctl", ["mesh", "create", keys, "--name", "m", "--no-passphrase"])
        func make() throws -> (code: Int32, errors: String) {
            let made = try Programs.run(
                "meshctl",
                [
                    "ticket", "create", "--keys", keys, "--site", "s", "--node", "n", "--out",
                    "\(scratch.path)/t",
                ])
            return (made.code, made.errors)
        }
        #expect(try make().code == 0)
        // A laptop whose clock stood in 2100 made the last one.
        let note = URL(fileURLWithPath: "\(keys)/last-ticket")
        try Data("4102444800000\n".utf8).write(to: note)
        let next = try make()
        #expect(next.code == 0 && next.errors.contains("by a clock that was ahead"))
        #expect(try String(contentsOf: note, encoding: .utf8) == "4102444800001\n")
        try Data("tomorrow".utf8).write(to: note)
        let refused = try make()
        #expect(refused.code == 1 && refused.errors.contains("last-ticket"))
    }
}
