// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// Why a handshake or a frame failed; the link is closed and nothing else changes.
package enum NoiseError: Error, Hashable {
    /// A message is shorter than its tokens.
    case truncated
    /// An authentication tag is wrong: another secret, or changed bytes.
    case notAuthentic
    /// A public key of low order.
    case weakKey
    /// More messages under one key than may be.
    case exhausted
}

/// One key and its message counter (Noise revision 34, §5.1).
package struct CipherState: Sendable {
    private var key: Bytes32
    private var counter: UInt64 = 0

    init(key: Bytes32) { self.key = key }

    /// How many messages were sealed or opened under the present key.
    package var messages: UInt64 { counter }

    mutating func seal(_ plain: [UInt8], _ data: [UInt8] = []) throws(NoiseError) -> [UInt8] {
        guard counter < UInt64.max - 1 else { throw .exhausted }
        defer { counter += 1 }
        return ChaChaPoly.seal(plain, key: key, counter: counter, authenticating: data)
    }

    mutating func open(_ sealed: [UInt8], _ data: [UInt8] = []) throws(NoiseError) -> [UInt8] {
        guard counter < UInt64.max - 1 else { throw .exhausted }
        guard let plain = ChaChaPoly.open(sealed, key: key, counter: counter, authenticating: data)
        else { throw .notAuthentic }
        counter += 1
        return plain
    }

    /// Noise's one-way change of key (§11.3); the counter goes on.
    mutating func rekey() {
        let zeros = [UInt8](repeating: 0, count: 32)
        let sealed = ChaChaPoly.seal(zeros, key: key, counter: .max, authenticating: [])
        if let next = Bytes32(sealed.prefix(32)) { key = next }
    }
}

/// The pattern `XXpsk0` of Noise with X25519, ChaCha20-Poly1305 and BLAKE2b: three messages.
///
/// ```
/// -> psk, e
/// <- e, ee, s, es
/// -> s, se
/// ```
/// Randomness comes in with `ephemeral`, so a run can be repeated against published vectors.
/// Source: The Noise Protocol Framework, revision 34, §5, §7, §9.
package struct NoiseHandshake: Sendable {
    /// The protocol's name, hashed into everything.
    package static let name = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b"

    private var chainingKey: [UInt8]
    private var hash: [UInt8]
    private var cipher: CipherState?
    private let isInitiator: Bool
    private let longTerm: AgreementKey
    private let ephemeral: AgreementKey
    private let sharedKey: Bytes32
    private var peerEphemeral: Bytes32?
    /// The peer's long-term key, once it was proven.
    package private(set) var peerKey: Bytes32?

    /// Begins a handshake.
    ///
    /// - Parameter ephemeral: a key pair made for this handshake alone.
    package init(
        isInitiator: Bool, prologue: [UInt8], psk: Bytes32, longTerm: AgreementKey,
        ephemeral: AgreementKey
    ) {
        let label = Array(Self.name.utf8)
        hash = label + [UInt8](repeating: 0, count: NoiseHash.byteCount - label.count)
        chainingKey = hash
        self.isInitiator = isInitiator
        self.longTerm = longTerm
        self.ephemeral = ephemeral
        sharedKey = psk
        mixHash(prologue)
    }

    /// The hash of the whole exchange: equal at both ends, and unique to this link.
    package var handshakeHash: [UInt8] { hash }

    /// Writes the first message: psk, e.
    package mutating func writeFirst(_ payload: [UInt8]) throws(NoiseError) -> [UInt8] {
        mixKeyAndHash(sharedKey.array)
        return sendEphemeral() + (try encryptAndHash(payload))
    }

    /// Reads the first message; an outsider without the psk fails here, before any key agreement.
    package mutating func readFirst(_ message: [UInt8]) throws(NoiseError) -> [UInt8] {
        mixKeyAndHash(sharedKey.array)
        let rest = try receiveEphemeral(message)
        return try decryptAndHash(rest)
    }

    /// Writes the second message: e, ee, s, es.
    package mutating func writeSecond(_ payload: [UInt8]) throws(NoiseError) -> [UInt8] {
        guard let peer = peerEphemeral else { throw .truncated }
        var message = sendEphemeral()
        try mix(ephemeral, peer)
        message += try encryptAndHash(longTerm.publicKey.array)
        try mix(longTerm, peer)
        return message + (try encryptAndHash(payload))
    }

    /// Reads the second message.
    package mutating func readSecond(_ message: [UInt8]) throws(NoiseError) -> [UInt8] {
        let rest = try receiveEphemeral(message)
        guard let peer = peerEphemeral else { throw .truncated }
        try mix(ephemeral, peer)
        let (key, payload) = try receiveStatic(rest)
        try mix(ephemeral, key)
        return try decryptAndHash(payload)
    }

    /// Writes the third message: s, se.
    package mutating func writeThird(_ payload: [UInt8]) throws(NoiseError) -> [UInt8] {
        guard let peer = peerEphemeral else { throw .truncated }
        let message = try encryptAndHash(longTerm.publicKey.array)
        try mix(longTerm, peer)
        return message + (try encryptAndHash(payload))
    }

    /// Reads the third message.
    package mutating func readThird(_ message: [UInt8]) throws(NoiseError) -> [UInt8] {
        let (key, payload) = try receiveStatic(message)
        try mix(ephemeral, key)
        return try decryptAndHash(payload)
    }

    /// The keys of the two directions, after the third message.
    package func split() -> (sending: CipherState, receiving: CipherState) {
        let keys = NoiseHash.derive(chainingKey, [], 2)
        let first = CipherState(key: Bytes32(keys[0].prefix(32)) ?? .zero)
        let second = CipherState(key: Bytes32(keys[1].prefix(32)) ?? .zero)
        return isInitiator ? (first, second) : (second, first)
    }
}

