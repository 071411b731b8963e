// SPDX-License-Identifier: Apache-2.0

internal import CSodium
internal import MeshCore

/// A secret in a file, sealed under a passphrase: whoever copies the file has to guess it, at a
/// price that was set as it was sealed.
///
/// Argon2id makes the key (RFC 9106; `crypto_pwhash`), XSalsa20-Poly1305 seals
/// (`crypto_secretbox`).
/// Layout: `mesh-sealed-1` and a line feed, u32 passes, u32 KiB of memory, 16 bytes of salt, 24 of
/// nonce, then the box.
package enum SealedBytes {
    /// What guessing costs.
    package struct Cost: Sendable {
        let passes: UInt32
        let kibibytes: UInt32

        /// A second or less on a laptop: libsodium's moderate limits.
        package static let moderate = Cost(passes: 3, kibibytes: 256 << 10)
    }

    /// Shortest passphrase, in bytes.
    package static let passphraseBytesMin = 8
    /// Most passes and memory that a file may ask for: it may be anybody's.
    private static let most = Cost(passes: 16, kibibytes: 1 << 20)

    private static let magic = Array("mesh-sealed-1\n".utf8)
    private static let saltByteCount = 16
    private static let nonceByteCount = 24
    private static let tagByteCount = 16

    /// Whether bytes of a file claim to be a sealed secret.
    package static func isSealed(_ bytes: [UInt8]) -> Bool { bytes.starts(with: magic) }

    /// Seals a secret.
    ///
    /// - Throws: `noMemory` where the machine has too little for the cost.
    package static func seal(
        _ secret: [UInt8], under passphrase: [UInt8], cost: Cost = .moderate
    ) throws(SealError) -> [UInt8] {
        let (salt, nonce) = (Sodium.random(saltByteCount), Sodium.random(nonceByteCount))
        var writer = WireWriter()
        writer.append(magic)
        writer.u32(cost.passes)
        writer.u32(cost.kibibytes)
        writer.append(salt)
        writer.append(nonce)
        var box = [UInt8](repeating: 0, count: secret.count + tagByteCount)
        var key = try key(passphrase, salt, cost)
        defer { Sodium.wipe(&key) }
        guard crypto_secretbox_easy(&box, secret, UInt64(secret.count), nonce, key) == 0 else {
            throw .noMemory
        }
        return writer.bytes + box
    }

    /// Opens a sealed secret.
    package static func open(
        _ bytes: [UInt8], with passphrase: [UInt8]
    ) throws(SealError) -> [UInt8] {
        let (cost, salt, nonce, box): (Cost, [UInt8], [UInt8], [UInt8])
        do throws(WireError) {
            var reader = WireReader(bytes)
            guard try reader.take(magic.count) == magic else { throw .invalid("magic") }
            cost = Cost(passes: try reader.u32(), kibibytes: try reader.u32())
            salt = try reader.take(saltByteCount)
            nonce = try reader.take(nonceByteCount)
            box = try reader.take(reader.left)
        } catch { throw .malformed }
        guard box.count >= tagByteCount, cost.passes >= 1, cost.kibibytes >= 8 else {
            throw .malformed
        }
        guard cost.passes <= most.passes, cost.kibibytes <= most.kibibytes else {
            throw .tooDear
        }
        var secret = [UInt8](repeating: 0, count: box.count - tagByteCount)
        var key = try key(passphrase, salt, cost)
        defer { Sodium.wipe(&key) }
        guard crypto_secretbox_open_easy(&secret, box, UInt64(box.count), nonce, key) == 0 else {
            throw .wrongPassphrase
        }
        return secret
    }

    private static func key(
        _ passphrase: [UInt8], _ salt: [UInt8], _ cost: Cost
    ) throws(SealError) -> [UInt8] {
        var key = [UInt8](repeating: 0, count: 32)
        let code = crypto_pwhash(
            &key, 32, passphrase.map { CChar(bitPattern: $0) }, UInt64(passphrase.count), salt,
            UInt64(cost.passes), Int(cost.kibibytes) << 10, crypto_pwhash_ALG_ARGON2ID13)
        guard code == 0 else { throw .noMemory }
        return key
    }
}

/// Why a secret was not sealed or opened.
package enum SealError: Error, Hashable {
    /// The bytes are no sealed secret, or were cut off.
    case malformed
    /// It asks for more time or memory than ours ever do.
    case tooDear
    /// The passphrase is another, or the bytes were changed.
    case wrongPassphrase
    /// The machine has too little memory for it.
    case noMemory
}

extension SealError: CustomStringConvertible {
    /// What happened, for a person.
    package var description: String {
        switch self {
        case .malformed: "it is no sealed secret, or was cut off"
        case .tooDear: "it asks for more memory or time than any that meshctl has sealed"
        case .wrongPassphrase: "the passphrase is wrong, or the file was changed"
        case .noMemory: "there is too little memory: sealing takes 256 MiB for a moment"
        }
    }
}
