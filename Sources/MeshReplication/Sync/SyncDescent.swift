// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshCrypto

extension SyncSession {
    mutating func compare(
        nodes theirs: [SyncPart.NodeEntry], _ level: Int, of tag: UInt64, at place: Int,
        _ records: some RecordIndex, _ outcome: inout Outcome
    ) throws {
        let scope = try scope(place)
        guard let state = try state(of: tag, in: scope, records) else { return }
        // The peer's log may have grown since the frontiers were compared: what lies beyond ours is
        // for the next round.
        guard level <= DigestTree.height(of: state.frontier) else { return }
        let last = DigestTree.last(at: level, of: state.frontier)
        var nodes: [SyncPart.NodeEntry] = []
        var leaves: [SyncPart.LeafEntry] = []
        var size = replyBytes
        for entry in theirs where entry.index <= last && size < SyncTuning.turnBytes {
            let mine = try node(
                state.author, in: scope, level: level, index: entry.index, records)
            for offset in 0..<16 where mine.children[offset] != entry.children[offset] {
                let child = entry.index * DigestTree.fanOut + UInt64(offset)
                if level == 1 {
                    let bits = try records.liveBits(of: state.author, in: scope, leaf: child)
                    leaves.append(SyncPart.LeafEntry(leaf: child, bits: bits))
                    size += 20
                } else {
                    nodes.append(
                        try node(state.author, in: scope, level: level - 1, index: child, records))
                    size += 110
                }
            }
        }
        if !nodes.isEmpty {
            add(.nodes(scope: place, author: tag, level: level - 1, nodes), &outcome)
        }
        if !leaves.isEmpty { add(.leaves(scope: place, author: tag, leaves), &outcome) }
    }

    /// What only we have we send, what only they have we ask for; the records decide what lives.
    mutating func compare(
        leaves theirs: [SyncPart.LeafEntry], of tag: UInt64, at place: Int,
        _ records: some RecordIndex, _ outcome: inout Outcome
    ) throws {
        let scope = try scope(place)
        guard let state = try state(of: tag, in: scope, records) else { return }
        let last = DigestTree.last(at: 0, of: state.frontier)
        var send: [SyncPart.LeafEntry] = []
        var want: [SyncPart.LeafEntry] = []
        for entry in theirs where entry.leaf <= last {
            let mine = try records.liveBits(of: state.author, in: scope, leaf: entry.leaf).bits
            let their = entry.bits.bits
            // Equal sets under different hashes: one dot has two records, and each end shows its
            // own.
            let excess = mine == their ? mine : mine & ~their
            let lack = mine == their ? their : their & ~mine
            if excess != 0 {
                send.append(SyncPart.LeafEntry(leaf: entry.leaf, bits: LeafBits(excess)))
            }
            if lack != 0 {
                want.append(SyncPart.LeafEntry(leaf: entry.leaf, bits: LeafBits(lack)))
            }
        }
        if !send.isEmpty { outcome.streams.append(.dots(scope, state.author, send)) }
        if !want.isEmpty { add(.wants(scope: place, author: tag, want), &outcome) }
    }
}
