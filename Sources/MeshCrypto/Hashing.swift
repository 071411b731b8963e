// SPDX-License-Identifier: Apache-2.0

internal import CSodium
package import MeshCore

/// BLAKE2b (RFC 7693) through libsodium.
package enum Blake2b {
    /// The 256-bit hash of `bytes`.
    package static func hash(_ bytes: [UInt8]) -> Digest {
        Digest(filling: { crypto_generichash($0, 32, bytes, UInt64(bytes.count), nil, 0) })
    }

    /// The 256-bit hash of one byte and `bytes`, without joining them first.
    package static func hash(prefix: UInt8, _ bytes: [UInt8]) -> Digest {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: crypto_generichash_statebytes(), alignment: 64)
        defer { memory.deallocate() }
        let state = OpaquePointer(memory)
        crypto_generichash_init(state, nil, 0, 32)
        crypto_generichash_update(state, [prefix], 1)
        crypto_generichash_update(state, bytes, UInt64(bytes.count))
        return Digest(filling: { crypto_generichash_final(state, $0, 32) })
    }

    /// `count` bytes (16 to 64) of the hash of `bytes` under `key` (16 to 64 bytes).
    package static func keyed(_ bytes: [UInt8], key: [UInt8], count: Int) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        crypto_generichash(&out, count, bytes, UInt64(bytes.count), key, key.count)
        return out
    }

    /// A 32-byte key for one use, derived from a secret (libsodium's `crypto_kdf`).
    ///
    /// - Parameter context: exactly eight ASCII characters.
    package static func derive(_ secret: Bytes32, id: UInt64, context: StaticString) -> Bytes32 {
        precondition(context.utf8CodeUnitCount == 8, "a derivation context has eight characters")
        let label = context.withUTF8Buffer { $0.map { CChar(bitPattern: $0) } }
        return Bytes32(filling: { crypto_kdf_derive_from_key($0, 32, id, label, secret.array) })
    }
}

/// A salt that both ends of a link know, under which they compare short hashes.
///
/// Nobody can prepare records whose short hashes collide under a salt that does not exist yet.
package struct Salt: Hashable, Sendable {
    private let key: [UInt8]

    /// Takes the first 32 bytes of a secret of the link, such as its handshake hash.
    package init(_ bytes: [UInt8]) {
        key = Array((bytes + [UInt8](repeating: 0, count: 32)).prefix(32))
    }

    /// The first six bytes of the keyed hash, as a number.
    package func short(_ digest: Digest) -> UInt64 {
        var out: (UInt64, UInt64) = (0, 0)
        digest.withUnsafeBytes { message in
            withUnsafeMutableBytes(of: &out) { raw in
                guard let base = raw.bindMemory(to: UInt8.self).baseAddress else { return }
                let bytes = message.bindMemory(to: UInt8.self).baseAddress
                _ = crypto_generichash(base, 16, bytes, 32, key, key.count)
            }
        }
        return out.0.littleEndian & 0xffff_ffff_ffff
    }

    /// Sixteen bytes of the keyed hash of any bytes.
    package func tag(_ bytes: [UInt8]) -> [UInt8] { Blake2b.keyed(bytes, key: key, count: 16) }
}
