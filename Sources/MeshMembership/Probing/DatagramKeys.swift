// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshCrypto

/// Seals datagrams to members, and opens theirs once each.
///
/// On every link each end sends a random key under which it will receive: only the two ends have
/// it, so no member can speak for another, and a datagram kept from before a restart opens nothing.
package struct DatagramKeys: Sendable {
    /// Why a datagram was dropped.
    package enum Refusal: String, Error, Sendable {
        case malformed
        case unknownKey = "unknown_key"
        case notAuthentic = "not_authentic"
        case replayed
    }

    private struct Sending: Sendable {
        let key: Bytes32
        let name: UInt64
        var counter: UInt64 = 0
    }

    private struct Receiving: Sendable {
        let key: Bytes32
        let peer: NodeID
        var highest: UInt64 = 0
        var seen: UInt64 = 0
    }

    private var sending: [NodeID: Sending] = [:]
    private var receiving: [UInt64: Receiving] = [:]
    private var names: [NodeID: [UInt64]] = [:]

    /// No member has a key yet.
    package init() {}

    private static func name(_ key: Bytes32) -> UInt64 { Blake2b.hash(key.array).short }

    /// Whether datagrams can be sent to a member.
    package func canSend(to node: NodeID) -> Bool { sending[node] != nil }

    /// A member has told the key under which it receives.
    package mutating func send(to node: NodeID, under key: Bytes32) {
        sending[node] = Sending(key: key, name: Self.name(key))
    }

    /// This node has told a member the key under which it receives; the one before stays valid.
    package mutating func receive(from node: NodeID, under key: Bytes32) {
        let name = Self.name(key)
        receiving[name] = Receiving(key: key, peer: node)
        var all = (names[node] ?? []) + [name]
        while all.count > 2 { receiving[all.removeFirst()] = nil }
        names[node] = all
    }

    /// A member has forgotten the key that it told: it stopped, left, or has begun anew.
    package mutating func forgetSending(to node: NodeID) { sending[node] = nil }

    /// A member is none any more.
    package mutating func forget(_ node: NodeID) {
        sending[node] = nil
        for name in names.removeValue(forKey: node) ?? [] { receiving[name] = nil }
    }

    /// Seals a payload of at most `payloadBytesMax` bytes; nil if the member has told no key.
    package mutating func seal(_ payload: [UInt8], to node: NodeID) -> [UInt8]? {
        guard var pair = sending[node] else { return nil }
        pair.counter += 1
        sending[node] = pair
        var writer = WireWriter(reserving: payload.count + 33)
        writer.u8(MembershipSpecification.version)
        writer.u64(pair.name)
        writer.u64(pair.counter)
        let sealed = ChaChaPoly.seal(
            payload, key: pair.key, counter: pair.counter, authenticating: writer.bytes)
        writer.append(sealed)
        return writer.bytes
    }

    /// Opens a datagram.
    ///
    /// - Returns: who sent it, and its payload.
    package mutating func open(
        _ datagram: [UInt8]
    ) throws(Refusal) -> (sender: NodeID, payload: [UInt8]) {
        let least =
            MembershipSpecification.headerByteCount + MembershipSpecification.sealByteCount
        guard (least...MembershipSpecification.datagramBytesMax).contains(datagram.count) else {
            throw .malformed
        }
        var reader = WireReader(datagram)
        guard (try? reader.u8()) == MembershipSpecification.version, let name = try? reader.u64(),
            let counter = try? reader.u64()
        else { throw .malformed }
        guard var pair = receiving[name] else { throw .unknownKey }
        let header = Array(datagram.prefix(MembershipSpecification.headerByteCount))
        let sealed = Array(datagram.dropFirst(MembershipSpecification.headerByteCount))
        guard
            let payload = ChaChaPoly.open(
                sealed, key: pair.key, counter: counter, authenticating: header)
        else { throw .notAuthentic }
        guard Self.isFirst(counter, &pair) else { throw .replayed }
        receiving[name] = pair
        return (pair.peer, payload)
    }

    private static func isFirst(_ counter: UInt64, _ pair: inout Receiving) -> Bool {
        if counter > pair.highest {
            let step = counter - pair.highest
            pair.seen = step < MembershipSpecification.replayWindow ? pair.seen << step | 1 : 1
            pair.highest = counter
            return true
        }
        let age = pair.highest - counter
        guard age < MembershipSpecification.replayWindow, pair.seen & (1 << age) == 0 else {
            return false
        }
        pair.seen |= 1 << age
        return true
    }
}
