// SPDX-License-Identifier: Apache-2.0

internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshEngine
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import NIOHTTP1

/// Boxes that wait to be approved: which have called, and bringing an operator's word for one in.
/// The word proves itself, so anybody may carry it who may write policies.
extension Routes {
    func enrolments() async -> EnrolmentsView {
        let snapshot = await node.snapshot()
        return EnrolmentsView(
            waiting: snapshot.waiting.map { box in
                EnrolmentView(
                    certificate: Hex.encode(box.certificate.encoded), remote: box.remote,
                    sinceSeconds: snapshot.at.since(box.since).seconds,
                    lastHeardSeconds: snapshot.at.since(box.lastHeard).seconds)
            })
    }

    func approve(_ request: Request) throws -> Response {
        let bytes = try body(request, upTo: Certificate.byteCountMax)
        let certificate: Certificate
        do throws(TrustError) {
            certificate = try Certificate(decoding: bytes, root: store.identity.root)
        } catch {
            throw Self.refused("\(error)")
        }
        guard certificate.approval != nil else {
            throw Self.refused("its ticket asks for no approval")
        }
        guard !store.isRevoked(certificate) else {
            throw Self.refused("the server or its ticket is revoked")
        }
        let isNew = try !store.certificates(of: certificate.node).contains(certificate)
        try node.approve(certificate)
        return try Self.json(EnrolledView(isNew: isNew), status: isNew ? .created : .ok)
    }

    /// Allows that a locked server gets its key from this one, once within a quarter of an hour.
    ///
    /// - Parameter host: where it calls from, needed where it calls from several.
    func unlock(_ subject: String, from host: String?) async throws -> Response {
        let (line, certificate) = try server(subject, among: try await peers().peers)
        guard try store.deposits.isKept(for: certificate.node) else {
            throw Problem.notFound("no key of \(line.node) is kept here")
        }
        let hosts = await node.snapshot().locked.filter { $0.certificate.node == certificate.node }
            .map(\.host)
        guard let chosen = host ?? hosts.first, hosts.contains(chosen) else {
            throw Problem.notFound(
                "\(line.node) has not asked for its key here\(host.map { " from \($0)" } ?? "") within a quarter of an hour"
            )
        }
        guard host != nil || hosts.count == 1 else {
            throw Problem(
                .ambiguous,
                "\(line.node) asks for its key from \(hosts.joined(separator: " and ")): one of them is a copy; find out where the server stands (--from HOST)"
            )
        }
        node.unlock(certificate.node, host: chosen)
        return try Self.json(
            UnlockView(
                node: line.node, site: line.site, id: line.id, host: chosen,
                holdsSeconds: KeyKeeping.patience.seconds), status: .accepted)
    }

    private static func refused(_ reason: String) -> Problem {
        Problem(
            .approvalRefused, reason)
    }
}
