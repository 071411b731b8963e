// SPDX-License-Identifier: Apache-2.0

internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import NIOHTTP1

/// The root document: which one holds here, and bringing in the next. It proves itself, so anybody
/// may carry it who may write policies.
extension Routes {
    func root() throws -> Response { try Self.json(rootView(isNew: nil)) }

    /// A change of the mesh's secret. It is a secret itself, so it comes by the operator's socket
    /// alone.
    func secret(_ request: Request) throws -> Response {
        let bytes = try body(request, upTo: SecretDocument.byteCount)
        let change: SecretDocument
        do throws(TrustError) {
            change = try SecretDocument(decoding: bytes, root: store.identity.root)
        } catch {
            throw Problem(
                .secretRefused, "\(error)")
        }
        let isNew = try node.bring(change)
        let newest = max(store.identity.secrets.newest.epoch, isNew ? change.secret.epoch : 0)
        return try Self.json(
            SecretView(epoch: newest, isNew: isNew), status: isNew ? .accepted : .ok)
    }

    func adopt(_ request: Request) throws -> Response {
        let bytes = try body(request, upTo: RootDocument.carriedBytesMax)
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
            .rootRefused, reason)
    }

    private func rootView(_ root: RootDocument? = nil, isNew: Bool?) -> RootView {
        let root = root ?? store.identity.root
        return RootView(
            meshId: root.meshID.description, name: root.name, version: root.version,
            createdMs: root.current.created, isWhole: root.isWhole,
            secretEpoch: store.identity.secrets.newest.epoch,
            document: Hex.encode(root.carried), isNew: isNew)
    }
}
