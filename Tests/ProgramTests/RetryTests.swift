// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshTesting
import Testing

/// A till that had no answer asks the server next to it.
@Suite(.serialized) struct `A request that is asked again of a neighbour` {
    private func put(
        _ node: Node, _ key: String, _ body: String, named name: String, _ ask: String = ""
    ) throws -> (status: Int, body: String) {
        try node.curl(
            "/v1/records/orders/\(key)\(ask)", "-X", "PUT", "-H", "Content-Type: text/plain",
            "-H", "Idempotency-Key: \(name)", "-d", body)
    }

    /// Two servers of a site that take orders in a log.
    private func site() throws -> (Node, Node) {
        let first = try Node()
        try Programs.run(
            "meshctl",
            [
                "namespace", "create", "orders", "--audience", "all", "--writers", "any",
                "--merge", "log", "--keys", "\(first.scratch.path)/keys", "--data", first.data,
            ])
        let second = try Node("second", joining: first)
        #expect(
            try eventually {
                try put(second, "first", "0", named: "0", "?ack=site:2").body
                    .contains("\"reached\":true")
            })
        return (first, second)
    }

    /// A list in an answer.
    private func member(_ name: String, of body: String) -> String {
        body.components(separatedBy: "\"\(name)\":[").last?.components(separatedBy: "]").first
            ?? ""
    }

    @Test func `is answered as it was, and refused where it is another`() throws {
        let (first, second) = try site()
        let once = try put(first, "a", "soup", named: "n1", "?ack=site:2&wait=10s")
        #expect(once.status == 201)
        let again = try put(second, "a", "soup", named: "n1")
        #expect(again.status == 201)
        for name in ["etags", "sequences"] {
            #expect(member(name, of: again.body) == member(name, of: once.body))
        }
        #expect(
            try put(second, "a", "soup", named: "n1", "?ack=site:2").body
                .contains(#""durable_on":["hq/second","hq/centre"]"#))
        let other = try put(first, "a", "salad", named: "n1")
        #expect(other.status == 422 && other.body.contains("idempotency"))
        // A neighbour takes it for another request, and the key of a log is taken.
        #expect(try put(second, "a", "salad", named: "n1").body.contains("\"exists\""))
        // Without the name the key of a log is taken.
        #expect(try put(second, "a", "soup", named: "n2").status == 409)
        #expect(try put(second, "b", "soup", named: "n3").status == 201)
    }

    @Test func `of a batch is answered as it was`() throws {
        let (first, second) = try site()
        let batch =
            #"{"namespace":"orders","writes":[{"op":"put","key":"x/1","text":"1"},"#
            + #"{"op":"put","key":"x/2","text":"2"}]}"#
        func ask(_ node: Node) throws -> (status: Int, body: String) {
            try node.curl(
                "/v1/batch?ack=site:2&wait=10s", "-X", "POST", "-H", "Idempotency-Key: b1", "-H",
                "Content-Type: application/json", "-d", batch)
        }
        let once = try ask(first)
        #expect(once.status == 200)
        let again = try ask(second)
        #expect(again.status == 200)
        for name in ["etags", "sequences"] {
            #expect(member(name, of: again.body) == member(name, of: once.body))
        }
    }

    @Test func `is shown once where both took it while they were apart`() throws {
        let (first, second) = try site()
        second.kill()
        #expect(try put(first, "a", "soup", named: "n1").status == 201)
        #expect(try put(first, "b", "soup", named: "n2").status == 201)
        first.kill()
        try second.start()
        #expect(try put(second, "a", "soup", named: "n1").status == 201)
        // Another order under the same key: both are shown.
        #expect(try put(second, "b", "soup", named: "n3").status == 201)
        try first.start()
        for node in [first, second] {
            // Also the feed, which tells of each record that comes.
            let feed = try node.curl("/v1/changes?namespace=orders&follow=false").body
            let authors = feed.split(separator: "\n").filter { $0.contains("\"key\":\"a\"") }
                .compactMap { $0.components(separatedBy: "\"author\":").last?.prefix(66) }
            #expect(Set(authors).count == 1)
            #expect(
                try eventually {
                    let list = try node.curl("/v1/records/orders").body
                    return list.components(separatedBy: "\"twin\":true").count == 3
                        && list.components(separatedBy: "\"key\":\"a\"").count == 2
                        && list.components(separatedBy: "\"key\":\"b\"").count == 3
                })
            let siblings = try node.curl("/v1/records/orders/a", "-I").body
            #expect(siblings.contains("Mesh-Siblings: 0"))
        }
        let tags = try [first, second].map { node in
            try node.curl("/v1/records/orders/a", "-I").body.components(separatedBy: "\r\n")
                .first { $0.hasPrefix("ETag") }
        }
        #expect(tags[0] != nil && tags[0] == tags[1])
    }
}
