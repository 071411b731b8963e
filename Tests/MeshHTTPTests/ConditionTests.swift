// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import MeshHTTP

@Suite struct `A field of a request` {
    @Test(arguments: [
        ("\"a\"", ["a"]), ("W/\"a\"", ["a"]), (" \"a\" , W/\"b\",\"c,d\"", ["a", "b", "c,d"]),
        ("bare", ["bare"]), ("\"\"", [""]), ("", []), (" ", []), (",", []),
    ])
    func `names tags, one or several, weak or strong`(field: String, tags: [String]) {
        guard case .tags(let found) = TagList(field) else {
            Issue.record("'\(field)' was not read")
            return
        }
        #expect(found.map { String($0.text) } == tags)
    }

    @Test func `names any tag by a star`() {
        #expect(TagList("*") == .any && TagList(" * ") == .any)
        #expect(TagList("*")?.contains("x") == true)
    }

    @Test(arguments: ["\"a", "\"a\"b", "a\"", "*, \"a\"", "\"a\", *", "×"])
    func `that is no list of tags is not read`(field: String) {
        #expect(TagList(field) == nil)
    }

    @Test(arguments: [
        ("application/x-ndjson", true), ("text/html, application/x-ndjson;q=0.5", true),
        ("Application/X-NDJSON ; q=1", true), ("application/x-ndjson;q=0", false),
        ("application/x-ndjson; q=0.000", false), ("application/x-ndjson2", false),
        ("*/*", false), ("", false),
    ])
    func `names a media type that the client takes`(field: String, isNamed: Bool) {
        #expect(Accept.names("application/x-ndjson", in: field) == isNamed)
    }
}
