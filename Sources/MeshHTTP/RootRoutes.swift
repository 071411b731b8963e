// SPDX-License-Identifier: Apache-2.0

internal import Hummingbird
internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import MeshTrust

/// The root document: which one holds here, and bringing in the next. It proves itself, so anybody
/// may carry it who may write policies.
extension Routes {
    func root(_ request: Request, _ access: Access) async throws -> Response {
        switch request.method {
        case .get:
            try access.demandMesh()
            return try Self.json(rootView(isNew: nil))
        case .put:
            guard access.mayWrite(NamespacePolicy.meshNamespace) else {
                throw Problem.forbidden(
                    "the token does not allow \(NamespacePolicy.meshNamespace):w")
            }
            return try adopt(try await body(request, upTo: RootDocument.carriedBytesMax))
        default: throw Problem.notFound("there is no \(request.method) \(request.uri.path)")
        }
    }

    private func adopt(_ bytes: [UInt8]) throws -> Response {
        let own = store.identity.root
        let root: RootDocument
        do throws(TrustError) {
            root = try RootDocument(carried: bytes, of: own.meshID)
        } catch {
            throw Self.refused("\(error)")
        }
        if root == own { return try Self.json(rootView(isNew: false)) }
        guard own.isSucceeded(by: root) else {
            throw Self.refused(
                "version \(root.version) does not go on where version \(own.version) ends, which holds here"
            )
        }
        let isNew = try node.adopt(root)
        return try Self.json(rootView(root, isNew: isNew), status: .accepted)
    }

    private static func refused(_ reason: String) -> Problem {
        Problem(
            code: "root_refused", title: "Root document refused", status: 422, detail: reason)
    }

    private func rootView(_ root: RootDocument? = nil, isNew: Bool?) -> RootView {
        let root = root ?? store.identity.root
        return RootView(
            meshId: root.meshID.description, name: root.name, version: root.version,
            createdMs: root.current.created, isWhole: root.isWhole,
            document: Hex.encode(root.carried), isNew: isNew)
    }
}
