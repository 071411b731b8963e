// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// What linked servers say to each other about content. Layout: the article `ContentProtocol`.
///
/// The types are even, so that a server of a version without content skips them.
package enum ContentMessage: Hashable, Sendable {
    /// Types that belong to content, for whoever sorts messages by their first byte.
    package static let tags: ClosedRange<UInt8> = 34...38

    /// The sender holds a release, or some of its chunks beyond those it told of before.
    case offer(Digest, Offer)
    /// A part of a manifest, or chunks, are wanted.
    case get(UInt32, Digest, Wanted)
    /// The answer to a request.
    case give(UInt32, Given)

    /// How much of a release a server holds.
    package enum Offer: Hashable, Sendable {
        /// All of it.
        case whole
        /// Chunks by their places in the list of the manifest's different chunks, as ranges.
        case parts([Range<Int>])
    }

    /// What is asked for.
    package enum Wanted: Hashable, Sendable {
        /// Bytes of the manifest from an offset on.
        case manifest(offset: Int)
        /// Chunks by place; and a base that the asker has, whose places are those of another
        /// manifest.
        case chunks([Range<Int>], base: Base?)
    }

    /// Chunks that an answer may refer to.
    package struct Base: Hashable, Sendable {
        /// The manifest that names them.
        package let manifest: Digest
        /// Their places.
        package let places: [Range<Int>]

        /// Names a base.
        package init(manifest: Digest, places: [Range<Int>]) {
            self.manifest = manifest
            self.places = places
        }
    }

    /// What is answered.
    package enum Given: Hashable, Sendable {
        /// The bytes, one chunk after the other.
        case bytes([UInt8])
        /// How they differ from the base.
        case patch(Patch)
        /// They are not here.
        case lack
    }

    private enum Tag: UInt8 {
        case offer = 34
        case get = 36
        case give = 38
    }

    /// Most ranges of one message.
    static let rangesMax = 4096
    /// Most places of one request.
    static let placesMax = 128
    /// Most bytes of one answer.
    static let givenBytesMax = 900 << 10

    /// Type byte, fields.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        switch self {
        case .offer(let manifest, let offer):
            writer.u8(Tag.offer.rawValue)
            writer.append(manifest)
            switch offer {
            case .whole: writer.u8(0)
            case .parts(let ranges):
                writer.u8(1)
                Self.encode(ranges, to: &writer)
            }
        case .get(let request, let manifest, let wanted):
            writer.u8(Tag.get.rawValue)
            writer.u32(request)
            writer.append(manifest)
            Self.encode(wanted, to: &writer)
        case .give(let request, let given):
            writer.u8(Tag.give.rawValue)
            writer.u32(request)
            switch given {
            case .bytes(let bytes):
                writer.u8(0)
                writer.long(bytes)
            case .patch(let patch):
                writer.u8(1)
                patch.encode(to: &writer)
            case .lack: writer.u8(2)
            }
        }
        return writer.bytes
    }

    private static func encode(_ wanted: Wanted, to writer: inout WireWriter) {
        switch wanted {
        case .manifest(let offset):
            writer.u8(0)
            writer.count(offset)
        case .chunks(let ranges, let base):
            writer.u8(base == nil ? 1 : 2)
            encode(ranges, to: &writer)
            if let base {
                writer.append(base.manifest)
                encode(base.places, to: &writer)
            }
        }
    }

    /// Ranges ascend: each is told by the gap before it and its length.
    private static func encode(_ ranges: [Range<Int>], to writer: inout WireWriter) {
        writer.count(ranges.count)
        var last = 0
        for range in ranges {
            writer.count(range.lowerBound - last)
            writer.count(range.count)
            last = range.upperBound
        }
    }

    private static func ranges(_ reader: inout WireReader) throws(WireError) -> [Range<Int>] {
        let count = try reader.count("ranges", limit: rangesMax)
        var ranges: [Range<Int>] = []
        var last = 0
        for _ in 0..<count {
            let start = last + (try reader.count("gap", limit: ContentSpecification.chunksMax))
            let length = try reader.count("length", limit: ContentSpecification.chunksMax)
            guard length > 0, start + length <= ContentSpecification.chunksMax else {
                throw .invalid("range")
            }
            last = start + length
            ranges.append(start..<last)
        }
        return ranges
    }

    /// Ranges of as many places as one request may name.
    private static func few(_ reader: inout WireReader) throws(WireError) -> [Range<Int>] {
        let ranges = try ranges(&reader)
        let count = ranges.reduce(0) { $0 + $1.count }
        guard count <= placesMax else { throw .tooLong("places", count, limit: placesMax) }
        return ranges
    }

    /// Reads all of `bytes`.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        guard let tag = Tag(rawValue: try reader.u8()) else { throw .invalid("content message") }
        switch tag {
        case .offer:
            let manifest: Digest = try reader.bytes32()
            switch try reader.u8() {
            case 0: self = .offer(manifest, .whole)
            case 1: self = .offer(manifest, .parts(try Self.ranges(&reader)))
            default: throw .invalid("offer")
            }
        case .get:
            let (request, manifest): (UInt32, Digest) = (try reader.u32(), try reader.bytes32())
            switch try reader.u8() {
            case 0:
                let offset = try reader.count(
                    "offset", limit: ContentSpecification.manifestBytesMax)
                self = .get(request, manifest, .manifest(offset: offset))
            case 1:
                self = .get(request, manifest, .chunks(try Self.few(&reader), base: nil))
            case 2:
                let ranges = try Self.few(&reader)
                let base = Base(manifest: try reader.bytes32(), places: try Self.few(&reader))
                self = .get(request, manifest, .chunks(ranges, base: base))
            default: throw .invalid("request")
            }
        case .give:
            let request = try reader.u32()
            switch try reader.u8() {
            case 0:
                self = .give(
                    request, .bytes(try reader.long("bytes", limit: Self.givenBytesMax)))
            case 1:
                self = .give(
                    request, .patch(try Patch(from: &reader, limit: Self.givenBytesMax)))
            case 2: self = .give(request, .lack)
            default: throw .invalid("answer")
            }
        }
        try reader.finish()
    }
}
