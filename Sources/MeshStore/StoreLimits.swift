// SPDX-License-Identifier: Apache-2.0

internal import MeshReplication

/// Limits of the store; each has a counter or an error where it bites. Those of the rules are
/// `RuleLimits`.
package enum StoreLimits {
    /// Most jobs that share one transaction.
    static let jobsPerTransaction = 512
    /// Most jobs that wait for the writer; more are refused.
    static let jobsWaiting = 8192
    /// Certificates, names and families of logs kept in memory.
    static let cached = 20_000
    /// Idempotency keys that are remembered.
    static let idempotencyKeys = 100_000
    /// Sequences that one read for a peer looks up at most.
    static let dotsPerRead = 4096
    /// Headers that prove places of other logs, along with one read for a peer: as many as one
    /// record may name.
    static let evidencePerRead = Context.entriesMax
    /// Commits that one read for a peer looks at, at most.
    static let commitsPerRead = 256
    /// Records after which a step of the scrub ends, whatever commits it has read.
    static let recordsPerScrub = 256
    /// Bytes of values after which a page of changes with the states of its keys ends.
    static let pageBytes = 1 << 20
    /// Changed leaves above which the digests are brought up to date in the background.
    static let dirtyLeaves = 512
    /// Pages that are known to have rotted; more are met anew each time that they are read.
    static let rottenPages = 4096
    /// How often one thing is done anew because a rotten page was met.
    static let looksAtPages = 4
    /// Notes of each kind in the room beside the records.
    static let notes = 100_000
    /// Most notes that are read of one name's beginning.
    static let notesOfOne = 64
}
