// SPDX-License-Identifier: Apache-2.0

public import MeshCore
package import MeshStore

/// How a node runs; who it is lies in its data directory.
public struct MeshConfiguration: Sendable {
    /// The data directory of a joined node.
    public var dataDirectory: String
    /// Where a service manager keeps this server's secrets (systemd's credentials); nil if it keeps
    /// none, and they are in the data directory.
    public var credentials: String?
    /// The host on which links are accepted.
    public var listenHost = "0.0.0.0"
    /// The TCP port of links.
    public var listenPort = 7374
    /// Whether messages to other sites are compressed.
    public var packs = true
    /// Addresses to dial besides those of the ticket, `host:port`.
    public var seeds: [String] = []
    /// Whether beacons are sent and heard.
    public var discovery = true
    /// Interfaces for beacons by name; nil for all that are up.
    public var interfaces: [String]?
    /// Where an address that a peer tells may be, besides the networks of this host's interfaces,
    /// for this server to dial it.
    public var networks = IPNetwork.ofOwnNetworks
    /// The IPv4 group of beacons.
    public var beaconGroup = "239.255.73.74"
    /// The IPv6 group of beacons.
    public var beaconGroup6 = "ff15::7374"
    /// The UDP port of beacons.
    public var beaconPort = 7375
    /// How many routers a beacon may cross, plus one.
    public var beaconTTL = 1
    /// How much this server wants to be its site's gateway, 0 to 255; more is more.
    public var gatewayPriority = 0
    /// How content is kept and moved.
    public var content: ContentSettings
    /// Whether a data directory on a file system that forgets is accepted.
    public var allowVolatile = false

    /// The defaults for a data directory.
    public init(dataDirectory: String) {
        self.dataDirectory = dataDirectory
        content = ContentSettings(directory: dataDirectory + "/content")
    }

    /// The node's files.
    package var directory: DataDirectory { DataDirectory(dataDirectory, credentials: credentials) }
}

/// The program's version, shown to peers and operators.
public let meshVersion = "0.1.0"
