// SPDX-License-Identifier: Apache-2.0

/// Thirty-two bytes held in place, without a heap allocation.
///
/// Hashes, keys and node identities are compared and hashed by the million; an array for each would
/// cost an allocation and a reference count every time.
public struct Bytes32: Hashable, Comparable, Sendable {
    private var a: UInt64 = 0
    private var b: UInt64 = 0
    private var c: UInt64 = 0
    private var d: UInt64 = 0

    /// All zeros.
    public static let zero = Bytes32()

    private init() {}

    /// Copies exactly 32 bytes; nil for any other count.
    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 32 else { return nil }
        var copy = Bytes32()
        copy.withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
        self = copy
    }

    /// Fills 32 bytes in place, for a C function that writes its result.
    public init(filling body: (UnsafeMutablePointer<UInt8>) -> Void) {
        var copy = Bytes32()
        copy.withUnsafeMutableBytes { raw in
            if let base = raw.bindMemory(to: UInt8.self).baseAddress { body(base) }
        }
        self = copy
    }

    /// The bytes in order, as an array.
    public var array: [UInt8] { withUnsafeBytes { Array($0) } }

    /// Reads the bytes in place.
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        Swift.withUnsafeBytes(of: self, body)
    }

    private mutating func withUnsafeMutableBytes(_ body: (UnsafeMutableRawBufferPointer) -> Void) {
        Swift.withUnsafeMutableBytes(of: &self, body)
    }

    /// Orders as the byte strings do, from the first byte on.
    public static func < (lhs: Bytes32, rhs: Bytes32) -> Bool {
        if lhs.a != rhs.a { return lhs.a.bigEndian < rhs.a.bigEndian }
        if lhs.b != rhs.b { return lhs.b.bigEndian < rhs.b.bigEndian }
        if lhs.c != rhs.c { return lhs.c.bigEndian < rhs.c.bigEndian }
        return lhs.d.bigEndian < rhs.d.bigEndian
    }
}

extension Bytes32: CustomStringConvertible {
    /// Lower-case hexadecimal, 64 characters.
    public var description: String { Hex.encode(array) }
}

/// A BLAKE2b-256 hash.
public typealias Digest = Bytes32

/// A node's Ed25519 public key, which is its identity.
public typealias NodeID = Bytes32

/// The hash of a mesh's first root document, which is the mesh's identity.
public typealias MeshID = Bytes32
