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
    /// The places after this one, up to `through`: each record there was whole when it came, or its
    /// author himself had replaced it by then.
    package let after: UInt64
    /// How far.
    package let through: UInt64
    /// The commit that ends there: it names the one before it, and so on to the first.
    package let commit: Digest
    /// The holder's signature.
    package let signature: Signature

    /// Says so as the server that has `key`.
    package init(
        of log: LogName, after: UInt64, through: UInt64, commit: Digest, key: SigningKey,
        mesh: MeshID
    ) {
        holder = key.publicKey.node
        self.log = log
        self.after = after
        self.through = through
        self.commit = commit
        let body = Self.body(holder, log, after, through, commit)
        signature = key.sign(body, for: .holding, in: mesh)
    }

    private static func body(
        _ holder: NodeID, _ log: LogName, _ after: UInt64, _ through: UInt64, _ commit: Digest
    ) -> [UInt8] {
        var writer = WireWriter(reserving: 256)
        writer.append(holder)
        writer.scope(log.scope)
        writer.author(log.author)
        writer.u64(after)
        writer.u64(through)
        writer.append(commit)
        return writer.bytes
    }

    /// The signed fields, then the signature.
    package var encoded: [UInt8] {
        Self.body(holder, log, after, through, commit) + signature.bytes
    }

    /// Decodes exactly one; `isAuthentic` says whether the holder said it.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        holder = try reader.bytes32()
        log = LogName(scope: try reader.scope(), author: try reader.author())
        after = try reader.sequence(orZero: true)
        through = try reader.sequence()
        guard after < through else { throw .invalid("end of the log") }
        commit = try reader.bytes32()
        signature = try reader.signature()
        try reader.finish()
    }

    /// Whether the holder signed it, for this mesh; its key was looked at with its certificate.
    package func isAuthentic(in mesh: MeshID) -> Bool {
        VerifyingKey(holder).verify(
            signature, of: Self.body(holder, log, after, through, commit), for: .holding, in: mesh)
    }
}
