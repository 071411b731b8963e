// SPDX-License-Identifier: Apache-2.0

internal import CSodium
package import MeshCore

/// An X25519 key pair (RFC 7748). It has no description, so that it cannot reach a log.
package struct AgreementKey: Sendable {
    /// What the other side needs of it.
    package let publicKey: Bytes32
    private let locked: LockedBytes

    /// Makes the pair that belongs to `secret`; see `SigningKey` of where it lies.
    package init(secret: Bytes32, isGuarded: Bool = false) {
        locked = LockedBytes(count: 32, isGuarded: isGuarded) {
            $0.update(from: secret.array, count: 32)
        }
        publicKey = Bytes32(filling: { _ = crypto_scalarmult_base($0, secret.array) })
    }

    /// The shared secret with a peer's key; nil if that key is of low order.
    package func agree(with peer: Bytes32) -> Bytes32? {
        var status: Int32 = -1
        let shared = Bytes32(filling: {
            let out = $0
            status = locked.withBytes { crypto_scalarmult(out, $0, peer.array) }
        })
        return status == 0 ? shared : nil
    }
}

/// ChaCha20-Poly1305 (RFC 8439) with Noise's nonce: four zero bytes, then a little-endian counter.
package enum ChaChaPoly {
    /// Bytes that sealing adds.
    package static let tagByteCount = 16

    /// Encrypts and authenticates.
    package static func seal(
        _ plain: [UInt8], key: Bytes32, counter: UInt64, authenticating data: [UInt8]
    ) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: plain.count + tagByteCount)
        var length: UInt64 = 0
        crypto_aead_chacha20poly1305_ietf_encrypt(
            &out, &length, plain, UInt64(plain.count), data, UInt64(data.count), nil,
            nonce(counter), key.array)
        return out
    }

    /// Decrypts; nil if anything was changed.
    package static func open(
        _ sealed: [UInt8], key: Bytes32, counter: UInt64, authenticating data: [UInt8]
    ) -> [UInt8]? {
        guard sealed.count >= tagByteCount else { return nil }
        var out = [UInt8](repeating: 0, count: sealed.count - tagByteCount)
        var length: UInt64 = 0
        let status = crypto_aead_chacha20poly1305_ietf_decrypt(
            &out, &length, nil, sealed, UInt64(sealed.count), data, UInt64(data.count),
            nonce(counter), key.array)
        return status == 0 ? out : nil
    }

    private static func nonce(_ counter: UInt64) -> [UInt8] {
        var writer = WireWriter(reserving: 12)
        writer.u32(0)
        writer.u64(counter)
        return writer.bytes
    }
}

/// The 512-bit BLAKE2b functions that Noise builds on.
package enum NoiseHash {
    /// Bytes of a hash.
    package static let byteCount = 64

    /// BLAKE2b-512.
    package static func hash(_ bytes: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: byteCount)
        crypto_generichash(&out, byteCount, bytes, UInt64(bytes.count), nil, 0)
        return out
    }

    /// HMAC (RFC 2104) with BLAKE2b-512 and its block of 128 bytes.
    package static func hmac(key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
        let padded = key + [UInt8](repeating: 0, count: 128 - key.count)
        let inner = hash(padded.map { $0 ^ 0x36 } + bytes)
        return hash(padded.map { $0 ^ 0x5c } + inner)
    }

    /// Noise's HKDF with two or three outputs (Noise revision 34, §4.3).
    package static func derive(_ chainingKey: [UInt8], _ input: [UInt8], _ count: Int) -> [[UInt8]]
    {
        let temporary = hmac(key: chainingKey, input)
        var outputs: [[UInt8]] = []
        for index in 1...count {
            outputs.append(hmac(key: temporary, (outputs.last ?? []) + [UInt8(index)]))
        }
        return outputs
    }
}
