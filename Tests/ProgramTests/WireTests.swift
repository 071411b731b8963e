// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// HTTP as bytes on a socket, and tables as people have them.
@Suite(.serialized) struct `On the wire a server` {
    private func node() throws -> Node { try Node.withMenu() }

    /// Sends bytes on one connection, and reads so many, or all until the server closes it.
    private func exchange(_ node: Node, _ bytes: String, reading count: Int? = nil) throws -> String
    {
        let reader = count.map { "head -c \($0)" } ?? "cat"
        let script =
            "exec 3<>/dev/tcp/127.0.0.1/\(node.port); printf '%b' \"$1\" >&3; \(reader) <&3"
        return try Programs.run("/bin/bash", ["-c", script, "_", bytes]).output
    }

    private func write(_ node: Node, _ key: String, _ body: String) throws {
        _ = try exchange(node, put(key, body) + get("/healthz", "Connection: close\r\n"))
    }

    private func put(_ key: String, _ body: String) -> String {
        "PUT /v1/records/menu/\(key) HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    private func get(_ target: String, _ more: String = "", version: String = "1.1") -> String {
        "GET \(target) HTTP/\(version)\r\nHost: localhost\r\n\(more)\r\n"
    }

    @Test func `answers pipelined requests in their order, whatever each waits for`() throws {
        let node = try node()
        let last = "Connection: close\r\n"
        let answer = try exchange(
            node,
            put("a", "one") + get("/v1/records/menu/a") + get("/v1/records/menu")
                + put("a", "two") + get("/v1/status") + get("/v1/records/menu/a", last))
        let statuses = answer.components(separatedBy: "HTTP/1.1 ").dropFirst().map {
            String($0.prefix(3))
        }
        #expect(statuses == ["201", "200", "200", "200", "200", "200"])
        let bodies = answer.components(separatedBy: "\r\n\r\n")
        #expect(bodies[2].hasPrefix("one"))
        #expect(answer.hasSuffix("two"))
    }

    @Test func `sends no body to HEAD, so that the next answer is read where it begins`() throws {
        let node = try node()
        try write(node, "a", "four")
        let head = "HEAD /v1/records/menu/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
        let answer = try exchange(
            node,
            head + head.replacingOccurrences(of: "menu/a", with: "menu/none")
                + get("/v1/records/menu/a", "Connection: close\r\n"))
        let parts = answer.components(separatedBy: "\r\n\r\n")
        #expect(parts[0].contains("Content-Length: 4"))
        #expect(parts[1].hasPrefix("HTTP/1.1 404"))
        #expect(parts[2].hasPrefix("HTTP/1.1 200"))
        #expect(parts[3] == "four")
    }

    @Test func `asks for a body that waits to be asked for, and refuses one without it`() throws {
        let node = try node()
        let expecting = put("a", "").replacingOccurrences(
            of: "Content-Length: 0", with: "Expect: 100-continue\r\nContent-Length: 3")
        #expect(try exchange(node, expecting, reading: 25) == "HTTP/1.1 100 Continue\r\n\r\n")
        let large = expecting.replacingOccurrences(
            of: "Content-Length: 3", with: "Content-Length: 9999999")
        #expect(try exchange(node, large, reading: 12) == "HTTP/1.1 413")
    }

    @Test func `ends a list that it makes as it sends it with the connection, for HTTP/1.0`() throws
    {
        let node = try node()
        try write(node, "a", "one")
        let lines = "Accept: application/x-ndjson\r\n"
        let old = try exchange(node, get("/v1/records/menu", lines, version: "1.0"))
        #expect(old.hasPrefix("HTTP/1.0 200"))
        #expect(!old.lowercased().contains("transfer-encoding"))
        #expect(old.contains("\r\n\r\n{\"author\""))
        let new = try exchange(node, get("/v1/records/menu", lines + "Connection: close\r\n"))
        #expect(new.lowercased().contains("transfer-encoding: chunked"))
        let kept = get("/healthz", "Connection: keep-alive\r\n", version: "1.0")
        let last = get("/healthz", version: "1.0")
        #expect(try exchange(node, kept + kept + last).components(separatedBy: "ok\n").count == 4)
    }

    @Test func `forgets a list that it remembers as soon as a key of it changes`() throws {
        let node = try node()
        for number in 0..<5 {
            let key = "k\(number % 2)"
            try write(node, key, "v\(number)")
            let list = try node.curl("/v1/records/menu").body
            #expect(list.contains("\"text\":\"v\(number)\""))
            #expect(try node.curl("/v1/records/menu").body == list)
            #expect(try node.curl("/v1/records/menu/\(key)").body == "v\(number)")
        }
        #expect(try node.curl("/v1/records/menu/k0", "-X", "DELETE").status == 200)
        #expect(try node.curl("/v1/records/menu/k0").status == 404)
        #expect(try !node.curl("/v1/records/menu").body.contains("\"k0\""))
    }

