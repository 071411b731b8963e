// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshTesting
import Testing

@testable import MeshMembership

@Suite struct `The rings of a large site` {
    private func node(_ number: Int) -> NodeID {
        TestMesh.bytes(UInt8(number & 255), UInt8(number >> 8))
    }

    private func overlay(_ own: Int, of count: Int) -> Overlay {
        var overlay = Overlay(own: node(own), site: "s1")
        for number in (0..<count).reversed() { overlay.insert(node(number)) }
        return overlay
    }

    @Test(arguments: [10, 30, 200]) func `give each member few neighbours, on which all agree`(
        count: Int
    ) {
        let overlays = (0..<count).map { overlay($0, of: count) }
        for (own, overlay) in overlays.enumerated() {
            let neighbours = overlay.neighbours(of: node(own))
            #expect((2...8).contains(neighbours.count))
            for (other, there) in overlays.enumerated() where other != own {
                #expect(
                    neighbours.contains(node(other))
                        == there.neighbours(of: node(other)).contains(node(own)))
            }
        }
    }

    @Test func `connect all within few steps, also when a third of them is gone`() {
        let count = 200
        let whole = overlay(0, of: count)
        let gone = Set((0..<count).filter { $0 % 3 == 1 }.map(node))
        for missing in [[], gone] as [Set<NodeID>] {
            var reached: Set<NodeID> = [node(0)]
            var edge = reached
            var steps = 0
            while !edge.isEmpty {
                var next: Set<NodeID> = []
                for node in edge { next.formUnion(whole.neighbours(of: node)) }
                edge = next.subtracting(reached).subtracting(missing)
                reached.formUnion(edge)
                steps += 1
            }
            #expect(reached.count == count - missing.count)
            #expect(steps <= 7)
        }
    }

    @Test func `say who would be the neighbours of one that is not there`() {
        var overlay = overlay(0, of: 50)
        let before = overlay.neighbours(of: node(7))
        overlay.remove(node(7))
        #expect(overlay.count == 49)
        #expect(overlay.neighbours(of: node(7)) == before)
        overlay.insert(node(7))
        overlay.insert(node(7))
        #expect(overlay.count == 50 && overlay.neighbours(of: node(7)) == before)
        overlay.remove(node(0))
        #expect(overlay.count == 50)
    }
}
