// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto
package import MeshLink
package import MeshTrust

/// A server whose records are sealed looks for their key before it serves: the article
/// `SealedRecords`.
///
/// It dials whoever may keep it, asks, and goes on to the next. A new one has its key kept first.
package struct KeySearch: Sendable {
    /// What is wanted.
    package enum Want: Sendable {
        /// The key of that name, back.
        case key(Digest)
        /// That somebody keeps this new one.
        case keeper(of: Bytes32)
    }

    /// What to do, in order.
    package enum Effect: Sendable, Equatable {
        case dial(Address)
        case send(LinkID, LinkMessage)
        case close(LinkID)
        /// The key is there, and kept by somebody.
        case found(Bytes32)
        /// A peer has handed over this server's certificate, with an operator's word for it.
        case enrol(Certificate)
        /// Something that an operator should know.
        case note(Notice)
    }

    /// Why the search goes on.
    package enum Notice: Sendable, Equatable {
        /// That peer has answered without the key.
        case refused(LinkMessage.KeyRefusal, by: String)
        /// This server was revoked: nobody will answer.
        case revoked(reason: String)
    }

    /// Most addresses that are dialled, but for those that were known from the start.
    package static let candidatesMax = 64
    /// How often each, for the first minute, and from then on.
    package static let (pause, longPause) = (Duration.seconds(10), Duration.seconds(30))
    /// How long the first minute is.
    package static let eager = Duration.seconds(60)
    /// How long an answer may take.
    package static let patience = Duration.seconds(8)

    private struct Call {
        let certificate: Certificate
        let since: Instant
    }

    private let own: Certificate
    private let root: RootDocument
    private let want: Want
    private let begin: Instant
    private var known: [Address: Instant] = [:]
    /// Where beacons say that a server is: when it is dialled next, and when it was heard last.
    private var heard: [Address: (due: Instant, last: Instant)] = [:]
    private var calls: [LinkID: Call] = [:]
    private var revoked: Set<NodeID> = []
    private var told: [Notice] = []
    private var isDone = false

    /// Begins a search.
    ///
    /// - Parameter addresses: where keepers were last met.
    package init(
        _ want: Want, own: Certificate, root: RootDocument, addresses: [Address], now: Instant
    ) {
        self.want = want
        self.own = own
        self.root = root
        begin = now
        for address in addresses { known[address] = now }
    }

    /// A server is said to be somewhere; of too many that which was silent longest goes.
    package mutating func hear(of address: Address, now: Instant) {
        if known[address] != nil { return }
        let due = heard[address]?.due ?? now
        heard[address] = (due, now)
        guard heard.count > Self.candidatesMax else { return }
        let silent = heard.min { ($0.value.last, $0.key) < ($1.value.last, $1.key) }
        if let silent { heard[silent.key] = nil }
    }

    /// Time went by.
    package mutating func tick(_ now: Instant) -> [Effect] {
        if isDone { return [] }
        var effects: [Effect] = []
        for (id, call) in calls.sorted(by: { $0.key < $1.key })
        where now.since(call.since) > Self.patience {
            effects.append(.close(id))
        }
        let next = now.advanced(by: now.since(begin) < Self.eager ? Self.pause : Self.longPause)
        for (address, due) in known.sorted(by: { $0.key < $1.key }) where due <= now {
            known[address] = next
            effects.append(.dial(address))
        }
        for (address, entry) in heard.sorted(by: { $0.key < $1.key }) where entry.due <= now {
            heard[address]?.due = next
            effects.append(.dial(address))
        }
        return effects
    }

    /// A link stands.
    package mutating func linkUp(
        _ id: LinkID, _ peer: Certificate, now: Instant
    ) -> [Effect] {
        let isKeeper = peer.ticket.site == own.ticket.site || peer.ticket.isCentral
        guard !isDone, peer.isApproved, !revoked.contains(peer.node), isKeeper || !own.isApproved
        else { return [.close(id)] }
        calls[id] = Call(certificate: peer, since: now)
        // Who waits to be approved is handed that first, and nothing of it is heard before.
        guard own.isApproved else { return [] }
        switch want {
        case .key(let name): return [.send(id, .wantKey(name))]
        case .keeper(let key): return [.send(id, .deposit(key))]
        }
    }

    /// A link is gone.
    package mutating func linkDown(_ id: LinkID) { calls[id] = nil }

    /// A peer said something; what is not of keys is not for now.
    package mutating func receive(_ id: LinkID, _ bytes: [UInt8]) -> [Effect] {
        guard !isDone, let call = calls[id], let message = try? LinkMessage(decoding: bytes) else {
            return []
        }
        switch (message, want) {
        case (.certificate(let bytes), _):
            guard !own.isApproved, let card = try? Certificate(decoding: bytes, root: root),
                card.fingerprint == own.fingerprint
            else { return [] }
            isDone = true
            return [.enrol(card)]
        case (.revocation(let bytes), _): return heed(bytes)
        case (.key(let key), .key(let name)) where StorageSeal.name(of: key) == name,
            (.deposited(let name), .keeper(let key)) where StorageSeal.name(of: key) == name:
            // What somebody says whom others have revoked meanwhile counts for nothing.
            guard own.isApproved, !revoked.contains(call.certificate.node) else { return [] }
            isDone = true
            return [.found(key), .send(id, .goodbye), .close(id)]
        case (.noKey(let reason), .key):
            let ticket = call.certificate.ticket
            return note(.refused(reason, by: "\(ticket.site)/\(ticket.node)"))
                + [.send(id, .goodbye), .close(id)]
        default: return []
        }
    }

    private mutating func heed(_ bytes: [UInt8]) -> [Effect] {
        guard let revocation = try? Revocation(decoding: bytes, root: root), revocation.stands
        else {
            return []
        }
        revoked.insert(revocation.node)
        guard revocation.node == own.node || revocation.serials.contains(own.ticket.serial) else {
            return calls.filter { $0.value.certificate.node == revocation.node }.keys.sorted()
                .map { .close($0) }
        }
        return note(.revoked(reason: revocation.reason))
    }

    /// Each is told once.
    private mutating func note(_ notice: Notice) -> [Effect] {
        if told.contains(notice) || told.count >= Self.candidatesMax { return [] }
        told.append(notice)
        return [.note(notice)]
    }
}
