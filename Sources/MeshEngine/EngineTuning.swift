// SPDX-License-Identifier: Apache-2.0

/// Limits of a node; each has a counter where it bites.
package struct EngineLimits: Sendable {
    /// Most links.
    package var links = 2048
    /// Commits of one author that lost their place, of which peers are told.
    package var losersTold = 256
    /// Most logs that are remembered as held.
    package var logsHeld = 10_000
    /// Bytes of records that may be on their way to one peer, as long as there are few.
    package var bytesInFlight = 4 << 20
    /// Bytes of records that may be on their way to all peers together, and from all of them.
    package var bytesInFlightAll = 128 << 20
    /// What each peer has of that however many there are, in bytes.
    package var bytesInFlightLeast = 64 << 10
    /// Streams that wait for one peer.
    package var streams = 65_536
    /// The lowest port that a beacon may name, but for this node's own: below are other services.
    package var beaconPortMin: UInt16 = 1024
    /// Dials that begin at once.
    package var dialsAtOnce = 8
    /// Announcements of one peer that wait to be fetched.
    package var promises = 256
    /// Logs of which is remembered how far they were heard.
    package var logsHeard = 4096
    /// Certificates that are looked up for one peer at once.
    package var certificatesWanted = 64
    /// Addresses from which beacons of one linked peer came; the oldest goes first.
    package var beaconsHeard = 4
    /// Revocations that are shown to one peer, and looked at of one, while it is linked.
    package var revocationsShown = 64
    /// Turns of a peer that wait while one is compared.
    package var turnsWaiting = 4
    /// Messages of a peer that break its own signatures before its link is closed.
    package var strikes = 3

    /// The defaults.
    package init() {}
}

/// When a node does things by itself.
package struct EngineTuning: Sendable {
    /// Links that are looked at whenever time goes by; of more, each is only so often.
    package var linksAtOnce = 64
    /// See `linksAtOnce`.
    package var lookInterval = Duration.seconds(1)
    /// The pause between comparisons with one peer, give or take 30 %.
    package var syncInterval = Duration.seconds(15)
    /// How long after its start, or after it heard of it, a revoked node dials for the first time.
    package var revokedAskFirst = Duration.seconds(30)
    /// And how often from then on.
    package var revokedAsk = Duration.seconds(600)
    /// The least pause between comparisons that are wanted because something is missing.
    package var syncPause = Duration.milliseconds(500)
    /// Silence in a comparison after which it is given up, so that another can begin.
    package var syncSilenceMax = Duration.seconds(30)
    /// How long a node that leaves waits for a peer to hold all that it holds.
    package var handOverMax = Duration.seconds(15)
    /// The longest pause where comparisons lead to nothing.
    package var syncIntervalMax = Duration.seconds(600)
    /// Rounds that follow each other at once.
    package var roundsMax = 32
    /// Silence after which a peer is pinged.
    package var pingInterval = Duration.seconds(5)
    /// How many times longer the round trip to a peer that is heard is taken for what it was.
    package var roundTripFactor = 6
    /// How long a connection stands on which nothing but an approval is handed over.
    package var callMax = Duration.seconds(10)
    /// A link that lasts no longer was turned away by the other end.
    package var shortLink = Duration.seconds(5)
    /// Silence after which a link is taken for dead.
    package var silenceMax = Duration.seconds(20)
    /// How many times longer both are for a peer of the same site, which is probed by datagrams.
    package var nearFactor = 4
    /// How long a neighbour may take to answer on its link.
    package var nearPatience = Duration.seconds(5)
    /// How long a gateway may be without a link to another site before it says so.
    package var gatewayPatience = Duration.seconds(3)
    /// How long a node that is not the gateway takes its broken path for broken.
    package var gatewayPenance = Duration.seconds(60)
    /// A node of a large site with fewer links takes any neighbour.
    package var linksWanted = 4
    /// How old a link must be before it is closed because the rings do not ask for it.
    package var linkRest = Duration.seconds(10)
    /// How long an announced commit may take to come by itself.
    package var promisePatience = Duration.milliseconds(500)
    /// The pause between beacons, give or take 20 %.
    package var beaconInterval = Duration.seconds(10)
    /// How old a beacon may be for its node to be dialled there when its link ends.
    package var beaconTrust = Duration.seconds(60)
    /// The pauses after the first beacons of a life.
    package var firstBeacons: [Duration] = [100, 100, 300, 300].map { .milliseconds($0) }
    /// How long messages of an unknown author wait for its certificate.
    package var parkedMax = Duration.seconds(30)
    /// How long messages wait for a place in another log that is on its way.
    package var parkedPlaceMax = Duration.seconds(2)

    /// The defaults.
    package init() {}
}
