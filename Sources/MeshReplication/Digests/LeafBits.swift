// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Which sequences of one digest leaf are meant: one bit each.
package struct LeafBits: Hashable, Sendable {
    /// Bit `n` stands for the leaf's first sequence plus `n`.
    package var bits: UInt64

    /// No sequences, or the given ones.
    package init(_ bits: UInt64 = 0) { self.bits = bits }

    /// The offsets that are set, ascending.
    package var offsets: [UInt8] { (0..<64).filter { bits >> UInt64($0) & 1 == 1 } }

    /// Writes the shortest of three forms: the set offsets, the clear offsets, or eight bytes.
    package func encode(to writer: inout WireWriter) {
        let set = bits.nonzeroBitCount
        if set < 8 {
            writer.u8(UInt8(set))
            writer.append(offsets)
        } else if 64 - set < 8 {
            writer.u8(0x40 | UInt8(64 - set))
            writer.append(LeafBits(~bits).offsets)
        } else {
            writer.u8(0xff)
            writer.u64(bits)
        }
    }

    /// Reads any of the three, each only where it is the shortest.
    package init(from reader: inout WireReader) throws(WireError) {
        let form = try reader.u8()
        switch form {
        case 0..<8: self.init(try Self.list(&reader, Int(form)))
        case 0x40..<0x48: self.init(~(try Self.list(&reader, Int(form & 7))))
        case 0xff:
            self.init(try reader.u64())
            guard (8...56).contains(bits.nonzeroBitCount) else { throw .invalid("leaf bits") }
        default: throw .invalid("leaf bits")
        }
    }

    private static func list(
        _ reader: inout WireReader, _ count: Int
    ) throws(WireError) -> UInt64 {
        var bits: UInt64 = 0
        var last = -1
        for _ in 0..<count {
            let offset = Int(try reader.u8())
            guard offset > last, offset < 64 else { throw .unordered("leaf bits") }
            bits |= 1 << UInt64(offset)
            last = offset
        }
        return bits
    }
}
