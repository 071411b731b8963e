// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import NIOCore
internal import NIOHTTP1

/// What the API answers: one switch over method and path, so that all routes are seen at once.
struct Routes: Sendable {
    let node: MeshNode
    let feeds: Allowance
    var store: Store { node.store }

    /// Most bytes of a request's body, and the seconds within which it has to come.
    static func bodyLimit(_ request: Request) -> (bytes: Int, seconds: Int64) {
        let path = request.path
        if path.hasPrefix("/v1/records/") { return (Record.bodyBytesMax, 10) }
        // Text may stand escaped, and base64 is longer than its bytes.
        if path == "/v1/batch" { return (4 * CommitHeader.recordBytesMax, 10) }
        if path.hasPrefix("/v1/content/") { return (publicationBytesMax, 120) }
        return (documentBytesMax, 10)
    }

    /// Most bytes of a document that is signed elsewhere, and of what an operator sends.
    private static let documentBytesMax = max(
        65_536, RootDocument.carriedBytesMax, Revocation.byteCountMax, Certificate.byteCountMax,
        PolicyDocument.byteCountMax)

    func respond(_ request: Request, _ access: Access) throws -> Answer {
        let segments = request.path.split(separator: "/", omittingEmptySubsequences: false)
            .dropFirst().map(String.init)
        guard segments.first == "v1" else {
            if request.path == "/metrics", request.method == .GET {
                try access.demandMesh()
                return .later {
                    Self.plain(try await metrics(), type: "text/plain; version=0.0.4")
                }
            }
            throw Problem.notFound("there is nothing at \(request.path)")
        }
        switch (request.method, segments.dropFirst().first, segments.count) {
        case (.GET, "records", 3):
            return try list(request, namespace: segments[2], access)
        case (_, "records", 4...):
            let path = segments[3...].joined(separator: "/")
            return try record(request, segments[2], path, access)
        case (.POST, "batch", 2): return try batch(request, access)
        case (.GET, "changes", 2): return .now(try changes(request, access))
        case (.GET, "digest", 2...3):
            return .read { try digest(segments.dropFirst(2).first, access) }
        case (.GET, "namespaces", 2): return .read { try Self.json(try namespaces(access)) }
        case (.GET, "export", 3):
            return .read { try export(namespace: segments[2], request, access) }
        default: return .later { try await operate(request, segments, access) }
        }
    }

    /// What operators and publishers use.
    private func operate(
        _ request: Request, _ segments: [String], _ access: Access
    ) async throws -> Response {
        switch (request.method, segments.dropFirst().first, segments.count) {
        case (.GET, "peers", 2):
            try access.demandMesh()
            return try Self.json(try await peers())
        case (.GET, "status", 2):
            try access.demandMesh()
            return try Self.json(try await status())
        case (.GET, "discovery", 2):
            try access.demandAdmin()
            return try Self.json(try await discovery())
        case (.GET, "why", 3...):
            try access.demandAdmin()
            return try Self.json(try await why(try Self.subject(segments[2...])))
        case (.GET, "certificates", 2...):
            guard access.isAdmin || access.mayWrite(Revocation.namespace) else {
                throw Problem.forbidden("the token does not allow \(Revocation.namespace):w")
            }
            guard segments.count > 2 else { return try Self.json(try allCertificates()) }
            return try Self.json(try await certificates(try Self.subject(segments[2...])))
        case (.POST, "leave", 2):
            try access.demandAdmin()
            return try await leave(isForced: request.parameter("force") == "true")
        case (.PUT, "namespaces", 3):
            return try await createNamespace(request, segments[2], access)
        case (_, "tokens", 2...3):
            return try await tokens(request, segments.dropFirst(2).first, access)
        case (.POST, "sync", 2):
            try access.demandAdmin()
            node.syncNow()
            return Response(status: .accepted)
        case (_, "secret", 2): return try await secret(request, access)
        case (.POST, "unlock", 3...):
            try access.demandAdmin()
            let host = request.parameter("from")
            return try await unlock(try Self.subject(segments[2...]), from: host)
        case (_, "enrolments", 2): return try await enrolments(request, access)
        case (_, "root", 2): return try await root(request, access)
        case (_, "revocations", 2...): return try await revocations(request, segments, access)
        case (_, "content", 2...): return try await content(request, segments, access)
        default:
            throw Problem.notFound("there is no \(request.method.rawValue) \(request.path)")
        }
    }

