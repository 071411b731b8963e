// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Bytes told by what they share with others: the same beginning, the same end, and what is new in
/// between. An edit within a chunk then costs its own length and not the chunk's.
package struct Patch: Hashable, Sendable {
    /// Bytes of the base that stand at the beginning.
    package let head: Int
    /// Bytes of the base that stand at the end.
    package let tail: Int
    /// What is between.
    package let middle: [UInt8]

    /// Finds what `new` shares with `base`.
    package init(from base: [UInt8], to new: [UInt8]) {
        let most = min(base.count, new.count)
        var head = 0
        while head < most, base[head] == new[head] { head += 1 }
        var tail = 0
        while tail < most - head, base[base.count - 1 - tail] == new[new.count - 1 - tail] {
            tail += 1
        }
        self.head = head
        self.tail = tail
        middle = Array(new[head..<(new.count - tail)])
    }

    /// Reads a patch, of at most so many new bytes.
    package init(from reader: inout WireReader, limit: Int) throws(WireError) {
        head = try reader.count("head", limit: limit)
        tail = try reader.count("tail", limit: limit)
        middle = try reader.long("middle", limit: limit)
    }

    /// Head, tail, middle.
    package func encode(to writer: inout WireWriter) {
        writer.count(head)
        writer.count(tail)
        writer.long(middle)
    }

    /// The new bytes; nil where the base is too short for the patch.
    package func apply(to base: [UInt8]) -> [UInt8]? {
        guard head <= base.count, tail <= base.count else { return nil }
        return Array(base.prefix(head)) + middle + Array(base.suffix(tail))
    }
}
