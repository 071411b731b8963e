// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshReplication
import MeshTesting

/// Who holds a write: the question and the word, and what a request is called.
enum HoldingVectors {
    /// Reads a word, and writes it again.
    static func again(_ bytes: [UInt8], in mesh: MeshID) throws -> [UInt8] {
        let holding = try Holding(decoding: bytes)
        guard holding.isAuthentic(in: mesh) else { throw Refusal.badSignature }
        return holding.encoded
    }

    static func write(_ author: Author, _ key: SigningKey, enrol: SigningKey, in mesh: MeshID)
        throws
    {
        func write(
            _ format: String, _ name: String, _ expect: String, _ bytes: [UInt8], _ text: String
        )
            throws
        {
            try Vector(
                name: "\(format)-\(name).txt", format: format, expect: expect, bytes: bytes
            ).write(text)
        }
        let scope = Scope(namespace: "orders", audience: .site("s1"))
        let log = LogName(scope: scope, author: author)
        let want = WantMessage(log, 9, .centre).encoded
        try write("want", "ok", "ok", want, "Does the centre hold the log up to 9?")
        try write(
            "want", "whose", "refused \(WireError.invalid("whose disk"))", want.dropLast() + [2],
            "Of a disk that there is not.")
        try write(
            "want", "place-0", "refused \(WireError.invalid("sequence"))",
            want.dropLast(9) + [UInt8](repeating: 0, count: 8) + [1], "A place that no log has.")
        let name = RequestName(
            name: RequestName.name(of: "till-4/17"), index: 0, count: 1, isNew: true)
        let record = Record(
            kind: .put, stamp: HybridTime(77), key: try RecordKey("soup/1"), context: .empty,
            contentType: "text/plain", body: Array("hot".utf8),
            extensions: Extensions([name.field]))
        try write(
            "record", "named", "ok", record.encoded, "A record of a request that has a name.")
        let policy = PolicyDocument(
            of: "orders", .orders, acknowledged: .site(2), created: 1_700_000_000_000, key: enrol,
            mesh: mesh)
        try write(
            "policy-document", "ack", "ok", policy.encoded,
            "A policy under which writes are to be on two servers of a site.")
        let word = Holding(
            of: log, HeldRun(after: 3, through: 9, commit: Blake2b.hash([7])), key: key,
            mesh: mesh)
        let bytes = word.encoded
        try write("holding", "ok", "ok", bytes, "A server holds the log up to 9.")
        var changed = bytes
        changed[changed.count - 70] ^= 1
        try write(
            "holding", "changed", "refused \(Refusal.badSignature)", changed,
            "The one above, of another commit.")
        try write(
            "holding", "truncated", "refused \(WireError.truncated(wanted: 64, left: 63))",
            Array(bytes.dropLast()), "The one above, truncated by a byte.")
        try write(
            "holding", "trailing", "refused \(WireError.trailing(1))", bytes + [0],
            "The one above, trailing by a byte.")
    }
}
