// SPDX-License-Identifier: Apache-2.0

internal import CSodium
internal import MeshCore

/// The library that does our cryptography, once it has shown that it does what we need.
package enum Sodium {
    /// Initialises libsodium and runs the known-answer test of strict verification.
    ///
    /// Every program calls this before anything else; a failure means that records could be judged
    /// differently here than elsewhere, so the program must not start.
    package static func start() throws(SodiumError) {
        guard sodium_init() >= 0 else { throw .initialisation }
        for vector in StrictVectors.all {
            guard let point = Hex.decode(vector.point) else { throw .knownAnswer(vector.name) }
            if isValidPoint(point) != vector.valid { throw .knownAnswer(vector.name) }
        }
        let seed = Bytes32(filling: { pointer in
            for index in 0..<32 { pointer[index] = UInt8(index) }
        })
        let key = SigningKey(seed: seed)
        let signature = key.sign([1, 2, 3])
        guard key.publicKey.verify(signature, over: [1, 2, 3]),
            !key.publicKey.verify(signature, over: [1, 2, 4])
        else { throw .knownAnswer("sign and verify") }
        // Made with this very key.
        let cofactored = Hex.decode(StrictVectors.cofactored.signature).flatMap { Signature($0) }
        guard let cofactored, key.publicKey.id == Self.cofactoredKey,
            !key.publicKey.verify(cofactored, over: StrictVectors.cofactored.message)
        else { throw .knownAnswer("a signature without the cofactor") }
    }

    /// Fills `count` bytes from the system's generator, for keys and salts.
    package static func random(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        randombytes_buf(&bytes, count)
        return bytes
    }

    /// Compares in a time that does not tell where two secrets differ.
    package static func equal(_ lhs: [UInt8], _ rhs: [UInt8]) -> Bool {
        lhs.count == rhs.count && sodium_memcmp(lhs, rhs, lhs.count) == 0
    }

    /// Overwrites a secret that is not needed any more.
    package static func wipe(_ bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { sodium_memzero($0.baseAddress, $0.count) }
    }

    private static let cofactoredKey = Hex.decode(StrictVectors.cofactored.key)
        .flatMap { Bytes32($0) }

    /// Whether this libsodium compares a signature's R with what it computes, byte by byte, as
    /// those before 1.0.19 do; later ones accept any R that differs by a point of small order.
    static let comparesR: Bool = {
        guard let key = cofactoredKey,
            let signature = Hex.decode(StrictVectors.cofactored.signature)
                .flatMap({ Signature($0) })
        else { return false }
        return !VerifyingKey(key).accepts(signature, over: StrictVectors.cofactored.message)
    }()

    static func isValidPoint(_ bytes: [UInt8]) -> Bool {
        bytes.count == 32 && crypto_core_ed25519_is_valid_point(bytes) == 1
    }
}

/// Why cryptography cannot be trusted on this machine.
package enum SodiumError: Error, Hashable {
    /// `sodium_init` failed: no entropy, or a broken library.
    case initialisation
    /// A known-answer test gave the wrong answer; the name says which.
    case knownAnswer(String)
}

extension SodiumError: CustomStringConvertible {
    /// What failed, and what to do.
    package var description: String {
        switch self {
        case .initialisation: "libsodium could not be initialised (no entropy?)"
        case .knownAnswer(let name):
            "libsodium fails the known-answer test '\(name)'; install libsodium23 1.0.18-1+deb12u1 or later"
        }
    }
}

/// Points whose validity every node must judge alike.
enum StrictVectors {
    /// A signature whose R has the point of order 2 added to it, made for that R by whoever holds
    /// the key: the equation holds once the cofactor is left out.
    static let cofactored = (
        key: "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
        message: [1, 2, 3] as [UInt8],
        signature: "b3c94bec4a54c54b49e2b51f3ee795aa8548d0fb4fa8151c3485ae7adf8b8dbf"
            + "991864b38bcd6b735d5b4b32a87b879421afceb0439069c8fe0355701361ef08"
    )

    struct Vector {
        let name: String
        let point: String
        let valid: Bool
    }

    static let all = [
        Vector(
            name: "base point",
            point: "5866666666666666666666666666666666666666666666666666666666666666", valid: true),
        Vector(
            name: "identity",
            point: "0100000000000000000000000000000000000000000000000000000000000000", valid: false),
        Vector(
            name: "order 2",
            point: "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", valid: false),
        Vector(
            name: "order 4",
            point: "0000000000000000000000000000000000000000000000000000000000000000", valid: false),
        Vector(
            name: "order 8",
            point: "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", valid: false),
        // Base point plus the point of order 2: releases before 1.0.18-1+deb12u1 call it valid.
        Vector(
            name: "base point plus order 2",
            point: "9599999999999999999999999999999999999999999999999999999999999999", valid: false),
        Vector(
            name: "not canonical",
            point: "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", valid: false),
    ]
}
