// SPDX-License-Identifier: Apache-2.0

/// Constants that publishers and servers must agree on; changing one breaks peers. See the articles
/// `ReleaseFormat` and `ContentProtocol`.
package enum ContentSpecification {
    /// The namespace whose records are signed releases.
    package static let namespace = "_content"
    /// The namespace in which servers say how far they are.
    package static let statusNamespace = "_status"
    /// The namespace in which the centre says that it is there, under the key `time`: so a site
    /// knows how old what it knows is.
    package static let freshNamespace = "_fresh"
    /// The media type of a release's record.
    package static let contentType = "application/vnd.mesh.release"
    /// Most files of one release.
    package static let filesMax = 100_000
    /// Most chunks of one release.
    package static let chunksMax = 4_000_000
    /// Longest manifest, in bytes.
    package static let manifestBytesMax = 160 << 20
    /// Longest path of a file within a release, in bytes.
    package static let pathBytesMax = 1024
    /// Longest part of such a path, in bytes.
    package static let componentBytesMax = 255
    /// Most bytes of one release.
    package static let releaseBytesMax: UInt64 = 1 << 44
    /// Longest message of a publisher about a release, in bytes.
    package static let messageBytesMax = 1024
    /// Most rings of one roll-out, and most names in one of them.
    package static let ringsMax = 8
    package static let ringNamesMax = 64
    /// Most keys that may publish to one channel.
    package static let publishersMax = 16

    /// Shortest chunk but for a file's last, in bytes.
    package static let chunkBytesMin = 16 << 10
    /// A chunk of this length is cut where it is easier to.
    package static let chunkBytesNormal = 32 << 10
    /// Longest chunk, in bytes.
    package static let chunkBytesMax = 128 << 10
}

/// What each server may choose for itself.
package struct ContentTuning: Sendable {
    /// Bytes asked for at once of one neighbour.
    package var nearWindow = 4 << 20
    /// The same, of a server of another site: at first, least and most. It grows while answers come
    /// as fast as they can, and shrinks when they begin to queue, so that records wait little.
    package var farWindow = 320 << 10
    package var farWindowLeast = 256 << 10
    package var farWindowMost = 4 << 20
    /// How much longer than the fastest answer one may take before the line counts as full.
    package var queueing = Duration.milliseconds(80)
    /// Bytes asked for with one request of a neighbour, and of a server of another site.
    package var requestBytes = 256 << 10
    package var farRequestBytes = 32 << 10
    /// Chunks asked for with one request.
    package var requestChunks = 64
    /// Chunks among which the rarest is chosen.
    package var rarestAmong = 256
    /// How long an answer may take before another peer is asked.
    package var patience = Duration.seconds(30)
    /// How often others are told what has come.
    package var tellPause = Duration.milliseconds(100)
    /// Wrong chunks of one peer for one release, after which it is not asked for it again.
    package var strikes = 3
    /// How long a peer is not asked again for what it had not.
    package var lackPause = Duration.seconds(10)

    /// The defaults.
    package init() {}
}
