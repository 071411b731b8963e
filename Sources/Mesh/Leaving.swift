// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshEngine
internal import MeshStore
internal import MeshTrust
internal import Synchronization

extension MeshNode {
    /// How long a node that leaves waits for a peer to hold all that it holds.
    private static let handOver = Duration.seconds(15)

    /// Takes this node out of the mesh for good: once a peer holds everything that it holds, all
    /// are told, and `run` returns. Nothing starts again on this data directory.
    ///
    /// - Parameter isForced: leaves even where nobody holds all that this node holds.
    /// - Returns: the name of the peer that holds everything, or nil where that was forced.
    package func leave(isForced: Bool) async throws(MeshError) -> String? {
        let heir = await heir()
        guard heir != nil || isForced else {
            throw MeshError(
                description:
                    "no linked peer was proven to hold everything that this node holds; what is only here would be lost"
            )
        }
        do { try DataDirectory(dataDirectory).markLeft() } catch {
            throw MeshError(description: "\(error)")
        }
        post(.leave)
        // The words go out before the sockets close.
        try? await Task.sleep(for: .milliseconds(500))
        hasLeft.withLock { $0 = true }
        return heir
    }

    private func heir() async -> String? {
        let begin = now
        let end = begin.advanced(by: Self.handOver)
        syncNow()
        while now < end {
            try? await Task.sleep(for: .milliseconds(100))
            let holder = await snapshot().peers.first { peer in
                guard let inStep = peer.exchange.inStep, inStep > begin else { return false }
                let scopes = (try? store.scopes()) ?? []
                return scopes.allSatisfy { peer.certificate.allows(.read, $0) }
            }
            if let holder { return holder.certificate.ticket.node }
        }
        return nil
    }
}
