// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshSimulator

/// What a site's membership costs and how soon it knows, as the site grows.
enum SiteTable {
    static func show(_ sizes: [Int], seed: UInt64) throws {
        print(
            "servers  cold s  links  msg/s  B/s   silent s (first, all)  killed s (all)  pushes/commit/server  last s"
        )
        fflush(nil)
        for size in sizes { try row(size, seed) }
    }

    private static func row(_ size: Int, _ seed: UInt64) throws {
        let site = SiteSimulation(servers: size, seed: seed)

        let cold = site.run(atMost: .seconds(300)) { site.complete(size - 1) == size }
        site.run(.seconds(60))
        let before = site.sent
        site.run(.seconds(60))
        let after = site.sent
        let degrees = site.degrees
        // The first commits find the tree; those after it are measured.
        for sequence in 1...20 as ClosedRange<UInt64> { try write(site, sequence) }
        let (carried, last) = (site.commitsCarried, 20...40 as ClosedRange<UInt64>)
        var slowest = Duration.zero
        for sequence in last.dropFirst() { slowest = try max(slowest, write(site, sequence)) }
        let pushes = Double(site.commitsCarried - carried) / 20 / Double(max(size - 1, 1))
        let silent = lose(site, size - 1, silently: true, alive: size - 1)
        let killed = lose(site, size - 2, silently: false, alive: size - 2)
        let cells: [String] = [
            "\(size)", text(cold), String(format: "%.1f/%d", mean(degrees), degrees.max() ?? 0),
            String(format: "%.1f", Double(after.messages - before.messages) / 60 / Double(size)),
            "\((after.bytes - before.bytes) / 60 / size)",
            "\(text(silent.first)), \(text(silent.all))", text(killed.all),
            String(format: "%.2f", pushes), text(slowest),
        ]
        print(cells.joined(separator: "  "))
        fflush(nil)
    }

    @discardableResult
    private static func write(
        _ site: SiteSimulation, _ sequence: UInt64
    ) throws -> Duration {
        try site.write(0, sequence: sequence)
        let all = site.degrees.count
        let took = site.run(atMost: .seconds(10)) {
            site.informed(of: 0, sequence: sequence) == all
        }
        site.run(.milliseconds(500))
        return took ?? .seconds(999)
    }

    private static func lose(
        _ site: SiteSimulation, _ index: Int, silently: Bool, alive: Int
    ) -> (first: Duration?, all: Duration?) {
        site.kill(index, silently: silently)
        let first = site.run(atMost: .seconds(300)) { site.aware(of: index) > 0 }
        let rest = site.run(atMost: .seconds(300)) { site.aware(of: index) == alive }
        guard let first, let rest else { return (first, nil) }
        return (first, first + rest)
    }

    /// Whether any living server took another for away, where packets are lost.
    static func endure(_ size: Int, loss: Double, hours: Int, seed: UInt64) -> UInt64 {
        let site = SiteSimulation(servers: size, seed: seed)
        site.loss = loss
        _ = site.run(atMost: .seconds(300)) { site.complete(size - 1) == size }
        let before = site.aways
        site.run(.seconds(3600 * hours))
        return site.aways - before
    }

    private static func mean(_ numbers: [Int]) -> Double {
        Double(numbers.reduce(0, +)) / Double(max(numbers.count, 1))
    }

    private static func text(_ duration: Duration?) -> String {
        duration.map {
            String(
                format: "%.1f",
                Double($0.components.seconds) + Double($0.components.attoseconds) / 1e18)
        } ?? "-"
    }
}
