// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
internal import MeshLink
internal import MeshMembership
package import MeshTrust

/// A server that is locked: its records are sealed, and it wants their key.
package struct LockedServer: Sendable {
    /// Who it is.
    package let certificate: Certificate
    /// Where it called from.
    package let remote: String
    /// When it asked last.
    package let lastHeard: Instant
}

/// Keys of sealed records: this server's own, which others keep, and those that it keeps for
/// others. The article `SealedRecords`.
package struct KeyKeeping {
    /// How long an operator's word holds.
    package static let patience = Duration.seconds(900)
    /// Most servers that are shown as locked.
    static let lockedMax = 64
    /// Keys that are taken over one link.
    static let perLinkMax = 4

    /// The key of this server's own records; nil where they are not sealed.
    var own: Bytes32?
    /// Who said that it keeps that.
    private(set) var keepers: Set<NodeID> = []
    private(set) var locked: [NodeID: LockedServer] = [:]
    private var allowed: [NodeID: Instant] = [:]

    /// A peer keeps this server's key.
    ///
    /// - Returns: whether that is news.
    mutating func kept(by node: NodeID) -> Bool { keepers.insert(node).inserted }

    /// An operator has a server's key handed out once.
    mutating func allow(_ node: NodeID, _ now: Instant) {
        allowed = allowed.filter { now < $0.value }
        allowed[node] = now.advanced(by: Self.patience)
    }

    /// A server is locked.
    ///
    /// - Returns: whether an operator has allowed that it gets its key.
    mutating func asked(_ card: Certificate, _ remote: String, _ now: Instant) -> Bool {
        if let until = allowed[card.node], now < until { return true }
        locked = locked.filter { now.since($0.value.lastHeard) < Self.patience }
        if locked.count < Self.lockedMax || locked[card.node] != nil {
            locked[card.node] = LockedServer(certificate: card, remote: remote, lastHeard: now)
        }
        return false
    }

    /// A server has its key.
    mutating func handed(to node: NodeID) {
        allowed[node] = nil
        locked[node] = nil
    }
}

extension Engine {
    /// The servers that want a key which only an operator may hand out.
    package func lockedServers(_ now: Instant) -> [LockedServer] {
        keeping.locked.values.filter { now.since($0.lastHeard) < KeyKeeping.patience }
            .sorted { $0.certificate.node < $1.certificate.node }
    }

    /// How many servers said that they keep the key of this server's records; nil where they are
    /// not sealed.
    package var keeperCount: Int? { keeping.own.map { _ in keeping.keepers.count } }

    /// Has a peer keep the key of this server's records.
    mutating func offerKey(_ id: LinkID, _ card: Certificate) {
        guard let key = keeping.own, isKeeper(card, of: own) else { return }
        send(id, .deposit(key))
    }

    /// Whether a server keeps keys of another: neighbours do, and those of the centre.
    private func isKeeper(_ keeper: Certificate, of other: Certificate) -> Bool {
        keeper.ticket.site == other.ticket.site || keeper.ticket.isCentral
    }

    /// A peer wants its key kept.
    mutating func receive(_ id: LinkID, deposit key: Bytes32) {
        guard let link = links[id], isKeeper(own, of: link.peer.certificate),
            link.keysTaken < KeyKeeping.perLinkMax
        else { return counters.add(.depositRefused) }
        links[id]?.keysTaken += 1
        emit(.keepKey(id, link.node, key))
    }

    /// A peer says that it keeps this server's key.
    mutating func receive(_ id: LinkID, deposited name: Digest) {
        guard let link = links[id], let key = keeping.own, StorageSeal.name(of: key) == name
        else { return counters.add(.depositUnasked) }
        guard keeping.kept(by: link.node) else { return }
        emit(.keeper(link.origin.dialled ?? membership.member(link.node)?.address))
    }

    /// A locked server wants its key. A neighbour in the same place gets it; for any other an
    /// operator decides, since a thief may have carried it off.
    mutating func receive(_ id: LinkID, wantKey name: Digest, _ now: Instant) {
        guard let link = links[id] else { return }
        let card = link.peer.certificate
        let isHere = link.site == own.ticket.site && link.origin.isLocal
        guard isHere || keeping.asked(card, link.origin.remote, now) else {
            counters.add(.keyWantedFromAfar)
            return send(id, .noKey(.operatorsWord))
        }
        emit(.findKey(id, link.node, name))
    }

    /// A key was looked up.
    mutating func found(_ id: LinkID, _ key: Bytes32?) {
        guard let link = links[id] else { return }
        guard let key else { return send(id, .noKey(.notKept)) }
        keeping.handed(to: link.node)
        counters.add(.keyHanded)
        emit(.note(.keyHanded(link.peer.certificate), id))
        send(id, .key(key))
    }
}
