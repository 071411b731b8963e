// SPDX-License-Identifier: Apache-2.0

internal import Foundation
@_exported public import MeshAPI

/// Why a call came to nothing before the node could answer; a node's own refusals are `Problem`s.
public enum ClientError: Error, Sendable {
    /// Nobody answers at the endpoint.
    case unreachable(String)
    /// The answer is not one of this API.
    case unexpected(String)
}

/// A node's HTTP API, for programs: what `meshctl` uses.
///
/// Every call makes one connection. Errors of the node are thrown as `Problem`.
public struct NodeClient: Sendable {
    let connection: HTTPConnection

    /// Talks to an endpoint; nothing is opened yet.
    public init(_ endpoint: Endpoint) { connection = HTTPConnection(endpoint: endpoint) }

    // MARK: The node

    /// Every node of the mesh as this one sees it.
    public func peers() async throws -> PeersView { try await get("/v1/peers") }

    /// This node at a glance.
    public func status() async throws -> StatusView { try await get("/v1/status") }

    /// The digests of all scopes, or of one.
    public func digest(_ scope: String? = nil) async throws -> DigestsView {
        try await get(scope.map { "/v1/digest/\(Self.escape($0))" } ?? "/v1/digest")
    }

    /// What discovery sent, heard and dialled; only on the admin socket.
    public func discovery() async throws -> DiscoveryView { try await get("/v1/discovery") }

    /// The first cause that keeps a node, scope or address from being in step; only on the admin
    /// socket.
    public func why(_ subject: String) async throws -> WhyView {
        try await get("/v1/why/\(Self.escape(subject))")
    }

    /// Takes the node out of its mesh for good; only on the admin socket.
    public func leave(force: Bool = false) async throws -> LeaveView {
        let path = "/v1/leave" + (force ? "?force=true" : "")
        return try Self.decode(try await connection.answer(Call(method: "POST", path: path)))
    }

    /// Has the node compare with its peers now.
    public func syncNow() async throws {
        _ = try await connection.answer(Call(method: "POST", path: "/v1/sync"))
    }

    /// The namespaces known to the node.
    public func namespaces() async throws -> NamespacesView { try await get("/v1/namespaces") }

    /// Brings a signed policy in; only a central node takes it.
    public func define(_ namespace: String, _ document: [UInt8]) async throws -> NamespaceView {
        try await send("PUT", "/v1/namespaces/\(Self.escape(namespace))", document)
    }

    /// The tokens of apps.
    public func tokens() async throws -> TokensView { try await get("/v1/tokens") }

    /// Makes a token; its secret is in the answer, once.
    public func makeToken(_ name: String, allow: [String]) async throws -> TokenView {
        let body = Array(try MeshJSON.encode(TokenView(name: name, allow: allow)))
        return try await send("POST", "/v1/tokens", body)
    }

    /// Takes a token back.
    public func revokeToken(_ name: String) async throws {
        let call = Call(method: "DELETE", path: "/v1/tokens/\(Self.escape(name))")
        _ = try await connection.answer(call)
    }

    // MARK: Records

    /// A record's value with what was said of it.
    public struct Value: Sendable {
        /// The bytes as they were written.
        public let body: [UInt8]
        /// Their media type.
        public let contentType: String
        /// The key's state, for a conditional write.
        public let etag: String
        /// How many other versions live.
        public let siblings: Int
    }

    /// Reads a key.
    public func value(_ namespace: String, _ key: String, site: String? = nil) async throws -> Value
    {
        let answer = try await connection.answer(Call(path: Self.path(namespace, key, site)))
        return Value(
            body: answer.body, contentType: answer.header("Content-Type") ?? "",
            etag: (answer.header("ETag") ?? "").filter { $0 != "\"" },
            siblings: answer.header("Mesh-Siblings").flatMap { Int($0) } ?? 0)
    }

    /// All live versions of a key, the shown one first.
    public func siblings(
        _ namespace: String, _ key: String, site: String? = nil
    ) async throws -> RecordsView {
        let path = Self.path(namespace, key, site)
        return try await get(path + (path.contains("?") ? "&" : "?") + "siblings=all")
    }

    /// Writes a key; returns when the write is durable on the node, and where more is asked for
    /// once that is reached or the wait is over.
    ///
    /// - Parameters:
    ///   - ack: `local`, `site:K` or `central`.
    ///   - wait: such as `500ms` or `2s`.
    public func put(
        _ namespace: String, _ key: String, _ body: [UInt8], contentType: String,
        site: String? = nil, ifMatch: String? = nil, ifAbsent: Bool = false,
        ack: String? = nil, wait: String? = nil
    ) async throws -> WriteView {
        var path = Self.path(namespace, key, site)
        for (name, value) in [("ack", ack), ("wait", wait)] {
            guard let value else { continue }
            path += (path.contains("?") ? "&" : "?") + "\(name)=\(Self.escape(value))"
        }
        var call = Call(method: "PUT", path: path, body: body)
        call.headers = [("Content-Type", contentType)]
        if let ifMatch { call.headers.append(("If-Match", "\"\(ifMatch)\"")) }
        if ifAbsent { call.headers.append(("If-None-Match", "*")) }
        return try Self.decode(try await connection.answer(call))
    }

