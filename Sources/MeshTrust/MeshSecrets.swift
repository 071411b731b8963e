// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// The secret that every member of a mesh knows, in one of its epochs.
///
/// It keeps outsiders from talking to a node at all; it authenticates nobody.
package struct MeshSecret: Hashable, Sendable {
    /// Counts changes of the secret, from 1.
    package let epoch: UInt32
    /// 32 random bytes.
    package let value: Bytes32

    /// Names a secret.
    package init(epoch: UInt32, value: Bytes32) {
        self.epoch = epoch
        self.value = value
    }

    /// The pre-shared key of the link handshake.
    package var linkKey: Bytes32 { Blake2b.derive(value, id: 1, context: "MESHnpsk") }

    /// The key that authenticates beacons.
    package var beaconKey: Bytes32 { Blake2b.derive(value, id: 2, context: "MESHbecn") }
}

/// A change of the mesh's secret, signed by an enrol key: no member can make one up.
///
/// It is a secret itself, and goes over links to members alone. Layout: the article
/// `TrustDocuments`.
package struct SecretDocument: Hashable, Sendable {
    /// Bytes of an encoded document.
    package static let byteCount = 2 + bodyByteCount + 32 + Signature.byteCount
    private static let bodyByteCount = 1 + 4 + 32 + 1

    /// What holds from now on.
    package let secret: MeshSecret
    /// The signed bytes.
    package let body: [UInt8]
    private let key: Bytes32
    /// The document as it came.
    package let encoded: [UInt8]

    /// Makes and signs a document.
    package init(_ secret: MeshSecret, key: SigningKey, mesh: MeshID) {
        self.secret = secret
        var writer = WireWriter()
        writer.u8(1)
        writer.u32(secret.epoch)
        writer.append(secret.value)
        writer.u8(0)
        let document = SignedDocument(writer.bytes, .secret, key: key, mesh: mesh)
        (body, self.key, encoded) = (document.body, document.key, document.encoded)
    }

    /// Whether a key signed it that counts.
    package func isGood(under root: RootDocument) -> Bool {
        root.standing(of: key, as: .enrol, of: body, for: .secret) == .good
    }

    /// Decodes a document and verifies it. One by a retired key, which may have been a thief's,
    /// opens links where it was taken before: it authenticates nobody, and reaches others.
    package init(decoding bytes: [UInt8], root: RootDocument) throws(TrustError) {
        let name = "mesh secret"
        let document: SignedDocument
        do throws(WireError) {
            document = try SignedDocument(
                decoding: bytes, name: name, limit: Self.bodyByteCount)
            var fields = WireReader(document.body)
            guard try fields.u8() == 1 else { throw .invalid("mesh secret version") }
            secret = MeshSecret(epoch: try fields.u32(), value: try fields.bytes32())
            guard try fields.u8() == 0 else { throw .invalid("extension") }
            try fields.finish()
        } catch {
            throw .malformed(name, error)
        }
        _ = try document.verify(
            name, .secret, by: .enrol, root: root, unknown: .unknownEnrolKey)
        (body, key, encoded) = (document.body, document.key, bytes)
    }
}

/// The secrets of the last epochs, any of which opens a link.
///
/// A site that was cut off through several changes links by the newest secret that both ends know,
/// and is told the others then.
package struct MeshSecrets: Hashable, Sendable {
    /// How many epochs are known at most; older ones open nothing.
    package static let epochsMax = 8

    /// The secret that came with the ticket.
    package let first: MeshSecret
    /// The changes since, ascending.
    package let changes: [SecretDocument]
    /// Every secret that opens a link, the newest first.
    package let all: [MeshSecret]

    /// Joins what came with the ticket and what came since; of two changes of one epoch the one
    /// with the lesser bytes counts, so that all servers say the same.
    package init(_ first: MeshSecret, changes: some Sequence<SecretDocument> = []) {
        self.first = first
        var known: [UInt32: SecretDocument] = [:]
        for change in changes where change.secret.epoch > first.epoch {
            let other = known[change.secret.epoch]
            if other.map({ change.encoded.lexicographicallyPrecedes($0.encoded) }) ?? true {
                known[change.secret.epoch] = change
            }
        }
        let newest = known.values.sorted { $0.secret.epoch > $1.secret.epoch }
            .prefix(Self.epochsMax)
        self.changes = newest.reversed()
        all = Array((newest.map(\.secret) + [first]).prefix(Self.epochsMax))
    }

    /// The secret of the newest epoch.
    package var newest: MeshSecret { all.first ?? first }

    /// The secret of an epoch, where it opens links still.
    package subscript(epoch: UInt32) -> MeshSecret? { all.first { $0.epoch == epoch } }

    /// The secrets with a change that was not known; nil where it was, or may not be taken.
    ///
    /// Epochs follow each other: a thief of an enrol key cannot jump to the last of them, and so
    /// neither shut out whoever has not heard of it nor end all changes.
    package func taking(_ change: SecretDocument, root: RootDocument) -> MeshSecrets? {
        let (following, isOver) = newest.epoch.addingReportingOverflow(1)
        guard !isOver, change.secret.epoch <= following, change.isGood(under: root) else {
            return nil
        }
        let next = MeshSecrets(first, changes: changes + [change])
        return next == self ? nil : next
    }
}
