// SPDX-License-Identifier: Apache-2.0

internal import Mesh
internal import MeshAPI
internal import MeshContent
internal import MeshReplication
internal import MeshTrust
internal import NIOHTTP1

/// All routes, so that they are seen at once. Content itself, under `/content/`, is served by
/// `ContentReply`.
enum RouteTable {
    /// A route with the names that the path of a request has for it.
    struct Match: Sendable {
        let route: Route
        let names: [String]
    }

    static let all = records + ofServers + trust + content

    /// By the word that tells them apart best: the one after `v1`.
    private static let byWord = Dictionary(grouping: all) { word(of: Route.split($0.template)) }

    private static func word(of path: [String]) -> String {
        path.first == "v1" && path.count > 1 ? path[1] : path.first ?? ""
    }

    /// What a request asks for.
    ///
    /// - Throws: a problem, or `MethodRefused`.
    static func match(_ request: Request) throws -> Match {
        let path = Route.split(request.path)
        var allowed: [HTTPMethod] = []
        for route in byWord[word(of: path)] ?? [] {
            guard let names = try route.names(in: path) else { continue }
            let isHead = route.method == .GET && request.method == .HEAD
            if isHead || route.method == request.method {
                try route.check(request)
                return Match(route: route, names: names)
            }
            allowed += route.method == .GET ? [.GET, .HEAD] : [route.method]
        }
        guard allowed.isEmpty else {
            throw MethodRefused(
                path: request.path, method: request.method, allowed: allowed + [.OPTIONS])
        }
        throw Problem.notFound("there is nothing at \(request.path)")
    }

    // MARK: Records

    private static let writing = ["site", "ack", "wait"]

    private static let records: [Route] = [
        Route(
            .GET, "/v1/records/{namespace}", query: ["site", "prefix", "after", "limit"]
        ) { try $0.list($1) },
        Route(.GET, "/v1/records/{namespace}/{key*}", query: ["site", "siblings"]) {
            try $0.read($1)
        },
        Route(
            .PUT, "/v1/records/{namespace}/{key*}", query: writing, body: .record
        ) { try $0.write($1) },
        Route(.DELETE, "/v1/records/{namespace}/{key*}", query: writing) {
            try $0.write($1)
        },
        Route(.POST, "/v1/batch", query: writing, body: .batch) { try $0.batch($1) },
        Route(
            .GET, "/v1/acknowledgements/{scope}/{place}", query: ["ack", "wait"]
        ) { try $0.acknowledgement($1) },
        Route(.GET, "/v1/changes", query: ["namespace", "since", "follow"]) {
            .now(try $0.changes($1))
        },
        Route(.GET, "/v1/digest") { routes, call in .read { try routes.digest(call) } },
        Route(.GET, "/v1/digest/{scope}") { routes, call in .read { try routes.digest(call) } },
        Route(.GET, "/v1/namespaces") { routes, call in
            .read { try Routes.json(try routes.namespaces(call.access)) }
        },
        .later(
            .PUT, "/v1/namespaces/{namespace}", for: .writes(NamespacePolicy.meshNamespace)
        ) { try await $0.createNamespace($1) },
        Route(.GET, "/v1/openapi.json") { _, _ in .now(Routes.json(bytes: OpenAPI.document)) },
        Route(.GET, "/v1/export/{namespace}", for: .operators) { routes, call in
            .read { try routes.export(namespace: call.name) }
        },
    ]

    // MARK: The server and its peers

    private static let mesh = Route.Need.reads(NamespacePolicy.meshNamespace)

