// SPDX-License-Identifier: Apache-2.0

@testable import MeshRules
import Testing

@Suite struct `A room for superseded records` {
    private let room = UndoUsage(rows: 800, bytes: 80_000)

    private func share(_ number: Int64) -> UndoShare { UndoShare(number: number) }

    private func usage(_ rows: [Int64: Int], bytesEach: Int = 10) -> [UndoShare: UndoUsage] {
        Dictionary(
            uniqueKeysWithValues: rows.map {
                (share($0), UndoUsage(rows: $1, bytes: $1 * bytesEach))
            })
    }

    @Test func `is not touched where all fits`() {
        #expect(Trim.excess(of: usage([1: 500, 2: 300]), room: room).isEmpty)
    }

    @Test func `is shared so that whoever has less than a part keeps all`() {
        let excess = Trim.excess(of: usage([1: 600, 2: 50, 3: 400]), room: room)
        #expect(excess[share(1)]?.rows == 600 - 375)
        #expect(excess[share(3)]?.rows == 400 - 375)
        #expect(excess[share(2)] == nil)
    }

    @Test func `is shared by bytes where those are what is too much`() {
        let all = usage([1: 10, 2: 10], bytesEach: 9000)
        let excess = Trim.excess(of: all, room: room)
        #expect(excess == [share(1): UndoUsage(bytes: 50_000), share(2): UndoUsage(bytes: 50_000)])
    }

    @Test func `has so many of the oldest looked at as one trim takes`() {
        let much = [share(1): UndoUsage(rows: 5000), share(2): UndoUsage(rows: 10)]
        #expect(Trim.rows(of: much) == [share(1): Trim.rowsMax])
        let little = [share(1): UndoUsage(rows: 5), share(2): UndoUsage(rows: 10)]
        #expect(Trim.rows(of: little) == [share(1): 5, share(2): 10])
    }

    @Test func `is named by classes that are read as they were written`() {
        for undo in UndoClass.allCases {
            let number = Int64(undo.rawValue) << 60 | 12_345
            #expect(UndoShare(number: number).undo == undo)
            #expect(UndoShare(number: number).number == number)
        }
        #expect(UndoShare(number: .min).undo == .own)
        #expect(UndoShare(number: -1).undo == .own)
    }
}
