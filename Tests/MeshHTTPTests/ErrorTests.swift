// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshAPI
import Testing

@Suite struct `The table of errors` {
    /// The rows of the article, by code.
    private func rows() throws -> [String: [String]] {
        let top = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let article = top.appending(path: "Sources/MeshAPI/MeshAPI.docc/Errors.md")
        let rows = try String(contentsOf: article, encoding: .utf8)
            .split(separator: "\n").filter { $0.hasPrefix("| `") }
            .map { line in
                line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            }
        return Dictionary(rows.map { ($0[0].filter { $0 != "`" }, $0) }) { $1 }
    }

    @Test func `is the one that the article shows`() throws {
        let rows = try rows()
        #expect(Set(rows.keys) == Set(ErrorCode.allCases.map(\.rawValue)))
        for code in ErrorCode.allCases {
            let entry = code.entry
            let row = try #require(rows[code.rawValue])
            let again =
                switch entry.again {
                case .changed: "change it"
                case .same: "the same"
                case .later: "later"
                case .operators: "an operator first"
                }
            #expect(row[1] == "\(entry.status)" && row[2] == entry.meaning, "\(code)")
            #expect(row[3] == "\(entry.remains)" && row[4] == again, "\(code)")
        }
    }

    @Test func `lets whoever is told that nothing remains ask again without harm`() {
        for code in ErrorCode.allCases where code.entry.remains == .unknown {
            // Else a client gives up a write that may stand.
            #expect(code.entry.again == .same)
        }
    }
}
