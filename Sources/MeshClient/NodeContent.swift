// SPDX-License-Identifier: Apache-2.0

public import MeshAPI

/// Content through a node's API.
extension NodeClient {
    /// Every channel that the node knows of.
    public func content() async throws -> ContentView { try await get("/v1/content") }

    /// The latest release of a channel as it was signed; nil where there is none.
    public func latestRelease(_ channel: String) async throws -> [UInt8]? {
        do {
            return try await connection.answer(
                Call(path: "/v1/content/latest/\(Self.escape(channel))")
            ).body
        } catch let problem as Problem where problem.status == 404 {
            return nil
        }
    }

    /// A release as it was signed; nil where the node has it not.
    public func release(_ number: String, of channel: String) async throws -> [UInt8]? {
        do {
            let path = "/v1/content/releases/\(Self.escape(channel))/\(Self.escape(number))"
            return try await connection.answer(Call(path: path)).body
        } catch let problem as Problem where problem.status == 404 {
            return nil
        }
    }

    /// A manifest that the node has; nil where it has not.
    public func manifest(_ name: String) async throws -> [UInt8]? {
        do {
            return try await connection.answer(Call(path: "/v1/content/manifests/\(name)")).body
        } catch let problem as Problem where problem.status == 404 {
            return nil
        }
    }

    /// Begins a publication.
    ///
    /// - Parameter body: the signed release after its length, then the manifest.
    public func beginPublication(_ body: [UInt8]) async throws -> PublicationView {
        try await post("/v1/content/begin", body)
    }

    /// Sends chunks for ranges of places.
    public func sendChunks(_ manifest: String, _ places: [Range<Int>], _ bytes: [UInt8])
        async throws
    {
        let list = places.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ".")
        let path = "/v1/content/chunks/\(manifest)?places=\(list)"
        _ = try await connection.answer(octets(path, bytes))
    }

    /// Chunks that the node has, one after the other.
    public func chunks(_ manifest: String, _ places: Range<Int>) async throws -> [UInt8] {
        let path = "/v1/content/chunks/\(manifest)?places=\(places.lowerBound)-\(places.upperBound)"
        return try await connection.answer(Call(path: path)).body
    }

    /// Ends a publication: the release goes out.
    public func commitPublication(_ signed: [UInt8]) async throws -> PublishedView {
        try await post("/v1/content/commit", signed)
    }

    /// Goes back to the release before, with what was signed beforehand; only on the admin socket.
    public func rollBack(_ channel: String) async throws -> PublishedView {
        try await post("/v1/content/rollback/\(Self.escape(channel))", [])
    }

    /// Has the node read all that it serves of a channel; only on the admin socket.
    public func verifyContent(_ channel: String) async throws -> VerifyView {
        try await post("/v1/content/verify/\(Self.escape(channel))", [])
    }

    private func octets(_ path: String, _ body: [UInt8]) -> Call {
        Call(
            method: "POST", path: path, headers: [("Content-Type", "application/octet-stream")],
            body: body)
    }

    private func post<T: Decodable>(_ path: String, _ body: [UInt8]) async throws -> T {
        try Self.decode(try await connection.answer(octets(path, body)))
    }
}
