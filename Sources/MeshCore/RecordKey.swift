// SPDX-License-Identifier: Apache-2.0

/// A record's key: a path of UTF-8 components, kept as bytes.
///
/// Swift compares strings by canonical equivalence, under which two different byte strings can be
/// equal; keys are compared, ordered and signed as the bytes they came as.
public struct RecordKey: Hashable, Comparable, Sendable {
    /// Longest key, in bytes.
    public static let byteCountMax = 512
    /// Most components, separated by `/`.
    public static let componentsMax = 16

    /// The key's bytes, valid UTF-8.
    public let utf8: [UInt8]

    /// Takes a key, or says which rule it breaks.
    public init(validating bytes: [UInt8]) throws(KeyError) {
        guard !bytes.isEmpty else { throw .empty }
        guard bytes.count <= Self.byteCountMax else { throw .tooLong(bytes.count) }
        guard !bytes.contains(0) else { throw .containsNUL }
        guard String(validating: bytes, as: UTF8.self) != nil else { throw .invalidUTF8 }
        let components = bytes.split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard components.count <= Self.componentsMax else {
            throw .tooManyComponents(components.count)
        }
        for component in components {
            if component.isEmpty { throw .emptyComponent }
            if component.elementsEqual(".".utf8) || component.elementsEqual("..".utf8) {
                throw .dotComponent
            }
        }
        utf8 = bytes
    }

    /// Takes a key from text, by the same rules.
    public init(_ text: String) throws(KeyError) { try self.init(validating: Array(text.utf8)) }

    /// Hashes the bytes as one piece: an array hashes them one by one, and a batch looks up each
    /// of its keys several times.
    public func hash(into hasher: inout Hasher) {
        utf8.withUnsafeBytes { hasher.combine(bytes: $0) }
    }

    /// Orders as the bytes do.
    public static func < (lhs: RecordKey, rhs: RecordKey) -> Bool {
        lhs.utf8.lexicographicallyPrecedes(rhs.utf8)
    }
}

extension RecordKey: CustomStringConvertible {
    /// The key as text.
    public var description: String { String(decoding: utf8, as: UTF8.self) }
}

/// Why bytes are not a key.
public enum KeyError: Error, Hashable {
    /// No bytes.
    case empty
    /// More bytes than `RecordKey.byteCountMax`.
    case tooLong(Int)
    /// A NUL byte, which C programs would take for the end.
    case containsNUL
    /// Not UTF-8.
    case invalidUTF8
    /// More components than `RecordKey.componentsMax`.
    case tooManyComponents(Int)
    /// `//`, or a slash at either end.
    case emptyComponent
    /// A component `.` or `..`.
    case dotComponent
}

extension KeyError: CustomStringConvertible {
    /// The rule that is broken, for a person.
    public var description: String {
        switch self {
        case .empty: "the key is empty"
        case .tooLong(let count): "the key has \(count) bytes; at most \(RecordKey.byteCountMax)"
        case .containsNUL: "the key contains a NUL byte"
        case .invalidUTF8: "the key is not valid UTF-8"
        case .tooManyComponents(let count):
            "the key has \(count) components; at most \(RecordKey.componentsMax)"
        case .emptyComponent: "the key has an empty component (a slash at an end, or two in a row)"
        case .dotComponent: "the key has a component '.' or '..'"
        }
    }
}
