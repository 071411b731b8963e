// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshContent
internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import NIOCore
internal import NIOHTTP1

/// What the routes of `RouteTable` do.
struct Routes: Sendable {
    let node: MeshNode
    let feeds: Allowance
    var store: Store { node.store }

    /// Carries out what a request asks for.
    func respond(_ request: Request, _ match: RouteTable.Match, _ access: Access) throws -> Answer {
        try match.route.act(self, Call(request: request, names: match.names, access: access))
    }

    /// The rest of a path as the name of something.
    static func subject(_ text: String) throws -> String {
        guard let subject = text.removingPercentEncoding else {
            throw Problem(.badSubject, "'\(text)' has a malformed percent escape")
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

    private static func answer(_ refused: MethodRefused) -> Response {
        var response = answer(refused.problem)
        response.headers[.allow] = refused.allow
        return response
    }

    /// The answer to a request that could not be carried out.
    static func answer(_ error: any Error) -> Response {
        switch error {
        case let problem as Problem: answer(problem)
        case let error as StoreError: answer(Problem(error))
        case let error as ContentError: answer(Problem(error))
        case let error as MethodRefused: answer(error)
        default:
            answer(
                Problem(
                    .internalError, "the server could not answer; its log may say why"))
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

    /// A body that is an object with these members, and no others.
    func json<T: Decodable>(_ type: T.Type, _ request: Request, members: [String]) throws -> T {
        do throws(StrictJSON.Failure) {
            try StrictJSON.check(request.body)
            var json = try StrictJSON(request.body)
            var left = try json.beginObject()
            while let name = try json.nextMember(&left) {
                guard members.contains(name) else {
                    throw json.failure("there is no member '\(name)' here")
                }
                try json.skipValue()
            }
        } catch {
            throw Problem(.badJSON, "byte \(error.offset): \(error.reason)")
        }
        do { return try MeshJSON.decode(type, from: Data(request.body)) } catch {
            throw Problem(.badJSON, Self.words(for: error))
        }
    }

    /// What is wrong with the shape of a value, for whoever wrote it.
    private static func words(for error: any Error) -> String {
        func place(_ path: [any CodingKey]) -> String {
            path.isEmpty ? "the body" : "'\(path.map(\.stringValue).joined(separator: "."))'"
        }
        return switch error as? DecodingError {
        case .keyNotFound(let key, _): "'\(key.stringValue)' is missing"
        case .valueNotFound(_, let context): "\(place(context.codingPath)) is null"
        case .typeMismatch(let type, let context):
            "\(place(context.codingPath)) is not \(type == String.self ? "a string" : "of the right type")"
        default: "the JSON has another shape"
        }
    }

    /// A key from a path: percent-decoded once, and refused if it would decode again.
    func key(_ path: String) throws -> RecordKey {
        guard let bytes = PercentEncoding.decode(path) else {
            throw Problem(.badKey, "the key has a malformed percent escape")
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
            throw Problem(.badKey, "the key is percent-encoded twice")
        }
        do throws(KeyError) { return try RecordKey(validating: bytes) } catch {
            throw Problem(.badKey, "\(error)")
        }
    }

    /// The scope that a request speaks of: its own site's where the namespace is for sites.
    func scope(_ namespace: String, _ request: Request, site: String? = nil) throws -> Scope {
        guard let policy = try store.policy(of: namespace) else {
            throw Problem(StoreError.unknownNamespace(namespace))
        }
        let site = site ?? request.parameter("site") ?? node.certificate.ticket.site
        guard Name.isValid(site) else { throw Problem(.badSite, "'\(site)' is not a site") }
        let scope = policy.scope(of: namespace, site: site)
        guard node.certificate.allows(.read, scope) else {
            throw Problem.forbidden("this node does not hold \(scope)")
        }
        return scope
    }
}

extension Route.BodyLimit {
    /// A document that is signed elsewhere, or what an operator sends.
    static let document = Self(
        bytes: max(
            65_536, RootDocument.carriedBytesMax, Revocation.byteCountMax,
            Certificate.byteCountMax, PolicyDocument.byteCountMax), seconds: 10)
    /// The value of a record.
    static let record = Self(bytes: Record.bodyBytesMax, seconds: 10)
    /// Text may stand escaped, and base64 is longer than its bytes.
    static let batch = Self(bytes: 4 * CommitHeader.recordBytesMax, seconds: 10)
    /// A part of what is published.
    static let publication = Self(bytes: Routes.publicationBytesMax, seconds: 120)
}
