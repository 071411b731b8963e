// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Messages made smaller for a line between two sites. Layout and reasons: the article
/// `LinkProtocol`.
package struct Packing {
    private let codec: Zstd
    private var sent = Window()
    private var received = Window()
    /// The scope of what is in the window of what was sent.
    private var scope: Scope?

    /// Begins with empty windows.
    package init(_ codec: Zstd) { self.codec = codec }

    /// Packs a message where that makes it shorter.
    package mutating func pack(_ message: [UInt8]) -> [UInt8] {
        guard message.count >= PackingTuning.byteCountMin, let tag = message.first else {
            return message
        }
        switch tag {
        case PackingSpecification.commitsTag: return packCommits(message)
        case PackingSpecification.contentTag: return pack(message, .alone, after: []) ?? message
        default: return message
        }
    }

    /// Records of two scopes never meet in one window: who may write to one could find out what is
    /// in the other by how long messages become (CRIME).
    private mutating func packCommits(_ message: [UInt8]) -> [UInt8] {
        // A message of commits begins with its type and the scope.
        var reader = WireReader(Array(message.dropFirst().prefix(Self.scopeByteCountMax)))
        guard let scope = try? reader.scope() else { return message }
        let begins = scope != self.scope || sent.bytes.isEmpty
        let reach = min(
            PackingSpecification.windowByteCount, message.count * PackingTuning.windowPerByte)
        guard
            let packed = pack(
                message, begins ? .begins : .continues,
                after: begins ? [] : sent.bytes.suffix(reach))
        else { return message }
        self.scope = scope
        sent.append(message, anew: begins)
        return packed
    }

    private func pack(
        _ message: [UInt8], _ reference: PackingSpecification.Reference,
        after history: ArraySlice<UInt8>
    ) -> [UInt8]? {
        guard let frame = codec.compress(message, after: history),
            frame.count + 2 < message.count,
            message.count <= PackingSpecification.contentByteCountMax(frame: frame.count)
        else { return nil }
        return [PackingSpecification.tag, reference.rawValue] + frame
    }

    /// More than a scope takes: two names with their lengths, and a byte.
    private static let scopeByteCountMax = 256

    /// Gives back the message that was packed, and any other as it is.
    package mutating func unpack(_ message: [UInt8]) throws(LinkError) -> [UInt8] {
        guard message.first == PackingSpecification.tag else { return message }
        guard let byte = message.dropFirst().first,
            let reference = PackingSpecification.Reference(rawValue: byte)
        else { throw .badPacking }
        let history: ArraySlice<UInt8> =
            reference == .continues
            ? received.bytes.suffix(PackingSpecification.windowByteCount) : []
        let frame = message.dropFirst(2)
        let limit = PackingSpecification.contentByteCountMax(frame: frame.count)
        guard let plain = codec.decompress(frame, after: history, upTo: limit),
            let tag = plain.first, PackingSpecification.packable.contains(tag)
        else { throw .badPacking }
        if reference != .alone { received.append(plain, anew: reference == .begins) }
        return plain
    }

    /// The last bytes of one direction.
    private struct Window {
        private(set) var bytes: [UInt8] = []

        /// Keeps at least as much as both ends agreed on. What is beyond it goes now and then,
        /// since to move the rest costs time.
        mutating func append(_ message: [UInt8], anew: Bool) {
            let most = PackingSpecification.windowByteCount
            if anew { bytes = [] }
            if message.count >= most {
                bytes = Array(message.suffix(most))
                return
            }
            if bytes.count + message.count > most + most / 2 {
                bytes.removeFirst(bytes.count + message.count - most)
            }
            bytes += message
        }
    }
}
