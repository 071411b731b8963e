// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshReplication
import MeshStore
import MeshTesting
import Testing

private let prices = Scope("prices@site/s1")!

@Suite struct `The words by which SQLite knows the tables` {
    /// One bit of the file, where a text stands in the first pages.
    private func flip(_ path: String, _ text: String, at offset: Int, to byte: UInt8) throws {
        var data = try Data(contentsOf: URL(fileURLWithPath: path))
        let place = try #require(data.range(of: Data(text.utf8))).lowerBound + offset
        #expect((data[place] ^ byte).nonzeroBitCount == 1)
        data[place] = byte
        try data.write(to: URL(fileURLWithPath: path))
    }

    @Test(arguments: [
        ("arrival INTEGER PRIMARY KEY", 23, UInt8(ascii: "0")),
        ("arrival INTEGER PRIMARY KEY", 3, UInt8(ascii: "h")),
        ("record(arrival", 0, UInt8(ascii: "v")),
        ("WHERE gone IS NULL", 6, UInt8(ascii: "o")),
    ])
    func `are put right where they have rotted, so that each row is found`(
        text: String, offset: Int, byte: UInt8
    ) async throws {
        let mesh = try TestMesh()
        let centre = try await mesh.centre(["prices": .prices])
        let identity = mesh.identity("site")
        let store = try mesh.store(identity)
        #expect(try await store.reconcile(with: centre) != nil)
        for number in 0..<5 { try await store.put(prices, "k\(number)", "\(number)") }
        try await store.put(prices, "k0", "new")
        store.close()
        try flip(mesh.path(identity), text, at: offset, to: byte)
        let opened = try mesh.store(identity)
        #expect(try opened.values(prices, "k0") == ["new"])
        try await opened.put(prices, "k1", "newer")
        #expect(try opened.values(prices, "k1") == ["newer"])
        #expect(try opened.liveCount(in: prices) == 5)
        #expect(try await opened.reconcile(with: centre) != nil)
        #expect(try opened.root(of: prices) == centre.root(of: prices))
        #expect(try centre.values(prices, "k1") == ["newer"])
        let (changes, _) = try opened.changes(after: .beginning, limit: 100)
        #expect(Set(changes.map(\.key.description)).isSuperset(of: ["k0", "k1", "k4"]))
    }
}
