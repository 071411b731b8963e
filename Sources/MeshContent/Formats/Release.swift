// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshTrust

/// Which of a channel's releases: the charter's epoch, then the version.
package struct ReleaseNumber: Hashable, Comparable, Sendable {
    /// The charter under which it was signed.
    package let epoch: UInt32
    /// Grows with each release under one charter.
    package let version: UInt64

    /// Joins the two.
    package init(epoch: UInt32, version: UInt64) {
        self.epoch = epoch
        self.version = version
    }

    /// Parses `E.V`; nil for anything else.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let epoch = UInt32(parts[0]), let version = UInt64(parts[1]) else {
            return nil
        }
        self.init(epoch: epoch, version: version)
    }

    /// Older is less.
    package static func < (lhs: ReleaseNumber, rhs: ReleaseNumber) -> Bool {
        (lhs.epoch, lhs.version) < (rhs.epoch, rhs.version)
    }
}

extension ReleaseNumber: CustomStringConvertible {
    /// `E.V`.
    package var description: String { "\(epoch).\(version)" }
}

/// Who gets a release at one step of its roll-out.
package enum Ring: Hashable, Sendable {
    /// Some sites, by name.
    case sites([String])
    /// The sites of a group.
    case group(String)
    /// So many of a hundred sites, chosen by a hash of channel and site.
    case percent(UInt8)
    /// Everybody.
    case all
}

