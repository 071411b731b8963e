// SPDX-License-Identifier: Apache-2.0

internal import CZstd

/// libzstd and the memory that it works in: one for all links of a thread.
///
/// Each call makes or reads a whole zstd frame (RFC 8878) that may refer to bytes before it, so
/// nothing but those bytes has to be kept between two calls, and a link costs no codec of its own.
package final class Zstd {
    /// The first four bytes of every frame, which are not sent.
    private static let magic: [UInt8] = [0x28, 0xb5, 0x2f, 0xfd]

    private let compressor: OpaquePointer
    private let decompressor: OpaquePointer

    /// Takes the memory; nil where there is none.
    package init?() {
        guard let compressor = ZSTD_createCCtx(), let decompressor = ZSTD_createDCtx() else {
            return nil
        }
        (self.compressor, self.decompressor) = (compressor, decompressor)
        ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, PackingTuning.level)
        ZSTD_CCtx_setParameter(compressor, ZSTD_c_minMatch, PackingTuning.matchMin)
    }

    deinit {
        ZSTD_freeCCtx(compressor)
        ZSTD_freeDCtx(decompressor)
    }

    /// Makes a frame without its magic.
    ///
    /// - Parameter history: what both ends have; the nearer to its end, the cheaper to refer to.
    /// - Returns: nil where the frame would not be shorter than the bytes.
    func compress(_ bytes: [UInt8], after history: ArraySlice<UInt8>) -> [UInt8]? {
        let room = bytes.count + Self.magic.count
        var frame = Self.filling(room, from: bytes, after: history) { output, input, history in
            // What failed before leaves nothing behind.
            ZSTD_CCtx_reset(compressor, ZSTD_reset_session_only)
            ZSTD_CCtx_refPrefix(compressor, history.baseAddress, history.count)
            return ZSTD_compress2(
                compressor, output.baseAddress, output.count, input.baseAddress, input.count)
        }
        guard frame.starts(with: Self.magic), frame.count < room else { return nil }
        frame.removeFirst(Self.magic.count)
        return frame
    }

    /// Reads a frame without its magic.
    ///
    /// - Parameters:
    ///   - history: at least what the sender referred to, and nothing behind it.
    ///   - limit: the most bytes that the frame may say it holds; nothing is unpacked of one that
    ///     says more, or not how many.
    /// - Returns: nil where it is no frame, or not as long as it says.
    func decompress(
        _ frame: ArraySlice<UInt8>, after history: ArraySlice<UInt8>, upTo limit: Int
    ) -> [UInt8]? {
        let whole = Self.magic + frame
        let (told, length) = whole.withUnsafeBytes {
            (
                ZSTD_getFrameContentSize($0.baseAddress, $0.count),
                ZSTD_findFrameCompressedSize($0.baseAddress, $0.count)
            )
        }
        // Behind the frame libzstd would read others, also of formats that nobody uses any more.
        guard length == whole.count else { return nil }
        // What zstd says of a frame without a size, or of none, is beyond every limit.
        guard let size = Int(exactly: told), size <= limit else { return nil }
        let bytes = Self.filling(size, from: whole, after: history) { output, input, history in
            ZSTD_DCtx_reset(decompressor, ZSTD_reset_session_only)
            ZSTD_DCtx_refPrefix(decompressor, history.baseAddress, history.count)
            return ZSTD_decompressDCtx(
                decompressor, output.baseAddress, output.count, input.baseAddress, input.count)
        }
        return bytes.count == size ? bytes : nil
    }

    /// What one call of libzstd writes into so much room; nothing where it fails.
    private static func filling(
        _ room: Int, from input: [UInt8], after history: ArraySlice<UInt8>,
        _ call: (UnsafeMutableBufferPointer<UInt8>, UnsafeRawBufferPointer, UnsafeRawBufferPointer)
            -> Int
    ) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: room) { output, count in
            count = history.withUnsafeBytes { history in
                input.withUnsafeBytes { input in call(output, input, history) }
            }
            if ZSTD_isError(count) != 0 { count = 0 }
        }
    }
}
