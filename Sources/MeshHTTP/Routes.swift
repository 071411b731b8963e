// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import NIOCore

/// What the API answers: one switch over method and path, so that all routes are seen at once.
struct Routes: Sendable {
    /// How long a client may take to send a body.
    static let bodyTimeout = Duration.seconds(10)

    let node: MeshNode
    /// What the body of the request takes of the bytes that all may have.
    let bodies: Claim
    let feeds: Allowance
    var store: Store { node.store }

    func respond(_ request: Request, _ access: Access) async throws -> Response {
        let segments = request.uri.path.split(separator: "/", omittingEmptySubsequences: false)
            .dropFirst().map(String.init)
        let method = request.method
        guard segments.first == "v1" else {
            throw Problem.notFound("there is nothing at \(request.uri.path)")
        }
        switch (method, segments.dropFirst().first, segments.count) {
        case (.get, "records", 3): return try list(request, namespace: segments[2], access)
        case (_, "records", 4...):
            let path = segments[3...].joined(separator: "/")
            return try await record(request, segments[2], path, access)
        case (.post, "batch", 2): return try await batch(request, access)
        case (.get, "changes", 2): return try changes(request, access)
        case (.get, "peers", 2):
            try access.demandMesh()
            return try Self.json(try await peers())
        case (.get, "status", 2):
            try access.demandMesh()
            return try Self.json(try await status())
        case (.get, "discovery", 2):
            guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
            return try Self.json(try await discovery())
        case (.get, "why", 3...):
            guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
            return try Self.json(try await why(try Self.subject(segments[2...])))
        case (.get, "certificates", 2...):
            guard access.isAdmin || access.mayWrite(Revocation.namespace) else {
                throw Problem.forbidden("the token does not allow \(Revocation.namespace):w")
            }
            guard segments.count > 2 else { return try Self.json(try allCertificates()) }
            return try Self.json(try await certificates(try Self.subject(segments[2...])))
        case (.post, "leave", 2):
            guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
            return try await leave(isForced: parameter(request, "force") == "true")
        case (.get, "digest", 2...3): return try digest(segments.dropFirst(2).first, access)
        case (.get, "namespaces", 2): return try Self.json(try namespaces(access))
        case (.put, "namespaces", 3):
            return try await createNamespace(request, segments[2], access)
        case (_, "tokens", 2...3):
            return try await tokens(request, segments.dropFirst(2).first, access)
        case (.post, "sync", 2):
            guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
            node.syncNow()
            return Response(status: .accepted)
        case (_, "secret", 2): return try await secret(request, access)
        case (.post, "unlock", 3...):
            guard access.isAdmin else { throw Problem.forbidden("only on the admin socket") }
            let host = parameter(request, "from")
            return try await unlock(try Self.subject(segments[2...]), from: host)
        case (_, "enrolments", 2): return try await enrolments(request, access)
        case (_, "root", 2): return try await root(request, access)
        case (_, "revocations", 2...): return try await revocations(request, segments, access)
        case (_, "content", 2...): return try await content(request, segments, access)
        case (.get, "export", 3): return try export(namespace: segments[2], request, access)
        default: throw Problem.notFound("there is no \(method) \(request.uri.path)")
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
            body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }

    static func json(
        _ value: some Encodable, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]
    ) throws -> Response {
        var headers = headers
        headers[.contentType] = "application/json"
        let data = try MeshJSON.encode(value)
        return Response(
            status: status, headers: headers,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: data + [UInt8(ascii: "\n")])))
    }

    static func answer(_ problem: Problem) -> Response {
        let data = (try? MeshJSON.encode(problem)) ?? Data()
        var headers: HTTPFields = [.contentType: "application/problem+json"]
        if problem.status == 401 { headers[.wwwAuthenticate] = "Bearer" }
        if problem.status == 503 { headers[.retryAfter] = "\(APILimits.retryAfterSeconds)" }
        return Response(
            status: .init(code: problem.status), headers: headers,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: data)))
    }

    // MARK: Requests

    /// A body within its limit and its time.
    func body(
        _ request: Request, upTo limit: Int, within time: Duration = Self.bodyTimeout
    ) async throws -> [UInt8] {
        if request.headers[.contentEncoding] != nil {
            throw Problem(
                code: "encoding_refused", title: "Encoding refused", status: 415,
                detail: "compressed bodies are not accepted")
        }
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limit {
            throw Problem(
                code: "too_large", title: "Too large", status: 413,
                detail: "the body has \(length) bytes; at most \(limit)")
        }
        return try await withThrowingTaskGroup(of: [UInt8].self) { tasks in
            tasks.addTask {
                var bytes: [UInt8] = []
                for try await part in request.body {
                    guard part.readableBytes <= limit - bytes.count else {
                        throw Problem(
                            code: "too_large", title: "Too large", status: 413,
                            detail: "the body has more than \(limit) bytes")
                    }
                    guard bodies.take(part.readableBytes) else {
                        throw Problem(
                            code: "busy", title: "Too busy", status: 503,
                            detail: "too many bodies are on their way; try again")
                    }
                    bytes += part.readableBytesView
                }
                return bytes
            }
            tasks.addTask {
                try await Task.sleep(for: time)
                throw Problem(
                    code: "too_slow", title: "Too slow", status: 408,
                    detail: "the body took more than \(time.components.seconds) s")
            }
            defer { tasks.cancelAll() }
            return try await tasks.next() ?? []
        }
    }

    func json<T: Decodable>(_ type: T.Type, _ request: Request, upTo limit: Int) async throws -> T {
        try decode(type, try await body(request, upTo: limit))
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
        guard let bytes = Self.percentDecoded(path) else {
            throw Problem.bad("bad_key", "the key has a malformed percent escape")
        }
        return try key(validating: bytes)
    }

    /// A key that no client can take for another by decoding it once more.
    func key(validating bytes: [UInt8]) throws -> RecordKey {
        let isEscaped = zip(bytes, zip(bytes.dropFirst(), bytes.dropFirst(2))).contains {
            $0 == UInt8(ascii: "%") && Hex.isDigit($1.0) && Hex.isDigit($1.1)
        }
        guard !isEscaped else {
            throw Problem.bad("bad_key", "the key is percent-encoded twice")
        }
        do throws(KeyError) { return try RecordKey(validating: bytes) } catch {
            throw Problem.bad("bad_key", "\(error)")
        }
    }

    private static func percentDecoded(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            guard let value = Hex.decode(digits), let decoded = value.first else { return nil }
            bytes.append(decoded)
            rest = rest.dropFirst(2)
        }
        return bytes
    }

    func parameter(_ request: Request, _ name: String) -> String? {
        request.uri.queryParameters[name[...]].map(String.init)
    }

    /// The scope that a request speaks of: its own site's where the namespace is for sites.
    func scope(_ namespace: String, _ request: Request, site: String? = nil) throws -> Scope {
        guard let policy = try store.policy(of: namespace) else {
            throw Problem(StoreError.unknownNamespace(namespace))
        }
        let site = site ?? parameter(request, "site") ?? node.certificate.ticket.site
        guard Name.isValid(site) else { throw Problem.bad("bad_site", "'\(site)' is not a site") }
        let scope = policy.scope(of: namespace, site: site)
        guard node.certificate.allows(.read, scope) else {
            throw Problem.forbidden("this node does not hold \(scope)")
        }
        return scope
    }
}
