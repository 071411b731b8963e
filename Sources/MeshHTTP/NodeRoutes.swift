// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshCrypto
internal import MeshDiscovery
internal import MeshEngine
internal import MeshMembership
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import NIOCore
internal import Synchronization

extension Routes {
    func peers() async throws -> PeersView {
        let snapshot = await node.snapshot()
        let lines = try lines(snapshot)
        return PeersView(
            node: node.certificate.ticket.node, peers: lines,
            trouble: try trouble(snapshot, lines))
    }

    private func lines(_ snapshot: NodeSnapshot) throws -> [PeerView] {
        let linked = Dictionary(
            snapshot.peers.map { ($0.certificate.node, $0) },
            uniquingKeysWith: { first, _ in first })
        let members = Dictionary(
            snapshot.members.map { ($0.node, $0) }, uniquingKeysWith: { first, _ in first })
        let certificates = try store.certificates()
        let names = Dictionary(
            certificates.map { ($0.node, $0.ticket.node) }, uniquingKeysWith: { first, _ in first })
        return certificates.map { certificate in
            let member = members[certificate.node]
            // Who is not linked is there because somebody who would know says so.
            let voucher = member?.vouchers.compactMap { names[$0] }.min()
            return line(
                certificate, linked[certificate.node], member, snapshot,
                via: member?.state == .alive ? voucher.map { "via \($0)" } : nil)
        }
    }

    private func line(
        _ certificate: Certificate, _ peer: PeerStatus?, _ member: Member?,
        _ snapshot: NodeSnapshot, via: String?
    ) -> PeerView {
        let isSelf = certificate.node == node.certificate.node
        let path = peer.map { "\($0.origin.isLocal ? "lan" : "wan") \($0.origin.remote)" }
        let state = member?.state ?? (peer == nil ? .away : .alive)
        return PeerView(
            node: certificate.ticket.node, id: certificate.node.description,
            site: certificate.ticket.site, role: certificate.ticket.isCentral ? "central" : "edge",
            state: isSelf ? "self" : state.rawValue, path: path ?? via ?? "-",
            rttSeconds: (member?.roundTrip ?? peer?.roundTrip)?.seconds,
            behind: isSelf ? 0 : peer?.behind,
            lastSyncSeconds: peer?.lastInStep.map { snapshot.at.since($0).seconds },
            version: isSelf ? meshVersion : peer?.version)
    }

    private func trouble(_ snapshot: NodeSnapshot, _ lines: [PeerView]) throws -> [String] {
        var trouble: [String] = []
        let own = node.certificate.ticket
        for target in snapshot.addresses where target.rung == .seed && target.failures >= 3 {
            trouble.append(
                "seed \(target.address) cannot be reached: \(target.lastError ?? "") (run: meshctl status)"
            )
        }
        if snapshot.peers.isEmpty {
            trouble.append("no peer is linked (run: meshctl status)")
        }
        for line in lines where line.site == own.site {
            if line.state == "suspect" {
                trouble.append(
                    "\(line.node) of this site does not answer (run: meshctl status on it)")
            } else if line.state == "away" {
                trouble.append("\(line.node) of this site is away (run: meshctl status on it)")
            }
        }
        if snapshot.counters["duplicate_node"] != nil {
            trouble.append("another server runs with this node's key: stop the copy")
        }
        let holes = try store.damageCount()
        if holes > 0 { trouble.append("\(holes) damaged records wait to be fetched again") }
        for author in try store.forkedAuthors() {
            trouble.append("author \(author) wrote two things in one place: its disk was copied")
        }
        return trouble
    }

    func status() async throws -> StatusView {
        let snapshot = await node.snapshot()
        let own = node.certificate
        let attributes = try? FileManager.default.attributesOfFileSystem(
            forPath: node.dataDirectory)
        let free = (attributes?[.systemFreeSize] as? NSNumber)?.intValue ?? 0
        return StatusView(
            mesh: store.identity.root.name, meshId: store.identity.root.meshID.description,
            node: own.ticket.node, id: own.node.description, site: own.ticket.site,
            role: own.ticket.isCentral ? "central" : "edge", version: meshVersion,
            incarnation: String(store.author.incarnation.value, radix: 16),
            uptimeSeconds: node.uptime.seconds, linked: snapshot.peers.count,
            scopes: try store.scopes().map {
                .init(scope: $0.description, records: try store.liveCount(in: $0))
            },
            diskBytes: try store.diskBytes(), diskFreeBytes: free,
            holes: try store.damageCount(), interfaces: snapshot.interfaces,
            addresses: snapshot.addresses.map {
                .init(
                    address: $0.address, rung: $0.rung.rawValue, failures: $0.failures,
                    error: $0.lastError)
            },
            trouble: try trouble(snapshot, try lines(snapshot)))
    }

