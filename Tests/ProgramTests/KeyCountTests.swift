// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import meshctl

@Suite struct `The count of keys that stand in a file twice` {
    @Test(arguments: [0, 5000, 300_000])
    func `is right for files that memory holds, and for others`(rows: Int) {
        var count = KeyCount()
        for row in 0..<rows { count.add(Array("key \(row)".utf8)) }
        for row in stride(from: 0, to: rows, by: 100) { count.add(Array("key \(row)".utf8)) }
        #expect(count.twice() == rows / 100)
    }
}
