// SPDX-License-Identifier: Apache-2.0

internal import CSodium
package import MeshCore

/// What a signature is for; its label is the first thing that is signed.
///
/// A signature made for one purpose can therefore never serve for another.
package enum SigningContext: String, CaseIterable, Sendable {
    case root = "MESH1 root"
    case ticket = "MESH1 ticket"
    case certificate = "MESH1 nodecert"
    case record = "MESH1 record"
    case commit = "MESH1 commit"
    case link = "MESH1 link"
    case presence = "MESH1 presence"
    case vouch = "MESH1 vouch"
    case charter = "MESH1 charter"
    case release = "MESH1 release"
    case revocation = "MESH1 revoke"
    case policy = "MESH1 policy"
    case definition = "MESH1 define"
    case secret = "MESH1 secret"
    case approval = "MESH1 approve"
    case holding = "MESH1 holding"

    /// The label, padded with zeros to 32 bytes.
    package var label: [UInt8] {
        let text = Array(rawValue.utf8)
        return text + [UInt8](repeating: 0, count: 32 - text.count)
    }

    /// The bytes that are signed or named: label, mesh, length, body.
    package func message(mesh: MeshID, body: [UInt8]) -> [UInt8] {
        var writer = WireWriter(reserving: 72 + body.count)
        writer.append(label)
        writer.append(mesh)
        writer.u64(UInt64(body.count))
        writer.append(body)
        return writer.bytes
    }
}

/// A detached Ed25519 signature, 64 bytes.
package struct Signature: Hashable, Sendable {
    /// Bytes of a signature.
    package static let byteCount = 64

    /// R, then S.
    package let bytes: [UInt8]

    /// Takes exactly 64 bytes.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = bytes
    }
}

/// An Ed25519 public key.
package struct VerifyingKey: Hashable, Sendable {
    /// The key's bytes.
    package let id: Bytes32

    /// Names a key; `isValid` says whether it may be used.
    package init(_ id: Bytes32) { self.id = id }

    /// The key that a node is named after.
    package init(_ node: NodeID) { id = node.bytes }

    /// The node that has this key.
    package var node: NodeID { NodeID(id) }

    /// Whether the key is a canonical point of the prime-order group: checked once, where a key
    /// enters.
    package var isValid: Bool { Sodium.isValidPoint(id.array) }

    /// Verifies by the strict rule: R a valid point of the prime-order group, and the equation
    /// without a cofactor, so that two nodes never disagree about one record.
    ///
    /// The key itself must have passed `isValid`. A libsodium that compares R with what it computed
    /// from that key takes no other R than such a point; one that leaves out the cofactor must be
    /// asked, which takes as long as the rest.
    package func verify(_ signature: Signature, over message: [UInt8]) -> Bool {
        guard Sodium.comparesR || Sodium.isValidPoint(Array(signature.bytes.prefix(32))) else {
            return false
        }
        return accepts(signature, over: message)
    }

    /// What libsodium alone says.
    func accepts(_ signature: Signature, over message: [UInt8]) -> Bool {
        crypto_sign_verify_detached(
            signature.bytes, message, UInt64(message.count), id.array) == 0
    }
}

/// An Ed25519 key pair. It has no description, so that it cannot reach a log.
package struct SigningKey: Sendable {
    /// What others know of it.
    package let publicKey: VerifyingKey
    private let secret: LockedBytes

    /// Makes the pair that belongs to `seed`.
    ///
    /// - Parameter isGuarded: whether the secret lies in memory of its own, as that of a running
    ///   server does.
    package init(seed: Bytes32, isGuarded: Bool = false) {
        var publicBytes = [UInt8](repeating: 0, count: 32)
        secret = LockedBytes(count: Int(crypto_sign_SECRETKEYBYTES), isGuarded: isGuarded) {
            pointer in
            crypto_sign_seed_keypair(&publicBytes, pointer, seed.array)
        }
        publicKey = VerifyingKey(Bytes32(filling: { $0.update(from: publicBytes, count: 32) }))
    }

    /// The secret from which the pair is made, for its file.
    package var seed: Bytes32 {
        Bytes32(filling: { pointer in
            secret.withBytes { _ = crypto_sign_ed25519_sk_to_seed(pointer, $0) }
        })
    }

    /// Signs bytes as they are.
    package func sign(_ message: [UInt8]) -> Signature {
        var bytes = [UInt8](repeating: 0, count: Signature.byteCount)
        secret.withBytes {
            _ = crypto_sign_detached(&bytes, nil, message, UInt64(message.count), $0)
        }
        guard let signature = Signature(bytes) else {
            preconditionFailure("a signature has 64 bytes")
        }
        return signature
    }

    /// Signs a body for one purpose within one mesh.
    package func sign(_ body: [UInt8], for context: SigningContext, in mesh: MeshID) -> Signature {
        sign(context.message(mesh: mesh, body: body))
    }
}

extension VerifyingKey {
    /// Verifies a body that was signed for one purpose within one mesh.
    package func verify(
        _ signature: Signature, of body: [UInt8], for context: SigningContext, in mesh: MeshID
    ) -> Bool {
        verify(signature, over: context.message(mesh: mesh, body: body))
    }
}

extension WireReader {
    /// A signature, 64 bytes.
    package mutating func signature() throws(WireError) -> Signature {
        guard let signature = Signature(try take(Signature.byteCount)) else {
            throw .invalid("signature")
        }
        return signature
    }
}