    func digest(_ name: String?) throws -> Response {
        let wanted: Scope?
        if let name {
            guard let decoded = name.removingPercentEncoding, let scope = Scope(decoded) else {
                throw Problem.bad("bad_scope", "'\(name)' is not a scope such as orders@site/s12")
            }
            wanted = scope
        } else {
            wanted = nil
        }
        let digests = try store.consult { index in
            try index.scopes().filter { wanted == nil || $0 == wanted }.map { scope in
                let logs = try index.logs(of: scope)
                return (scope, AuthorTrie(logs).root, logs.sorted { $0.author < $1.author })
            }
        }
        if let wanted, digests.isEmpty { throw Problem.notFound("\(wanted) is not held here") }
        let views = try digests.map { scope, root, logs in
            DigestView(
                scope: scope.description, root: root.description,
                records: try store.liveCount(in: scope),
                logs: logs.map {
                    LogView(
                        node: $0.author.node.description,
                        incarnation: String($0.author.incarnation.value, radix: 16),
                        frontier: $0.frontier)
                })
        }
        return try Self.json(DigestsView(digests: views))
    }

    // MARK: Namespaces

    func namespaces() throws -> NamespacesView {
        NamespacesView(namespaces: try store.policies().map { view($0.name, $0.policy) })
    }

    private func view(_ name: String, _ policy: NamespacePolicy) -> NamespaceView {
        let audience =
            switch policy.audience {
            case .all: "all"
            case .site: "site"
            case .group(let group): "group:\(group)"
            }
        return NamespaceView(
            name: name, audience: audience, writers: policy.writers.name, merge: policy.merge.name)
    }

    func createNamespace(
        _ request: Request, _ name: String, _ access: Access
    ) async throws -> Response {
        guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
        guard Name.isValidNamespace(name), !name.hasPrefix("_") else {
            throw Problem.bad(
                "bad_namespace", "'\(name)' is not a name for a namespace: a-z 0-9 _ -")
        }
        let wanted = try await json(NamespaceView.self, request, upTo: 4096)
        let audience: NamespacePolicy.AudienceRule
        switch wanted.audience.split(separator: ":", omittingEmptySubsequences: false).map(
            String.init)
        {
        case ["all"]: audience = .all
        case ["site"]: audience = .site
        case let parts where parts.count == 2 && parts[0] == "group" && Name.isValid(parts[1]):
            audience = .group(parts[1])
        default:
            throw Problem.bad("bad_audience", "audience is all, site or group:NAME")
        }
        guard let writers = NamespacePolicy.Writers(name: wanted.writers) else {
            throw Problem.bad("bad_writers", "writers is central, site or any")
        }
        guard let merge = MergeKind(name: wanted.merge) else {
            throw Problem.bad("bad_merge", "merge is register or log")
        }
        let policy = NamespacePolicy(audience: audience, writers: writers, merge: merge)
        if let known = try store.policy(of: name) {
            guard known == policy else {
                throw Problem(
                    code: "exists", title: "Already there", status: 409,
                    detail: "'\(name)' exists with another policy, and a policy cannot be changed")
            }
            return try Self.json(view(name, known))
        }
        let write = Write(
            .put, try NamespacePolicy.key(of: name), contentType: NamespacePolicy.contentType,
            body: policy.encoded)
        _ = try await store.write(WriteRequest(scope: NamespacePolicy.scope, writes: [write]))
        return try Self.json(view(name, policy), status: .created)
    }

    // MARK: Tokens

    func tokens(_ request: Request, _ name: String?, _ access: Access) async throws -> Response {
        guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
        switch (request.method, name) {
        case (.get, nil):
            let views = try store.tokens().map {
                TokenView(name: $0.name, allow: $0.grants.map(\.text))
            }
            return try Self.json(TokensView(tokens: views))
        case (.post, nil):
            let wanted = try await json(TokenView.self, request, upTo: 65_536)
            let grants = wanted.allow.compactMap { AppGrant($0) }
            guard Name.isValid(wanted.name), grants.count == wanted.allow.count, !grants.isEmpty
            else {
                throw Problem.bad("bad_token", "a token has a name and grants such as orders:w")
            }
            let secret = try store.makeToken(
                wanted.name, grants, now: UInt64(Date().timeIntervalSince1970))
            return try Self.json(
                TokenView(name: wanted.name, allow: grants.map(\.text), secret: secret),
                status: .created)
        case (.delete, let name?):
            guard try store.revokeToken(name) else { throw Problem.notFound("no token '\(name)'") }
            return Response(status: .noContent)
        default: throw Problem.notFound("tokens take GET, POST and DELETE")
        }
    }

