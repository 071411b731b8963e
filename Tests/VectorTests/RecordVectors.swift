// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
import MeshReplication
import MeshTesting

/// One vector for each way in which a record, a header or a message of commits is refused as it is
/// read; what is refused later, by the rules, has its tests in `MeshRulesTests`.
enum RecordVectors {
    private static let later = Extensions([
        .init(tag: 200, bytes: [1]), .init(tag: 201, bytes: [2]),
    ])

    /// Writes the vectors from good ones.
    static func writeBad(_ record: Record, _ whole: Commit, _ message: CommitsMessage) throws {
        try writeRecords(record)
        try writeHeaders(whole.header)
        try writeMessages(whole, message)
    }

    static func refused(
        _ format: String, _ fault: String, _ bytes: [UInt8], _ comment: String
    ) throws {
        let vector = Vector(
            name: "\(format)-\(fault).txt", format: format, expect: "", bytes: bytes)
        do {
            _ = try `The vectors`().again(vector)
            throw WireError.invalid("\(vector.name) was to be refused")
        } catch let error as WireError where "\(error)".contains("was to be refused") {
            throw error
        } catch {
            try Vector(
                name: vector.name, format: format, expect: "refused \(error)", bytes: bytes
            ).write(comment)
        }
    }

    static func replacing(
        _ bytes: [UInt8], _ old: [UInt8], _ new: [UInt8]
    ) -> [UInt8] {
        var bytes = bytes
        for start in 0...(bytes.count - old.count)
        where Array(bytes[start..<start + old.count]) == old {
            bytes.replaceSubrange(start..<start + old.count, with: new)
            return bytes
        }
        preconditionFailure("the bytes are there")
    }

    private static func changed(_ record: Record, seen: [Dot], extensions: Extensions = .none)
        -> Record
    {
        Record(
            kind: record.kind, stamp: record.stamp, key: record.key,
            context: Context(seen), contentType: record.contentType,
            body: record.body, extensions: extensions)
    }

    private static func writeRecords(_ record: Record) throws {
        let bytes = record.encoded
        try refused("record", "kind", [9] + bytes.dropFirst(), "A kind that there is not.")
        try refused(
            "record", "key", replacing(bytes, Array("soup/1".utf8), Array("soup//".utf8)),
            "A key that ends with a slash.")
        try refused(
            "record", "content-type",
            replacing(bytes, Array("text/plain".utf8), Array("text\u{1}plain".utf8)),
            "A media type with a control character.")
        let gone = Record(
            kind: .delete, stamp: record.stamp, key: record.key, context: .empty, contentType: "",
            body: [1])
        try refused("record", "body-of-deletion", gone.encoded, "A deletion with a body.")
        let dots = [1, 2].map {
            Dot(author: Author(node: TestMesh.bytes(8, 8), life: Life($0)), sequence: 41)
        }
        let two = changed(record, seen: dots).encoded
        var life1 = WireWriter()
        life1.author(dots[0].author)
        life1.varint(41)
        var life2 = WireWriter()
        life2.author(dots[1].author)
        life2.varint(41)
        try refused(
            "record", "context-order",
            replacing(two, life1.bytes + life2.bytes, life2.bytes + life1.bytes),
            "A context that does not ascend.")
        try refused(
            "record", "context-twice",
            replacing(two, life1.bytes + life2.bytes, life1.bytes + life1.bytes),
            "A context that names one life twice.")
        try refused(
            "record", "context-zero", replacing(two, [41], [0]), "A context that names place 0.")
        let extended = changed(record, seen: [], extensions: later).encoded
        try refused(
            "record", "extension-order", replacing(extended, [201, 1, 0], [200, 1, 0]),
            "Extensions that do not ascend.")
        try refused(
            "record", "extensions", Array(bytes.dropLast()) + [17], "Seventeen extensions.")
        try `The vectors`().good(
            "record", named: "extended", extended,
            "Two fields of a later version that may be passed over.")
    }

    private static func header(
        _ old: CommitHeader, first: UInt64? = nil, count: Int? = nil, previous: Digest? = nil,
        inherits: [Inheritance] = []
    ) -> [UInt8] {
        CommitHeader(
            scope: old.scope, author: old.author, first: first ?? old.first,
            count: count ?? old.count, previous: previous ?? old.previous, root: old.root,
            policy: old.policy, inherits: inherits
        ).encoded
    }

