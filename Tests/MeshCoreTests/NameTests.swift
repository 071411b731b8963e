// SPDX-License-Identifier: Apache-2.0

import MeshCore
import Testing

@Suite struct `A key` {
    @Test(arguments: ["a", "a/b", "menü/1", "2013/1/1/UA/1545/EWR/515"])
    func `is a path of components`(text: String) throws {
        #expect(try RecordKey(text).description == text)
    }

    @Test(arguments: [
        ("", KeyError.empty), ("a//b", .emptyComponent), ("/a", .emptyComponent),
        ("a/", .emptyComponent), ("a/../b", .dotComponent), (".", .dotComponent),
        ("a\0b", .containsNUL), (String(repeating: "x", count: 513), .tooLong(513)),
        (String(repeating: "a/", count: 16) + "a", .tooManyComponents(17)),
    ])
    func `refuses what could be taken for something else`(text: String, error: KeyError) {
        #expect(throws: error) { try RecordKey(text) }
    }

    @Test func `refuses bytes that are not UTF-8`() {
        #expect(throws: KeyError.invalidUTF8) { try RecordKey(validating: [0xff, 0xfe]) }
    }

    @Test func `is compared as bytes and not as text`() throws {
        // The letter é in one scalar and in two: equal as Swift strings, different as keys.
        #expect(try RecordKey("\u{e9}") != RecordKey("e\u{301}"))
    }
}

@Suite struct `A scope` {
    @Test(arguments: ["menu@all", "orders@site/s12", "_mesh@all", "promo@group/north"])
    func `is read as it is written`(text: String) {
        #expect(Scope(text)?.description == text)
    }

    @Test(arguments: [
        "menu", "@all", "menu@", "menu@site/", "Menu@all", "menu@site/a/b", "menu@all/x",
    ])
    func `is refused when malformed`(text: String) { #expect(Scope(text) == nil) }
}

@Suite struct `A hybrid clock` {
    @Test func `does not fall when the wall clock is stepped back a little`() {
        let first = HybridTime(0).next(wall: 1_800_000_000_000)
        let second = first.next(wall: 1_800_000_000_000 - HybridTime.leadMax)
        #expect(second > first)
    }

    @Test func `does not go on from a clock that stood years ahead and was mended`() {
        let wrong = HybridTime(0).next(wall: 4_102_444_800_000)
        let mended = wrong.next(wall: 1_800_000_000_000)
        #expect(mended.milliseconds == 1_800_000_000_000)
        #expect(mended.next(wall: 1_800_000_000_000) > mended)
    }

    @Test func `takes any number without overflowing`() {
        #expect(HybridTime(.max).next(wall: .max).milliseconds == .max >> 16)
        #expect(HybridTime(.max).next(wall: 0) == HybridTime(0))
    }
}

@Suite struct `A reader of bytes` {
    @Test func `refuses a count before it allocates for it`() {
        var reader = WireReader([0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3])
        #expect(throws: WireError.tooLong("things", 4_294_967_295, limit: 10)) {
            try reader.count("things", limit: 10)
        }
    }

    @Test func `accepts one form of a number only`() {
        var padded = WireReader([0x80, 0x00])
        #expect(throws: WireError.invalid("varint")) { try padded.varint() }
        var tooLarge = WireReader([UInt8](repeating: 0xff, count: 10))
        #expect(throws: WireError.invalid("varint")) { try tooLarge.varint() }
    }

    @Test(arguments: [0, 1, 127, 128, 300, UInt64.max])
    func `gives back what a writer wrote`(number: UInt64) throws {
        var writer = WireWriter()
        writer.varint(number)
        writer.u64(number)
        var reader = WireReader(writer.bytes)
        #expect(try reader.varint() == number)
        #expect(try reader.u64() == number)
        try reader.finish()
    }

    @Test func `refuses a sequence at the end of its range`() {
        var reader = WireReader([UInt8](repeating: 0xff, count: 8))
        #expect(throws: WireError.invalid("sequence")) { try reader.sequence() }
    }

    @Test func `reads Base32 back and refuses what is not`() {
        for count in 0..<40 {
            let bytes = (0..<count).map { UInt8($0 * 7 & 255) }
            #expect(Base32.decode(Base32.encode(bytes)) == bytes)
        }
        #expect(Base32.decode("a1") == nil)
        #expect(Base32.decode("b") == nil)
    }
}

@Suite struct `An address` {
    @Test(arguments: [
        "till-1.example:7374", "10.0.0.5:1", "[fe80::1%eth0]:7374", "[2001:db8::1]:65535", "h:7",
    ])
    func `is taken apart and put together again`(text: String) throws {
        let address = try #require(Address(text))
        #expect(address.description == text)
        #expect(Address(host: address.host, port: address.port) == address)
        #expect(!address.bareHost.contains("["))
        #expect(address.isOfOneSegment == text.contains("%"))
    }

    @Test(arguments: [
        "", ":", "h", "h:", ":7374", "h:0", "h:65536", "h:-1", "h:+1", "h:7374x", "fe80::1:7374",
        "[]:7374", "[[::1]]:7374", "a b:7374", "h\n:7374", "hö:7374",
        String(repeating: "h", count: 300) + ":7374",
    ])
    func `that nobody can dial is none`(text: String) { #expect(Address(text) == nil) }
}
