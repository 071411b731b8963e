// SPDX-License-Identifier: Apache-2.0

internal import MeshAPI
internal import MeshCore
internal import NIOHTTP1

/// One thing that the API does: where, by which method, for whom, and with which parameters.
///
/// A request is looked up before its body comes. So whoever asks for what is not there, by the
/// wrong method or with a parameter that is misspelt, is told at once, and in the same way
/// everywhere.
struct Route: Sendable {
    /// Who may ask.
    enum Need {
        /// Whoever has access at all; what of it depends on what the request names.
        case access
        /// Whoever may read a namespace of the mesh's own.
        case reads(String)
        /// Whoever may write one.
        case writes(String)
        /// Operators, on the admin socket.
        case operators
    }

    /// What a body may be.
    struct BodyLimit {
        let bytes: Int
        /// Within which it has to come.
        let seconds: Int64
    }

    private enum Segment {
        case word(String)
        case name
        /// All that is left of the path, as it stands.
        case rest
    }

    typealias Act = @Sendable (Routes, Call) throws -> Answer

    let method: HTTPMethod
    /// As documents show it: `{name}` for one segment, `{name*}` for all that is left.
    let template: String
    private let segments: [Segment]
    /// The parameters of its query.
    let parameters: [String]
    let need: Need
    let body: BodyLimit
    let act: Act

    init(
        _ method: HTTPMethod, _ template: String, query parameters: [String] = [],
        for need: Need = .access, body: BodyLimit = .document, act: @escaping Act
    ) {
        self.method = method
        self.template = template
        segments = Self.split(template).map { part in
            guard part.hasPrefix("{") else { return .word(part) }
            return part.hasSuffix("*}") ? .rest : .name
        }
        self.parameters = parameters
        self.need = need
        self.body = body
        self.act = act
    }

    /// A route whose answer waits for others.
    static func later(
        _ method: HTTPMethod, _ template: String, query parameters: [String] = [],
        for need: Need = .access, body: BodyLimit = .document,
        answer: @escaping @Sendable (Routes, Call) async throws -> Response
    ) -> Route {
        Route(method, template, query: parameters, for: need, body: body) { routes, call in
            .later { try await answer(routes, call) }
        }
    }

    static func split(_ path: String) -> [String] {
        path.split(separator: "/", omittingEmptySubsequences: false).dropFirst().map(String.init)
    }

    /// The names in a path of this route, percent-decoded but for the rest; nil for another path.
    ///
    /// - Throws: for a malformed escape.
    func names(in path: [String]) throws -> [String]? {
        var names: [String] = []
        for (place, segment) in segments.enumerated() {
            guard place < path.count else { return nil }
            switch segment {
            case .word(let word): if path[place] != word { return nil }
            case .name: names.append(path[place])
            case .rest: return try decoded(names) + [path[place...].joined(separator: "/")]
            }
        }
        return path.count == segments.count ? try decoded(names) : nil
    }

    private func decoded(_ names: [String]) throws -> [String] {
        try names.map { name in
            guard name.utf8.contains(UInt8(ascii: "%")) else { return name }
            let text = PercentEncoding.decode(name)
                .flatMap { String(validating: $0, as: UTF8.self) }
            guard let text else {
                throw Problem(.badPath, "'\(name)' has a malformed percent escape")
            }
            return text
        }
    }

    /// Refuses parameters that this route does not take.
    func check(_ request: Request) throws {
        var seen: Set<String> = []
        for (name, value) in try request.parameters() {
            guard parameters.contains(name) else {
                let known =
                    parameters.isEmpty ? "none" : parameters.sorted().joined(separator: ", ")
                throw Problem(
                    .unknownParameter,
                    "'\(name)' is no parameter of \(method.rawValue) \(template), which takes: \(known)"
                )
            }
            guard seen.insert(name).inserted else {
                throw Problem(
                    .repeatedParameter, "'\(name)' stands twice, the second time as '\(value)'")
            }
        }
    }
}

/// A request that was admitted, with what its path names.
struct Call: Sendable {
    let request: Request
    let names: [String]
    let access: Access

    /// What the route's first name is in this path.
    var name: String { names.first ?? "" }
    var last: String { names.last ?? "" }
}

/// A path that is there, but not by this method (RFC 9110, §15.5.6).
struct MethodRefused: Error {
    let path: String
    let method: HTTPMethod
    let allowed: [HTTPMethod]

    /// The field `Allow`.
    var allow: String { Set(allowed.map(\.rawValue)).sorted().joined(separator: ", ") }

    var problem: Problem {
        Problem(
            .methodRefused, "\(path) takes \(allow), not \(method.rawValue)")
    }
}
