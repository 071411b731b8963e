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
        /// A peer has answered without it.
        case refused(LinkMessage.KeyRefusal, by: String)
    }

    /// Most addresses that are dialled.
    package static let candidatesMax = 64
    /// How often each.
    package static let pause = Duration.seconds(10)
    /// How long an answer may take.
    package static let patience = Duration.seconds(8)

    private struct Call {
        let certificate: Certificate
        let since: Instant
    }

    private let own: Certificate
    private let want: Want
    private var candidates: [Address: Instant] = [:]
    private var calls: [LinkID: Call] = [:]
    private var isDone = false

    /// Begins a search.
    ///
    /// - Parameter addresses: where keepers were last met.
    package init(_ want: Want, own: Certificate, addresses: [Address], now: Instant) {
        self.want = want
        self.own = own
        for address in addresses.prefix(Self.candidatesMax) { candidates[address] = now }
    }

    /// A server of the mesh is said to be somewhere.
    package mutating func hear(of address: Address, now: Instant) {
        if candidates[address] == nil, candidates.count < Self.candidatesMax {
            candidates[address] = now
        }
    }

    /// Time went by.
    package mutating func tick(_ now: Instant) -> [Effect] {
        if isDone { return [] }
        var effects: [Effect] = []
        for (id, call) in calls.sorted(by: { $0.key < $1.key })
        where now.since(call.since) > Self.patience {
            effects.append(.close(id))
        }
        for (address, due) in candidates.sorted(by: { $0.key < $1.key }) where due <= now {
            candidates[address] = now.advanced(by: Self.pause)
            effects.append(.dial(address))
        }
        return effects
    }

    /// A link stands.
    package mutating func linkUp(
        _ id: LinkID, _ peer: Certificate, now: Instant
    ) -> [Effect] {
        let isKeeper = peer.ticket.site == own.ticket.site || peer.ticket.isCentral
        guard !isDone, isKeeper, peer.isApproved else { return [.close(id)] }
        calls[id] = Call(certificate: peer, since: now)
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
        case (.key(let key), .key(let name)) where StorageSeal.name(of: key) == name:
            isDone = true
            return [.found(key), .send(id, .goodbye), .close(id)]
        case (.deposited(let name), .keeper(let key)) where StorageSeal.name(of: key) == name:
            isDone = true
            return [.found(key), .send(id, .goodbye), .close(id)]
        case (.noKey(let reason), .key):
            let ticket = call.certificate.ticket
            return [
                .refused(reason, by: "\(ticket.site)/\(ticket.node)"), .send(id, .goodbye),
                .close(id),
            ]
        default: return []
        }
    }
}
