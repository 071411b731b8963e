// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshTrust

/// What a start finds: which incarnation writes, and where the counters stand.
///
/// The log's tail is proven whole only by a clean stop in the same boot of the machine, whose mark
/// is taken away before the first write. Any other start, a restored image among them, begins a new
/// incarnation, so that no dot is used twice.
struct Startup {
    let author: Author
    let arrival: UInt64
    let stamp: HybridTime
    let dirtyLeaves: Int
    let instance: String
    let bootID: String

    static func begin(
        _ db: Database, identity: DataDirectory.Identity, bootID: String
    ) throws -> Startup {
        let node = identity.certificate.node
        if let owner = try meta(db, "node"), owner != node.array { throw StoreError.otherNode }
        try set(db, "node", node.array)
        let instance = try meta(db, "instance") ?? Sodium.random(8)
        try set(db, "instance", instance)
        var reader = WireReader(try meta(db, "counters") ?? [UInt8](repeating: 0, count: 16))
        let arrival = try reader.u64()
        let stamp = HybridTime(try reader.u64())
        let last = try meta(db, "incarnation").map { bytes in
            var reader = WireReader(bytes)
            return Incarnation(try reader.u64())
        }
        var incarnation = last
        if try meta(db, "clean") != Array(bootID.utf8) { incarnation = nil }
        try db.run("DELETE FROM meta WHERE name = 'clean'")
        let chosen = incarnation ?? next(after: last)
        try setIncarnation(db, chosen)
        // The certificate of this node itself is needed to show its own records to others.
        try db.run(
            "INSERT OR REPLACE INTO certificate VALUES(?, ?)", .digest(node),
            .bytes(identity.certificate.encoded))
        let dirty = try db.first("SELECT count(*) FROM dirty") { Int($0.int(0)) } ?? 0
        return Startup(
            author: Author(node: node, incarnation: chosen), arrival: arrival, stamp: stamp,
            dirtyLeaves: dirty, instance: Hex.encode(instance), bootID: bootID)
    }

    static func next(after last: Incarnation?) -> Incarnation {
        var reader = WireReader(Sodium.random(4))
        let random = (try? reader.u32()) ?? 0
        let start = last.map { $0.start == .max ? .max : $0.start + 1 } ?? 1
        return Incarnation(start: start, random: random)
    }

    static func setIncarnation(_ db: Database, _ incarnation: Incarnation) throws {
        var writer = WireWriter()
        writer.u64(incarnation.value)
        try set(db, "incarnation", writer.bytes)
    }

    static func saveCounters(_ db: Database, arrival: UInt64, stamp: HybridTime) throws {
        var writer = WireWriter()
        writer.u64(arrival)
        writer.u64(stamp.value)
        try set(db, "counters", writer.bytes)
    }

    /// Marks a clean stop.
    static func end(_ db: Database, writer: Writer) throws {
        try saveCounters(db, arrival: writer.arrival, stamp: writer.stamp)
        try set(db, "clean", Array(writer.bootID.utf8))
    }

    static func meta(_ db: Database, _ name: String) throws -> [UInt8]? {
        try db.first("SELECT value FROM meta WHERE name = ?", .text(name)) { $0.bytes(0) }
    }

    static func set(_ db: Database, _ name: String, _ value: [UInt8]) throws {
        try db.run("INSERT OR REPLACE INTO meta VALUES(?, ?)", .text(name), .bytes(value))
    }
}
