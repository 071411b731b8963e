// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore

/// What a comparison costs between two servers that hold many logs: every server of a chain has one in
/// a scope, and one more for each of its lives.
enum LogsBench {
    static let logs = 30_000
    static let runs = 21

    static func run() async throws -> [String: Any] {
        let bed = try Bed()
        defer { bed.remove() }
        Measure.say("making two stores of \(logs) logs")
        let stores = (
            try bed.store("\(bed.directory)/a", bed.identity("a")),
            try bed.store("\(bed.directory)/b", bed.identity("b"))
        )
        let writer = bed.identity("w")
        let policy = try bed.policy(writer)
        for store in [stores.0, stores.1] {
            for known in [writer, stores.0.identity, stores.1.identity] {
                try store.keep(known.certificate)
            }
            _ = try await store.ingest([policy])
        }
        for start in stride(from: 1, through: logs, by: 500) {
            let messages = try (start..<start + 500).map { number in
                let record = Record(
                    kind: .put, stamp: HybridTime(UInt64(number) << 16),
                    key: try RecordKey("k/\(number)"), context: .empty, contentType: "text/plain",
                    body: [7])
                return bed.message(
                    writer, bed.scope, life: UInt64(number) << 20, first: 1, previous: .zero,
                    [record]
                ).0
            }
            for store in [stores.0, stores.1] {
                for outcome in try await store.ingest(messages) where outcome.stored != 1 {
                    fatalError("refused")
                }
            }
        }
        for store in [stores.0, stores.1] { try store.consult { _ in } }
        var inStep: [Double] = []
        var afterWrite: [Double] = []
        for run in 0..<runs {
            inStep.append(try compare(stores, isInStep: true))
            let write = Write(.put, try RecordKey("w/\(run)"), body: [7])
            _ = try await stores.0.write(WriteRequest(scope: bed.scope, writes: [write]))
            afterWrite.append(try compare(stores, isInStep: false))
            for chunk in try tails(stores.0) { _ = try await stores.1.ingest(chunk) }
        }
        stores.0.close()
        stores.1.close()
        return [
            "logs": logs, "in_step_cpu_ms_a_side": Measure.rounded(Measure.median(inStep)),
            "after_one_write_cpu_ms_a_side": Measure.rounded(Measure.median(afterWrite)),
        ]
    }

    /// What the first store has written itself.
    private static func tails(_ store: Store) throws -> [[CommitsMessage]] {
        let scope = Scope(namespace: "stock", audience: .all)
        return [try store.next(.tail(scope, store.author, after: 0)).messages]
    }

    /// - Returns: milliseconds of this process's CPU, half for each side.
    private static func compare(_ stores: (Store, Store), isInStep: Bool) throws -> Double {
        let salt = Salt(Sodium.random(32))
        var asking = SyncSession(role: .initiator, salt: salt) { _ in true }
        var answering = SyncSession(role: .responder, salt: salt) { _ in true }
        let begin = cpu()
        var turn = try stores.0.consult { try asking.begin($0) }
        while true {
            let answer = try stores.1.consult {
                try answering.answer(try SyncTurn(decoding: turn.encoded), $0)
            }
            let outcome = try stores.0.consult {
                try asking.answer(try SyncTurn(decoding: answer.reply.encoded), $0)
            }
            if outcome.isInStep || outcome.reply.parts.isEmpty {
                guard outcome.isInStep == isInStep else { fatalError("not as expected") }
                return (cpu() - begin) / 2
            }
            turn = outcome.reply
        }
    }

    private static func cpu() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) * 1000 + Double(time.tv_nsec) / 1e6
    }
}
