// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshDiscovery
import MeshTesting
import Testing

private let mesh: MeshID = TestMesh.bytes(1, 1)
private let key: Bytes32 = TestMesh.bytes(2, 2)

@Suite struct `A beacon` {
    private let beacon = Beacon(
        epoch: 1, node: TestMesh.bytes(3, 3), incarnation: Incarnation(7), port: 7374, counter: 9)

    @Test func `is read by whoever knows the mesh and its key`() throws {
        #expect(
            try Beacon(
                decoding: beacon.encoded(mesh: mesh, key: key), mesh: mesh, key: { _ in key })
                == beacon)
        #expect(beacon.encoded(mesh: mesh, key: key).count <= Beacon.byteCountMax)
    }

    @Test(arguments: [
        ([UInt8](), BeaconRefusal.malformed), ([1], .malformed),
        ([UInt8](repeating: 0, count: 300), .tooLong), ([UInt8](repeating: 7, count: 84), .foreign),
        (Array("MSHB".utf8) + [1, 0], .malformed),
        (Array("MSHB".utf8) + [2, 0, 0, 0], .unknownVersion),
    ])
    func `is dropped when it is anything else`(bytes: [UInt8], refusal: BeaconRefusal) {
        #expect(throws: refusal) { try Beacon(decoding: bytes, mesh: mesh, key: { _ in key }) }
    }

    @Test func `of another mesh is foreign, under another key not authentic`() {
        #expect(throws: BeaconRefusal.foreign) {
            try Beacon(
                decoding: beacon.encoded(mesh: TestMesh.bytes(4, 4), key: key), mesh: mesh,
                key: { _ in key }
            )
        }
        #expect(throws: BeaconRefusal.notAuthentic) {
            try Beacon(
                decoding: beacon.encoded(mesh: mesh, key: TestMesh.bytes(4, 4)), mesh: mesh,
                key: { _ in key })
        }
    }

    @Test func `is dropped when any byte of it is changed, or one is added`() {
        let bytes = beacon.encoded(mesh: mesh, key: key)
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 1
            #expect(throws: BeaconRefusal.self) {
                try Beacon(decoding: changed, mesh: mesh, key: { _ in key })
            }
        }
        #expect(throws: BeaconRefusal.malformed) {
            try Beacon(decoding: bytes + [0], mesh: mesh, key: { _ in key })
        }
    }

    @Test func `with port 0 is dropped`() {
        let zero = Beacon(
            epoch: 1, node: TestMesh.bytes(1, 1), incarnation: Incarnation(1), port: 0, counter: 0)
        #expect(throws: BeaconRefusal.malformed) {
            try Beacon(decoding: zero.encoded(mesh: mesh, key: key), mesh: mesh, key: { _ in key })
        }
    }
}

@Suite struct `A plan of dials` {
    private let low: NodeID = TestMesh.bytes(3, 3)
    private let start = Instant(nanoseconds: 0)

    private func plan(_ own: NodeID, seeds: [Address] = []) -> DialPlan {
        DialPlan(
            own: own, seeds: seeds, tuning: DialPlan.Tuning(), entropy: SeededGenerator(seed: 1),
            now: start)
    }

    private func after(_ seconds: Double) -> Instant { start.advanced(by: .seconds(seconds)) }

    /// The pauses between dials of a seed that fail for an hour, each with when it began.
    private func pauses(_ cause: DialFailure.Cause) -> [(at: Double, pause: Double)] {
        var plan = plan(.zero, seeds: ["a:1"])
        var (last, pauses) = (start, [(at: Double, pause: Double)]())
        for tenth in 0..<36_000 {
            let now = start.advanced(by: .milliseconds(100 * tenth))
            if plan.due(now: now, linked: []).isEmpty { continue }
            pauses.append((last.since(start).seconds, now.since(last).seconds))
            last = now
            plan.failed("a:1", DialFailure(cause, "no"), now: now)
        }
        return Array(pauses.dropFirst())
    }

