// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import Testing

@testable import MeshSimulator

@Suite("A scenario") struct ScenarioTests {
    @Test func `is read from its lines, in order of time`() throws {
        let scenario = try Scenario(
            name: "two",
            text: """
                # A comment.
                sites 1-2 servers 3
                marks compared
                at 5s kill s1-1   # later
                at 250ms write s1-2 notes 7
                end 9s
                """)
        #expect(scenario.sites == 1...2 && scenario.servers == 3...3)
        #expect(scenario.marks == ["compared"])
        #expect(scenario.steps.map(\.at) == [.milliseconds(250), .seconds(5)])
        #expect(
            scenario.steps.map(\.action) == [
                .write(node: "s1-2", namespace: "notes", count: 7), .kill("s1-1"),
            ])
        #expect(scenario.end == .seconds(9))
    }

    @Test(arguments: [
        ("sites 0", "line 1: 'sites 0' is not understood"),
        ("sites 2 servers 3-1", "line 1: 'sites 2 servers 3-1' is not understood"),
        ("\nmarks nonsense", "line 2: there is no mark 'nonsense'"),
        ("at 5 kill s1-1", "line 1: 'at 5 kill s1-1' is not understood"),
        ("at 99999999999999999999s kill s1-1", "is not understood"),
        ("at 5s write s1-1 notes -1", "is not understood"),
        ("at 5s loss 1", "is not understood"),
        ("at 5s dance", "is not understood"),
    ])
    func `with a mistake is refused with its line`(text: String, reason: String) {
        let refusal = #expect(throws: Scenario.Malformed.self) {
            try Scenario(name: "bad", text: text)
        }
        #expect("\(refusal.map(\.description) ?? "")".contains(reason))
    }
}

@Suite("A simulated mesh") struct SimulationTests {
    private static let text = """
        sites 1 servers 2
        at 4s write s1-1 notes 5
        at 5s power s1-1
        at 6s start s1-1
        end 9s
        """

    private func run(_ text: String, seed: UInt64) throws -> Simulation.Report {
        try Sodium.start()
        return Simulation(try Scenario(name: "small", text: text), seed: seed).run()
    }

    @Test func `does the same twice under one seed, and something else under another`() throws {
        let first = try run(Self.text, seed: 7)
        let again = try run(Self.text, seed: 7)
        let other = try run(Self.text, seed: 8)
        #expect(first.failure == nil && first.acknowledged >= 5)
        #expect(first.trace == again.trace && first.steps == again.steps)
        #expect(first.trace != other.trace)
    }

    @Test func `fails where a mark of its scenario is not reached`() throws {
        let report = try run("sites 1\nmarks siblings\nend 1s", seed: 1)
        #expect(report.failure?.contains("did not reach 'siblings'") == true)
    }
}

@Suite("A simulated disk") struct SimulatedDiskTests {
    private func bytes(_ disk: SimulatedDisk, _ name: String) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: disk.size(name))
        let count = buffer.count
        let read = buffer.withUnsafeMutableBytes { disk.read(name, at: 0, into: $0) }
        #expect(read == count)
        return buffer
    }

    @Test func `keeps what was synced and may lose the rest when its power is cut`() throws {
        var lostSome = false
        for seed in 0..<20 as Range<UInt64> {
            var random = SeededGenerator(seed: seed)
            let disk = SimulatedDisk()
            defer { disk.unmount() }
            #expect(disk.open("a", creating: true))
            #expect(disk.write("a", at: 0, [1, 2, 3, 4]) == .done && disk.sync("a"))
            #expect(disk.write("a", at: 2, [9, 9, 9]) == .done)
            let loss = disk.cutPower(&random)
            let found = bytes(disk, "a")
            #expect(Array(found.prefix(2)) == [1, 2])
            #expect(found == (loss.lost == 0 ? [1, 2, 9, 9, 9] : [1, 2, 3, 4]))
            lostSome = lostSome || loss.lost > 0
        }
        #expect(lostSome)
    }

    @Test func `answers nothing after the last write before its power cut`() throws {
        let disk = SimulatedDisk()
        defer { disk.unmount() }
        #expect(disk.open("a", creating: true))
        disk.failAfter(writes: 1)
        #expect(disk.write("a", at: 0, [1]) == .done)
        #expect(disk.write("a", at: 1, [2]) == .failed && disk.isDead && !disk.sync("a"))
    }
}

@Suite("A large site") struct LargeSiteTests {
    @Test func `links each server with a few, and carries each commit once to each`() throws {
        try Sodium.start()
        let site = SiteSimulation(servers: 40, seed: 3)
        #expect(site.run(atMost: .seconds(10)) { site.complete(39) == 40 } != nil)
        site.run(.seconds(60))
        #expect(site.degrees.allSatisfy { (4...10).contains($0) }, "\(site.degrees)")
        // The first commit finds the tree.
        try site.write(7, sequence: 1)
        site.run(.seconds(2))
        let carried = site.commitsCarried
        for sequence in 2...6 as ClosedRange<UInt64> {
            try site.write(7, sequence: sequence)
            site.run(.seconds(1))
            #expect(site.informed(of: 7, sequence: sequence) == 40)
        }
        let each = Double(site.commitsCarried - carried) / 5 / 39
        #expect((1.0...1.2).contains(each), "\(each)")
    }

    @Test func `knows who died, falls silent about it, and goes on telling commits`() throws {
        try Sodium.start()
        let site = SiteSimulation(servers: 40, seed: 4)
        _ = site.run(atMost: .seconds(10)) { site.complete(39) == 40 }
        site.run(.seconds(30))
        for victim in 30..<34 { site.kill(victim, silently: victim.isMultiple(of: 2)) }
        for victim in 30..<34 {
            #expect(site.run(atMost: .seconds(30)) { site.aware(of: victim) == 36 } != nil)
        }
        #expect(site.aways == 4 * 36)
        site.run(.seconds(30))
        let before = site.sent.messages
        site.run(.seconds(30))
        #expect(Double(site.sent.messages - before) / 30 / 36 < 4)
        try site.write(0, sequence: 1)
        site.run(.seconds(3))
        #expect(site.informed(of: 0, sequence: 1) == 36)
    }
}
