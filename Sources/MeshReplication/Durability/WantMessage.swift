// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// Asks how far a log is held. Layout: the article `Acknowledgements`.
package struct WantMessage: Hashable, Sendable {
    /// On whose disk.
    package enum Whose: UInt8, Sendable {
        /// The receiver's.
        case receiver = 0
        /// The centre's, which the receiver asks.
        case centre = 1
    }

    /// Which log.
    package let log: LogName
    /// How far it is to be held before the answer.
    package let through: UInt64
    /// By whom.
    package let whose: Whose

    /// Asks.
    package init(_ log: LogName, _ through: UInt64, _ whose: Whose) {
        self.log = log
        self.through = through
        self.whose = whose
    }

    /// The fields in order.
    package var encoded: [UInt8] {
        var writer = WireWriter(reserving: 128)
        writer.scope(log.scope)
        writer.author(log.author)
        writer.u64(through)
        writer.u8(whose.rawValue)
        return writer.bytes
    }

    /// Decodes exactly one.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        log = LogName(scope: try reader.scope(), author: try reader.author())
        through = try reader.sequence()
        guard let whose = Whose(rawValue: try reader.u8()) else { throw .invalid("whose disk") }
        self.whose = whose
        try reader.finish()
    }
}
