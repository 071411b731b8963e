// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import MeshStore
package import MeshTrust
internal import Synchronization

/// A new root document: everything that was judged is judged anew, by a new process.
extension MeshNode {
    /// Keeps a root document that goes on where the present one ends; the node ends soon, to begin
    /// again by it.
    ///
    /// - Returns: whether it is new here.
    /// - Throws: where the files cannot be written.
    package func adopt(_ root: RootDocument) throws -> Bool {
        try hasNewTrust.withLock { hasNewTrust in
            let directory = DataDirectory(configuration.dataDirectory)
            guard try directory.adopt(root) else { return false }
            hasNewTrust = true
            logger.notice(
                "The mesh's keys have changed; this server begins anew",
                metadata: ["root.version": "\(root.version)"])
            return true
        }
    }

    /// Keeps a change of the mesh's secret that an enrol key signed; the node ends soon, to begin
    /// again by it.
    ///
    /// - Returns: whether it is new here.
    /// - Throws: why it is refused, or where the files cannot be written.
    package func adopt(_ change: SecretDocument) throws -> Bool {
        try hasNewTrust.withLock { hasNewTrust in
            let directory = DataDirectory(configuration.dataDirectory)
            guard try directory.adopt(change, root: store.identity.root) else { return false }
            hasNewTrust = true
            logger.notice(
                "The mesh's secret has changed; this server begins anew",
                metadata: ["secret.epoch": "\(change.secret.epoch)"])
            return true
        }
    }

    /// A peer shows a change of the secret.
    func take(secret bytes: [UInt8]) {
        do {
            let change = try SecretDocument(decoding: bytes, root: store.identity.root)
            if try !adopt(change) { count("secret_known") }
        } catch let error as TrustError {
            count("secret_refused")
            logger.debug("A change of the secret is refused: \(error)")
        } catch {
            logger.error("A change of the secret cannot be kept: \(error)")
        }
    }

    /// Whether the node ended because the mesh's keys have changed: whoever runs it makes a new one
    /// of the same directory.
    public var wantsToBeginAnew: Bool { hasNewTrust.withLock { $0 } }

    /// Whether `run` is to end in good order.
    var isDone: Bool { wantsToBeginAnew || hasLeft.withLock { $0 } }
}
