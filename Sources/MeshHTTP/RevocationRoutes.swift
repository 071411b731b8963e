// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshMembership
internal import MeshStore
internal import MeshTrust
internal import NIOHTTP1

/// Revocations: what there is, what one would mean, and bringing one in. The keys that sign them
/// are never here.
extension Routes {
    func revoke(_ request: Request) async throws -> Response {
        let bytes = try body(request, upTo: Revocation.byteCountMax)
        let revocation: Revocation
        do throws(TrustError) {
            revocation = try Revocation(decoding: bytes, root: store.identity.root)
        } catch {
            throw Problem(
                .revocationRefused, "\(error)")
        }
        let isNew = try await withCheckedThrowingContinuation { continuation in
            store.revoke(revocation) { continuation.resume(with: $0) }
        }
        return try Self.json(RevokedView(isNew: isNew), status: isNew ? .created : .ok)
    }

    func revocations() throws -> RevocationsView {
        let certificates = Dictionary(
            try store.certificates().map { ($0.node, $0.ticket) },
            uniquingKeysWith: { first, _ in first })
        return RevocationsView(
            meshId: store.identity.root.meshID.description,
            revocations: try store.revocations().map { revocation in
                let ticket = certificates[revocation.node]
                let id = revocation.node.description
                // One of tickets that nobody has used names no server.
                let name = revocation.node == .zero ? "-" : String(id.prefix(8))
                return RevocationView(
                    node: ticket?.node ?? name, id: id, site: ticket?.site,
                    createdMs: revocation.created, reason: revocation.reason,
                    document: Hex.encode(revocation.encoded))
            })
    }

    func plan(_ subject: String, since: String?) async throws -> RevocationPlanView {
        let after = since.flatMap { UInt64($0) }
        guard since == nil || after != nil else {
            throw Problem(.badSince, "'\(since ?? "")' is not milliseconds since 1970")
        }
        let peers = try await peers().peers
        let (line, certificate) = try server(subject, among: peers)
        let neighbours = peers.filter {
            $0.site == line.site && $0.id != line.id && $0.state != "left" && $0.state != "revoked"
        }
        return RevocationPlanView(
            node: line.node, id: line.id, site: line.site, isSelf: line.state == "self",
            neighbours: neighbours.map(\.node),
            absent: neighbours.filter { $0.state == "away" || $0.state == "suspect" }.map(\.node),
            unheld: unheld(certificate),
            logs: try store.logs(of: certificate.node, before: after).map {
                .init(
                    scope: $0.cut.scope.description,
                    life: $0.cut.life.description,
                    through: $0.cut.through, known: $0.frontier)
            })
    }

    /// The server of a name or identity, and the certificate by which it is known.
    func server(
        _ subject: String, among peers: [PeerView]
    ) throws -> (line: PeerView, certificate: Certificate) {
        let known = peers.filter { Self.names($0, subject) }
        // Who has the name now, before those that had it.
        let members = known.filter { $0.state != "left" && $0.state != "revoked" }
        let matches = members.isEmpty ? known : members
        guard matches.count <= 1 else {
            let names = matches.map { "\($0.site)/\($0.node) (\($0.id.prefix(8)))" }
            throw Problem(
                .ambiguous,
                "several servers are called '\(subject)': name one of \(names.joined(separator: ", ")), or its identity"
            )
        }
        guard let line = matches.first,
            let node = Hex.decode(line.id).flatMap({ NodeID($0) }),
            let certificate = try store.certificate(of: node)
        else { throw Problem.notFound("no server '\(subject)' is known here") }
        return (line, certificate)
    }

    func allCertificates() throws -> AllCertificatesView {
        AllCertificatesView(
            certificates: try store.shownCertificates().map { Hex.encode($0.encoded) })
    }

    /// The signed proof of who a server is, for commands that hold keys.
    func certificates(_ subject: String) async throws -> CertificatesView {
        let (line, certificate) = try server(subject, among: try await peers().peers)
        return CertificatesView(
            node: line.node, id: line.id, site: line.site,
            certificates: try store.certificates(of: certificate.node).map {
                Hex.encode($0.encoded)
            })
    }

    /// What another may write and this node does not hold.
    private func unheld(_ certificate: Certificate) -> [String] {
        let held = node.certificate.ticket.grants.filter { $0.verb == .read }
        return certificate.ticket.grants.filter { $0.verb != .read }.filter { grant in
            !held.contains {
                ($0.namespace == nil || $0.namespace == grant.namespace)
                    && ($0.audience == nil || $0.audience == grant.audience)
            }
        }.map { "\($0.namespace ?? "*")\($0.audience?.description ?? "@*")" }
    }
}
