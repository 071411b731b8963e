// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshCore
import MeshCrypto
import MeshTrust

/// Which of a folder's files hold the keys that the root document names.
///
/// A key is looked for by what it is, not by its file's name alone: where a rotation was cut off
/// between the document and the files, the old key and the new one lie side by side.
extension KeyFolder {
    /// The root document, with the list of what stands of retired keys.
    func root() throws -> RootDocument {
        do {
            let root = try RootDocument(decoding: try read("root"))
            guard let name = root.honoursFile else { return root }
            let whole = try root.with(try Honours(decoding: try read(name)))
            guard whole.isWhole else { throw Failure("\(path)/\(name) was changed") }
            return whole
        } catch let error as TrustError {
            throw Failure("\(path)/root: \(error)")
        }
    }

    /// Writes a root document: first the list, without which it says less.
    func write(_ root: RootDocument) throws {
        if let name = root.honoursFile { try write(root.honours.encoded, name) }
        try write(root.encoded, "root")
    }

    /// The mesh's secret with its changes.
    func secrets(of root: RootDocument) throws -> MeshSecrets {
        var reader = WireReader(try readSecret("mesh.secret"))
        var changes: [SecretDocument] = []
        do {
            let first = MeshSecret(epoch: try reader.u32(), value: try reader.bytes32())
            try reader.finish()
            if FileManager.default.fileExists(atPath: "\(path)/secrets") {
                reader = WireReader(try readSecret("secrets"))
                while reader.left > 0 {
                    let bytes = try reader.medium("mesh secret", limit: SecretDocument.byteCount)
                    changes.append(try SecretDocument(decoding: bytes, root: root))
                }
            }
            return MeshSecrets(first, changes: changes)
        } catch let error as TrustError {
            throw Failure("\(path)/secrets: \(error)")
        } catch is WireError {
            throw Failure("\(path)/mesh.secret or \(path)/secrets is not the mesh's secret")
        }
    }

    /// Makes the next secret.
    func changeSecret(of root: RootDocument) throws -> MeshSecrets {
        let known = try secrets(of: root)
        guard known.newest.epoch < .max else { throw Failure("the secret has no further epoch") }
        let next = MeshSecret(epoch: known.newest.epoch + 1, value: try Self.randomBytes32())
        let change = SecretDocument(next, key: try enrolKey(of: root), mesh: root.meshID)
        guard let secrets = known.taking(change, root: root) else {
            throw Failure("the secret is there already")
        }
        var writer = WireWriter()
        for change in secrets.changes { writer.medium(change.encoded) }
        try writeSecret(writer.bytes, "secrets")
        return secrets
    }

    /// The key that signs tickets and policies.
    func enrolKey(of root: RootDocument) throws -> SigningKey {
        try key("enrol", among: root.enrolKeys).key
    }

    /// The key that signs revocations, and the mesh.
    func revokeKey() throws -> (key: SigningKey, mesh: MeshID) {
        let root = try root()
        return (try key("revoke", among: root.revokeKeys).key, root.meshID)
    }

    /// As many root keys as must sign, or more.
    ///
    /// - Parameter purpose: what they are needed for, where they are not there.
    func rootKeys(of root: RootDocument, for purpose: String) throws -> [SigningKey] {
        let keys = try signingKeys("root-").filter {
            root.current.rootKeys.contains($0.publicKey.id)
        }
        guard keys.count >= Int(root.current.threshold) else {
            throw Failure(
                "\(purpose) needs \(root.current.threshold) root keys in \(path); there are \(keys.count) (bring root-*.key, and take them away again)"
            )
        }
        return keys
    }

    /// The first key of a role that the root document names, and its file.
    func key(
        _ role: String, among named: [Bytes32]
    ) throws -> (key: SigningKey, file: String) {
        let files = names(of: role)
        for file in files {
            guard let seed = Bytes32(try readSecret(file)) else {
                throw Failure("\(path)/\(file) is not a key")
            }
            let key = SigningKey(seed: seed, isGuarded: true)
            if named.contains(key.publicKey.id) { return (key, file) }
        }
        throw Failure(
            files.isEmpty
                ? "\(path)/\(role).key is missing or cannot be read"
                : "\(path)/\(files[0]) is not a key that \(path)/root names")
    }

    /// The files of a role, that of the newest version first.
    func names(of role: String) -> [String] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        func version(_ name: String) -> Int? {
            if name == "\(role).key" { return 1 }
            guard name.hasPrefix("\(role)-"), name.hasSuffix(".key") else { return nil }
            return Int(name.dropFirst(role.count + 1).dropLast(4))
        }
        return all.filter { version($0) != nil }
            .sorted { (version($0) ?? 0) > (version($1) ?? 0) }
    }
}
