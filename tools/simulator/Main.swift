// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshCrypto
import MeshSimulator
import Synchronization

/// Runs scenarios in virtual time, each seed twice where asked, on two threads.
@main
struct MeshSim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "meshsim",
        abstract:
            "Run scenarios in the simulator; a failing seed prints the command that replays it.")

    @Argument(help: "Scenario files; with --all those of the folder.")
    var scenarios: [String] = []
    @Option(help: "The folder of scenarios.")
    var folder = "cluster/scenarios"
    @Option(help: "The first seed, as 0x….", transform: Self.number)
    var seed: UInt64 = 1
    @Option(help: "How many seeds of each scenario.")
    var seeds = 1
    @Flag(help: "The full mix of faults.")
    var mix = false
    @Flag(help: "Every scenario, and 400 seeds of the full mix.")
    var all = false
    @Option(help: "Sites of so many servers, with commas between: what membership costs there.")
    var site: String?
    @Option(help: "With --site: lose this part of all packets, and count false alarms.")
    var loss: Double?
    @Option(help: "With --loss: for so many hours.") var hours = 24
    @Flag(help: "Say what happens.")
    var verbose = false
    @Option(help: "A folder for the servers' disks after a run that fails, to look into.")
    var keep: String?

    private struct Job: Sendable {
        let scenario: Scenario
        let seed: UInt64
        let isTwice: Bool
    }

    private static func number(_ text: String) throws -> UInt64 {
        let digits = text.hasPrefix("0x") ? String(text.dropFirst(2)) : nil
        guard let number = digits.flatMap({ UInt64($0, radix: 16) }) ?? UInt64(text) else {
            throw ValidationError("'\(text)' is not a number")
        }
        return number
    }

    func run() throws {
        try Sodium.start()
        if let site { return try showSites(site) }
        let jobs = try jobs()
        let begin = ContinuousClock.now
        let next = Atomic<Int>(0)
        let reports = Mutex<[(Job, Simulation.Report)]>([])
        let verbose = verbose
        DispatchQueue.concurrentPerform(iterations: verbose ? 1 : 2) { _ in
            while true {
                let index = next.add(1, ordering: .relaxed).oldValue
                guard index < jobs.count else { return }
                let report = Self.perform(jobs[index], verbose)
                reports.withLock { $0.append((jobs[index], report)) }
            }
        }
        let took = ContinuousClock.now - begin
        try conclude(reports.withLock { $0 }, took)
    }

    private func showSites(_ list: String) throws {
        let sizes = list.split(separator: ",").compactMap { Int($0) }.filter { 3...2000 ~= $0 }
        guard sizes.count == list.split(separator: ",").count else {
            throw ValidationError("--site takes numbers from 3 to 2000")
        }
        guard let loss else { return try SiteTable.show(sizes, seed: seed) }
        let (seed, hours) = (seed, hours)
        let jobs = sizes.flatMap { size in (0..<UInt64(seeds)).map { (size, seed &+ $0) } }
        let wrong = Mutex(0 as UInt64)
        DispatchQueue.concurrentPerform(iterations: jobs.count) { index in
            let (size, seed) = jobs[index]
            let count = SiteTable.endure(size, loss: loss, hours: hours, seed: seed)
            wrong.withLock { $0 += count }
            if count > 0 { print("seed 0x\(String(seed, radix: 16)) of \(size): \(count)") }
        }
        let count = wrong.withLock { $0 }
        print(
            "\(jobs.count) runs of \(hours) h with \(Int(loss * 100)) % lost: "
                + "\(count) times a living server was taken for away")
        if count > 0 { throw ExitCode.failure }
    }

    private func jobs() throws -> [Job] {
        var files = scenarios
        if all {
            files = try FileManager.default.contentsOfDirectory(atPath: folder)
                .filter { $0.hasSuffix(".scenario") }.sorted().map { "\(folder)/\($0)" }
        } else if mix {
            files.append("\(folder)/mix.scenario")
        }
        if files.isEmpty { throw ValidationError("name a scenario, or --mix, or --all") }
        var jobs: [Job] = []
        for file in files {
            guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
                throw ValidationError("\(file) cannot be read")
            }
            let name = URL(fileURLWithPath: file).deletingPathExtension().lastPathComponent
            let scenario: Scenario
            do { scenario = try Scenario(name: name, text: text) } catch {
                throw ValidationError("\(file): \(error)")
            }
            let count = all ? (name == "mix" ? 400 : 5) : seeds
            for index in 0..<UInt64(count) {
                jobs.append(Job(scenario: scenario, seed: seed &+ index, isTwice: index % 25 == 0))
            }
        }
        return jobs
    }

    private static func keep(_ report: Simulation.Report, in folder: String) {
        let files = FileManager.default
        try? files.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for (name, bytes) in report.disks {
            _ = files.createFile(atPath: "\(folder)/\(name)", contents: Data(bytes))
        }
    }

    private static func perform(_ job: Job, _ verbose: Bool) -> Simulation.Report {
        let simulation = Simulation(job.scenario, seed: job.seed)
        simulation.narrates = verbose
        var report = simulation.run()
        guard job.isTwice, report.failure == nil else { return report }
        let again = Simulation(job.scenario, seed: job.seed).run()
        if again.trace != report.trace { report.failure = "one seed gave two traces" }
        return report
    }

    private func conclude(_ reports: [(Job, Simulation.Report)], _ took: Duration) throws {
        var marks: [Mark: Int] = [:]
        for (_, report) in reports {
            for (mark, count) in report.marks { marks[mark, default: 0] += count }
        }
        let failures = reports.filter { $0.1.failure != nil }.sorted { $0.0.seed < $1.0.seed }
        for (job, report) in failures {
            if let keep { Self.keep(report, in: keep) }
            print("FAILED \(job.scenario.name): \(report.failure ?? "")")
            print(
                "  tools/meshsim \(folder)/\(job.scenario.name).scenario"
                    + " --seed 0x\(String(job.seed, radix: 16)) --verbose")
        }
        let good = reports.map(\.1).filter { $0.failure == nil }
        let rounds = good.map(\.rounds).sorted()
        func part(_ share: Double) -> String {
            guard let last = rounds.last else { return "-" }
            let index = Int(Double(rounds.count) * share)
            return String(format: "%.1f", index < rounds.count ? rounds[index] : last)
        }
        for mark in Mark.allCases {
            let name = mark.rawValue.padding(toLength: 20, withPad: " ", startingAt: 0)
            print("\(name) \(marks[mark] ?? 0)")
        }
        let late = reports.filter {
            $0.1.failure == nil && $0.1.rounds > Self.roundsMax($0.1.nodes)
        }
        .sorted { $0.0.seed < $1.0.seed }
        let missing = Mark.allCases.filter { marks[$0] == nil }
        print(
            "\(reports.count) runs, \(failures.count) failed; \(good.reduce(0) { $0 + $1.steps }) steps, "
                + "\(good.reduce(0) { $0 + $1.acknowledged }) acknowledged writes; rounds to heal: median "
                + "\(part(0.5)), 99 % \(part(0.99)), most \(part(1)); later than 2⌈log₂N⌉+4: \(late.count); "
                + "\(took.components.seconds) s")
        if !failures.isEmpty { throw ExitCode.failure }
        if all, !missing.isEmpty {
            print("FAILED: never reached: \(missing.map(\.rawValue).joined(separator: ", "))")
            throw ExitCode.failure
        }
        for (job, report) in late {
            print(
                "LATE \(job.scenario.name): \(report.rounds) rounds for \(report.nodes) servers, "
                    + "seed 0x\(String(job.seed, radix: 16))")
        }
        if late.count * 1000 > good.count {
            print("FAILED: more than one run in a thousand healed late")
            throw ExitCode.failure
        }
    }

    private static func roundsMax(_ nodes: Int) -> Double {
        2 * log2(Double(max(nodes, 2))).rounded(.up) + 4
    }
}