/// What a publisher says of one version of a channel.
package struct Release: Hashable, Sendable {
    /// The channel.
    package var channel: String
    /// Which release.
    package var number: ReleaseNumber
    /// For whom.
    package var audience: Audience
    /// The hash of the manifest's bytes.
    package var manifest: Digest
    /// How many bytes it has.
    package var manifestBytes: UInt32
    /// Bytes of all files.
    package var totalBytes: UInt64
    /// How many files.
    package var files: UInt32
    /// Milliseconds since 1970 by the publisher's clock; shown, never judged by.
    package var created: UInt64
    /// What the publisher says of it.
    package var message: String
    /// The hour at which sites begin to use it, by each site's own clock; `yyyy-MM-ddTHH:mm`, or
    /// empty for at once.
    package var activateAt: String
    /// The steps of its roll-out; everybody at once if there are none.
    package var rings: [Ring]
    /// How long each ring must be well before the next begins, in seconds.
    package var holdSeconds: UInt32
    /// The version whose files these are again; 0 for a release of its own.
    package var rollbackOf: UInt64

    /// Fills in a release.
    package init(
        channel: String, number: ReleaseNumber, audience: Audience, manifest: Digest,
        manifestBytes: UInt32, totalBytes: UInt64, files: UInt32, created: UInt64,
        message: String = "", activateAt: String = "", rings: [Ring] = [],
        holdSeconds: UInt32 = 0, rollbackOf: UInt64 = 0
    ) {
        self.channel = channel
        self.number = number
        self.audience = audience
        self.manifest = manifest
        self.manifestBytes = manifestBytes
        self.totalBytes = totalBytes
        self.files = files
        self.created = created
        self.message = message
        self.activateAt = activateAt
        self.rings = rings
        self.holdSeconds = holdSeconds
        self.rollbackOf = rollbackOf
    }

    /// The fixed fields in their one encoding.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        writer.u8(1)
        writer.short(channel.utf8)
        writer.u32(number.epoch)
        writer.u64(number.version)
        writer.audience(audience)
        writer.append(manifest)
        writer.u32(manifestBytes)
        writer.u64(totalBytes)
        writer.u32(files)
        writer.u64(created)
        writer.medium(Array(message.utf8))
        writer.short(activateAt.utf8)
        writer.u32(holdSeconds)
        writer.u64(rollbackOf)
        writer.u8(UInt8(rings.count))
        for ring in rings { Self.encode(ring, to: &writer) }
        writer.u8(0)
        return writer.bytes
    }

    private static func encode(_ ring: Ring, to writer: inout WireWriter) {
        switch ring {
        case .all: writer.u8(0)
        case .sites(let names):
            writer.u8(1)
            writer.u8(UInt8(names.count))
            for name in names { writer.short(name.utf8) }
        case .group(let name):
            writer.u8(2)
            writer.short(name.utf8)
        case .percent(let share):
            writer.u8(3)
            writer.u8(share)
        }
    }

    /// Reads all of `bytes`.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        guard try reader.u8() == 1 else { throw .invalid("release version") }
        channel = try reader.name("channel")
        number = ReleaseNumber(epoch: try reader.u32(), version: try reader.u64())
        audience = try reader.audience()
        manifest = try reader.bytes32()
        manifestBytes = try reader.u32()
        totalBytes = try reader.u64()
        files = try reader.u32()
        created = try reader.u64()
        let text = try reader.medium("message", limit: ContentSpecification.messageBytesMax)
        guard let message = String(validating: text, as: UTF8.self) else {
            throw .invalid("message")
        }
        self.message = message
        activateAt = String(decoding: try reader.short(), as: UTF8.self)
        holdSeconds = try reader.u32()
        rollbackOf = try reader.u64()
        let count = Int(try reader.u8())
        guard count <= ContentSpecification.ringsMax else { throw .invalid("rings") }
        var rings: [Ring] = []
        for _ in 0..<count { rings.append(try Self.ring(&reader)) }
        self.rings = rings
        guard try reader.u8() == 0 else { throw .invalid("extension") }
        try reader.finish()
        guard number.version > 0, Self.isTime(activateAt),
            manifestBytes <= ContentSpecification.manifestBytesMax,
            totalBytes <= ContentSpecification.releaseBytesMax,
            files <= ContentSpecification.filesMax
        else { throw .invalid("release") }
    }

    private static func ring(_ reader: inout WireReader) throws(WireError) -> Ring {
        switch try reader.u8() {
        case 0: return .all
        case 1:
            let count = Int(try reader.u8())
            guard (1...ContentSpecification.ringNamesMax).contains(count) else {
                throw .invalid("ring")
            }
            var names: [String] = []
            for _ in 0..<count { names.append(try reader.name("site")) }
            return .sites(names)
        case 2: return .group(try reader.name("group"))
        case 3:
            let share = try reader.u8()
            guard (1...100).contains(share) else { throw .invalid("percent") }
            return .percent(share)
        default: throw .invalid("ring")
        }
    }

    /// Whether a text is `yyyy-MM-ddTHH:mm` or empty.
    package static func isTime(_ text: String) -> Bool {
        if text.isEmpty { return true }
        let shape = Array("dddd-dd-ddTdd:dd".utf8)
        let bytes = Array(text.utf8)
        return bytes.count == shape.count
            && zip(bytes, shape).allSatisfy { byte, form in
                form == UInt8(ascii: "d") ? (48...57).contains(byte) : byte == form
            }
    }

    /// The first step of the roll-out that includes a site; nil if none does.
    package func ring(of site: String, groups: [String]) -> Int? {
        if rings.isEmpty { return 0 }
        return rings.firstIndex { ring in
            switch ring {
            case .all: return true
            case .sites(let names): return names.contains(site)
            case .group(let name): return groups.contains(name)
            case .percent(let share):
                let hash = Blake2b.hash(Array("\(channel)\u{0}\(site)".utf8)).array
                return (UInt16(hash[0]) << 8 | UInt16(hash[1])) % 100 < UInt16(share)
            }
        }
    }
}

