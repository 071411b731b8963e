// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// A server's word that records of a log are on its disk, up to the end of a commit.
///
/// Signed, so that whoever passes it on cannot make it. Layout: the article `Acknowledgements`.
package struct Holding: Hashable, Sendable {
    /// Who holds it.
    package let holder: NodeID
    /// What.
    package let log: LogName
    /// Which places of it: each record there was whole when it came, or its author himself had
    /// replaced it by then.
    package let run: HeldRun
    /// The holder's signature.
    package let signature: Signature

    /// Says so as the server that has `key`.
    package init(
        of log: LogName, _ run: HeldRun, key: SigningKey, mesh: MeshID
    ) {
        holder = key.publicKey.node
        self.log = log
        self.run = run
        let body = Self.body(holder, log, run)
        signature = key.sign(body, for: .holding, in: mesh)
    }

    private static func body(
        _ holder: NodeID, _ log: LogName, _ run: HeldRun
    ) -> [UInt8] {
        var writer = WireWriter(reserving: 256)
        writer.append(holder)
        writer.scope(log.scope)
        writer.author(log.author)
        writer.u64(run.after)
        writer.u64(run.through)
        writer.append(run.commit)
        return writer.bytes
    }

    /// The signed fields, then the signature.
    package var encoded: [UInt8] {
        Self.body(holder, log, run) + signature.bytes
    }

    /// Decodes exactly one; `isAuthentic` says whether the holder said it.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        holder = try reader.bytes32()
        log = LogName(scope: try reader.scope(), author: try reader.author())
        run = HeldRun(
            after: try reader.sequence(orZero: true), through: try reader.sequence(),
            commit: try reader.bytes32())
        guard run.after < run.through else { throw .invalid("end of the log") }
        signature = try reader.signature()
        try reader.finish()
    }

    /// Whether the holder signed it, for this mesh; its key was looked at with its certificate.
    package func isAuthentic(in mesh: MeshID) -> Bool {
        VerifyingKey(holder).verify(
            signature, of: Self.body(holder, log, run), for: .holding, in: mesh)
    }
}
