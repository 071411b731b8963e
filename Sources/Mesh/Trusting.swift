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

    /// Whether the node ended because the mesh's keys have changed: whoever runs it makes a new one
    /// of the same directory.
    public var wantsToBeginAnew: Bool { hasNewTrust.withLock { $0 } }

    /// Whether `run` is to end in good order.
    var isDone: Bool { wantsToBeginAnew || hasLeft.withLock { $0 } }
}
