// SPDX-License-Identifier: Apache-2.0

import MeshCore
import Testing

@Suite struct `An IP address` {
    @Test(arguments: [
        ("10.0.0.1", [10, 0, 0, 1]), ("255.255.255.255", [255, 255, 255, 255]),
        ("::ffff:10.1.2.3", [10, 1, 2, 3]),
        ("fe80::1%eth0", [0xfe, 0x80] + [UInt8](repeating: 0, count: 13) + [1]),
        ("::", [UInt8](repeating: 0, count: 16)),
        (
            "2001:DB8:1:2:3:4:5:6",
            [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]
        ),
        ("1::", [0, 1] + [UInt8](repeating: 0, count: 14)),
    ])
    func `is read from its written form`(text: String, bytes: [UInt8]) throws {
        #expect(try #require(IPAddress(text)).bytes == bytes)
    }

    @Test(arguments: [
        "", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.-4", "1..2.3", "0x1.2.3.4",
        ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "1:",
        "1:2:3:4:5:6:7::8:9", "1.2.3.4::", "٣.1.1.1", "1:2:3:4:5:6:7:8::",
    ])
    func `is nothing else`(text: String) { #expect(IPAddress(text) == nil) }

    @Test(arguments: [
        ("10.0.0.0/8", "10.255.1.1", true), ("10.0.0.0/8", "11.0.0.1", false),
        ("10.1.0.0/15", "10.0.9.9", true), ("192.168.1.0/31", "192.168.1.2", false),
        ("0.0.0.0/0", "8.8.8.8", true), ("0.0.0.0/0", "::1", false),
        ("fc00::/7", "fd12::1", true), ("fc00::/7", "fe80::1", false),
        ("10.0.0.7/32", "::ffff:10.0.0.7", true),
    ])
    func `is in a network or not`(network: String, address: String, isIn: Bool) throws {
        let network = try #require(IPNetwork(network))
        #expect(network.contains(try #require(IPAddress(address))) == isIn)
    }

    @Test(arguments: [
        "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "a/8", "10.0.0.0/8/8", "/",
    ])
    func `has networks that are well written`(text: String) { #expect(IPNetwork(text) == nil) }
}