    @Test func `names a member of a batch that it does not know`() throws {
        let node = try node()
        func batch(_ write: String) throws -> (status: Int, body: String) {
            try node.curl(
                "/v1/batch", "-X", "POST", "-H", "Content-Type: application/json", "-d",
                "{\"namespace\":\"menu\",\"writes\":[\(write)]}")
        }
        #expect(try batch(#"{"op":"put","key":"a","value":{"n":[1,2]}}"#).status == 200)
        #expect(try node.curl("/v1/records/menu/a").body == #"{"n":[1,2]}"#)
        let unknown = try batch(#"{"op":"put","key":"a","text":"x","ttl":3}"#)
        #expect(unknown.status == 400 && unknown.body.contains("ttl"))
        #expect(try batch(#"{"op":"put","key":"a","text":"x","value":1}"#).status == 400)
        #expect(try batch(#"{"op":"delete","key":"a","text":"x"}"#).status == 400)
        #expect(try batch(#"{"op":"put","key":"a"}"#).body.contains("write 0"))
    }

    @Test func `answers whoever has said that nothing more comes`() throws {
        let node = try node()
        let script = """
            import socket, sys
            s = socket.create_connection(("127.0.0.1", \(node.port)))
            s.sendall(sys.argv[1].encode())
            s.shutdown(socket.SHUT_WR)
            while part := s.recv(65536): sys.stdout.write(part.decode())
            """
        let answer = try Programs.run(
            "/usr/bin/env", ["python3", "-c", script, put("a", "one") + get("/v1/records/menu/a")])
        #expect(answer.output.contains("HTTP/1.1 201") && answer.output.hasSuffix("one"))
    }

    @Test func `goes on in no other protocol, and says so`() throws {
        let node = try node()
        let offer = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        let answer = try exchange(node, get("/healthz", offer))
        #expect(answer.contains("Connection: close") && answer.hasSuffix("ok\n"))
    }

    @Test func `keeps nothing for a client that asks and does not read`() throws {
        let node = try node()
        try write(node, "a", String(repeating: "x", count: 60_000))
        let script = """
            import socket, sys, time
            s = socket.create_connection(("127.0.0.1", \(node.port)))
            s.settimeout(2)
            try:
                for _ in range(20000): s.sendall(sys.argv[1].encode())
            except OSError: pass
            time.sleep(5)
            print([l.split()[1] for l in open("/proc/\(node.pid)/status") if l.startswith("VmHWM")][0])
            """
        let most = try Programs.run(
            "/usr/bin/env", ["python3", "-c", script, get("/v1/records/menu/a")])
        let kibibytes = try #require(Int(most.output.filter(\.isNumber)))
        #expect(kibibytes < 400_000, "\(kibibytes) KiB")
    }

    @Test func `takes tables as spreadsheets write them`() throws {
        let node = try node()
        func imported(_ name: String, _ bytes: [UInt8], _ more: String...) throws -> Programs.Result
        {
            let path = "\(node.scratch.path)/\(name)"
            try Data(bytes).write(to: URL(fileURLWithPath: path))
            return try Programs.run(
                "meshctl",
                ["import", "menu", path, "--key", "id", "--data", node.data] + more)
        }
        let mark: [UInt8] = [0xef, 0xbb, 0xbf]
        let table = "id;what\r\n1;\"two\r\nlines; one \"\"field\"\"\"\r\n\r\n2;plain"
        let done = try imported("a.csv", mark + Array(table.utf8), "--separator", ";")
        #expect(done.output == "2 records\n")
        #expect(
            try node.curl("/v1/records/menu/1").body
                == #"{"id":"1","what":"two\r\nlines; one \"field\""}"#)
        #expect(try node.curl("/v1/records/menu/2").body == #"{"id":"2","what":"plain"}"#)
        let latin = Array("id,what\n3,caf".utf8) + [0xe9, 10]
        let refused = try imported("b.csv", latin)
        #expect(refused.code == 1 && refused.errors.contains("b.csv:2: not valid UTF-8"))
        #expect(try imported("b.csv", latin, "--encoding", "latin1").code == 0)
        #expect(try node.curl("/v1/records/menu/3").body == #"{"id":"3","what":"café"}"#)
        let twice = try imported("c.csv", Array("id,n\n4,1\n5,2\n4,3\n".utf8), "--batch", "1")
        #expect(twice.errors.contains("1 stood more than once"))
        #expect(try node.curl("/v1/records/menu/4").body == #"{"id":"4","n":"3"}"#)
        #expect(
            try imported("d.csv", Array("name,n\nx,1\n".utf8)).errors
                .contains("d.csv:1: no column 'id'; there are name, n"))
        #expect(
            try imported("e.csv", Array("id,n\n1,2\n3\n".utf8)).errors
                .contains("e.csv:3: 1 fields, but 2 columns"))
        #expect(try imported("f.csv", Array("id,n\n1,\"2\n".utf8)).errors.contains("without end"))
    }
}