    @Test func `tries a silent seed for ever, within a part of the time for which it was silent`() {
        let pauses = pauses(.unreachable)
        #expect(pauses.count < 400)
        for (at, pause) in pauses {
            #expect(pause <= max(1, min(30, at / 32)) * 1.25 + 0.1, "after \(at) s")
            #expect(pause >= max(1, min(30, at / 32)) * 0.75 - 0.1, "after \(at) s")
        }
    }

    @Test func `tries a seed that refuses ever more seldom, and never later than every 38 s`() {
        let pauses = pauses(.certificateRefused)
        #expect(pauses.count < 150)
        for (_, pause) in pauses.dropFirst(8) { #expect((22...38).contains(pause)) }
    }

    @Test func `lets the lower identity dial at once and the higher wait a second`() {
        let other: NodeID = TestMesh.bytes(1, 1)
        let (lower, higher) = low < other ? (low, other) : (other, low)
        var first = plan(lower)
        first.hear(higher, Incarnation(1), at: "h:1", now: start)
        #expect(first.due(now: start, linked: []) == ["h:1"])
        var second = plan(higher)
        second.hear(lower, Incarnation(1), at: "l:1", now: start)
        #expect(second.due(now: start, linked: []).isEmpty)
        #expect(second.due(now: after(1.1), linked: []) == ["l:1"])
    }

    @Test func `dials an address that a replayed beacon tells no more than once in five seconds`() {
        var plan = plan(.zero)
        var dials: [Int] = []
        for tenth in 0..<3000 {
            let now = after(Double(tenth) / 10)
            plan.hear(low, Incarnation(1), at: "x:1", now: now)
            for address in plan.due(now: now, linked: []) {
                dials.append(tenth)
                plan.failed(address, DialFailure(.unreachable, "refused"), now: now)
            }
        }
        let gaps = zip(dials.dropFirst(), dials).map { $0 - $1 }
        #expect(gaps.count > 5)
        #expect(gaps.allSatisfy { $0 >= 50 })
        #expect(gaps.last ?? 0 >= 220)
    }

    @Test func `dials at once a node that came up again`() {
        var plan = plan(.zero)
        plan.hear(low, Incarnation(1), at: "x:1", now: start)
        _ = plan.due(now: start, linked: [])
        for _ in 0..<6 { plan.failed("x:1", DialFailure(.unreachable, "refused"), now: after(10)) }
        plan.hear(low, Incarnation(2), at: "x:1", now: after(11))
        #expect(plan.due(now: after(11.1), linked: []) == ["x:1"])
    }

    @Test func `dials whom it must reach, however long ago the beacon was that told where`() {
        var plan = plan(.zero)
        plan.hear(low, Incarnation(1), at: "x:1", now: start)
        #expect(plan.due(now: after(100), linked: []).isEmpty)
        plan.hear(low, Incarnation(1), at: "x:1", now: after(100))
        plan.reach(low, at: "x:1", now: after(400))
        #expect(plan.due(now: after(400), linked: []) == ["x:1"])
        let failure = DialFailure(.unreachable, "no answer")
        #expect(plan.failed("x:1", failure, now: after(402)) == low)
    }

    @Test func `never dials itself again, nor a node that is linked`() {
        var plan = plan(.zero, seeds: ["self:1"])
        #expect(plan.due(now: start, linked: []) == ["self:1"])
        plan.failed("self:1", DialFailure(.ownAddress, "self"), now: start)
        #expect(plan.due(now: after(1000), linked: []).isEmpty)
        plan.hear(low, Incarnation(1), at: "x:1", now: after(1000))
        #expect(plan.due(now: after(1001), linked: [low]).isEmpty)
    }

    @Test func `dials where it met itself once another is heard there, or the network changed`() {
        for changes in [true, false] {
            var plan = plan(.zero, seeds: ["x:1"])
            _ = plan.due(now: start, linked: [])
            plan.failed("x:1", DialFailure(.ownAddress, "self"), now: start)
            #expect(plan.due(now: after(1000), linked: []).isEmpty)
            if changes {
                plan.hurry(now: after(1000))
            } else {
                plan.hear(low, Incarnation(1), at: "x:1", now: after(1000))
            }
            #expect(plan.due(now: after(1040), linked: []) == ["x:1"])
        }
    }

    @Test
    func `asks at a seed's address every ten minutes whether another is there than one unwanted`() {
        var plan = plan(.zero, seeds: ["x:1"])
        plan.tell(low, at: "y:1", rung: .told, now: start)
        #expect(plan.due(now: after(2), linked: []) == ["x:1", "y:1"])
        for address in ["x:1", "y:1"] as [Address] { plan.linked(address, to: low, now: after(2)) }
        var dialled: [Address] = []
        for second in 3..<1300 {
            let due = plan.due(now: after(Double(second)), linked: []) { _ in .never }
            for address in due { plan.linked(address, to: low, now: after(Double(second))) }
            dialled += due
        }
        #expect(dialled == ["x:1", "x:1"])
    }

    @Test func `dials a thousand addresses that a peer made up within its budget, then seldom`() {
        var plan = plan(.zero)
        for index in 0..<1020 {
            let node: NodeID = TestMesh.bytes(UInt8(index & 255), UInt8(index >> 8))
            plan.tell(node, at: Address(host: "h\(index)", port: 22)!, rung: .told, now: start)
        }
        var (perMinute, most) = (0, 0)
        for second in 0..<(60 * 60) {
            if second.isMultiple(of: 60) { (perMinute, most) = (0, max(most, perMinute)) }
            let now = after(Double(second))
            for address in plan.due(now: now, linked: []) {
                perMinute += 1
                plan.failed(address, DialFailure(.unreachable, "refused"), now: now)
            }
        }
        #expect((241...304).contains(most))
        #expect(perMinute <= 180)
    }

    @Test func `takes the latest four addresses of a node from what peers tell`() {
        var plan = plan(.zero)
        for index in 0..<9 {
            let address = Address(host: "h\(index)", port: 1)!
            plan.tell(low, at: address, rung: .told, now: after(Double(index)))
        }
        #expect(plan.known.map(\.address) == ["h5:1", "h6:1", "h7:1", "h8:1"])
        plan.reach(low, at: "h9:1", now: after(9))
        #expect(plan.due(now: after(9), linked: []).first == "h9:1")
    }

    @Test func `passes nobody over where its budget is too small for all`() {
        var plan = plan(.zero)
        var tried: Set<Address> = []
        for index in 0..<400 {
            let node: NodeID = TestMesh.bytes(UInt8(index & 255), UInt8(index >> 8))
            plan.tell(
                node, at: Address(host: "h\(index)", port: 1)!, rung: .remembered, now: start)
        }
        for tick in 0..<(5 * 180) {
            let now = after(Double(tick) / 5)
            for address in plan.due(now: now, linked: []) {
                tried.insert(address)
                plan.failed(address, DialFailure(.unreachable, "refused"), now: now)
            }
        }
        #expect(tried.count == 400)
    }

    @Test func `tries an address that has worked as often as a seed, though a peer told it`() {
        var plan = plan(.zero)
        plan.tell(low, at: "h:1", rung: .told, now: start)
        var now = after(2)
        #expect(plan.due(now: now, linked: []) == ["h:1"])
        plan.linked("h:1", to: low, now: now)
        var last = now
        for _ in 0..<20 {
            while plan.due(now: now, linked: []).isEmpty {
                now = now.advanced(by: .milliseconds(100))
                #expect(now.since(last) <= .seconds(38))
            }
            last = now
            plan.failed("h:1", DialFailure(.unreachable, "refused"), now: now)
        }
    }

    @Test func `keeps no more addresses than its limit, whoever shouts`() {
        var plan = plan(.zero)
        for index in 0..<5000 {
            plan.hear(
                TestMesh.bytes(UInt8(index & 255), UInt8(index >> 8)), Incarnation(1),
                at: "h\(index):1", now: start)
        }
        #expect(plan.known.count == DialPlan.Tuning().targetsMax)
    }
}
