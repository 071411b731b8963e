// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshEngine
internal import MeshStore
internal import MeshTrust
internal import Synchronization

extension MeshNode {
    /// Takes this node out of the mesh for good: once a peer holds everything that it holds, all
    /// are told, and `run` returns. Nothing starts again on this data directory.
    ///
    /// From the first moment on apps' writes are refused, since what is taken while a peer is
    /// compared would be handed to nobody. Where the node stays they are taken again.
    ///
    /// - Parameter isForced: leaves even where nobody holds all that this node holds.
    /// - Returns: the name of the peer that holds everything, or nil where that was forced.
    package func leave(isForced: Bool) async throws(MeshError) -> String? {
        let heir: NodeID?
        do {
            store.refuseWrites(true)
            heir = try await handOver(isForced: isForced)
            try DataDirectory(dataDirectory).markLeft()
        } catch {
            store.refuseWrites(false)
            throw MeshError(description: "\(error)")
        }
        let name = await name(of: heir)
        post(.leave)
        // The words go out before the sockets close.
        try? await Task.sleep(for: .milliseconds(500))
        hasLeft.withLock { $0 = true }
        return name
    }

    /// - Returns: the peer that holds everything, or nil where nobody does and that was forced.
    private func handOver(isForced: Bool) async throws -> NodeID? {
        // What was accepted before is in the store once this is answered: jobs are done in order.
        _ = try await store.ingest([])
        let scopes = try store.scopes()
        let answer = await withCheckedContinuation { continuation in
            let isFirst = leaving.withLock { waiting in
                if waiting == nil { waiting = [] }
                waiting?.append(continuation)
                return waiting?.count == 1
            }
            if isFirst { post(.handOver(scopes: scopes, isForced: isForced)) }
        }
        switch answer {
        case .to(let heir): return heir
        case .toNobody: return nil
        case .refused:
            throw MeshError(
                description:
                    "no linked peer was proven to hold everything that this node holds; what is only here would be lost"
            )
        }
    }

    /// The engine's answer goes to everybody who asked.
    func handedOver(_ answer: HandOver) {
        let asked = leaving.withLock { waiting in
            defer { waiting = nil }
            return waiting ?? []
        }
        for one in asked { one.resume(returning: answer) }
    }

    private func name(of heir: NodeID?) async -> String? {
        guard let heir else { return nil }
        let peers = await snapshot().peers
        return peers.first { $0.certificate.node == heir }?.certificate.ticket.node ?? "\(heir)"
    }
}
