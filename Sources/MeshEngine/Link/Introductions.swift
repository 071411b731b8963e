// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Certificates on one link: which this end asked for, and how many it looks up for the peer.
///
/// A certificate costs a signature check, so only so many are judged as nodes that were asked for
/// can have.
struct Introductions {
    /// Most nodes whose certificates are expected of one peer: he can name as many as he likes.
    static let wantedMax = 1024

    /// Certificates that are being looked up for the peer.
    private(set) var showing = 0
    private var wanted: Set<NodeID> = []
    /// Nodes whose certificates were shown on this link and are kept.
    private var kept: Set<NodeID> = []
    private var judging = 0
    /// How many more may be judged.
    private var room = 0

    /// Expects the certificates of a node, so many at most.
    mutating func want(_ node: NodeID, atMost count: Int) {
        guard wanted.count < Self.wantedMax, wanted.insert(node).inserted else { return }
        // What earlier ones have left is not saved up.
        room = min(room + count, wanted.count * count)
    }

    /// The certificate of a node is not expected any more.
    mutating func giveUp(_ node: NodeID) { wanted.remove(node) }

    /// Whether the peer has shown a node's certificate before, so that to ask again is in vain.
    func hasShown(_ node: NodeID) -> Bool { kept.contains(node) }

    /// A certificate came.
    ///
    /// - Returns: whether it is to be judged.
    mutating func came() -> Bool {
        guard room > 0 else { return false }
        room -= 1
        judging += 1
        return true
    }

    /// A certificate that came was judged: whose it is, nil if it was refused.
    mutating func judged(_ node: NodeID?) {
        precondition(judging > 0, "what is judged came before")
        judging -= 1
        guard let node else { return }
        wanted.remove(node)
        kept.insert(node)
    }

    /// The peer wants a certificate.
    ///
    /// - Returns: whether it is to be looked up.
    mutating func asked(limit: Int) -> Bool {
        guard showing < limit else { return false }
        showing += 1
        return true
    }

    /// What the peer wanted was looked up.
    mutating func shown() {
        precondition(showing > 0, "what is shown was asked for")
        showing -= 1
    }
}
