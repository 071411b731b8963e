// SPDX-License-Identifier: Apache-2.0

/// Every channel that a node knows of.
public struct ContentView: Codable, Sendable {
    /// `meshAPIVersion`.
    public var v = meshAPIVersion
    /// By name.
    public var channels: [ChannelView]
    /// How old the centre's last word is; nil if it was never heard. It speaks each 15 minutes.
    public var freshSeconds: Double?

    /// Fills in the list.
    public init(channels: [ChannelView], freshSeconds: Double?) {
        self.channels = channels
        self.freshSeconds = freshSeconds
    }
}

/// One channel: where the answering node stands, and what it knows of others.
public struct ChannelView: Codable, Sendable {
    /// The channel.
    public var channel: String
    /// The answering node.
    public var own: ServerContentView
    /// Bytes a second that come now.
    public var bytesPerSecond: Double
    /// When everything will be here at this rate; nil where nothing comes.
    public var expectedSeconds: Double?
    /// The releases known, oldest first.
    public var releases: [ReleaseView]
    /// What other servers told last.
    public var servers: [ServerContentView]

    /// Fills in a channel.
    public init(
        channel: String, own: ServerContentView, bytesPerSecond: Double, expectedSeconds: Double?,
        releases: [ReleaseView], servers: [ServerContentView]
    ) {
        self.channel = channel
        self.own = own
        self.bytesPerSecond = bytesPerSecond
        self.expectedSeconds = expectedSeconds
        self.releases = releases
        self.servers = servers
    }
}

/// How far one server is with one channel.
public struct ServerContentView: Codable, Sendable {
    /// The server.
    public var node: String
    /// Where it stands.
    public var site: String
    /// What it serves, `EPOCH.VERSION`; nil for nothing yet.
    public var active: String?
    /// What it goes for.
    public var target: String
    /// `active`, `fetching`, `ready`, `held` or `failed`.
    public var phase: String
    /// Bytes of the target that are there.
    public var bytesHere: UInt64
    /// All bytes of the target.
    public var bytesAll: UInt64
    /// Why it failed.
    public var reason: String?
    /// How long ago it told this, by its own clock; nil for the answering node.
    public var toldSeconds: Double?

    /// Fills in a line.
    public init(
        node: String, site: String, active: String?, target: String, phase: String,
        bytesHere: UInt64, bytesAll: UInt64, reason: String?, toldSeconds: Double?
    ) {
        self.node = node
        self.site = site
        self.active = active
        self.target = target
        self.phase = phase
        self.bytesHere = bytesHere
        self.bytesAll = bytesAll
        self.reason = reason
        self.toldSeconds = toldSeconds
    }
}

/// One release of a channel.
public struct ReleaseView: Codable, Sendable {
    /// `EPOCH.VERSION`.
    public var release: String
    /// What its publisher says of it.
    public var message: String
    /// Milliseconds since 1970 by the publisher's clock.
    public var createdMs: UInt64
    /// How many files.
    public var files: UInt32
    /// Their bytes.
    public var bytes: UInt64
    /// For whom.
    public var audience: String
    /// The manifest's name.
    public var manifest: String
    /// Whether all files are on the answering node.
    public var isHere: Bool
    /// Whether the answering node's turn in the roll-out has come.
    public var isOpen: Bool
    /// Whether the roll-out was stopped, since a server of an early ring was not well.
    public var isHalted: Bool
    /// The version whose files these are again; nil for a release of its own.
    public var rollbackOf: UInt64?
    /// When sites begin to use it, by their own clocks; nil for at once.
    public var activateAt: String?

    /// Fills in a release.
    public init(
        release: String, message: String, createdMs: UInt64, files: UInt32, bytes: UInt64,
        audience: String, manifest: String, isHere: Bool, isOpen: Bool, isHalted: Bool,
        rollbackOf: UInt64?, activateAt: String?
    ) {
        self.release = release
        self.message = message
        self.createdMs = createdMs
        self.files = files
        self.bytes = bytes
        self.audience = audience
        self.manifest = manifest
        self.isHere = isHere
        self.isOpen = isOpen
        self.isHalted = isHalted
        self.rollbackOf = rollbackOf
        self.activateAt = activateAt
    }
}

/// What a publisher has to send.
public struct PublicationView: Codable, Sendable {
    /// Ranges of places in the manifest's list of different chunks: first, and one past the last.
    public var missing: [[Int]]

    /// Fills in the ranges.
    public init(missing: [[Int]]) { self.missing = missing }
}

/// The release that came of a publication or a roll-back.
public struct PublishedView: Codable, Sendable {
    /// `EPOCH.VERSION`.
    public var release: String

    /// Names a release.
    public init(release: String) { self.release = release }
}

/// What a check of everything that is served has found.
public struct VerifyView: Codable, Sendable {
    /// Chunks that were read.
    public var chunks: Int
    /// Those that had changed on disk; they are fetched anew.
    public var damaged: Int

    /// Fills in the counts.
    public init(chunks: Int, damaged: Int) {
        self.chunks = chunks
        self.damaged = damaged
    }
}
