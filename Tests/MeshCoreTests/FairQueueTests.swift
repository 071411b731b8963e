// SPDX-License-Identifier: Apache-2.0

import MeshCore
import Testing

@Suite struct `A fair queue` {
    @Test func `gives one of each in turn, and of each in order`() {
        var queue = FairQueue<String, Int>()
        for number in 0..<1000 { queue.add(number, for: "flood") }
        queue.add(5000, for: "till")
        queue.add(5001, for: "till")
        #expect(queue.take(atMost: 3) == [0, 5000, 1])
        queue.add(7000, for: "late")
        #expect(queue.take(atMost: 4) == [5001, 2, 7000, 3])
        #expect(queue.take(atMost: 10_000) == Array(4..<1000))
        #expect(queue.isEmpty)
        #expect(queue.take(atMost: 1) == [])
        queue.add(1, for: "till")
        #expect(queue.take(atMost: 5) == [1])
    }
}
