// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshRules
internal import MeshStore
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Synchronization

/// What one endpoint serves, and to whom.
struct Service: Sendable {
    /// Whom an endpoint serves.
    enum Face {
        case operators, apps, content
    }

    /// A request whose body may come.
    struct Admission: Sendable {
        let access: Access
        let match: RouteTable.Match
        /// What the body takes of the bytes that all may have.
        let bodies: Claim

        var bodyBytesMax: Int { match.route.body.bytes }
        var bodySeconds: Int64 { match.route.body.seconds }
    }

    /// What is known of a request by its head.
    enum Beginning {
        case answered(Response)
        case admitted(Admission)
    }

    /// Longest head of a request, in bytes.
    static let headBytesMax = 32 * 1024

    let node: MeshNode
    let gate: Gatekeeper
    let face: Face
    let configuration: APIConfiguration
    let limits: APILimits
    /// For what reads the disk for long.
    let readers: NIOThreadPool
    let dates: HTTPDates

    private var servesContent: Bool { face != .apps || configuration.contentListen == nil }

    /// Judges a request by its head.
    func begin(_ request: Request) throws -> Beginning {
        if request.path == "/healthz" { return .answered(Routes.plain("ok\n")) }
        if let fields = try gate.preflight(request) {
            return .answered(Response(status: .noContent, headers: fields))
        }
        if servesContent, request.path.hasPrefix("/content/"),
            request.method == .GET || request.method == .HEAD
        {
            return .answered(try content(request))
        }
        let access = try gate.access(request)
        // The operator's socket is no place that anybody takes.
        guard face == .operators || limits.connections.greet(request.connection) else {
            throw Problem.overLimit
        }
        if face == .content {
            throw Problem.notFound("there is only /content here; the API is on http.listen")
        }
        let match: RouteTable.Match
        do { match = try RouteTable.match(request) } catch let refused as MethodRefused
            where request.method == .OPTIONS
        {
            return .answered(Response(status: .noContent, headers: [.allow: refused.allow]))
        }
        try access.demand(match.route.need)
        return .admitted(
            Admission(
                access: access, match: match, bodies: Claim(on: limits.bodies, for: access.owner)))
    }

    private func content(_ request: Request) throws -> Response {
        if configuration.contentOpen {
            try gate.checkHost(request)
        } else {
            // Pages of all origins may show what was published to be shown.
            let access = try gate.access(request, isForDisplay: true)
            guard access.mayRead("_content") else {
                throw Problem.forbidden("the token does not allow _content")
            }
            guard face == .operators || limits.connections.greet(request.connection) else {
                throw Problem.overLimit
            }
        }
        return try ContentReply.response(to: request, node.content.served)
    }

    /// Finds the answer to a request that is here as a whole.
    private func answer(_ request: Request, _ admission: Admission) throws -> Answer {
        try Routes(node: node, feeds: limits.feeds).respond(
            request, admission.match, admission.access)
    }

    /// Carries a request out.
    ///
    /// - Parameter reply: takes what makes the answer, where that comes later, on any thread.
    /// - Returns: the answer, where it is there at once.
    func carryOut(
        _ request: Request, _ admission: Admission,
        reply: @escaping @Sendable (@escaping @Sendable () throws -> Response) -> Void
    ) -> Response? {
        let answer: Answer
        do { answer = try self.answer(request, admission) } catch { return Routes.answer(error) }
        switch answer {
        case .now(let response): return response
        case .read(let make):
            readers.submit { state in
                let result = Result { state == .active ? try make() : try Self.ending() }
                reply { try result.get() }
            }
        case .later(let make):
            Task {
                do {
                    let response = try await make()
                    reply { response }
                } catch {
                    reply { throw error }
                }
            }
        case .written(let write, let demand, let make):
            let node = node
            node.store.write(write) { result in
                switch result {
                case .success(let receipts):
                    demand.judge(receipts, in: write.scope, node) { outcome in
                        reply { try make(receipts, outcome) }
                    }
                case .failure(let error): reply { throw error }
                }
            }
        }
        return nil
    }

    /// An answer with the fields that all have.
    func complete(_ response: Response, _ request: Request) -> Response {
        var response = response
        // A file of content is a page; the other answers are none.
        if case .file = response.body {
        } else if !request.path.hasPrefix("/content/") {
            response.headers.add(Gatekeeper.answerFields)
        }
        let more = gate.crossOriginFields(request)
        for (name, value) in more.all { response.headers[FieldName(name)] = value }
        response.headers.add(dates.fields)
        return response
    }

    /// What is told where the server ends before it could answer.
    static func ending() throws -> Response { throw StoreError.closed }
}

/// The fields `Server` and `Date`, made once a second (RFC 9110, §6.6.1).
final class HTTPDates: Sendable {
    private let made = Mutex<(second: Int64, fields: Fields)>((-1, [:]))

    var fields: Fields {
        let now = Int64(Date().timeIntervalSince1970)
        return made.withLock { made in
            if made.second != now {
                var (seconds, parts) = (time_t(now), tm())
                gmtime_r(&seconds, &parts)
                let day = Self.days[Int(parts.tm_wday) % 7]
                let month = Self.months[Int(parts.tm_mon) % 12]
                func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
                let time = [parts.tm_hour, parts.tm_min, parts.tm_sec].map(two)
                    .joined(separator: ":")
                let date = "\(two(parts.tm_mday)) \(month) \(1900 + parts.tm_year)"
                made = (
                    now, [.server: "meshd", .date: "\(day), \(date) \(time) GMT"]
                )
            }
            return made.fields
        }
    }

    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
}

extension Service.Admission {
    /// How long the body says that it is; nil where it comes in chunks.
    func bodyLength(of request: Request) throws -> Int? {
        if request.headers.has(.transferEncoding) {
            try Self.refuseEncoding(request)
            return nil
        }
        guard let text = request.headers[.contentLength] else { return 0 }
        guard let length = Int(text) else {
            throw Problem(.badLength, "'\(text)' is not a length")
        }
        if length > 0 { try Self.refuseEncoding(request) }
        guard length <= bodyBytesMax else {
            throw Problem.tooLarge("the body has \(length) bytes", bodyBytesMax)
        }
        return length
    }

    private static func refuseEncoding(_ request: Request) throws {
        guard request.headers[.contentEncoding] == nil else {
            throw Problem(
                .encodingRefused, "compressed bodies are not accepted")
        }
    }
}
