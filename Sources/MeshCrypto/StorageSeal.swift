// SPDX-License-Identifier: Apache-2.0

internal import CSodium
package import MeshCore

/// Seals what lies on a disk under a key that does not: whoever carries the disk away reads none of
/// it.
///
/// XChaCha20-Poly1305 (`crypto_aead_xchacha20poly1305_ietf`) with a nonce of chance for each box;
/// not `crypto_secretstream`, since rows are read and dropped one by one, in any order.
/// Layout of a box: u8 1, 24 bytes of nonce, the sealed bytes, 16 of tag.
package final class StorageSeal: Sendable {
    private static let version: UInt8 = 1
    private static let nonceByteCount = 24
    private static let tagByteCount = 16
    /// By how much a box is longer than what it holds, in bytes.
    package static let overhead = 1 + nonceByteCount + tagByteCount

    private let locked: LockedBytes
    /// What names the key, and tells nothing of it.
    package let name: Digest

    /// Takes a key.
    package init(_ key: Bytes32) {
        locked = LockedBytes(count: 32, isGuarded: true) { target in
            for (place, byte) in key.array.enumerated() { target[place] = byte }
        }
        name = Self.name(of: key)
    }

    /// What names a key: BLAKE2b-256 of a label and the key.
    package static func name(of key: Bytes32) -> Digest {
        Blake2b.hash(Array("MESH1 storage".utf8) + key.array)
    }

    /// The key, for a keeper.
    package var key: Bytes32 {
        locked.withBytes { Bytes32(Array(UnsafeBufferPointer(start: $0, count: 32))) } ?? .zero
    }

    /// Seals bytes.
    package func seal(_ bytes: [UInt8]) -> [UInt8] {
        let nonce = Sodium.random(Self.nonceByteCount)
        let head = 1 + Self.nonceByteCount
        return [UInt8](unsafeUninitializedCapacity: bytes.count + Self.overhead) { box, count in
            box[0] = Self.version
            for (place, byte) in nonce.enumerated() { box[1 + place] = byte }
            guard let base = box.baseAddress else { preconditionFailure("a box has bytes") }
            let code = locked.withBytes { key in
                crypto_aead_xchacha20poly1305_ietf_encrypt(
                    base + head, nil, bytes, UInt64(bytes.count), nil, 0, nil, nonce, key)
            }
            precondition(code == 0, "sealing has no failure")
            count = bytes.count + Self.overhead
        }
    }

    /// Opens a box.
    ///
    /// - Returns: nil if it is none of this key, or has rotted.
    package func open(_ box: [UInt8]) -> [UInt8]? {
        guard box.count >= Self.overhead, box.first == Self.version else { return nil }
        let head = 1 + Self.nonceByteCount
        let size = box.count - Self.overhead
        var code: CInt = -1
        let bytes = [UInt8](unsafeUninitializedCapacity: size + 1) { target, count in
            code = box.withUnsafeBufferPointer { box in
                guard let base = box.baseAddress, let target = target.baseAddress else { return -1 }
                return locked.withBytes { key in
                    crypto_aead_xchacha20poly1305_ietf_decrypt(
                        target, nil, nil, base + head, UInt64(box.count - head), nil,
                        0, base + 1, key)
                }
            }
            count = code == 0 ? size : 0
        }
        return code == 0 ? bytes : nil
    }
}
