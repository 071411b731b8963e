// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What became of a message of commits when the store had verified it.
package struct IngestOutcome: Sendable {
    /// Why it was refused; nil if it was stored.
    package var refusal: Refusal?
    /// The site of the author, where its certificate is known.
    package var authorSite: String?
    /// What the log waits for before its next commit can be taken.
    package var waits: Dependency?
    /// How far the log was known before.
    package var before: UInt64 = 0
    /// How far the log is known now.
    package var frontier: UInt64 = 0
    /// The commit with which it ends here; nil where two machines wrote it, or something of it has
    /// rotted: then nothing is said of what is held.
    package var commit: Digest?
    /// How far headers of a log that waits, or that was written twice, show that it went, where
    /// that is news.
    package var provenTo: UInt64?
    /// Records that are new here and live.
    package var stored = 0
    /// Whether something that lies before the message is not known here: nothing of it was kept.
    package var hasGap = false
    /// Whether the frontier moved.
    package var hasAdvanced = false
    /// Whether nothing in it was new.
    package var isDuplicate = false
    /// What supersedes what was offered, or stands in its place, to be sent back.
    package var evidence: [StreamRequest] = []
    /// Commits that lost their place to one of the same author, which is news here: for all, so
    /// that their author writes again in another life what was acknowledged in them.
    package var outvoted: [CommitsMessage] = []
    /// Whether the author was seen to have written two things in one place.
    package var isFork = false

    /// Nothing has happened yet.
    package init() {}
}
