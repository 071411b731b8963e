// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCrypto

/// One benchmark by name; the last line is one JSON object.
@main
struct Main {
    static func main() async throws {
        try Sodium.start()
        let arguments = CommandLine.arguments.dropFirst()
        let figures: [String: Any]
        switch arguments.first {
        case "reconcile": figures = try await ReconcileBench.run()
        case "logs": figures = try await LogsBench.run()
        case "write": figures = try await WriteBench.run()
        case "apply": figures = try await ApplyBench.run()
        case "start": figures = try await StartBench.run(program: arguments.dropFirst().first ?? "")
        case "chunk": figures = try ChunkBench.run()
        case "idle": figures = try StartBench.idle(program: arguments.dropFirst().first ?? "")
        case "crowd":
            let words = Array(arguments.dropFirst())
            guard words.count == 4, let count = Int(words[3]) else { exit(64) }
            let crowd = try Crowd(data: words[0], keys: words[1], port: words[2])
            return try await crowd.run(count)
        default:
            FileHandle.standardError.write(
                Data("bench reconcile|logs|write|apply|start|idle|chunk\n".utf8))
            exit(64)
        }
        let data = try JSONSerialization.data(withJSONObject: figures, options: .sortedKeys)
        print(String(decoding: data, as: UTF8.self))
    }
}

/// What several benchmarks do alike.
enum Measure {
    static func seconds(_ body: () async throws -> Void) async rethrows -> Double {
        let start = ContinuousClock.now
        try await body()
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        return Double(seconds) + Double(attoseconds) / 1e18
    }

    /// CPU time that the process has used so far, in seconds.
    static func cpuSeconds() -> Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return [usage.ru_utime, usage.ru_stime].reduce(0) {
            $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6
        }
    }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    }

    static func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

    /// Two figures' worth of digits: more would claim what a noisy machine cannot show.
    static func rounded(_ value: Double) -> Double {
        guard value > 0 else { return 0 }
        let scale = pow(10, 2 - floor(log10(value)))
        return (value * scale).rounded() / scale
    }
}
