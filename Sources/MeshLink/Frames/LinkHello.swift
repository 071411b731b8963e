// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshTrust

/// What each end says of itself in the handshake. Layout: the article `LinkProtocol`.
struct LinkHello {
    /// The certificate as it came, not judged.
    let certificate: [UInt8]
    /// The program's version.
    let version: String
    /// The newest version of the root document that the end has.
    let rootVersion: UInt32
    /// Whether it has the list of that version too.
    let isRootWhole: Bool
    /// Tells that version from another of its number; nil for the first, which the prologue names.
    let rootTag: [UInt8]?

    private static let tagByteCount = 8

    /// What a node says.
    init(_ identity: LinkIdentity) {
        let root = identity.root
        certificate = identity.certificate.encoded
        version = identity.version
        rootVersion = root.version
        isRootWhole = root.isWhole
        rootTag = root.version == 1 ? nil : root.tag
    }

    var encoded: [UInt8] {
        var writer = WireWriter()
        writer.medium(certificate)
        writer.short(version.utf8.prefix(31))
        writer.u8(rootTag == nil ? 0 : 1)
        if let rootTag {
            writer.u8(LinkSpecification.rootTag)
            writer.u32(rootVersion)
            writer.u8(isRootWhole ? 1 : 0)
            writer.append(rootTag)
        }
        return writer.bytes
    }

    init(decoding payload: [UInt8]) throws(LinkError) {
        do throws(WireError) {
            var reader = WireReader(payload)
            certificate = try reader.medium("certificate", limit: Certificate.byteCountMax)
            let text = try reader.short()
            guard text.allSatisfy({ (0x21...0x7e).contains($0) }) else { throw .invalid("version") }
            version = String(decoding: text, as: UTF8.self)
            switch try reader.u8() {
            case 0: (rootVersion, isRootWhole, rootTag) = (1, true, nil)
            case 1:
                guard try reader.u8() == LinkSpecification.rootTag else {
                    throw .invalid("extension")
                }
                rootVersion = try reader.u32()
                let flag = try reader.u8()
                guard rootVersion > 1, flag <= 1 else { throw .invalid("root version") }
                isRootWhole = flag == 1
                rootTag = try reader.take(Self.tagByteCount)
            default: throw .invalid("extensions")
            }
            try reader.finish()
        } catch {
            throw .badMessage(error)
        }
    }
}
