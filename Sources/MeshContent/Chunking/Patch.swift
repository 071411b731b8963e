// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Bytes told by what they share with others: stretches of a base, and what is new between them. An
/// edit within a chunk then costs its own length and not the chunk's.
///
/// Blocks of the base are found in the new bytes by a rolling sum, as rsync does (Tridgell and
/// Mackerras, 1996), and each match is stretched both ways. What comes of a patch is checked by the
/// chunks' names, so a collision of sums costs bytes and nothing else.
package struct Patch: Hashable, Sendable {
    /// New bytes, then a stretch of the base; either may be empty.
    package struct Step: Hashable, Sendable {
        /// Bytes that the base has not.
        package var new: [UInt8]
        /// What follows in the base.
        package var old: Range<Int>
    }

    private static let block = 64
    private static let stepsMax = 16_384

    /// In order.
    package let steps: [Step]

    /// How many bytes it brings.
    package var newByteCount: Int { steps.reduce(0) { $0 + $1.new.count } }

    /// Finds what `new` shares with `base`.
    package init(from base: [UInt8], to new: [UInt8]) {
        var blocks: [UInt64: Int] = [:]
        for start in stride(from: 0, through: base.count - Self.block, by: Self.block) {
            let sum = Rolling(base, start, Self.block).value
            if blocks[sum] == nil { blocks[sum] = start }
        }
        var steps: [Step] = []
        var done = 0
        var at = 0
        var rolling = new.count >= Self.block ? Rolling(new, 0, Self.block) : nil
        // A common beginning needs no block.
        let head = zip(base, new).prefix { $0 == $1 }.count
        if head > 0 {
            steps.append(Step(new: [], old: 0..<head))
            done = head
        }
        while var sum = rolling, at + Self.block <= new.count {
            if at >= done, let start = blocks[sum.value],
                base[start..<(start + Self.block)] == new[at..<(at + Self.block)]
            {
                let match = Self.stretch(base, start, new, at, from: done)
                steps.append(Step(new: Array(new[done..<match.at]), old: match.old))
                done = match.at + match.old.count
            }
            let next = max(at + 1, done)
            guard next + Self.block <= new.count, steps.count < Self.stepsMax - 2 else { break }
            if next == at + 1 {
                sum.roll(out: new[at], in: new[at + Self.block])
            } else {
                sum = Rolling(new, next, Self.block)
            }
            rolling = sum
            at = next
        }
        // So does a common end.
        var tail = 0
        while tail < min(new.count - done, base.count),
            base[base.count - 1 - tail] == new[new.count - 1 - tail]
        {
            tail += 1
        }
        if done < new.count {
            steps.append(
                Step(
                    new: Array(new[done..<(new.count - tail)]),
                    old: (base.count - tail)..<base.count))
        }
        self.steps = steps
    }

    private static func stretch(
        _ base: [UInt8], _ start: Int, _ new: [UInt8], _ at: Int, from done: Int
    ) -> (at: Int, old: Range<Int>) {
        var (first, place) = (start, at)
        while first > 0, place > done, base[first - 1] == new[place - 1] {
            first -= 1
            place -= 1
        }
        var (last, end) = (start + block, at + block)
        while last < base.count, end < new.count, base[last] == new[end] {
            last += 1
            end += 1
        }
        return (place, first..<last)
    }

    /// Reads a patch to at most so many bytes.
    package init(from reader: inout WireReader, limit: Int) throws(WireError) {
        let count = try reader.count("steps", limit: Self.stepsMax)
        var steps: [Step] = []
        var total = 0
        for _ in 0..<count {
            let length = try reader.count("new", limit: limit)
            let new = try reader.take(length)
            let start = try reader.count("start", limit: limit)
            let old = try reader.count("length", limit: limit)
            total += length + old
            guard total <= limit else { throw .tooLong("patch", total, limit: limit) }
            steps.append(Step(new: new, old: start..<(start + old)))
        }
        self.steps = steps
    }

    /// Count, then for each step: length and new bytes, start and length in the base.
    package func encode(to writer: inout WireWriter) {
        writer.count(steps.count)
        for step in steps {
            writer.count(step.new.count)
            writer.append(step.new)
            writer.count(step.old.lowerBound)
            writer.count(step.old.count)
        }
    }

    /// The new bytes; nil where the base is too short for the patch.
    package func apply(to base: [UInt8]) -> [UInt8]? {
        var bytes: [UInt8] = []
        for step in steps {
            guard step.old.upperBound <= base.count else { return nil }
            bytes += step.new
            bytes += base[step.old]
        }
        return bytes
    }
}

/// A sum over a window of bytes that moves by one for little (Rabin and Karp, 1987).
private struct Rolling {
    private static let factor: UInt64 = 0x9e37_79b9_7f4a_7c15
    private(set) var value: UInt64 = 0
    private var leaving: UInt64 = 1

    init(_ bytes: [UInt8], _ start: Int, _ count: Int) {
        for index in start..<(start + count) {
            value = value &* Self.factor &+ UInt64(bytes[index]) &+ 1
            if index > start { leaving = leaving &* Self.factor }
        }
    }

    mutating func roll(out: UInt8, in next: UInt8) {
        value = (value &- (UInt64(out) &+ 1) &* leaving) &* Self.factor &+ UInt64(next) &+ 1
    }
}
