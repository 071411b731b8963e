// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto
package import MeshTrust

/// Constants that both ends of a link must agree on; changing one breaks peers. See `LinkProtocol`.
package enum LinkSpecification {
    /// The first four bytes of a connection.
    package static let magic: [UInt8] = Array("MSH1".utf8)
    /// The lowest and highest protocol version of this program.
    package static let versions: ClosedRange<UInt8> = 1...1
    /// Bytes before the handshake: magic, versions, epoch of the mesh secret, what the end offers.
    package static let preambleByteCount = 12
    /// Longest handshake message, in bytes.
    package static let handshakeBytesMax = 4096
    /// Longest sealed frame, in bytes.
    package static let frameBytesMax = 65_535
    /// Longest plaintext of a frame: its seal and its flag byte taken off.
    package static let fragmentBytesMax = frameBytesMax - 16 - 1
    /// Longest message, over all its frames, in bytes.
    package static let messageBytesMax = 1 << 20
    /// The extension of a handshake's payload that tells of the root document.
    package static let rootTag: UInt8 = 1
    /// Frames after which a direction changes its key.
    package static let framesPerKey: UInt64 = 1 << 16
}

/// Why a link was closed.
package enum LinkError: Error, Hashable {
    /// The peer does not speak this protocol.
    case notAPeer
    /// No version in common.
    case noCommonVersion(UInt8, UInt8)
    /// The peer's mesh secret is of an epoch that is not known here.
    case unknownEpoch(UInt32)
    /// The handshake failed: another mesh, or another secret.
    case handshake(NoiseError)
    /// The peer that was dialled closed before it had proven anything.
    case turnedAway
    /// The peer's certificate was refused.
    case certificate(String)
    /// The peer's certificate is for another link key than the one it proved.
    case keyMismatch
    /// This node itself.
    case selfConnect
    /// The peer has an older root document; it was sent the newer one, and links again by it.
    case rootIsOlder(UInt32)
    /// The peer's newer root document was taken; the node links again by it.
    case rootWasTaken(UInt32)
    /// The peer's root document does not follow from this node's.
    case root(String)
    /// A length outside its limits.
    case badLength(Int)
    /// A frame that is not authentic, in order and once.
    case badFrame
    /// A packed message that cannot be unpacked, or may not be packed.
    case badPacking
    /// A message that is not one.
    case badMessage(WireError)
    /// A message that may not come now.
    case unexpected(String)
}

extension LinkError: CustomStringConvertible {
    /// What happened, for a person.
    package var description: String {
        switch self {
        case .notAPeer: "the other side does not speak the mesh's protocol"
        case .noCommonVersion(let low, let high):
            "no common version: the peer speaks \(low) to \(high)"
        case .unknownEpoch(let epoch): "the peer's mesh secret is of epoch \(epoch)"
        case .handshake(.notAuthentic):
            "the handshake failed: the peer is of another mesh or has another secret"
        case .handshake(let error): "the handshake failed: \(error)"
        case .turnedAway:
            "the other side closed during the handshake: it is of another mesh, has another secret, or is too busy"
        case .certificate(let reason): "the peer's certificate was refused: \(reason)"
        case .keyMismatch: "the peer's certificate is for another link key"
        case .selfConnect: "the address is this node's own"
        case .rootIsOlder(let version):
            "the peer had version \(version) of the root document, and was sent the newer one"
        case .rootWasTaken(let version): "version \(version) of the root document was taken"
        case .root(let reason): "the peer's root document was refused: \(reason)"
        case .badLength(let count): "a length of \(count) is outside its limits"
        case .badFrame: "a frame was changed, repeated or out of order"
        case .badPacking: "a packed message cannot be unpacked, or may not be packed"
        case .badMessage(let error): "a message is malformed: \(error)"
        case .unexpected(let what): "\(what) came out of turn"
        }
    }

    /// Whether nothing is wrong: one end had an older root document, and both link again.
    package var isOfRoot: Bool {
        switch self {
        case .rootIsOlder, .rootWasTaken: true
        default: false
        }
    }

    /// The counter's label.
    package var code: String {
        switch self {
        case .notAPeer: "not_a_peer"
        case .noCommonVersion: "no_common_version"
        case .unknownEpoch: "unknown_epoch"
        case .handshake: "handshake"
        case .turnedAway: "turned_away"
        case .certificate: "certificate"
        case .keyMismatch: "key_mismatch"
        case .selfConnect: "self"
        case .rootIsOlder: "root_is_older"
        case .rootWasTaken: "root_was_taken"
        case .root: "root"
        case .badLength: "bad_length"
        case .badFrame: "bad_frame"
        case .badPacking: "bad_packing"
        case .badMessage: "bad_message"
        case .unexpected: "unexpected"
        }
    }
}

/// What a node shows and checks when it links.
package struct LinkIdentity: Sendable {
    /// The certificate shown to the peer.
    package let certificate: Certificate
    /// The key that the certificate names.
    package let key: AgreementKey
    /// The mesh's root, by which the peer's certificate is judged.
    package let root: RootDocument
    /// The mesh's shared secret, in its last epochs.
    package let secrets: MeshSecrets
    /// The program's version, shown to operators.
    package let version: String

    /// Joins the pieces.
    package init(
        certificate: Certificate, key: AgreementKey, root: RootDocument, secrets: MeshSecrets,
        version: String
    ) {
        self.certificate = certificate
        self.key = key
        self.root = root
        self.secrets = secrets
        self.version = version
    }
}