    private static func writeHeaders(_ old: CommitHeader) throws {
        let one = Inheritance(life: Life(1), through: 80)
        let two = Inheritance(life: Life(2), through: 5)
        try `The vectors`().good(
            "commit-header", named: "first",
            header(old, first: 1, previous: .zero, inherits: [one, two]),
            "The first commit of a life that inherits two earlier ones.")
        let name = "commit-header"
        try refused(name, "count-0", header(old, count: 0), "No records.")
        try refused(name, "count-1025", header(old, count: 1025), "A record too many.")
        try refused(name, "sequence-0", header(old, first: 0), "A log that begins at 0.")
        try refused(
            name, "sequence-high", header(old, first: Dot.sequenceMax),
            "A last record beyond the last sequence.")
        try refused(
            name, "previous-missing", header(old, previous: .zero),
            "A later commit without one before it.")
        try refused(
            name, "previous-of-first", header(old, first: 1), "A first commit with one before it.")
        try refused(
            name, "inherits-later", header(old, inherits: [one]),
            "A later commit that says what its life inherits.")
        try refused(
            name, "inherits-order", header(old, first: 1, previous: .zero, inherits: [two, one]),
            "Lives that do not ascend.")
        try refused(
            name, "inherits-itself",
            header(
                old, first: 1, previous: .zero,
                inherits: [Inheritance(life: old.author.life, through: 1)]),
            "A life that inherits itself.")
        try refused(
            name, "inherits-nothing",
            header(
                old, first: 1, previous: .zero, inherits: [Inheritance(life: Life(1), through: 0)]),
            "A life of which nothing is inherited.")
    }

    private static func writeMessages(_ whole: Commit, _ good: CommitsMessage) throws {
        func message(
            after: UInt64, through: UInt64, _ commits: [Commit], _ author: Author? = nil
        ) -> [UInt8] {
            CommitsMessage(
                scope: good.scope, author: author ?? good.author, after: after, through: through,
                commits: commits
            ).encoded
        }
        let name = "commits"
        try refused(name, "end", message(after: 4, through: 9, [whole]), "A run beyond its end.")
        try refused(
            name, "beginning", message(after: 0, through: 7, [whole]),
            "A log without its first commit.")
        try refused(name, "none", message(after: 4, through: 7, []), "A run of no commits.")
        try refused(
            name, "twice", message(after: 4, through: 7, [whole, whole]), "A commit twice.")
        let other = Author(node: TestMesh.bytes(8, 8), life: Life(1))
        try refused(
            name, "author", message(after: 4, through: 7, [whole], other),
            "A commit of another author than the run's.")
        var bytes = message(after: 4, through: 7, [whole])
        var listed = WireWriter()
        listed.count(1)
        listed.author(other)
        var more = WireWriter()
        more.count(2)
        more.author(other)
        more.author(good.author)
        try refused(
            name, "author-unused", replacing(bytes, listed.bytes, more.bytes),
            "An author in the table that nothing names.")
        var none = WireWriter()
        none.count(0)
        bytes = replacing(bytes, listed.bytes, none.bytes)
        try refused(name, "author-missing", bytes, "A context that names no author of the table.")
        let bare = Commit(
            header: whole.header, signature: whole.signature,
            proof: CommitProof(noneOf: whole.header), records: [])
        try `The vectors`().good(
            name, named: "headers",
            message(after: 0, through: 0, [bare]),
            "A header alone: evidence of what its author wrote, with none of it.")
        var forged = message(after: 0, through: 0, [bare])
        forged[forged.count - 1] ^= 1
        try refused(
            name, "headers-forged", forged, "The same with another byte at its end.")
    }

    /// Addresses in a datagram that are none.
    static func writeAddresses(_ probe: [UInt8]) throws {
        for (fault, port, what) in [
            ("address-port", "0000", "An address with port 0."),
            ("address-text", "7 74", "An address with a space in its port."),
        ] {
            let bytes = replacing(
                probe, Array("10.0.0.1:7374".utf8), Array("10.0.0.1:\(port)".utf8))
            try refused("probe", fault, bytes, what)
        }
    }
}
