// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Places of a log that are on a disk: those after one, up to the end of a commit.
package struct HeldRun: Hashable, Sendable {
    /// The place before the first.
    package let after: UInt64
    /// The last.
    package let through: UInt64
    /// The commit that ends there: it names the one before it, and so on to the first.
    package let commit: Digest

    /// Says which.
    package init(after: UInt64, through: UInt64, commit: Digest) {
        self.after = after
        self.through = through
        self.commit = commit
    }

    /// Whether a place is among them.
    package func holds(_ place: UInt64) -> Bool { after < place && place <= through }
}
