// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What a record supersedes: the places up to which its writer had seen the key's versions.
///
/// An entry covers its own log up to it, and what its life had inherited (`Lives`). There is one
/// entry a life. What the writer's own life had behind it goes without saying; of other nodes each
/// life is named that a replaced version names or is of, so that no entry hangs on another, which a
/// revocation may cut off.
package struct Context: Hashable, Sendable {
    /// Most entries of one context.
    package static let entriesMax = 4096

    /// The places, one a life, ascending by author.
    package let dots: [Dot]

    /// Covers nothing.
    package static let empty = Context(ascending: [])

    private init(ascending dots: [Dot]) { self.dots = dots }

    /// Takes the places that were seen; of one log the highest counts.
    package init(_ seen: [Dot]) {
        var highest: [Author: UInt64] = [:]
        for dot in seen { highest[dot.author] = max(highest[dot.author] ?? 0, dot.sequence) }
        dots = highest.map { Dot(author: $0.key, sequence: $0.value) }.sorted()
    }

    /// Whether a version at `dot` is superseded.
    package func covers(_ dot: Dot, lives: ScopeLives) -> Bool {
        dots.contains { lives.reaches($0, dot) }
    }

    /// The context with at most `entriesMax` entries.
    ///
    /// - Parameter keeping: places that must stay: the versions that the writer replaces.
    /// - Returns: nil where even those are too many.
    package func cut(keeping: Set<Dot>) -> Context? {
        guard dots.count > Self.entriesMax else { return self }
        let needed = dots.filter(keeping.contains)
        guard needed.count <= Self.entriesMax else { return nil }
        let others = dots.filter { !keeping.contains($0) }.prefix(
            Self.entriesMax - needed.count)
        return Context(ascending: (needed + others).sorted())
    }

    func encode(to writer: inout WireWriter) {
        writer.count(dots.count)
        for dot in dots {
            writer.author(dot.author)
            writer.varint(dot.sequence)
        }
    }

    init(from reader: inout WireReader) throws(WireError) {
        var dots: [Dot] = []
        for _ in 0..<(try reader.count("context", limit: Self.entriesMax)) {
            let dot = Dot(
                author: try reader.author(), sequence: try reader.shortSequence())
            if let last = dots.last, last.author >= dot.author { throw .unordered("context") }
            dots.append(dot)
        }
        self.dots = dots
    }
}

extension WireReader {
    /// A sequence from 1 to `Dot.sequenceMax` as a varint.
    mutating func shortSequence() throws(WireError) -> UInt64 {
        let value = try varint()
        guard value > 0, value <= Dot.sequenceMax else { throw .invalid("sequence") }
        return value
    }
}
