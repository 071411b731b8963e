// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshTesting
import Testing

/// How durable a write is told to be, by servers that run.
@Suite(.serialized) struct `A write that is wanted on other disks` {
    private func put(_ node: Node, _ ask: String) throws -> (status: Int, body: String) {
        try node.curl(
            "/v1/records/menu/a?\(ask)", "-X", "PUT", "-H", "Content-Type: text/plain", "-d", "x")
    }

    private func pair() throws -> (Node, Node) {
        let first = try Node.withMenu()
        let second = try Node("second", joining: first)
        #expect(try eventually { try put(first, "ack=site:2").body.contains("\"reached\":true") })
        return (first, second)
    }

    @Test func `is acknowledged once another server holds it, and not before`() throws {
        let (first, second) = try pair()
        defer { withExtendedLifetime(second) {} }
        let two = try put(first, "ack=site:2&wait=10s")
        #expect(two.status == 200)
        #expect(two.body.contains(#""durable_on":["hq/centre","hq/second"]"#))
        let three = try put(first, "ack=site:3&wait=50ms")
        #expect(three.status == 202 && three.body.contains("\"reached\":false"))
        second.kill()
        let alone = try put(first, "ack=site:2&wait=300ms")
        #expect(alone.status == 202)
        #expect(alone.body.contains(#""durable_on":["hq/centre"]"#))
        // It stands, and is told once the other is back.
        #expect(try first.curl("/v1/records/menu/a").status == 200)
        let ask = try #require(
            alone.body.components(separatedBy: "\"ask\":\"").last?.components(separatedBy: "\"")
                .first)
        #expect(try first.curl(ask).status == 202)
        try second.start()
        #expect(try eventually { try first.curl(ask + "&wait=1s").status == 200 })
    }

    @Test func `is on the disk of the server that took it, whatever others do`() throws {
        let (first, second) = try pair()
        defer { withExtendedLifetime(second) {} }
        #expect(try put(first, "ack=local").body.contains("\"ack\":\"local\""))
        #expect(try put(first, "ack=central").body.contains(#""reached":true"#))
        #expect(try put(first, "ack=site:1").body.contains(#""durable_on":["hq/centre"#))
        let batch = try first.curl(
            "/v1/batch?ack=site:2&wait=10s", "-X", "POST", "-H", "Prefer: return=minimal",
            "-H", "Content-Type: application/json", "-d",
            #"{"namespace":"menu","writes":[{"op":"put","key":"b","text":"1"}]}"#)
        #expect(batch.status == 204)
        second.kill()
        let nothing = try first.curl("/v1/records/menu/none?ack=site:2", "-X", "DELETE")
        #expect(nothing.status == 200, "there was nothing to make durable")
    }

    @Test func `may be wanted so by the namespace, where its app does not say`() throws {
        let node = try Node.withMenu()
        func create(_ name: String, _ ack: String) throws -> Int32 {
            try Programs.run(
                "meshctl",
                [
                    "namespace", "create", name, "--audience", "all", "--writers", "central",
                    "--merge", "register", "--ack", ack, "--keys", "\(node.scratch.path)/keys",
                    "--data", node.data, "--change",
                ]
            ).code
        }
        #expect(try create("menu", "site:0") == 64)
        #expect(try create("menu", "site:2") == 0)
        let usual = try put(node, "wait=50ms")
        #expect(usual.status == 202 && usual.body.contains(#""ack":"site:2""#))
        #expect(try put(node, "ack=local").status == 200)
        #expect(try node.curl("/v1/namespaces").body.contains(#""ack":"site:2""#))
        #expect(try create("menu", "local") == 0)
        #expect(try put(node, "wait=50ms").body.contains(#""ack":"local""#))
    }

    @Test func `is refused where what is wanted cannot be read`() throws {
        let node = try Node.withMenu()
        for ask in ["ack=two", "ack=site:0", "ack=site:17", "ack=site:02", "ack=Central", "ack="] {
            let answer = try put(node, ask)
            #expect(answer.status == 400 && answer.body.contains("bad_ack"), "\(ask)")
        }
        for ask in ["wait=1", "wait=31s", "wait=-1s", "wait=1m", "wait=1.5s", "wait=999999ms"] {
            let answer = try put(node, "ack=site:2&" + ask)
            #expect(answer.status == 400 && answer.body.contains("bad_wait"), "\(ask)")
        }
        for (path, code) in [
            ("menu@all/x", "bad_place"), ("menu@all/1-0", "bad_place"), ("menu/1-1", "bad_scope"),
            ("menu@all/1-99999999999999999999", "bad_place"), ("menu@all/1-1", "not_found"),
        ] {
            let answer = try node.curl("/v1/acknowledgements/" + path)
            #expect(answer.body.contains(code), "\(path): \(answer.body)")
        }
    }
}
