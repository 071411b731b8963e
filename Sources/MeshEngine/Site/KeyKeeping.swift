// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
internal import MeshLink
internal import MeshMembership
package import MeshTrust

/// A server that is locked: its records are sealed, and it wants their key, which is kept here.
package struct LockedServer: Sendable {
    /// Who it is.
    package let certificate: Certificate
    /// From where it called, without a port: a thief with a copy of its disk calls from elsewhere.
    package let host: String
    /// When it asked last.
    package let lastHeard: Instant
}

/// Keys of sealed records: this server's own, which others keep, and those that it keeps for
/// others. The article `SealedRecords`.
package struct KeyKeeping {
    /// How long an operator's word holds, and how long a server is shown as locked.
    package static let patience = Duration.seconds(900)
    /// Most servers and hosts that are shown.
    static let lockedMax = 64
    /// Keys that are taken over one link, and as many that are looked up.
    static let perLinkMax = 4

    private struct Caller: Hashable {
        let node: NodeID
        let host: String
    }

    /// The seal of this server's own records; nil where they are not sealed.
    var own: StorageSeal?
    /// Who said that it keeps that, and where it was met; nil for nowhere.
    private var keepers: [NodeID: Address?] = [:]
    /// Whether one of them is of the centre.
    private(set) var isWithCentre = false
    private var locked: [Caller: LockedServer] = [:]
    private var allowed: [Caller: Instant] = [:]

    /// How many peers keep this server's key.
    var keeperCount: Int { keepers.count }

    /// A peer keeps this server's key.
    ///
    /// - Returns: whether it, or where it was met, is news.
    mutating func kept(by card: Certificate, at address: Address?) -> Bool {
        if card.ticket.isCentral { isWithCentre = true }
        if let known = keepers[card.node], known == address { return false }
        keepers[card.node] = .some(address)
        return true
    }

    /// An operator has a server's key handed out once, to one host.
    mutating func allow(_ node: NodeID, _ host: String, _ now: Instant) {
        allowed = allowed.filter { now < $0.value }
        allowed[Caller(node: node, host: host)] = now.advanced(by: Self.patience)
    }

    /// Whether an operator has allowed it.
    func isAllowed(_ node: NodeID, _ host: String, _ now: Instant) -> Bool {
        allowed[Caller(node: node, host: host)].map { now < $0 } ?? false
    }

    /// A server whose key is here is locked, and may not have it yet.
    mutating func refused(_ card: Certificate, _ host: String, _ now: Instant) {
        locked = locked.filter { now.since($0.value.lastHeard) < Self.patience }
        let caller = Caller(node: card.node, host: host)
        guard locked.count < Self.lockedMax || locked[caller] != nil else { return }
        locked[caller] = LockedServer(certificate: card, host: host, lastHeard: now)
    }

    /// A server has its key.
    mutating func handed(to node: NodeID) {
        allowed = allowed.filter { $0.key.node != node }
        locked = locked.filter { $0.key.node != node }
    }

    /// Who was refused within the patience.
    func locked(_ now: Instant) -> [LockedServer] {
        locked.values.filter { now.since($0.lastHeard) < Self.patience }
            .sorted { ($0.certificate.node, $0.host) < ($1.certificate.node, $1.host) }
    }
}

extension Engine {
    /// The servers that want a key which only an operator may hand out.
    package func lockedServers(_ now: Instant) -> [LockedServer] { keeping.locked(now) }

    /// How many servers said that they keep the key of this server's records, and whether one of
    /// the centre is among them; nil where records are not sealed.
    package var keepers: (count: Int, isWithCentre: Bool)? {
        keeping.own.map { _ in (keeping.keeperCount, keeping.isWithCentre) }
    }

    /// The records of this node are sealed: whoever is linked keeps the key.
    mutating func seal(under seal: StorageSeal) {
        keeping.own = seal
        for id in links.keys.sorted() {
            if let card = links[id]?.peer.certificate { offerKey(id, card) }
        }
    }

    /// Has a peer keep the key of this server's records.
    mutating func offerKey(_ id: LinkID, _ card: Certificate) {
        guard let seal = keeping.own, isKeeper(card, of: own) else { return }
        send(id, .deposit(seal.key))
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
        guard let link = links[id], let seal = keeping.own, seal.name == name else {
            return counters.add(.depositUnasked)
        }
        let address = link.origin.dialled ?? membership.member(link.node)?.address
        guard keeping.kept(by: link.peer.certificate, at: address) else { return }
        emit(.keeper(address))
    }

    /// A locked server wants its key.
    mutating func receive(_ id: LinkID, wantKey name: Digest) {
        guard let link = links[id], link.keysWanted < KeyKeeping.perLinkMax else {
            return counters.add(.keyWantedOverLimit)
        }
        links[id]?.keysWanted += 1
        emit(.findKey(id, link.node, name))
    }

    /// A key was looked up. A neighbour in the same place gets it; for any other an operator
    /// decides, since a thief may have carried it off.
    mutating func found(_ id: LinkID, _ key: Bytes32?, _ now: Instant) {
        guard let link = links[id] else { return }
        guard let key else { return send(id, .noKey(.notKept)) }
        let host = link.origin.host ?? link.origin.remote
        let isHere = link.site == own.ticket.site && link.origin.isHere
        guard isHere || keeping.isAllowed(link.node, host, now) else {
            keeping.refused(link.peer.certificate, host, now)
            counters.add(.keyWantedFromAfar)
            return send(id, .noKey(.operatorsWord))
        }
        keeping.handed(to: link.node)
        counters.add(.keyHanded)
        emit(.note(.keyHanded(link.peer.certificate), id))
        send(id, .key(key))
    }
}
