// SPDX-License-Identifier: Apache-2.0

public import MeshAPI

/// Revocations through a node's API.
extension NodeClient {
    /// Every revocation that the node holds.
    public func revocations() async throws -> RevocationsView { try await get("/v1/revocations") }

    /// The certificates of a server, the newest first, as the node has them.
    public func certificates(_ subject: String) async throws -> CertificatesView {
        try await get("/v1/certificates/\(Self.escape(subject))")
    }

    /// Every certificate that the node has.
    public func allCertificates() async throws -> AllCertificatesView {
        try await get("/v1/certificates")
    }

    /// What revoking a server would mean.
    ///
    /// - Parameter since: nothing stamped at this time or later would stand, in milliseconds since
    ///   1970.
    public func revocationPlan(
        _ subject: String, since: UInt64? = nil
    ) async throws -> RevocationPlanView {
        let query = since.map { "?since=\($0)" } ?? ""
        return try await get("/v1/revocations/\(Self.escape(subject))\(query)")
    }

    /// Brings a signed revocation in.
    public func revoke(_ document: [UInt8]) async throws -> RevokedView {
        let call = Call(
            method: "POST", path: "/v1/revocations",
            headers: [("Content-Type", "application/octet-stream")], body: document)
        return try Self.decode(try await connection.answer(call))
    }

    /// The boxes that called the node and wait to be approved.
    public func enrolments() async throws -> EnrolmentsView { try await get("/v1/enrolments") }

    /// Brings an approved certificate in.
    public func approve(_ certificate: [UInt8]) async throws -> EnrolledView {
        let call = Call(
            method: "POST", path: "/v1/enrolments",
            headers: [("Content-Type", "application/octet-stream")], body: certificate)
        return try Self.decode(try await connection.answer(call))
    }

    /// Allows that a locked server gets its key from the node; only over the admin socket.
    ///
    /// - Parameter host: where it calls from, needed where it calls from several.
    public func unlock(_ subject: String, from host: String? = nil) async throws -> UnlockView {
        let query = host.map { "?from=\(Self.escape($0))" } ?? ""
        let call = Call(method: "POST", path: "/v1/unlock/\(Self.escape(subject))\(query)")
        return try Self.decode(try await connection.answer(call))
    }

    /// The root document that holds at the node.
    public func root() async throws -> RootView { try await get("/v1/root") }

    /// Brings a further version of the root document in.
    public func bring(root document: [UInt8]) async throws -> RootView {
        let call = Call(
            method: "PUT", path: "/v1/root",
            headers: [("Content-Type", "application/octet-stream")], body: document)
        return try Self.decode(try await connection.answer(call))
    }

    /// Brings a change of the mesh's secret in; only over the admin socket.
    public func bring(secret document: [UInt8]) async throws -> SecretView {
        let call = Call(
            method: "PUT", path: "/v1/secret",
            headers: [("Content-Type", "application/octet-stream")], body: document)
        return try Self.decode(try await connection.answer(call))
    }
}