    private static let ofServers: [Route] = [
        .later(.GET, "/metrics", for: mesh) { routes, _ in
            Routes.plain(try await routes.metrics(), type: "text/plain; version=0.0.4")
        },
        .later(.GET, "/v1/peers", for: mesh) { routes, _ in
            try Routes.json(try await routes.peers())
        },
        .later(.GET, "/v1/status", for: mesh) { routes, _ in
            try Routes.json(try await routes.status())
        },
        .later(.GET, "/v1/discovery", for: .operators) { routes, _ in
            try Routes.json(try await routes.discovery())
        },
        .later(.GET, "/v1/why/{subject*}", for: .operators) { routes, call in
            try Routes.json(try await routes.why(try Routes.subject(call.last)))
        },
        .later(.POST, "/v1/leave", query: ["force"], for: .operators) { routes, call in
            try await routes.leave(isForced: call.request.parameter("force") == "true")
        },
        Route(.POST, "/v1/sync", for: .operators) { routes, _ in
            routes.node.syncNow()
            return .now(Response(status: .accepted))
        },
        .later(.POST, "/v1/unlock/{server*}", query: ["from"], for: .operators) { routes, call in
            let host = call.request.parameter("from")
            return try await routes.unlock(try Routes.subject(call.last), from: host)
        },
        .later(.GET, "/v1/tokens", for: .operators) { routes, _ in try routes.tokens() },
        .later(.POST, "/v1/tokens", for: .operators) { try $0.makeToken($1.request) },
        .later(.DELETE, "/v1/tokens/{name}", for: .operators) { try $0.revokeToken($1.name) },
    ]

    // MARK: Trust

    private static let enrolment = Route.Need.writes(NamespacePolicy.meshNamespace)
    private static let revocation = Route.Need.writes(Revocation.namespace)

    private static let trust: [Route] = [
        .later(.GET, "/v1/certificates", for: revocation) { routes, _ in
            try Routes.json(try routes.allCertificates())
        },
        .later(.GET, "/v1/certificates/{server*}", for: revocation) { routes, call in
            try Routes.json(try await routes.certificates(try Routes.subject(call.last)))
        },
        .later(.GET, "/v1/enrolments", for: enrolment) { routes, _ in
            try Routes.json(await routes.enrolments())
        },
        .later(.POST, "/v1/enrolments", for: enrolment) { try $0.approve($1.request) },
        .later(.GET, "/v1/root", for: mesh) { routes, _ in try routes.root() },
        .later(.PUT, "/v1/root", for: enrolment) { try $0.adopt($1.request) },
        .later(.PUT, "/v1/secret", for: .operators) { try $0.secret($1.request) },
        .later(.GET, "/v1/revocations", for: .reads(Revocation.namespace)) { routes, _ in
            try Routes.json(try routes.revocations())
        },
        .later(.GET, "/v1/revocations/{server*}", query: ["since"], for: revocation) {
            routes, call in
            let since = call.request.parameter("since")
            return try Routes.json(
                try await routes.plan(try Routes.subject(call.last), since: since))
        },
        .later(.POST, "/v1/revocations", for: revocation) { try await $0.revoke($1.request) },
    ]

    // MARK: Content

    private static let reading = Route.Need.reads(ContentSpecification.namespace)
    private static let publishing = Route.Need.writes(ContentSpecification.namespace)

    private static let content: [Route] = [
        .later(.GET, "/v1/content", for: reading) { routes, _ in try await routes.content() },
        .later(.GET, "/v1/content/manifests/{manifest}", for: reading) {
            try await $0.manifest($1.name)
        },
        .later(.GET, "/v1/content/latest/{channel}", for: reading) {
            try await $0.latest($1.name)
        },
        .later(.GET, "/v1/content/releases/{channel}/{release}", for: reading) {
            try await $0.release($1.last, of: $1.name)
        },
        .later(.GET, "/v1/content/chunks/{manifest}", query: ["places"], for: reading) {
            try await $0.chunks($1)
        },
        .later(.POST, "/v1/content/begin", for: publishing, body: .publication) {
            try await $0.begin($1.request)
        },
        .later(
            .POST, "/v1/content/chunks/{manifest}", query: ["places"], for: publishing,
            body: .publication
        ) { try await $0.insert($1) },
        .later(.POST, "/v1/content/commit", for: publishing, body: .publication) {
            try await $0.commit($1.request)
        },
        .later(.POST, "/v1/content/rollback/{channel}", for: .operators) {
            try await $0.rollBack($1.name)
        },
        .later(.POST, "/v1/content/verify/{channel}", for: .operators) {
            try await $0.verify($1.name)
        },
    ]
}
