// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import GRDB
internal import MeshCore
internal import MeshCrypto
internal import MeshTrust

/// What a start finds: which incarnation writes, and where the counters stand.
///
/// The log's tail is proven whole only by a clean stop whose token still lies outside the data
/// directory, in memory: it goes with a reboot, and is taken away before the first write. Any other
/// start, a restored image or a copy among them, begins a new incarnation, so that no dot is used
/// twice.
struct Startup {
    let author: Author
    let arrival: UInt64
    let stamp: HybridTime
    let dirtyLeaves: Int
    let instance: String

    static func begin(
        _ db: Database, identity: DataDirectory.Identity, proof: TailProof?,
        random: @Sendable (Int) -> [UInt8], wall: UInt64
    ) throws -> Startup {
        let node = identity.certificate.node
        if let owner = try meta(db, "node"), owner != node.array { throw StoreError.otherNode }
        try set(db, "node", node.array)
        let instance = try meta(db, "instance") ?? random(8)
        try set(db, "instance", instance)
        var reader = WireReader(try meta(db, "counters") ?? [UInt8](repeating: 0, count: 16))
        let arrival = try reader.u64()
        let stamp = HybridTime(try reader.u64())
        let last = try meta(db, "incarnation").map { bytes in
            var reader = WireReader(bytes)
            return Incarnation(try reader.u64())
        }
        var incarnation = last
        let token = proof?.take()
        if try token == nil || token != meta(db, "clean") { incarnation = nil }
        try db.run("DELETE FROM meta WHERE name = 'clean'")
        let chosen = incarnation ?? next(after: last, random: random, wall: wall)
        try setIncarnation(db, chosen)
        // The certificate of this node itself is needed to show its own records to others.
        try db.run(
            "INSERT OR REPLACE INTO certificate VALUES(?, ?)", .digest(node),
            .bytes(identity.certificate.encoded))
        let dirty = try db.first("SELECT count(*) FROM dirty") { Int($0.int(0)) } ?? 0
        return Startup(
            author: Author(node: node, incarnation: chosen), arrival: arrival, stamp: stamp,
            dirtyLeaves: dirty, instance: Hex.encode(instance))
    }

    /// The incarnation after `last`, and after those that a lost database may have known.
    ///
    /// A node that lost its database does not know how often it started. The clock's seconds are
    /// higher than any count of starts; where the clock is wrong, peers tell of the higher one.
    ///
    /// - Parameter wall: the wall clock, in milliseconds since 1970.
    static func next(
        after last: Incarnation?, random: @Sendable (Int) -> [UInt8], wall: UInt64
    ) -> Incarnation {
        var reader = WireReader(random(4))
        let random = (try? reader.u32()) ?? 0
        let following = last.map { $0.start == .max ? .max : $0.start + 1 } ?? 1
        let seconds = UInt32(clamping: min(wall / 1000, UInt64(UInt32.max / 2)))
        return Incarnation(start: max(following, seconds), random: random)
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
    static func end(
        _ db: Database, writer: Writer, proof: TailProof?, random: @Sendable (Int) -> [UInt8]
    ) throws {
        try saveCounters(db, arrival: writer.arrival, stamp: writer.stamp)
        let token = random(16)
        if let proof, proof.leave(token) { try set(db, "clean", token) }
    }

    static func meta(_ db: Database, _ name: String) throws -> [UInt8]? {
        try db.first("SELECT value FROM meta WHERE name = ?", .text(name)) { $0.bytes(0) }
    }

    static func set(_ db: Database, _ name: String, _ value: [UInt8]) throws {
        try db.run("INSERT OR REPLACE INTO meta VALUES(?, ?)", .text(name), .bytes(value))
    }
}

/// Where a clean stop leaves its token: a file in memory, outside the data directory.
package struct TailProof: Sendable {
    /// Reads the token and takes it away; nil if there is none, or it cannot be taken away.
    let take: @Sendable () -> [UInt8]?
    /// Leaves a token; says whether it was left.
    let leave: @Sendable ([UInt8]) -> Bool

    /// Names a place by what is done with it.
    package init(
        take: @escaping @Sendable () -> [UInt8]?, leave: @escaping @Sendable ([UInt8]) -> Bool
    ) {
        self.take = take
        self.leave = leave
    }

    /// Names the file.
    package init(path: String) {
        take = {
            guard let data = FileManager.default.contents(atPath: path), data.count <= 64,
                (try? FileManager.default.removeItem(atPath: path)) != nil
            else { return nil }
            return Array(data)
        }
        leave = { token in
            try? FileManager.default.removeItem(atPath: path)
            return FileManager.default.createFile(
                atPath: path, contents: Data(token), attributes: [.posixPermissions: 0o600])
        }
    }
}
