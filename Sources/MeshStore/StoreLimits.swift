// SPDX-License-Identifier: Apache-2.0

/// Limits of the store; each has a counter or an error where it bites.
package enum StoreLimits {
    /// Most jobs that share one transaction.
    static let jobsPerTransaction = 512
    /// Most jobs that wait for the writer; more are refused.
    static let jobsWaiting = 8192
    /// Most writes of one batch.
    package static let batchWrites = 1000
    /// Bytes of records after which a commit takes no more writes of others.
    static let draftBytes = 96 * 1024
    /// Certificates and names kept in memory.
    static let cached = 20_000
    /// Idempotency keys that are remembered.
    static let idempotencyKeys = 100_000
    /// Superseded records that are kept for the day that who superseded them is revoked, and their
    /// bytes: of other nodes, and of the superseding node itself; looked at after so many more.
    static let undoRows = 80_000
    static let undoBytes = 48 << 20
    static let undoOwnRows = 20_000
    static let undoOwnBytes = 16 << 20
    static let undoPerTrim = 1024
    /// Headers of one log that are kept as evidence that its author wrote two things in one place.
    static let evidence = 2
    /// Sequences that one read for a peer looks up at most.
    static let dotsPerRead = 4096
    /// Changed leaves above which the digests are brought up to date in the background.
    static let dirtyLeaves = 512
}
