// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshContent
internal import MeshCore
internal import MeshCrypto
internal import MeshDiscovery
internal import MeshEngine
internal import MeshMembership
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust
internal import NIOCore
internal import NIOHTTP1
internal import Synchronization

extension Routes {
    func digest(_ call: Call) throws -> Response {
        let access = call.access
        let wanted: Scope?
        if let name = call.names.first {
            guard let scope = Scope(name) else {
                throw Problem(.badScope, "'\(name)' is not a scope such as orders@site/s12")
            }
            guard access.mayRead(scope.namespace) else {
                throw Problem.forbidden("the token does not allow \(scope.namespace):r")
            }
            wanted = scope
        } else {
            wanted = nil
        }
        let digests = try store.consult { index in
            try index.scopes().filter {
                (wanted == nil || $0 == wanted) && access.mayRead($0.namespace)
            }.map { scope in
                let trie = try index.trie(of: scope)
                return (scope, trie.root, trie.states.sorted { $0.author < $1.author })
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
                        life: $0.author.life.description,
                        frontier: $0.frontier)
                })
        }
        return try Self.json(DigestsView(digests: views))
    }

    // MARK: Namespaces

    func namespaces(_ access: Access) throws -> NamespacesView {
        NamespacesView(
            namespaces: try store.policies().filter {
                access.mayRead($0.namespace) || access.mayRead(NamespacePolicy.meshNamespace)
            }.map {
                view($0.namespace, $0.policy, $0.id, $0.isCurrent, $0.document)
            })
    }

    private func view(
        _ name: String, _ policy: NamespacePolicy, _ id: PolicyID? = nil, _ isCurrent: Bool = true,
        _ document: PolicyDocument? = nil
    ) -> NamespaceView {
        let id = id ?? policy.id(for: name, in: store.identity.root.meshID)
        return NamespaceView(
            name: name, audience: policy.audience.name, writers: policy.writers.name,
            merge: policy.merge.name, ack: document?.acknowledged.name,
            id: id.description, current: isCurrent,
            document: document.map { Hex.encode($0.encoded) })
    }

    /// An operator's keys are elsewhere; what is brought proves itself, whoever brings it.
    func createNamespace(_ call: Call) async throws -> Response {
        let (request, name) = (call.request, call.name)
        guard Name.isValidNamespace(name), !name.hasPrefix("_") else {
            throw Problem(
                .badNamespace, "'\(name)' is not a name for a namespace: a-z 0-9 _ -")
        }
        let root = store.identity.root
        let bytes = try body(request, upTo: PolicyDocument.byteCountMax)
        let document: PolicyDocument
        do throws(TrustError) {
            document = try PolicyDocument(decoding: bytes, root: root)
        } catch {
            throw Problem(
                .policyRefused, "the policy is not signed by an operator of this mesh: \(error)")
        }
        guard document.stands(under: root) else {
            throw Problem(
                .policyRefused, "the policy is signed by a key that the mesh has retired")
        }
        guard document.namespace == name else {
            throw Problem(
                .badNamespace, "the policy is of '\(document.namespace)', not of '\(name)'")
        }
        if let known = try store.knownPolicies(of: name).first {
            if known.document == document { return try Self.json(view(name, known.policy)) }
            let both = [known.document, document].map(\.encoded)
            guard PolicyDocument.ordered(both, root: root).first == document else {
                throw Problem(
                    .exists,
                    "a newer policy of '\(name)' is known, signed at \(known.document.created) ms since 1970: one of the operators' clocks is wrong"
                )
            }
        }
        let write = Write(
            .put, try NamespacePolicy.key(of: name), contentType: NamespacePolicy.contentType,
            body: document.encoded)
        _ = try await store.write(WriteRequest(scope: NamespacePolicy.scope, writes: [write]))
        return try Self.json(view(name, document.policy), status: .created)
    }

    // MARK: Tokens

    func tokens() throws -> Response {
        let views = try store.tokens.list().map {
            TokenView(name: $0.name, allow: $0.grants.map(\.text))
        }
        return try Self.json(TokensView(tokens: views))
    }

    func makeToken(_ request: Request) throws -> Response {
        let wanted = try json(TokenView.self, request, members: ["name", "allow"])
        let grants = wanted.allow.compactMap { AppGrant($0) }
        guard Name.isValid(wanted.name), grants.count == wanted.allow.count, !grants.isEmpty
        else {
            throw Problem(.badToken, "a token has a name and grants such as orders:w")
        }
        let secret = try store.tokens.make(wanted.name, grants)
        return try Self.json(
            TokenView(name: wanted.name, allow: grants.map(\.text), secret: secret),
            status: .created)
    }

    func revokeToken(_ name: String) throws -> Response {
        guard try store.tokens.revoke(name) else { throw Problem.notFound("no token '\(name)'") }
        return Response(status: .noContent)
    }

    // MARK: Signed export

    /// Everything of a namespace that this node holds, with all that is needed to verify it.
    func export(namespace: String) throws -> Response {
        let scopes = try store.scopes().filter { $0.namespace == namespace }
        guard !scopes.isEmpty else {
            throw Problem.notFound("nothing of '\(namespace)' is held here")
        }
        let mesh = store.identity.root
        return Response(
            status: .ok, headers: [.contentType: "application/x-ndjson"],
            body: .stream { writer in
                try await writer.write(
                    try Self.line([
                        "kind": "mesh", "id": mesh.meshID.description,
                        "root": Hex.encode(mesh.encoded),
                    ]))
                var shown: Set<NodeID> = []
                for scope in scopes {
                    let logs = try store.consult { try $0.trie(of: scope) }.states
                    for log in logs.sorted(by: { $0.author < $1.author }) {
                        let author = log.author.node
                        let isNew = shown.insert(author).inserted
                        for card in isNew ? try store.certificates(of: author) : [] {
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
        for (name, help, count) in Self.counted(statistics.counts) {
            metric(name, "counter", help, count)
        }
        metric(
            "store_refused_jobs_total", "counter", "Writes refused because too many waited.",
            statistics.refusedJobs.load(ordering: .relaxed))
        metric(
            "store_rotten_pages_total", "counter",
            "Pages of the database that were read and are not what was written there.",
            node.store.rottenPageCount)
        metric("store_bytes", "gauge", "Bytes of the database.", try store.diskBytes())
        let content = try await node.content.report().map(\.own)
        metric("content_channels", "gauge", "Channels known here.", content.count)
        metric(
            "content_channels_behind", "gauge", "Channels whose latest open release is not served.",
            content.count { $0.phase != .active && $0.phase != .held })
        metric(
            "content_channels_failed", "gauge", "Channels whose release failed here.",
            content.count(where: \.phase.isFailure))
        lines += [
            "# HELP mesh_events_total What was dropped, refused or late.",
            "# TYPE mesh_events_total counter",
        ]
        for (name, count) in snapshot.counters.sorted(by: { $0.key < $1.key }) {
            lines.append("mesh_events_total{event=\"\(name)\"} \(count)")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// What the rules count, by metric, with its help.
    private static func counted(
        _ counts: RuleCounts
    ) -> [(name: String, help: String, count: Int)] {
        [
            (
                "store_records_written_total", "Records written by apps here.",
                counts.written
            ),
            (
                "store_records_ingested_total", "Records taken from peers.",
                counts.ingested
            ),
            (
                "store_signatures_total", "Commits signed.",
                counts.signatures
            ),
            (
                "store_verifications_total", "Commits whose signature was verified.",
                counts.verifications
            ),
            (
                "store_damaged_total", "Records found damaged.",
                counts.damaged
            ),
            (
                "store_forks_total", "Places where an author wrote two things.",
                counts.forks
            ),
            (
                "store_records_revoked_total", "Records taken away past a revocation's cut.",
                counts.recordsRevoked
            ),
            (
                "store_records_restored_total",
                "Records brought back that such records had superseded.",
                counts.recordsRestored
            ),
            (
                "undo_dropped_total",
                "Superseded records that are no longer kept for a revocation.",
                counts.undoDropped
            ),
            (
                "store_rewritten_total",
                "Records written again that had lost their place to a copy of this node.",
                counts.rewritten
            ),
            (
                "store_signed_again_total",
                "Commits of this node that had rotted, and were put together and signed again.",
                counts.signedAgain
            ),
            (
                "store_waiting_total", "Commits that came before what they name, and waited.",
                counts.waiting
            ),
            (
                "store_contexts_cut_total",
                "Writes to keys with more writers than a context names.",
                counts.contextsCut
            ),
        ]
    }
}
