// SPDX-License-Identifier: Apache-2.0

/// Constants that both ends of a link must agree on; changing one breaks peers. See `SyncProtocol`.
package enum SyncSpecification {
    /// Bytes of a summary, and of the proof that answers it.
    package static let summaryBytes = 16
    /// Most scopes in one list.
    package static let scopesMax = 4096
    /// Most entries (authors, nodes or leaves) in one part of a turn.
    package static let entriesMax = 1 << 16
    /// Most parts of one turn.
    package static let partsMax = 1 << 13
    /// Longest encoded turn, in bytes.
    package static let turnBytesMax = 512 * 1024
    /// Longest message of commits, in bytes: any one commit fits, so a run never ends within one.
    package static let commitsBytesMax = (1 << 20) - 64
    /// Most commits in one message.
    package static let commitsMax = 1024
    /// Most authors that the contexts of one message name.
    package static let authorsMax = 1 << 15
    /// Most bytes of the records of one message, once their authors are written out.
    package static let expandedBytesMax = 2 << 20
}

/// Choices of this end, which a peer can't feel but in speed.
package enum SyncTuning {
    /// Bytes after which a turn takes no more; what is left is found in the next round.
    package static let turnBytes = 256 * 1024
    /// Bytes of records after which a message of commits is sent.
    package static let commitsBytes = 128 * 1024
    /// Streams that one turn may begin; what is left over is found in the next round.
    package static let streamsMax = 16_384
    /// Turns of one session after which it is given up.
    package static let turnsMax = 32
}