/// A release with the charter it stands on, signed by the charter's publish keys: the body of a
/// record of the namespace `_content`, which proves itself to every server.
package struct SignedRelease: Hashable, Sendable {
    /// Longest encoded form, in bytes.
    package static let byteCountMax = 16 << 10

    /// Who may sign.
    package let charter: Charter
    /// What they signed.
    package let release: Release
    /// The signed bytes.
    package let body: [UInt8]
    /// Their signatures.
    package let signatures: [IndexedSignature]
    /// The next version, signed already, with the files of the release before this: a way back
    /// that needs no key. Nil for a channel's first release.
    package let wayBack: WayBack?

    /// A release that was signed beforehand.
    package struct WayBack: Hashable, Sendable {
        /// The signed bytes.
        package let body: [UInt8]
        /// The signatures.
        package let signatures: [IndexedSignature]
    }

    /// Signs a release, and its way back if there is one.
    package init(
        _ release: Release, charter: Charter, mesh: MeshID, signers: [SigningKey],
        wayBack: Release? = nil
    ) {
        self.charter = charter
        self.release = release
        body = release.encoded
        signatures = IndexedSignature.sign(body, .release, mesh, keys: charter.keys, signers)
        self.wayBack = wayBack.map { back in
            let bytes = back.encoded
            return WayBack(
                body: bytes,
                signatures: IndexedSignature.sign(
                    bytes, .release, mesh, keys: charter.keys, signers))
        }
    }

    private init(charter: Charter, release: Release, wayBack: WayBack) {
        self.charter = charter
        self.release = release
        body = wayBack.body
        signatures = wayBack.signatures
        self.wayBack = nil
    }

    /// Decodes a release and verifies everything in it.
    package init(decoding bytes: [UInt8], root: RootDocument) throws(ContentRefusal) {
        var reader = WireReader(bytes)
        charter = try Charter(from: &reader, root: root)
        do throws(WireError) {
            guard bytes.count <= Self.byteCountMax else {
                throw .tooLong("release", bytes.count, limit: Self.byteCountMax)
            }
            body = try reader.medium("release", limit: Self.byteCountMax)
            signatures = try IndexedSignature.list(&reader)
            switch try reader.u8() {
            case 0: wayBack = nil
            case 1:
                wayBack = WayBack(
                    body: try reader.medium("release", limit: Self.byteCountMax),
                    signatures: try IndexedSignature.list(&reader))
            default: throw .invalid("way back")
            }
            try reader.finish()
            release = try Release(decoding: body)
        } catch {
            throw .malformed("release", error)
        }
        try Self.verify(release, body, signatures, charter, root.meshID)
        if let wayBack {
            let back = try Self.decode(wayBack.body)
            guard
                back.number
                    == ReleaseNumber(
                        epoch: release.number.epoch, version: release.number.version + 1)
            else { throw .wrongChannel }
            try Self.verify(back, wayBack.body, wayBack.signatures, charter, root.meshID)
        }
    }

    private static func decode(_ bytes: [UInt8]) throws(ContentRefusal) -> Release {
        do throws(WireError) { return try Release(decoding: bytes) } catch {
            throw .malformed("release", error)
        }
    }

    private static func verify(
        _ release: Release, _ body: [UInt8], _ signatures: [IndexedSignature], _ charter: Charter,
        _ mesh: MeshID
    ) throws(ContentRefusal) {
        guard release.channel == charter.channel, release.number.epoch == charter.epoch,
            release.number.version < .max
        else { throw .wrongChannel }
        try IndexedSignature.verify(
            signatures, body, .release, mesh, keys: charter.keys,
            threshold: Int(charter.threshold))
    }

    /// The release that leads back, with the same charter.
    package var back: SignedRelease? {
        guard let wayBack, let release = try? Release(decoding: wayBack.body) else { return nil }
        return SignedRelease(charter: charter, release: release, wayBack: wayBack)
    }

    /// The record's body.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        charter.encode(to: &writer)
        writer.medium(body)
        IndexedSignature.encode(signatures, to: &writer)
        writer.u8(wayBack == nil ? 0 : 1)
        if let wayBack {
            writer.medium(wayBack.body)
            IndexedSignature.encode(wayBack.signatures, to: &writer)
        }
        return writer.bytes
    }

    /// The record's key: each release has one of its own, so none can take another's place.
    package static func key(_ channel: String, _ number: ReleaseNumber) throws(KeyError)
        -> RecordKey
    {
        try RecordKey("\(channel)/\(number.epoch)/\(number.version)")
    }

    /// Where the record of a release stands.
    package static func scope(for audience: Audience) -> Scope {
        Scope(namespace: ContentSpecification.namespace, audience: audience)
    }
}
