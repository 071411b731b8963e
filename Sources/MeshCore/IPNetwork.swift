// SPDX-License-Identifier: Apache-2.0

/// An IP address as numbers, read from its written form alone: a name is none.
public struct IPAddress: Hashable, Sendable {
    /// 4 or 16 bytes, in network order.
    public let bytes: [UInt8]

    /// Reads an address of IPv4 or IPv6 (RFC 4291, section 2.2), with or without an interface; nil
    /// if it is none. One of IPv4 within IPv6 is that of IPv4.
    public init?(_ text: String) {
        let address = text.prefix { $0 != "%" }
        let read = address.contains(":") ? Self.v6(address) : Self.v4(address)
        guard let read else { return nil }
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        bytes = read.starts(with: mapped) ? Array(read.suffix(4)) : read
    }

    private static func v4(_ text: Substring) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bytes: [UInt8] = []
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ isDigit($0) }),
                let byte = UInt8(part)
            else { return nil }
            bytes.append(byte)
        }
        return bytes
    }

    private static func v6(_ text: Substring) -> [UInt8]? {
        // At most one "::" stands for the zeros between what is before and after it.
        let characters = Array(text)
        let gaps = characters.indices.dropLast().filter {
            characters[$0] == ":" && characters[$0 + 1] == ":"
        }
        guard let gap = gaps.first else {
            let whole = groups(characters[...])
            return whole?.count == 16 ? whole : nil
        }
        guard gaps.count == 1, let head = groups(characters[..<gap], mayEndInV4: false),
            let tail = groups(characters[(gap + 2)...]), head.count + tail.count <= 14
        else { return nil }
        return head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
    }

    /// Groups of up to four hexadecimal digits; the last of an address may be one of IPv4.
    private static func groups(
        _ text: ArraySlice<Character>, mayEndInV4: Bool = true
    ) -> [UInt8]? {
        if text.isEmpty { return [] }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        var bytes: [UInt8] = []
        for (index, part) in parts.enumerated() {
            let group = Substring(String(part))
            if mayEndInV4, index == parts.count - 1, group.contains("."), let last = v4(group) {
                bytes += last
                continue
            }
            guard (1...4).contains(group.utf8.count), group.utf8.allSatisfy({ isHexDigit($0) }),
                let number = UInt16(group, radix: 16)
            else { return nil }
            bytes += [UInt8(number >> 8), UInt8(number & 0xff)]
        }
        return bytes.count <= 16 ? bytes : nil
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        isDigit(byte) || (0x61...0x66).contains(byte | 0x20)
    }
}

/// A block of IP addresses, as `10.0.0.0/8`.
public struct IPNetwork: Hashable, Sendable {
    private let address: IPAddress
    private let bits: Int

    /// The first bits of an address; nil if it has not so many.
    public init?(_ address: IPAddress, bits: Int) {
        guard (0...address.bytes.count * 8).contains(bits) else { return nil }
        self.address = address
        self.bits = bits
    }

    /// Reads `ADDRESS/BITS`; nil if it is none.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(String(parts[0])),
            parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let bits = Int(parts[1])
        else { return nil }
        self.init(address, bits: bits)
    }

    /// Whether an address is in it.
    public func contains(_ other: IPAddress) -> Bool {
        guard other.bytes.count == address.bytes.count else { return false }
        return (0..<bits).allSatisfy { bit in
            (other.bytes[bit / 8] ^ address.bytes[bit / 8]) & (0x80 >> UInt8(bit % 8)) == 0
        }
    }

    /// Addresses that are not routed on the internet (RFC 1918, 6598, 3927, 4193, 4291) and this
    /// host's own.
    public static let ofOwnNetworks: [IPNetwork] = [
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
        "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128",
    ].compactMap { IPNetwork($0) }
}
