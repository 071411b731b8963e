// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// What a member tells its own site of a member of another: that it knows at first hand that the
/// other is there, or does so no longer. Signed, so that nobody can vouch in its name.
package struct Vouch: Hashable, Sendable {
    /// Who vouches.
    package let node: NodeID
    /// Which of its vouches this is: the newer one about a subject holds.
    package let version: Presence.Version
    /// For whom.
    package let subject: NodeID
    /// Whether the subject is there.
    package let isThere: Bool
    /// The signature of who vouches.
    package let signature: Signature

    private static let bodyByteCount = 81

    /// Vouches for the node that holds `key`.
    package init(
        key: SigningKey, mesh: MeshID, version: Presence.Version, subject: NodeID, isThere: Bool
    ) {
        node = key.publicKey.node
        self.version = version
        self.subject = subject
        self.isThere = isThere
        let body = Self.body(node, version, subject, isThere)
        signature = key.sign(body, for: .vouch, in: mesh)
    }

    private static func body(
        _ node: NodeID, _ version: Presence.Version, _ subject: NodeID, _ isThere: Bool
    ) -> [UInt8] {
        var writer = WireWriter(reserving: bodyByteCount)
        writer.append(node)
        writer.u64(version.incarnation)
        writer.u64(version.counter)
        writer.append(subject)
        writer.u8(isThere ? 1 : 0)
        return writer.bytes
    }

    /// The signed fields, then the signature.
    package var encoded: [UInt8] {
        Self.body(node, version, subject, isThere) + signature.bytes
    }

    /// Reads the fields; `isAuthentic` says whether the node said them.
    package init(from reader: inout WireReader) throws(WireError) {
        node = try reader.bytes32()
        version = Presence.Version(incarnation: try reader.u64(), counter: try reader.u64())
        subject = try reader.bytes32()
        switch try reader.u8() {
        case 0: isThere = false
        case 1: isThere = true
        default: throw .invalid("vouch")
        }
        signature = try reader.signature()
    }

    /// Whether the node itself signed this, for this mesh.
    package func isAuthentic(in mesh: MeshID) -> Bool {
        let body = Self.body(node, version, subject, isThere)
        return VerifyingKey(node).verify(signature, of: body, for: .vouch, in: mesh)
    }
}

/// Members of other sites are there while this node knows it at first hand, or a neighbour vouches.
extension Membership {
    /// Whether this node is linked with a member of another site, or with one who is told by it.
    private func knowsAtFirstHand(_ member: Member) -> Bool {
        member.isLinked || !member.tellers.isEmpty
    }

    /// A vouch of a neighbour holds while it is there, in the life in which it vouched.
    func holds(_ vouch: Vouch) -> Bool {
        guard vouch.isThere, let voucher = table[vouch.node], isNear(voucher) else { return false }
        return (voucher.state == .alive || voucher.state == .suspect)
            && vouch.version.incarnation >= voucher.version.incarnation
    }

    /// Takes a member of another site for what those who would know say of it, and vouches for it
    /// to neighbours where this node is who would know.
    mutating func settle(_ node: NodeID, _ now: Instant) {
        guard let member = table[node], !isNear(member), member.state != .revoked else { return }
        let isKnown = knowsAtFirstHand(member)
        let neighbours = member.vouches.values.filter(holds).map(\.node)
        table[node]?.vouchers = (member.tellers + neighbours).sorted()
        let isThere = isKnown || !neighbours.isEmpty
        if isKnown != (member.ownVouch?.isThere ?? false), member.presence != nil {
            lastVouch = lastVouch == .max ? .max : lastVouch + 1
            let vouch = Vouch(
                key: identity.key, mesh: identity.mesh,
                version: .init(incarnation: presence.version.incarnation, counter: lastVouch),
                subject: node, isThere: isKnown)
            table[node]?.ownVouch = vouch
            if isKnown { tellOthers(member) }
            pass(vouch, except: nil)
        }
        guard member.presence?.status ?? .alive == .alive else { return }
        if isThere, member.state != .left { set(node, .alive, now) }
        if !isThere, member.state == .alive { set(node, .away, now) }
    }

