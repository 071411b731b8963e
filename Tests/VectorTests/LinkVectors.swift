// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshLink

/// Messages of links: the envelope of each that has fields of its own, and what is refused.
enum LinkVectors {
    static func write() throws {
        func write(_ name: String, _ expect: String, _ bytes: [UInt8], _ text: String) throws {
            try Vector(
                name: "link-message-\(name).txt", format: "link-message", expect: expect,
                bytes: bytes
            ).write(text)
        }
        func good(_ name: String, _ message: LinkMessage, _ text: String) throws {
            try write(name, "ok", message.encoded, text)
        }
        let ping = LinkMessage.ping(7).encoded
        try good("ok", .ping(7), "A ping.")
        try write(
            "trailing", "refused \(WireError.trailing(1))", ping + [0],
            "The one above, trailing by a byte.")
        try write(
            "truncated", "refused \(WireError.truncated(wanted: 8, left: 7))",
            Array(ping.dropLast()), "The one above, truncated by a byte.")
        try good("root-ok", .root([1, 2, 3]), "A root document: its bytes are judged apart.")
        try good("secret-ok", .secret([1, 2, 3]), "A change of the secret, likewise.")
        try good("leaving-ok", .leaving(true), "The sender is to leave for good.")
        try write(
            "leaving-neither", "refused \(WireError.invalid("leaving"))", [46, 2],
            "Neither that it leaves nor that it stays.")
        try good("window-ok", .window(65_536), "So many bytes of records may be on their way.")
        try write(
            "window-truncated", "refused \(WireError.truncated(wanted: 4, left: 3))",
            [58, 0, 0, 1],
            "The one above, truncated by a byte.")
        try good("want-ok", .want([1, 2, 3]), "A question who holds a log: judged apart.")
        try good("holding-ok", .holding([1, 2, 3]), "A word about that, likewise.")
        try good("unknown-even-ok", .unknown(200), "A later version's, that may be skipped.")
        try write(
            "unknown-odd", "refused \(WireError.invalid("message type 201"))", [201],
            "A later version's, that may not.")
    }
}
