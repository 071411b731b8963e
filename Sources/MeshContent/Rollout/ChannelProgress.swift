// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// How far one server is with one channel: what it tells its site and the centre.
package struct ChannelProgress: Hashable, Sendable {
    /// Where it stands with the release it goes for.
    package enum Phase: UInt8, Sendable {
        /// It serves what it should.
        case active = 0
        /// Chunks are missing.
        case fetching = 1
        /// All is here; it waits for its neighbours or its hour.
        case ready = 2
        /// It cannot, with the reason.
        case failed = 3
        /// Its ring has not begun.
        case held = 4
        /// Its own probe turned the release away.
        case refused = 5

        /// The word in commands and JSON.
        package var name: String {
            switch self {
            case .active: "active"
            case .fetching: "fetching"
            case .ready: "ready"
            case .failed, .refused: "failed"
            case .held: "held"
            }
        }

        /// Whether it goes no further for now, or not at all.
        package var isFailure: Bool { self == .failed || self == .refused }
    }

    /// The channel.
    package let channel: String
    /// What it serves; nil for nothing yet.
    package let active: ReleaseNumber?
    /// What it goes for.
    package let target: ReleaseNumber
    /// Where it stands with that.
    package let phase: Phase
    /// Bytes of the target that are here, and all of them.
    package let bytesHere: UInt64
    package let bytesAll: UInt64
    /// Why it failed; empty otherwise.
    package let reason: String

    /// Fills in a line.
    package init(
        channel: String, active: ReleaseNumber?, target: ReleaseNumber, phase: Phase,
        bytesHere: UInt64, bytesAll: UInt64, reason: String = ""
    ) {
        self.channel = channel
        self.active = active
        self.target = target
        self.phase = phase
        self.bytesHere = bytesHere
        self.bytesAll = bytesAll
        self.reason = reason
    }

    /// The body of a server's status record: a version, then a line for each channel.
    package static func encode(_ lines: [ChannelProgress]) -> [UInt8] {
        var writer = WireWriter()
        writer.u8(1)
        writer.count(lines.count)
        for line in lines {
            writer.short(line.channel.utf8)
            writer.u32(line.active?.epoch ?? 0)
            writer.u64(line.active?.version ?? 0)
            writer.u32(line.target.epoch)
            writer.u64(line.target.version)
            writer.u8(line.phase.rawValue)
            writer.u64(line.bytesHere)
            writer.u64(line.bytesAll)
            writer.medium(Array(line.reason.utf8.prefix(200)))
        }
        return writer.bytes
    }

    /// Reads such a body.
    package static func decode(_ bytes: [UInt8]) throws(WireError) -> [ChannelProgress] {
        var reader = WireReader(bytes)
        guard try reader.u8() == 1 else { throw .invalid("status version") }
        let count = try reader.count("channels", limit: 1024)
        var lines: [ChannelProgress] = []
        for _ in 0..<count {
            let channel = try reader.name("channel")
            let active = ReleaseNumber(epoch: try reader.u32(), version: try reader.u64())
            let target = ReleaseNumber(epoch: try reader.u32(), version: try reader.u64())
            guard let phase = Phase(rawValue: try reader.u8()) else { throw .invalid("phase") }
            let (here, all) = (try reader.u64(), try reader.u64())
            let reason = String(
                decoding: try reader.medium("reason", limit: 256), as: UTF8.self)
            lines.append(
                ChannelProgress(
                    channel: channel, active: active.version == 0 ? nil : active, target: target,
                    phase: phase, bytesHere: here, bytesAll: all, reason: reason))
        }
        try reader.finish()
        return lines
    }

    /// The key of a server's status record.
    package static func key(of node: NodeID) throws(KeyError) -> RecordKey {
        try RecordKey("content/\(node)")
    }

    /// The server whose status stands under a key.
    package static func node(of key: RecordKey) -> NodeID? {
        let parts = key.description.split(separator: "/")
        guard parts.count == 2, parts[0] == "content" else { return nil }
        return Hex.decode(parts[1]).flatMap { NodeID($0) }
    }
}

/// When a server begins to use a release that is whole.
package enum Activation {
    /// Whether it is time: the hour has come, and every neighbour that is there has the release
    /// too, or has been waited for long enough.
    ///
    /// - Parameters:
    ///   - release: what is ready here.
    ///   - readyFor: how long it has been ready.
    ///   - localTime: the site's clock, `yyyy-MM-ddTHH:mm`.
    ///   - neighbours: what the alive servers of the site last told of this channel; nil for one
    ///     that has told nothing.
    package static func isDue(
        _ release: Release, readyFor: Duration, patience: Duration, localTime: String,
        neighbours: [ChannelProgress?]
    ) -> Bool {
        guard release.activateAt <= localTime else { return false }
        if readyFor >= patience { return true }
        return neighbours.allSatisfy { line in
            guard let line else { return false }
            if let active = line.active, active >= release.number { return true }
            return line.target >= release.number && (line.phase == .ready || line.phase.isFailure)
        }
    }
}

/// What the centre says of a staged roll-out: a record of the mesh's own namespace, written once.
package enum Stage {
    /// The key under which a ring is opened, or under which all further ones are stopped.
    package static func key(
        _ channel: String, _ number: ReleaseNumber, ring: Int?
    ) throws(KeyError) -> RecordKey {
        try RecordKey(
            "stage/\(channel)/\(number.epoch)/\(number.version)/" + (ring.map { "\($0)" } ?? "halt")
        )
    }
}
