// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshContent
import MeshCrypto

/// What cutting a file and naming its chunks costs, beside naming alone, on one core.
enum ChunkBench {
    static func run() throws -> [String: Any] {
        var bytes = [UInt8](repeating: 0, count: 256 << 20)
        for start in stride(from: 0, to: bytes.count, by: 1 << 20) {
            bytes.replaceSubrange(start..<(start + (1 << 20)), with: Sodium.random(1 << 20))
        }
        var ratios: [Double] = []
        var speeds: [Double] = []
        var chunks = 0
        for _ in 0..<5 {
            let hashing = seconds {
                for start in stride(from: 0, to: bytes.count, by: 32 << 10) {
                    _ = Manifest.id(of: Array(bytes[start..<(start + (32 << 10))]))
                }
            }
            let both = seconds {
                chunks = 0
                var start = 0
                for length in Chunker.lengths(bytes) {
                    _ = Manifest.id(of: Array(bytes[start..<(start + length)]))
                    start += length
                    chunks += 1
                }
            }
            ratios.append(hashing / both)
            speeds.append(Double(bytes.count) / both / 1e6)
        }
        return [
            "chunk_ratio": Measure.rounded(Measure.median(ratios)),
            "chunk_mb_per_s": Measure.rounded(Measure.median(speeds)),
            "chunk_bytes_mean": bytes.count / max(chunks, 1),
        ]
    }

    private static func seconds(_ body: () -> Void) -> Double {
        let start = ContinuousClock.now
        body()
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
