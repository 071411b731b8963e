// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshMembership
import MeshTesting
import Testing

@Suite struct `Members of a site` {
    @Test(arguments: 0..<10)
    func `know within three seconds that one was killed, and at once that it is back`(seed: UInt64)
    {
        var site = VirtualSite(seed: seed)
        site.add(3)
        site.linkAll()
        site.run(.seconds(10))
        #expect(site.state(of: 2, at: 0) == .alive)
        site.kill(2)
        site.run(.seconds(3))
        #expect(site.state(of: 2, at: 0) == .away)
        #expect(site.state(of: 2, at: 1) == .away)
        #expect(site.state(of: 1, at: 0) == .alive)
        site.restart(2)
        site.link(0, 2)
        site.run(.seconds(1))
        #expect(site.state(of: 2, at: 0) == .alive)
        #expect(site.state(of: 2, at: 1) == .alive)
        #expect(site.falseAways == 0)
    }

    @Test func `take nobody for away where three datagrams of ten are lost`() {
        for seed in 0..<3 as Range<UInt64> {
            var site = VirtualSite(seed: seed)
            site.add(10)
            site.loss = 0.3
            site.linkAll()
            site.run(.seconds(300))
            #expect(site.falseAways == 0)
        }
    }

    @Test func `find each other again after any time apart, also when they began apart`() {
        var site = VirtualSite(seed: 1)
        site.add(6)
        site.cut([0, 1, 2])
        site.linkAll()
        site.run(.seconds(60))
        #expect(site.state(of: 4, at: 0) == nil)
        site.heal()
        site.link(0, 4)
        site.run(.seconds(5))
        for one in 0..<6 {
            for other in 0..<6 where one != other {
                #expect(site.state(of: other, at: one) == .alive)
            }
        }
        site.cut([0, 1, 2])
        site.run(.seconds(3600))
        #expect(site.state(of: 4, at: 0) == .away)
        site.heal()
        // Away members are tried for ever: no link is needed to find them.
        site.run(.seconds(90))
        for one in 0..<6 {
            for other in 0..<6 where one != other {
                #expect(site.state(of: other, at: one) == .alive)
            }
        }
    }

    @Test func `are not accused by one that was stopped for a minute`() {
        var site = VirtualSite(seed: 2)
        site.add(5)
        site.linkAll()
        site.run(.seconds(10))
        site.hosts[3].isPaused = true
        site.run(.seconds(60))
        #expect(site.state(of: 3, at: 0) == .away)
        site.hosts[3].isPaused = false
        site.run(.seconds(70))
        #expect(site.falseAways == 0)
        #expect(site.state(of: 3, at: 0) == .alive)
        #expect(site.hosts[3].machine.events["membership_paused"] == 1)
    }

    @Test func `send no more as they become more`() {
        var rates: [Double] = []
        for count in [5, 20, 40] {
            var site = VirtualSite(seed: 3)
            site.add(count)
            site.linkAll()
            site.run(.seconds(20))
            site.datagrams = 0
            site.run(.seconds(30))
            rates.append(Double(site.datagrams) / 30 / Double(count))
        }
        #expect(rates.allSatisfy { $0 < 2.2 }, "\(rates)")
    }
}
