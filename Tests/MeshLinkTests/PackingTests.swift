// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
@testable import MeshLink
import MeshTesting
import Testing

@Suite struct `Packed messages` {
    private func commits(
        _ namespace: String, at site: String? = nil, _ body: some Sequence<UInt8>
    ) -> [UInt8] {
        let audience = site.map { [1, UInt8($0.utf8.count)] + $0.utf8 } ?? [0]
        return [15, UInt8(namespace.utf8.count)] + namespace.utf8 + audience + body
    }

    /// Bytes that nothing makes shorter, the same for one seed.
    private func noise(_ count: Int, _ seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    }

    private func packing() throws -> Packing { Packing(try #require(Zstd())) }

    @Test func `are read as another program wrote them, or refused`() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("Vectors/packed.txt")
        var (packing, name, message, cases) = (try packing(), "", [UInt8](), 0)
        for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n")
        where !line.hasPrefix("#") {
            let parts = line.split(separator: ":", maxSplits: 1).map(String.init)
            let value = parts[1].trimmingCharacters(in: .whitespaces)
            switch parts[0] {
            case "case":
                (packing, name, cases) = (try self.packing(), value, cases + 1)
            case "message": message = try #require(Hex.decode(value))
            default:
                let plain = try? packing.unpack(message)
                let isAsSaid = plain == (value == "refused" ? nil : Hex.decode(value))
                #expect(isAsSaid, "\(name)")
            }
        }
        #expect(cases == 19)
    }

    @Test func `are what was sent, in whatever order and size they come`() throws {
        var (sender, receiver) = (try packing(), try packing())
        var generator = SeededGenerator(seed: 7)
        var shorter = 0
        for number in 0..<600 {
            let size =
                [0, 1, 100, 300, 5000, 70_000, 200_000].randomElement(using: &generator) ?? 0
            let text = Hex.encode(noise(size / 2, UInt64.random(in: 0..<40, using: &generator)))
            let message: [UInt8] =
                switch Int.random(in: 0..<6, using: &generator) {
                case 0: [38] + text.utf8
                case 1: [1] + text.utf8
                case 2: commits("b", text.utf8)
                case 3: commits("a", noise(size, UInt64(number)))
                default: commits("a", text.utf8)
                }
            let packed = sender.pack(message)
            #expect(packed.count <= message.count)
            shorter += packed.count < message.count ? 1 : 0
            #expect(try receiver.unpack(packed) == message)
        }
        #expect(shorter > 200)
    }

    @Test func `refer to what went before in the same namespace`() throws {
        var sender = try packing()
        let text = noise(2000, 1)
        #expect(sender.pack(commits("menu", text)).count > 2000)
        #expect(sender.pack(commits("menu", text + text)).count < 2200)
        #expect(sender.pack(commits("menu", text)).count < 100)
    }

    /// Who may write one scope and sees lengths must not learn what another holds.
    @Test(arguments: [("notes", "s1"), ("prices", "s1"), ("notes", nil)])
    func `are as long whatever another scope holds`(namespace: String, site: String?) throws {
        var lengths: Set<Int> = []
        for secret: UInt64 in 1...2 {
            var sender = try packing()
            _ = sender.pack(commits("prices", at: "s2", noise(500, secret) + noise(500, secret)))
            let guess = noise(500, 1) + [UInt8](repeating: 0, count: 500)
            lengths.insert(sender.pack(commits(namespace, at: site, guess)).count)
        }
        #expect(lengths.count == 1)
    }

    @Test func `refer no further back than both ends keep`() throws {
        let codec = try #require(Zstd())
        for (between, isGood) in [(20_000, true), (31_500, false), (40_000, false)] {
            var (sender, receiver) = (try packing(), try packing())
            let far = commits("menu", noise(200, 1) + noise(200, 1))
            let next = commits("menu", noise(between, 2))
            let again = commits("menu", noise(200, 1))
            _ = try receiver.unpack(sender.pack(far))
            let frame = try #require(
                codec.compress(next + [UInt8](repeating: 0, count: 2000), after: far[...]))
            let padded = next + [UInt8](repeating: 0, count: 2000)
            #expect(try receiver.unpack([57, 2] + frame) == padded)
            let last = try #require(codec.compress(again, after: (far + padded)[...]))
            #expect(last.count < 100, "it refers to what is far")
            #expect((try? receiver.unpack([57, 2] + last)) == (isGood ? again : nil))
        }
    }

    @Test func `are sent as they are where a few bytes would become very many`() throws {
        var (sender, receiver) = (try packing(), try packing())
        let zeros = commits("menu", [UInt8](repeating: 0, count: 500_000))
        #expect(sender.pack(zeros) == zeros)
        let text = commits("menu", [UInt8](repeating: 0, count: 200) + noise(10, 1))
        let packed = sender.pack(text)
        #expect(packed.count < text.count)
        #expect(try receiver.unpack(packed) == text)
    }

    @Test func `cross a link between two sites that both offer it, and no other`() throws {
        let message = commits("menu", [UInt8](repeating: 65, count: 5000))
        for (site, offers, isShorter) in [
            ("s2", (true, true), true), ("s1", (true, true), false), ("s2", (true, false), false),
            ("s2", (false, true), false),
        ] {
            var pair = Pair(
                try TestMesh(), site: site,
                codecs: (offers.0 ? Zstd() : nil, offers.1 ? Zstd() : nil))
            try pair.run()
            for isForward in [true, false] {
                let sealed =
                    isForward ? try pair.dialler.seal(message) : try pair.listener.seal(message)
                #expect((sealed.count < 500) == isShorter, "\(site) \(offers)")
                let events =
                    isForward
                    ? try pair.listener.receive(sealed) : try pair.dialler.receive(sealed)
                guard case .message(let received)? = events.first else {
                    Issue.record("nothing came")
                    continue
                }
                #expect(received == message)
            }
        }
    }

    @Test func `end a link when they cannot be unpacked`() throws {
        var pair = Pair(try TestMesh(), site: "s2", codecs: (Zstd(), Zstd()))
        try pair.run()
        let sealed = try pair.dialler.seal([57, 0, 1, 2, 3])
        #expect(throws: LinkError.badPacking) { try pair.listener.receive(sealed) }
    }
}
