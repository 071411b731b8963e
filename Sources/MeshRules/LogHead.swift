// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshReplication

/// A header with its author's signature.
package struct SignedHeader: Sendable {
    /// The header.
    package let header: CommitHeader
    /// The signature over it.
    package let signature: Signature

    /// Joins the two.
    package init(_ header: CommitHeader, _ signature: Signature) {
        self.header = header
        self.signature = signature
    }
}

/// The end of a log as far as it is known, and how it began.
package struct LogHead: Hashable, Sendable {
    /// Every sequence up to this one is known: it lives here, or was superseded.
    package var frontier: UInt64
    /// The identity of the last commit; zero before the first.
    package var id: Digest
    /// What the life inherited when it began.
    package var inherits: [Inheritance]
    /// What headers show that are kept as evidence; nil where none is kept.
    package var shown: Shown?
    /// The first place whose record has rotted or is to be proven again; nil if there is none.
    package var firstHole: UInt64?

    /// What headers of one log show, whose records may be lost or still to come.
    package struct Shown: Hashable, Sendable {
        /// From which place on two machines wrote; nil where no two headers contradict each other.
        package var forksAt: UInt64?
        /// The furthest place that the author wrote.
        package var through: UInt64

        /// What headers show together; nil if there are none.
        package init?(_ headers: [CommitHeader], in mesh: MeshID) {
            guard let through = headers.map(\.last).max() else { return nil }
            self.through = through
            for (index, one) in headers.enumerated() {
                for other in headers[(index + 1)...] where one.contradicts(other, in: mesh) {
                    forksAt = min(forksAt ?? .max, one.first, other.first)
                }
            }
        }
    }

    /// From which place on two machines are known to have written; nil where none is.
    package var forksAt: UInt64? { shown?.forksAt }

    /// Whether all of it is taken to have been seen by whoever holds it.
    package var isWhole: Bool { forksAt == nil && firstHole == nil }

    /// How far the author is known to have written, though what stood there may have been lost.
    package var provenTo: UInt64 { max(frontier, shown?.through ?? 0) }

    /// A log of which nothing is known.
    package static let none = LogHead(frontier: 0, id: .zero, inherits: [])

    /// The log once it ends with a commit: what is known of its forks and holes stays.
    func ending(with header: CommitHeader, in mesh: MeshID) -> LogHead {
        var head = self
        head.frontier = header.last
        head.id = header.id(in: mesh)
        if header.first == 1 { head.inherits = header.inherits }
        return head
    }

    /// Notes what more headers show.
    mutating func show(_ news: Shown) {
        guard let known = shown else { return shown = news }
        let places = [known.forksAt, news.forksAt].compactMap(\.self)
        shown?.forksAt = places.min()
        shown?.through = max(known.through, news.through)
    }

    /// Describes a log.
    package init(
        frontier: UInt64, id: Digest, inherits: [Inheritance], shown: Shown? = nil,
        firstHole: UInt64? = nil
    ) {
        self.frontier = frontier
        self.id = id
        self.inherits = inherits
        self.shown = shown
        self.firstHole = firstHole
    }
}