    /// Sites beyond may have heard a member's words before, but not that it is there again.
    mutating func tellOthers(_ member: Member) {
        guard let presence = member.presence, presence.status == .alive else { return }
        for peer in linkedNodes.sorted() where peer != member.node {
            guard let other = table[peer], !isNear(other), mayKnow(other, member),
                !member.tellers.contains(peer)
            else { continue }
            effects.append(.tell(peer, [.presence(presence, address: member.tellable)]))
        }
    }

    /// Looks again at those for whom a neighbour vouched.
    mutating func settleVouched(by voucher: NodeID, _ now: Instant) {
        for node in table.keys.sorted() where table[node]?.vouches[voucher] != nil {
            settle(node, now)
        }
    }

    mutating func hear(_ vouch: Vouch, from teller: NodeID, _ now: Instant) {
        guard vouch.subject != own, table[teller].map(isNear) == true else {
            return count(.rumourUnknown)
        }
        guard let member = table[vouch.subject] else { return keepEarly(vouch, from: teller) }
        guard !isNear(member) else { return count(.rumourUnknown) }
        if vouch.node == own { return hearOwn(vouch, now) }
        guard let voucher = table[vouch.node] else { return keepEarly(vouch, from: teller) }
        guard isNear(voucher) else { return count(.rumourUnknown) }
        if let known = member.vouches[vouch.node], known.version >= vouch.version {
            // A voucher that does not know how far it once counted hears of it.
            if teller == vouch.node, known != vouch {
                effects.append(.tell(teller, [.vouch(known)]))
            }
            return count(.rumourOld)
        }
        guard member.vouches[vouch.node] != nil || member.vouches.count < tuning.vouchers else {
            return count(.rumourOverLimit)
        }
        guard vouch.isAuthentic(in: identity.mesh) else { return count(.vouchForged) }
        table[vouch.subject]?.vouches[vouch.node] = vouch
        pass(vouch, except: teller)
        settle(vouch.subject, now)
    }

    /// Keeps a vouch of or for a node that is not known yet. What that node said of itself may be
    /// old news to all others, so that nobody tells it again: its certificate is asked for.
    private mutating func keepEarly(_ vouch: Vouch, from teller: NodeID) {
        if !early.keep(vouch, from: teller) { count(.rumourOverLimit) }
        guard table[teller]?.isLinked == true else { return }
        for node in [vouch.subject, vouch.node] where table[node] == nil && node != own {
            effects.append(.wantCertificate(node, from: teller))
        }
    }

    /// Somebody has heard a vouch of an earlier life of this node that had counted further.
    private mutating func hearOwn(_ vouch: Vouch, _ now: Instant) {
        let incarnation = presence.version.incarnation
        if let mine = table[vouch.subject]?.ownVouch,
            mine.version > vouch.version || mine == vouch
        {
            return
        }
        guard vouch.version.incarnation >= incarnation else { return }
        guard vouch.isAuthentic(in: identity.mesh) else { return count(.vouchForged) }
        if vouch.version.incarnation > incarnation {
            let version = Presence.Version(
                incarnation: vouch.version.incarnation, counter: presence.version.counter)
            speak(version.next, presence.status, presence.wan)
            vouchAnew(now)
        }
        lastVouch = max(lastVouch, vouch.version.counter)
        // As if it had been said in this life: what is not so any more is taken back.
        table[vouch.subject]?.ownVouch = vouch
        settle(vouch.subject, now)
    }

    /// Says again, under higher numbers, what this life vouches for.
    mutating func vouchAnew(_ now: Instant) {
        for node in table.keys.sorted() where table[node]?.ownVouch != nil {
            table[node]?.ownVouch = nil
            settle(node, now)
        }
    }

    /// Tells neighbours over links, which lose nothing; each passes it on once.
    private mutating func pass(_ vouch: Vouch, except teller: NodeID?) {
        let subject = table[vouch.subject]
        for peer in linkedNodes.sorted() where peer != teller && peer != vouch.node {
            guard let neighbour = table[peer], isNear(neighbour), mayKnow(neighbour, subject)
            else { continue }
            effects.append(.tell(peer, [.vouch(vouch)]))
        }
    }
}
