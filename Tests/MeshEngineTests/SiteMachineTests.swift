// SPDX-License-Identifier: Apache-2.0

import MeshCore
@testable import MeshEngine
import MeshMembership
import MeshStore
import MeshTesting
import MeshTrust
import Testing

private let start = Instant(nanoseconds: 0)
/// The macro of expectations calls nothing that mutates by itself.
private func value(_ result: Bool) -> Bool { result }
private let tuning = EngineTuning()

@Suite struct `The path to other sites` {
    private var path = FarPath()

    private mutating func judge(
        _ seconds: Int, hasLink: Bool = false, isGateway: Bool = true, hasAddress: Bool = true
    ) -> Presence.WAN? {
        path.judge(
            hasLink: hasLink, isGateway: isGateway, hasAddress: hasAddress, tuning,
            now: start.advanced(by: .seconds(seconds)))
    }

    @Test mutating func `is broken for a gateway that has had no link for a while`() {
        #expect(judge(0) == .untried)
        #expect(judge(3) == nil)
        #expect(judge(4) == .broken)
        #expect(judge(5) == nil)
        #expect(judge(6, hasLink: true) == .linked)
    }

    @Test mutating func `is not broken where there is no other site`() {
        for second in 0..<100 { #expect(judge(second, hasAddress: false) != .broken) }
    }

    @Test mutating func `is tried again after a penance, and broken again after a fresh wait`() {
        _ = judge(0)
        #expect(judge(4) == .broken)
        #expect(judge(10, isGateway: false) == nil)
        #expect(judge(65, isGateway: false) == .untried)
        #expect(judge(66) == .untried)
        #expect(judge(67) == nil, "it waits anew")
        #expect(judge(70) == .broken)
        #expect(judge(71, isGateway: false) == nil, "its penance begins anew")
    }
}

@Suite struct `A name` {
    @Test func `is held by the newest ticket, whoever shows it first`() throws {
        let mesh = try TestMesh()
        let old = mesh.identity("till").certificate
        let new = mesh.identity("till").certificate
        try #require(old.node != new.node)
        let isOldEarlier =
            old.ticket.serial == new.ticket.serial
            ? old.node < new.node
            : old.ticket.serial.lexicographicallyPrecedes(new.ticket.serial)
        let (first, last) = isOldEarlier ? (old, new) : (new, old)
        var holders = NameHolders()
        #expect(holders.claim(first) == nil)
        #expect(holders.claim(last) == first.node)
        #expect(holders.claim(first) == first.node)
        #expect(holders.successor(of: first) == last.node)
        #expect(holders.successor(of: last) == nil)
        holders.release(last.node)
        #expect(holders.successor(of: first) == nil)
        #expect(holders.claim(first) == nil)
    }

    @Test func `is free for another box once its own has another name`() throws {
        let mesh = try TestMesh()
        let key = TestMesh.key(7, 7)
        let old = mesh.identity("till-1", key: key).certificate
        let renamed = mesh.identity("till-2", key: key).certificate
        let other = mesh.identity("till-1").certificate
        for order in [[old, renamed, other], [renamed, old, other], [old, renamed, other, old]] {
            var holders = NameHolders()
            #expect(order.allSatisfy { holders.claim($0) == nil })
            #expect(holders.successor(of: renamed) == nil)
            #expect(holders.successor(of: other) == nil)
        }
    }
}

@Suite struct `A host's clock` {
    @Test func `is wrong only where most of at least two peers say so`() {
        var clock = HostClock()
        #expect(clock.judge([.seconds(9000)]) == nil)
        #expect(clock.judge([.seconds(9000), .zero]) == nil)
        #expect(clock.judge([.seconds(9000), .seconds(9001), .zero]) == .zero - .seconds(9000))
        #expect(clock.judge([.seconds(9000), .seconds(9001), .zero]) == nil, "it is said once")
        #expect(clock.judge([.zero, .zero]) == .zero)
    }
}

@Suite struct `A link's life` {
    @Test func `ends in silence, later for a neighbour, who must answer a ping`() {
        var entropy = SeededGenerator(seed: 1)
        var far = Liveness(now: start)
        let late = start.advanced(by: tuning.silenceMax + .seconds(1))
        #expect(far.verdict(isNear: false, tuning, now: late) == .silence)
        #expect(far.verdict(isNear: true, tuning, now: late) == nil)
        let ping = far.ping(isNear: true, tuning, &entropy, now: start.advanced(by: .seconds(1)))
        #expect(ping != nil)
        #expect(far.verdict(isNear: true, tuning, now: late) == .endGone)
        #expect(far.ping(isNear: true, tuning, &entropy, now: late) == nil, "one is out")
        #expect(!value(far.pong((ping ?? 0) &+ 1, now: late)))
        #expect(value(far.pong(ping ?? 0, now: late)))
        #expect(far.roundTrip == late.since(start) - .seconds(1))
    }

    @Test func `pings a peer that is silent, and one that is heard for the round trip alone`() {
        var entropy = SeededGenerator(seed: 1)
        var pings: [Bool: Int] = [:]
        for isHeard in [true, false] {
            var life = Liveness(now: start)
            for tenth in 1...6000 {
                let now = start.advanced(by: .milliseconds(100 * tenth))
                if isHeard, tenth.isMultiple(of: 20) { life.heard(now: now) }
                if let ping = life.ping(isNear: false, tuning, &entropy, now: now) {
                    pings[isHeard, default: 0] += 1
                    life.heard(now: now)
                    #expect(value(life.pong(ping, now: now)))
                }
                #expect(life.verdict(isNear: false, tuning, now: now) == nil)
            }
        }
        #expect((17...26).contains(pings[true] ?? 0))
        #expect((100...150).contains(pings[false] ?? 0))
    }

    @Test func `knows a difference of clocks up to a century`() {
        var life = Liveness(now: start)
        life.clock(.max, ours: 0)
        #expect(life.clockOffset == .milliseconds(3_155_760_000_000))
        life.clock(0, ours: .max)
        #expect(life.clockOffset == .milliseconds(-3_155_760_000_000))
    }
}

@Suite struct `A link` {
    @Test func `judges so many certificates as nodes that were asked for can have`() {
        var all = Introductions()
        let node: NodeID = TestMesh.bytes(1, 1)
        #expect(!value(all.came()))
        all.want(node, atMost: 2)
        all.want(node, atMost: 2)
        #expect(value(all.came()))
        all.judged(node)
        #expect(all.hasShown(node))
        // A box that was enrolled again has a second one, which may be the one that counts.
        #expect(value(all.came()))
        all.judged(node)
        #expect(!value(all.came()))
        #expect(value(all.asked(limit: 1)))
        #expect(!value(all.asked(limit: 1)))
        all.shown()
        #expect(value(all.asked(limit: 1)))
    }
}