    /// Deletes a key.
    public func delete(_ namespace: String, _ key: String, site: String? = nil) async throws
        -> WriteView
    {
        try Self.decode(
            try await connection.answer(
                Call(method: "DELETE", path: Self.path(namespace, key, site))))
    }

    /// Several writes that stand or fall together.
    ///
    /// - Parameter idempotencyKey: under it a retry finds the first answer and writes nothing.
    public func batch(_ batch: BatchRequest, idempotencyKey: String? = nil) async throws
        -> WriteView
    {
        var call = Call(method: "POST", path: "/v1/batch", body: Array(try MeshJSON.encode(batch)))
        call.headers = [("Content-Type", "application/json")]
        if let idempotencyKey { call.headers.append(("Idempotency-Key", idempotencyKey)) }
        return try Self.decode(try await connection.answer(call))
    }

    /// Takes a batch whose JSON is written already; says nothing of its writes but that they are
    /// durable.
    public func batch(json: [UInt8], idempotencyKey: String) async throws {
        var call = Call(method: "POST", path: "/v1/batch", body: json)
        call.headers = [
            ("Content-Type", "application/json"), ("Prefer", "return=minimal"),
            ("Idempotency-Key", idempotencyKey),
        ]
        _ = try await connection.answer(call)
    }

    /// A page of records in key order.
    public func list(
        _ namespace: String, prefix: String = "", after: String? = nil, limit: Int = 500,
        site: String? = nil
    ) async throws -> RecordsView {
        var path =
            "/v1/records/\(Self.escape(namespace))?limit=\(limit)&prefix=\(Self.escape(prefix))"
        if let after { path += "&after=\(Self.escape(after))" }
        if let site { path += "&site=\(Self.escape(site))" }
        return try await get(path)
    }

    // MARK: Streams

    /// Changes as they come, from a cursor on; ends when the connection does.
    public func changes(
        since cursor: String? = nil, namespace: String? = nil, follow: Bool = true
    ) async throws -> AsyncThrowingStream<RecordView, any Error> {
        var path = "/v1/changes?follow=\(follow)"
        if let cursor { path += "&since=\(Self.escape(cursor))" }
        if let namespace { path += "&namespace=\(Self.escape(namespace))" }
        let lines = try await lines(path)
        return AsyncThrowingStream { continuation in
            let task = Task {
                do {
                    for try await line in lines where !line.isEmpty {
                        continuation.yield(try MeshJSON.decode(RecordView.self, from: Data(line)))
                    }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    /// Everything of a namespace with its signatures, as lines of JSON.
    public func signedExport(_ namespace: String) async throws -> AsyncThrowingStream<
        [UInt8], any Error
    > {
        try await lines("/v1/export/\(Self.escape(namespace))")
    }

    private func lines(_ path: String) async throws -> AsyncThrowingStream<[UInt8], any Error> {
        let call = Call(path: path, headers: [("Accept", "application/x-ndjson")])
        let parts = try await connection.parts(call)
        return AsyncThrowingStream { continuation in
            let task = Task {
                var pending: [UInt8] = []
                var failed: Int?
                do {
                    for try await part in parts {
                        switch part {
                        case .head(let status, _): if status >= 400 { failed = status }
                        case .bytes(let bytes):
                            pending += bytes
                            guard failed == nil else { continue }
                            let rows = pending.split(
                                separator: 10, omittingEmptySubsequences: false)
                            for row in rows.dropLast() { continuation.yield(Array(row)) }
                            pending = Array(rows.last ?? [])
                            guard pending.count <= HTTPConnection.lineBytesMax else {
                                throw ClientError.unexpected("a line has no end")
                            }
                        }
                    }
                    if let failed {
                        throw Answer(status: failed, headers: [], body: pending).problem
                    }
                    if !pending.isEmpty { continuation.yield(pending) }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    // MARK: Plumbing

    func get<T: Decodable>(_ path: String) async throws -> T {
        try Self.decode(try await connection.answer(Call(path: path)))
    }

    private func send<T: Decodable>(_ method: String, _ path: String, _ body: [UInt8]) async throws
        -> T
    {
        let call = Call(
            method: method, path: path, headers: [("Content-Type", "application/json")], body: body)
        return try Self.decode(try await connection.answer(call))
    }

    static func decode<T: Decodable>(_ answer: Answer) throws -> T {
        do { return try MeshJSON.decode(T.self, from: Data(answer.body)) } catch {
            throw ClientError.unexpected("the answer is not of this API: \(error)")
        }
    }

    private static func path(_ namespace: String, _ key: String, _ site: String?) -> String {
        let parts = key.split(separator: "/", omittingEmptySubsequences: false).map(Self.escape)
        let path = "/v1/records/\(Self.escape(namespace))/" + parts.joined(separator: "/")
        return site.map { "\(path)?site=\(Self.escape($0))" } ?? path
    }

    static func escape(_ text: some StringProtocol) -> String {
        var allowed = CharacterSet.alphanumerics
        allowed.insert(charactersIn: "-._~")
        allowed.formIntersection(
            CharacterSet(charactersIn: Unicode.Scalar(0)..<Unicode.Scalar(128)))
        return text.addingPercentEncoding(withAllowedCharacters: allowed) ?? ""
    }
}
