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

/// Thirty-two bytes that mean one thing: no value of another meaning takes their place.
public protocol FixedBytes: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The bytes.
    var bytes: Bytes32 { get }

    /// Gives 32 bytes this meaning.
    init(_ bytes: Bytes32)
}

extension FixedBytes {
    /// All zeros.
    @inlinable public static var zero: Self { Self(Bytes32.zero) }

    /// Copies exactly 32 bytes; nil for any other count.
    @inlinable public init?(_ bytes: some Collection<UInt8>) {
        guard let bytes = Bytes32(bytes) else { return nil }
        self.init(bytes)
    }

    /// The bytes in order, as an array.
    @inlinable public var array: [UInt8] { bytes.array }

    /// Reads the bytes in place.
    @inlinable public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        bytes.withUnsafeBytes(body)
    }

    /// Orders as the byte strings do.
    @inlinable public static func < (lhs: Self, rhs: Self) -> Bool { lhs.bytes < rhs.bytes }

    /// Lower-case hexadecimal, 64 characters.
    public var description: String { bytes.description }
}

extension Bytes32: FixedBytes {
    /// Itself: keys, seeds and secrets have no type of their own.
    public var bytes: Bytes32 { self }
    /// A copy.
    public init(_ bytes: Bytes32) { self = bytes }
}

/// A BLAKE2b-256 hash.
public struct Digest: FixedBytes {
    /// The hash.
    public let bytes: Bytes32
    /// Takes 32 bytes for a hash.
    public init(_ bytes: Bytes32) { self.bytes = bytes }
    /// Fills 32 bytes in place, for a C function that writes its result.
    public init(filling body: (UnsafeMutablePointer<UInt8>) -> Void) {
        bytes = Bytes32(filling: body)
    }
}

/// A node's Ed25519 public key, which is its identity.
public struct NodeID: FixedBytes {
    /// The key.
    public let bytes: Bytes32
    /// Takes 32 bytes for a node's key.
    public init(_ bytes: Bytes32) { self.bytes = bytes }
}

/// The hash of a mesh's first root document, which is the mesh's identity.
public struct MeshID: FixedBytes {
    /// The hash.
    public let bytes: Bytes32
    /// Takes 32 bytes for a mesh's identity.
    public init(_ bytes: Bytes32) { self.bytes = bytes }
}
