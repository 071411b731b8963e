// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshAPI
@testable import MeshHTTP
import NIOHTTP1
import Testing

@Suite("Answers and requests of the HTTP API")
struct AnswerTests {
    private static let texts = [
        "plain", "a/b \"quoted\" \\ back", "line\nfeed\r\ttab\u{8}\u{c}\u{1}\u{1f}", "süß 🥐 \u{7f}",
        "\u{2028}",
    ]

    @Test("What is written straight into bytes is what the encoder writes", arguments: texts)
    func writerMatchesEncoder(text: String) throws {
        var view = RecordView(
            scope: "menu@all", key: text, contentType: text, body: Array(text.utf8), etag: "e",
            deleted: false, author: "00", sequence: .max, writtenMs: 0, siblings: 2, twin: true,
            cursor: "c-1")
        for base64 in [false, true] {
            if base64 { (view.text, view.base64, view.twin) = (nil, "AP+A", nil) }
            var writer = JSONWriter()
            view.write(to: &writer)
            #expect(writer.bytes == Array(try MeshJSON.encode(view)))
        }
        let page = RecordsView(records: [view, view], next: text)
        var writer = JSONWriter()
        page.write(to: &writer)
        #expect(writer.bytes == Array(try MeshJSON.encode(page)))
        let answer = WriteView(
            etags: [text, "b"], sequences: [1, 2], ack: "site:2", reached: false,
            durableOn: [text], ask: "/x")
        writer = JSONWriter()
        answer.write(to: &writer)
        #expect(writer.bytes == Array(try MeshJSON.encode(answer)))
    }

    @Test(
        "JSON is taken as RFC 8259 has it, and no further",
        arguments: [
            #"{"a":1,"a":2}"#, #"{"a":1,}"#, "[1,]", "[1 2]", "{\"a\" 1}", "01", "1.", "1e", "nul",
            "\"\u{1}\"", #""\x""#, #""\ud800""#, "[", "{", "\"", "", "1 1", "1e999",
            String(repeating: "[", count: 33) + String(repeating: "]", count: 33),
        ])
    func refusesBrokenJSON(text: String) {
        #expect(throws: StrictJSON.Failure.self) { try StrictJSON.check(Array(text.utf8)) }
    }

    @Test(
        "JSON that is well formed passes",
        arguments: [
            "{}", "[]", " [ ] ",
            #"{"a":{"b":[1,2.5e-3,-0,true,false,null,"x\n\u00e9\ud83e\udd50"]}}"#,
            #"{"1":1,"2":2,"3":3,"4":4,"5":5,"6":6,"7":7,"8":8,"9":9,"10":10}"#,
            String(repeating: "[", count: 32) + String(repeating: "]", count: 32),
        ])
    func takesJSON(text: String) throws { try StrictJSON.check(Array(text.utf8)) }

    @Test("Of many members none may stand twice")
    func findsLateTwins() {
        let members = (0..<12).map { "\"m\($0)\":0" } + ["\"m9\":1"]
        #expect(throws: StrictJSON.Failure.self) {
            try StrictJSON.check(Array("{\(members.joined(separator: ","))}".utf8))
        }
    }

    private func request(_ target: String, _ fields: [(String, String)]) throws -> Request {
        let head = HTTPRequestHead(
            version: .http1_1, method: .GET, uri: target, headers: HTTPHeaders(fields))
        return try Request(head, from: nil, on: ObjectIdentifier(Self.self as AnyObject))
    }

    @Test("A target is split into path and query, whichever form it has")
    func splitsTargets() throws {
        let one = try request("/v1/records/a%20b?limit=3&after=x%2Fy", [("Host", "h:1")])
        #expect(one.path == "/v1/records/a%20b")
        #expect(one.parameter("limit") == "3")
        #expect(one.parameter("after") == "x/y")
        #expect(one.parameter("none") == nil)
        let whole = try request("http://other:2/v1?q=1", [("Host", "h:1")])
        #expect(whole.path == "/v1")
        #expect(whole.authority == "other:2")
        #expect(try request("http://other", [("Host", "h")]).path == "/")
    }

    @Test("A request without a host, or with two, is refused")
    func wantsOneHost() {
        #expect(throws: Problem.self) { try request("/", []) }
        #expect(throws: Problem.self) { try request("/", [("Host", "a"), ("host", "b")]) }
    }

    @Test("A target that is too long is refused as such")
    func refusesLongTargets() {
        do {
            _ = try request("/" + String(repeating: "x", count: 9000), [("Host", "a")])
            Issue.record("it was taken")
        } catch let problem as Problem { #expect(problem.status == 414) } catch {
            Issue.record(error)
        }
    }

    @Test("Malformed escapes are none")
    func decodesPercent() {
        #expect(PercentEncoding.decode("a%2fb%C3%A9") == Array("a/bé".utf8))
        for text in ["%", "%2", "%zz", "%+1"] { #expect(PercentEncoding.decode(text) == nil) }
    }
}
