// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Words of and about nodes whose certificates are not known yet; they may be on the way.
struct EarlyWords: Sendable {
    /// A vouch, and who brought it.
    struct Brought: Sendable {
        let vouch: Vouch
        let teller: NodeID
    }

    /// What a node said of itself, where it is reached, and who brought it.
    struct Said: Sendable {
        let presence: Presence
        let address: Address?
        let teller: NodeID
    }

    /// By node, then in the order in which they were brought: who has told of a node is part of
    /// what is known of it.
    private var said: [NodeID: [Said]] = [:]
    private var saidCount = 0
    private var vouches: [Brought] = []
    private let presencesMost: Int
    private let vouchesMost: Int

    init(_ tuning: MembershipTuning) {
        presencesMost = tuning.rumoursWaiting
        vouchesMost = tuning.vouchesWaiting
    }

    /// Keeps a node's words, the last that each teller has brought.
    ///
    /// - Returns: false if there is no room.
    mutating func keep(_ words: Said) -> Bool {
        let node = words.presence.node
        if let known = said[node]?.firstIndex(where: { $0.teller == words.teller }) {
            said[node]?[known] = words
            return true
        }
        guard saidCount < presencesMost else { return false }
        said[node, default: []].append(words)
        saidCount += 1
        return true
    }

    /// A teller takes back that a node is there.
    mutating func forget(_ node: ShortID, from teller: NodeID) {
        for known in said.keys where known.short == node {
            let rest = said[known]?.filter { $0.teller != teller } ?? []
            saidCount -= (said[known]?.count ?? 0) - rest.count
            said[known] = rest.isEmpty ? nil : rest
        }
    }

    /// Keeps the newest vouch of a node about another.
    ///
    /// - Returns: false if the oldest had to go for it.
    mutating func keep(_ vouch: Vouch, from teller: NodeID) -> Bool {
        let known = vouches.firstIndex {
            $0.vouch.node == vouch.node && $0.vouch.subject == vouch.subject
        }
        if let known {
            guard vouches[known].vouch.version < vouch.version else { return true }
            vouches.remove(at: known)
        }
        let hasRoom = vouches.count < vouchesMost
        if !hasRoom { vouches.removeFirst() }
        vouches.append(Brought(vouch: vouch, teller: teller))
        return hasRoom
    }

    /// A node is known now: what was said by it and about it can be judged.
    mutating func take(_ node: NodeID) -> (said: [Said], vouches: [Brought]) {
        let isAbout = { (brought: Brought) in
            brought.vouch.node == node || brought.vouch.subject == node
        }
        defer { vouches.removeAll(where: isAbout) }
        let words = said.removeValue(forKey: node) ?? []
        saidCount -= words.count
        return (words, vouches.filter(isAbout))
    }
}