extension NoiseHandshake {
    private mutating func sendEphemeral() -> [UInt8] {
        let bytes = ephemeral.publicKey.array
        mixHash(bytes)
        mixKey(bytes)
        return bytes
    }

    private mutating func receiveEphemeral(_ message: [UInt8]) throws(NoiseError) -> [UInt8] {
        guard let key = Bytes32(message.prefix(32)) else { throw .truncated }
        peerEphemeral = key
        mixHash(key.array)
        mixKey(key.array)
        return Array(message.dropFirst(32))
    }

    private mutating func receiveStatic(
        _ message: [UInt8]
    ) throws(NoiseError) -> (Bytes32, [UInt8]) {
        let sealedCount = 32 + ChaChaPoly.tagByteCount
        guard message.count >= sealedCount else { throw .truncated }
        guard let key = Bytes32(try decryptAndHash(Array(message.prefix(sealedCount)))) else {
            throw .truncated
        }
        peerKey = key
        return (key, Array(message.dropFirst(sealedCount)))
    }

    private mutating func mix(_ own: AgreementKey, _ peer: Bytes32) throws(NoiseError) {
        guard let shared = own.agree(with: peer) else { throw .weakKey }
        mixKey(shared.array)
    }

    private mutating func mixHash(_ bytes: [UInt8]) { hash = NoiseHash.hash(hash + bytes) }

    private mutating func mixKey(_ input: [UInt8]) {
        let keys = NoiseHash.derive(chainingKey, input, 2)
        chainingKey = keys[0]
        cipher = Bytes32(keys[1].prefix(32)).map(CipherState.init(key:))
    }

    private mutating func mixKeyAndHash(_ input: [UInt8]) {
        let keys = NoiseHash.derive(chainingKey, input, 3)
        chainingKey = keys[0]
        mixHash(keys[1])
        cipher = Bytes32(keys[2].prefix(32)).map(CipherState.init(key:))
    }

    private mutating func encryptAndHash(_ plain: [UInt8]) throws(NoiseError) -> [UInt8] {
        let sealed = try cipher?.seal(plain, hash) ?? plain
        mixHash(sealed)
        return sealed
    }

    private mutating func decryptAndHash(_ sealed: [UInt8]) throws(NoiseError) -> [UInt8] {
        let plain = try cipher?.open(sealed, hash) ?? sealed
        mixHash(sealed)
        return plain
    }
}
