// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshEngine
internal import MeshStore
internal import MeshTrust
internal import Synchronization

/// How far a node is with leaving its mesh.
enum LeavePhase: Sendable {
    /// Nobody has asked.
    case stays
    /// Somebody has asked; he waits for the engine's answer where there is one to wake.
    case asks(CheckedContinuation<HandOver, Never>?)
    /// It has left; nothing is taken any more.
    case left
}

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
        try beginLeaving()
        let heir: NodeID?
        do {
            store.refuseWrites(true)
            heir = try await handOver(isForced: isForced)
            try configuration.directory.markLeft()
        } catch {
            post(.stay)
            leaving.withLock { $0 = .stays }
            store.refuseWrites(false)
            throw MeshError(description: "\(error)")
        }
        leaving.withLock { $0 = .left }
        let name = await name(of: heir)
        post(.leave)
        // The words go out before the sockets close.
        try? await Task.sleep(for: .milliseconds(500))
        hasLeft.withLock { $0 = true }
        return name
    }

    private func beginLeaving() throws(MeshError) {
        let obstacle: String? = leaving.withLock { phase in
            switch phase {
            case .stays:
                phase = .asks(nil)
                return nil
            case .asks:
                return "somebody has asked this server to leave already; wait for the answer"
            case .left: return "this server has left the mesh"
            }
        }
        if let obstacle { throw MeshError(description: obstacle) }
    }

    /// - Returns: the peer that holds everything, or nil where nobody does and that was forced.
    private func handOver(isForced: Bool) async throws -> NodeID? {
        // What was accepted before is in the store once this is answered: jobs are done in order.
        do { _ = try await store.ingest([]) } catch { if !isForced { throw error } }
        if !isForced { try await lookAtWards() }
        let scopes = try store.scopes()
        let answer = await withCheckedContinuation { continuation in
            leaving.withLock { $0 = .asks(continuation) }
            // Where nothing is taken any more, the node ends.
            if !post(.handOver(scopes: scopes, isForced: isForced)) { handedOver(.refused) }
        }
        switch answer {
        case .to(let heir): return heir
        case .toNobody: return nil
        case .refused:
            throw MeshError(
                description:
                    "no linked peer was proven to hold everything that this node holds; what is only here would be lost (run: meshctl peers; or leave with --force)"
            )
        }
    }

    /// Servers that are locked may have their key from this one alone.
    private func lookAtWards() async throws {
        let linked = Set(await snapshot().peers.map(\.certificate.node))
        let own = store.identity.certificate.node
        let absent = try store.deposits.wards().filter {
            $0 != own && !linked.contains($0) && !store.isRevoked($0)
        }
        guard absent.isEmpty else {
            throw MeshError(
                description:
                    "this server keeps the keys of sealed records of \(absent.count) servers that are not linked now (\(absent.map { "\($0.description.prefix(8))" }.sorted().joined(separator: ", "))); start them first, or leave with --force"
            )
        }
    }

    /// The engine's answer goes to whoever asked.
    func handedOver(_ answer: HandOver) {
        let asked: CheckedContinuation<HandOver, Never>? = leaving.withLock { phase in
            guard case .asks(let continuation) = phase else { return nil }
            phase = .asks(nil)
            return continuation
        }
        asked?.resume(returning: answer)
    }

    private func name(of heir: NodeID?) async -> String? {
        guard let heir else { return nil }
        let peers = await snapshot().peers
        return peers.first { $0.certificate.node == heir }?.certificate.ticket.node ?? "\(heir)"
    }
}
