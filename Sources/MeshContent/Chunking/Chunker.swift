// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto

/// Cuts files where their content says so: an insertion moves no cut but those beside it.
///
/// FastCDC (Xia et al., USENIX ATC 2016) with normalised chunking: no cut before the least length,
/// a stricter mask up to the normal length and a laxer one beyond, so that lengths gather around
/// the normal one. The table of the rolling hash is BLAKE2b of `"holdfast gear"` and each byte, so every
/// publisher cuts alike.
package enum Chunker {
    private static let gear: [UInt64] = (0..<256).map { byte in
        Blake2b.hash(Array("holdfast gear".utf8) + [UInt8(byte)]).array.prefix(8)
            .reduce(0) { $0 << 8 | UInt64($1) }
    }
    /// The normal length is 2¹⁵: two bits more before it, two fewer after it; the highest, in which
    /// the last 64 bytes have had a say.
    private static let strict: UInt64 = 0xffff_8000_0000_0000
    private static let lax: UInt64 = 0xfff8_0000_0000_0000

    /// The length of the first chunk of `bytes`.
    ///
    /// - Parameter bytes: a file from some cut on; all of it, or at least the longest chunk.
    /// - Returns: from 1 to `bytes.count`; 0 where there are none.
    package static func cut(_ bytes: UnsafeRawBufferPointer) -> Int {
        let end = min(bytes.count, ContentSpecification.chunkBytesMax)
        let normal = min(end, ContentSpecification.chunkBytesNormal)
        var index = min(end, ContentSpecification.chunkBytesMin)
        if index == end { return end }
        return gear.withUnsafeBufferPointer { gear in
            var hash: UInt64 = 0
            while index < normal {
                hash = (hash << 1) &+ gear[Int(bytes[index])]
                index += 1
                if hash & strict == 0 { return index }
            }
            while index < end {
                hash = (hash << 1) &+ gear[Int(bytes[index])]
                index += 1
                if hash & lax == 0 { return index }
            }
            return end
        }
    }

    /// The lengths of all chunks of a whole file.
    package static func lengths(_ bytes: [UInt8]) -> [Int] {
        bytes.withUnsafeBytes { whole in
            var lengths: [Int] = []
            var start = 0
            while start < whole.count {
                let length = cut(UnsafeRawBufferPointer(rebasing: whole[start...]))
                lengths.append(length)
                start += length
            }
            return lengths
        }
    }
}
