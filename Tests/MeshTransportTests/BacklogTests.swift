// SPDX-License-Identifier: Apache-2.0

@testable import Mesh
import MeshEngine
import Testing

@Suite struct `A backlog` {
    private func took(_ backlog: inout Backlog, _ byteCount: Int, _ link: UInt64) -> Bool {
        backlog.add(byteCount, of: LinkID(link))
    }

    @Test func `takes so many messages and bytes of one link`() {
        var backlog = Backlog()
        for _ in 0..<Backlog.messagesMax { #expect(took(&backlog, 1, 1)) }
        #expect(!took(&backlog, 1, 1))
        #expect(took(&backlog, Backlog.bytesMax, 2))
        #expect(!took(&backlog, 1, 2))
        backlog.take(1, of: LinkID(1))
        #expect(took(&backlog, 1, 1))
        backlog.take(Backlog.bytesMax, of: LinkID(2))
        #expect(took(&backlog, Backlog.bytesMax, 2))
    }

    @Test func `leaves each link a little once all together have much`() {
        var backlog = Backlog()
        let full = UInt64(Backlog.bytesOfAll / Backlog.bytesMax)
        for link in 0..<full { #expect(took(&backlog, Backlog.bytesMax, link)) }
        #expect(!took(&backlog, 1, 0))
        #expect(took(&backlog, Backlog.bytesLeast, full))
        #expect(!took(&backlog, 1, full))
        backlog.take(Backlog.bytesMax, of: LinkID(0))
        #expect(took(&backlog, Backlog.bytesMax - Backlog.bytesLeast, full))
    }
}
