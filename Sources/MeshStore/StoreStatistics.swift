// SPDX-License-Identifier: Apache-2.0

package import MeshRules
package import Synchronization

/// What the store counts, for metrics.
package final class StoreStatistics: Sendable {
    package let transactions = Atomic<Int>(0)
    package let refusedJobs = Atomic<Int>(0)
    package let isDiskFull = Atomic<Bool>(false)
    private let totals = Mutex(RuleCounts())

    /// What the rules have counted since the start.
    package var counts: RuleCounts { totals.withLock { $0 } }

    func note(_ counts: RuleCounts) {
        transactions.add(1, ordering: .relaxed)
        totals.withLock { $0.add(counts) }
    }
}