    // MARK: Signed export

    /// Everything of a namespace that this node holds, with all that is needed to verify it.
    func export(namespace: String, _ request: Request, _ access: Access) throws -> Response {
        guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
        let scopes = try store.scopes().filter { $0.namespace == namespace }
        guard !scopes.isEmpty else {
            throw Problem.notFound("nothing of '\(namespace)' is held here")
        }
        let mesh = store.identity.root
        return Response(
            status: .ok, headers: [.contentType: "application/x-ndjson"],
            body: ResponseBody { writer in
                try await writer.write(
                    try Self.line([
                        "kind": "mesh", "id": mesh.meshID.description,
                        "root": Hex.encode(mesh.encoded),
                    ]))
                var shown: Set<NodeID> = []
                for scope in scopes {
                    let logs = try store.consult { try $0.logs(of: scope) }
                    for log in logs.sorted(by: { $0.author < $1.author }) {
                        let author = log.author.node
                        if shown.insert(author).inserted,
                            let card = try store.certificate(of: author)
                        {
                            try await writer.write(
                                try Self.line([
                                    "kind": "certificate", "bytes": Hex.encode(card.encoded),
                                ]))
                        }
                        var rest: StreamRequest? = .tail(scope, log.author, after: 0)
                        while let request = rest {
                            let chunk = try store.next(request)
                            for commit in chunk.messages.flatMap(\.commits) {
                                var bytes = WireWriter()
                                commit.encode(to: &bytes)
                                try await writer.write(
                                    try Self.line([
                                        "kind": "commit", "scope": scope.description,
                                        "bytes": Hex.encode(bytes.bytes),
                                    ]))
                            }
                            rest = chunk.rest
                        }
                    }
                }
                try await writer.finish(nil)
            })
    }

    private static func line(_ fields: [String: String]) throws -> ByteBuffer {
        ByteBuffer(bytes: try MeshJSON.encode(fields) + [UInt8(ascii: "\n")])
    }

    // MARK: Metrics

    /// Counters in Prometheus' text form; labels come from closed sets, never from keys or nodes.
    func metrics() async throws -> String {
        let snapshot = await node.snapshot()
        let statistics = store.statistics
        var lines: [String] = []
        func metric(_ name: String, _ kind: String, _ help: String, _ value: some Numeric) {
            lines += [
                "# HELP mesh_\(name) \(help)", "# TYPE mesh_\(name) \(kind)",
                "mesh_\(name) \(value)",
            ]
        }
        metric("links", "gauge", "Links that stand.", snapshot.peers.count)
        metric("uptime_seconds", "gauge", "Seconds since the start.", node.uptime.seconds)
        metric(
            "store_transactions_total", "counter", "Transactions on disk.",
            statistics.transactions.load(ordering: .relaxed))
        metric(
            "store_records_written_total", "counter", "Records written by apps here.",
            statistics.recordsWritten.load(ordering: .relaxed))
        metric(
            "store_records_ingested_total", "counter", "Records taken from peers.",
            statistics.recordsIngested.load(ordering: .relaxed))
        metric(
            "store_signatures_total", "counter", "Commits signed.",
            statistics.signatures.load(ordering: .relaxed))
        metric(
            "store_verifications_total", "counter", "Commits whose signature was verified.",
            statistics.verifications.load(ordering: .relaxed))
        metric(
            "store_refused_jobs_total", "counter", "Writes refused because too many waited.",
            statistics.refusedJobs.load(ordering: .relaxed))
        metric(
            "store_damaged_total", "counter", "Records found damaged.",
            statistics.damaged.load(ordering: .relaxed))
        metric(
            "store_forks_total", "counter", "Places where an author wrote two things.",
            statistics.forks.load(ordering: .relaxed))
        metric("store_bytes", "gauge", "Bytes of the database.", try store.diskBytes())
        lines += [
            "# HELP mesh_events_total What was dropped, refused or late.",
            "# TYPE mesh_events_total counter",
        ]
        for (name, count) in snapshot.counters.sorted(by: { $0.key < $1.key }) {
            lines.append("mesh_events_total{event=\"\(name)\"} \(count)")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
