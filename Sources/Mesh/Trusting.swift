// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Logging
package import MeshCore
internal import MeshCrypto
internal import MeshEngine
internal import MeshStore
package import MeshTrust
internal import Synchronization

/// Whether the mesh's own keys have changed since this process began.
enum NewTrust {
    case none
    /// A peer told a change of the secret, which may wait: whoever has an enrol key could have the
    /// whole mesh begin anew without end.
    case inTime
    case now
}

/// A new root document, or a new secret: everything that was judged is judged anew, by a new
/// process.
extension MeshNode {
    /// How long a process serves at least where a peer told a change of the secret.
    private static let servesAtLeast = Duration.seconds(60)

    /// Keeps a root document that goes on where the present one ends; the node ends soon, to begin
    /// again by it.
    ///
    /// - Returns: whether it is new here.
    /// - Throws: where the files cannot be written.
    package func adopt(_ root: RootDocument) throws -> Bool {
        try newTrust.withLock { newTrust in
            guard try configuration.directory.adopt(root) else { return false }
            newTrust = .now
            logger.notice(
                "The mesh's keys have changed; this server begins anew",
                metadata: ["root.version": "\(root.version)"])
            return true
        }
    }

    /// Keeps a change of the mesh's secret that an enrol key signed; the node ends to begin again
    /// by it.
    ///
    /// - Parameter when: how soon.
    /// - Returns: whether it is new here, and follows the newest that is known.
    /// - Throws: where the files cannot be written.
    func adopt(_ change: SecretDocument, _ when: NewTrust = .now) throws -> Bool {
        try newTrust.withLock { newTrust in
            guard try configuration.directory.adopt(change, root: store.identity.root) else {
                return false
            }
            if newTrust != .now { newTrust = when }
            logger.notice(
                "The mesh's secret has changed; this server begins anew",
                metadata: ["secret.epoch": "\(change.secret.epoch)"])
            return true
        }
    }

    /// Keeps a change of the secret that the operator brought.
    ///
    /// - Returns: whether it is new here, and follows the newest that is known.
    /// - Throws: where the files cannot be written.
    package func bring(_ change: SecretDocument) throws -> Bool { try adopt(change) }

    /// A peer shows a change of the secret.
    func take(secret bytes: [UInt8]) {
        do {
            let change = try SecretDocument(decoding: bytes, root: store.identity.root)
            if try !adopt(change, .inTime) { count("secret_known") }
        } catch let error as TrustError {
            count("secret_refused")
            logger.debug("A change of the secret is refused: \(error)")
        } catch {
            logger.error("A change of the secret cannot be kept: \(error)")
        }
    }

    /// A peer hands this node its own certificate with an operator's word for it.
    func take(approved bytes: [UInt8]) {
        do {
            let approved = try Certificate(decoding: bytes, root: store.identity.root)
            try newTrust.withLock { newTrust in
                guard try configuration.directory.adopt(approved, instead: certificate) else {
                    return count("approval_refused")
                }
                newTrust = .now
                logger.notice("An operator has approved this server; it begins anew")
            }
        } catch let error as TrustError {
            count("approval_refused")
            logger.debug("An approval is refused: \(error)")
        } catch {
            logger.error("An approval cannot be kept: \(error)")
        }
    }

    /// Takes an operator's word for a box that waits. The box has it with its next call.
    package func approve(_ approved: Certificate) throws {
        try store.keep(approved)
        post(.known([KnownNode(approved)]))
    }

    /// A peer keeps the key of this node's records.
    func noteKeeper(_ address: Address?) {
        guard let address else { return }
        let directory = configuration.directory
        // Only a hint for the next start: beacons and seeds lead there too.
        Self.hints.async { try? directory.note(keeperAt: address) }
    }

    /// Writes what nobody waits for.
    private static let hints = DispatchQueue(label: "mesh.hints")

    /// An operator has a locked server's key handed out, once, to one host.
    package func unlock(_ node: NodeID, host: String) { post(.unlock(node, host: host)) }

    /// The key of this node's sealed records, for the process that comes next.
    public var key: UnlockedKey? { store.seal.map { UnlockedKey($0.key) } }

    /// Whether the node ends, or has ended, because the mesh's keys have changed: whoever runs it
    /// makes a new one of the same directory.
    public var wantsToBeginAnew: Bool {
        switch newTrust.withLock({ $0 }) {
        case .none: false
        case .inTime: uptime >= Self.servesAtLeast
        case .now: true
        }
    }

    /// Whether `run` is to end in good order.
    var isDone: Bool { wantsToBeginAnew || hasLeft.withLock { $0 } }
}