    /// The rest of a path as the name of something.
    static func subject(_ segments: some Sequence<String>) throws -> String {
        let text = segments.joined(separator: "/")
        guard let subject = text.removingPercentEncoding else {
            throw Problem.bad("bad_subject", "'\(text)' has a malformed percent escape")
        }
        return subject
    }

    // MARK: Answers

    static func plain(_ text: String, type: String = "text/plain") -> Response {
        Response(
            status: .ok, headers: [.contentType: type],
            body: .bytes(ByteBuffer(string: text)))
    }

    static func json(
        _ value: some Encodable, status: HTTPResponseStatus = .ok, headers: Fields = [:]
    ) throws -> Response {
        json(bytes: ByteBuffer(bytes: try MeshJSON.encode(value)), status: status, headers: headers)
    }

    /// An answer of JSON that is written already, but for the end of its line.
    static func json(
        bytes: ByteBuffer, status: HTTPResponseStatus = .ok, headers: Fields = [:]
    ) -> Response {
        var (headers, bytes) = (headers, bytes)
        headers[.contentType] = "application/json"
        bytes.writeInteger(UInt8(ascii: "\n"))
        return Response(status: status, headers: headers, body: .bytes(bytes))
    }

    static func answer(_ problem: Problem) -> Response {
        let data = (try? MeshJSON.encode(problem)) ?? Data()
        var headers: Fields = [.contentType: "application/problem+json"]
        if problem.status == 401 { headers[.wwwAuthenticate] = "Bearer" }
        if problem.status == 503 { headers[.retryAfter] = "\(APILimits.retryAfterSeconds)" }
        return Response(
            status: HTTPResponseStatus(statusCode: problem.status), headers: headers,
            body: .bytes(ByteBuffer(bytes: data)))
    }

    /// The answer to a request that could not be carried out.
    static func answer(_ error: any Error) -> Response {
        switch error {
        case let problem as Problem: answer(problem)
        case let error as StoreError: answer(Problem(error))
        default:
            answer(
                Problem(
                    code: "internal", title: "Internal error", status: 500,
                    detail: "the server could not answer; its log may say why"))
        }
    }

    // MARK: Requests

    /// A body within its limit.
    func body(_ request: Request, upTo limit: Int) throws -> [UInt8] {
        guard request.body.count <= limit else {
            throw Problem.tooLarge("the body has \(request.body.count) bytes", limit)
        }
        return request.body
    }

    func json<T: Decodable>(_ type: T.Type, _ request: Request, upTo limit: Int) throws -> T {
        try decode(type, try body(request, upTo: limit))
    }

    func decode<T: Decodable>(_ type: T.Type, _ bytes: [UInt8]) throws -> T {
        do throws(StrictJSON.Failure) { try StrictJSON.check(bytes) } catch {
            throw Problem.bad("bad_json", "byte \(error.offset): \(error.reason)")
        }
        do { return try MeshJSON.decode(type, from: Data(bytes)) } catch {
            throw Problem.bad("bad_json", "the JSON is not of the expected shape: \(error)")
        }
    }

    /// A key from a path: percent-decoded once, and refused if it would decode again.
    func key(_ path: String) throws -> RecordKey {
        guard let bytes = PercentEncoding.decode(path) else {
            throw Problem.bad("bad_key", "the key has a malformed percent escape")
        }
        return try key(validating: bytes)
    }

    /// A key that no client can take for another by decoding it once more.
    func key(validating bytes: [UInt8]) throws -> RecordKey {
        let isEscaped = bytes.indices.dropLast(2).contains {
            bytes[$0] == UInt8(ascii: "%") && Hex.isDigit(bytes[$0 + 1])
                && Hex.isDigit(bytes[$0 + 2])
        }
        guard !isEscaped else {
            throw Problem.bad("bad_key", "the key is percent-encoded twice")
        }
        do throws(KeyError) { return try RecordKey(validating: bytes) } catch {
            throw Problem.bad("bad_key", "\(error)")
        }
    }

    /// The scope that a request speaks of: its own site's where the namespace is for sites.
    func scope(_ namespace: String, _ request: Request, site: String? = nil) throws -> Scope {
        guard let policy = try store.policy(of: namespace) else {
            throw Problem(StoreError.unknownNamespace(namespace))
        }
        let site = site ?? request.parameter("site") ?? node.certificate.ticket.site
        guard Name.isValid(site) else { throw Problem.bad("bad_site", "'\(site)' is not a site") }
        let scope = policy.scope(of: namespace, site: site)
        guard node.certificate.allows(.read, scope) else {
            throw Problem.forbidden("this node does not hold \(scope)")
        }
        return scope
    }
}
