// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
internal import MeshCore
package import MeshCrypto
package import MeshTrust

/// The files of one node: its keys, what it trusts, its database, and the lock on them.
package struct DataDirectory: Sendable {
    /// Where the files are.
    package let path: String

    /// Where a service manager keeps secrets for the process, so that they need not lie on the disk
    /// in the clear; nil if it keeps none.
    private let credentials: String?

    /// Names a directory; nothing is read.
    package init(_ path: String, credentials: String? = nil) {
        self.path = path
        self.credentials = credentials
    }

    private func file(_ name: String) -> String { path + "/" + name }

    /// The database's file.
    package var database: String { file("mesh.sqlite") }
    /// The admin socket.
    package var adminSocket: String { file("admin.sock") }
    private var lockFile: String { file("lock") }

    /// A node's identity as its files hold it.
    package struct Identity: Sendable {
        package let root: RootDocument
        package let certificate: Certificate
        package let nodeKey: SigningKey
        package let linkKey: AgreementKey
        package let secrets: MeshSecrets
        package let seeds: [String]

        /// Joins the pieces; the caller has checked that they belong together.
        package init(
            root: RootDocument, certificate: Certificate, nodeKey: SigningKey,
            linkKey: AgreementKey, secrets: MeshSecrets, seeds: [String]
        ) {
            self.root = root
            self.certificate = certificate
            self.nodeKey = nodeKey
            self.linkKey = linkKey
            self.secrets = secrets
            self.seeds = seeds
        }
    }

    /// Whether a node has joined here.
    package var isJoined: Bool { FileManager.default.fileExists(atPath: file("certificate")) }

    /// Whether the node that joined here has left its mesh for good.
    package var hasLeft: Bool { FileManager.default.fileExists(atPath: file("left")) }

    /// Marks that the node has left: no process serves from here again.
    package func markLeft() throws {
        try Self.write(Array("left\n".utf8), to: file("left"), mode: 0o600)
    }

    /// Makes a node of this directory with a ticket; needs no network.
    ///
    /// - Throws: `StoreError.unusable` if a node or its remains are here already.
    package func join(_ ticket: TicketFile, isSealed: Bool = false) throws -> Certificate {
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
        for name in ["certificate", "mesh.sqlite"]
        where FileManager.default.fileExists(atPath: file(name)) {
            throw StoreError.unusable("\(file(name)) is here already: a node has joined in \(path)")
        }
        // Keys without a certificate are of a join that was cut off: it goes on with them.
        let nodeSeed = try secretOrNew("node.key")
        let linkSeed = try secretOrNew("link.key")
        let nodeKey = SigningKey(seed: nodeSeed)
        let linkKey = AgreementKey(secret: linkSeed)
        let certificate = ticket.certificate(node: nodeKey, linkKey: linkKey.publicKey)
        try Self.write(nodeSeed.array, to: file("node.key"), mode: 0o600)
        try Self.write(linkSeed.array, to: file("link.key"), mode: 0o600)
        var secret = WireWriter()
        secret.u32(ticket.secrets.first.epoch)
        secret.append(ticket.secrets.first.value)
        try Self.write(secret.bytes, to: file("mesh.secret"), mode: 0o600)
        try write(changes: ticket.secrets.changes.map(\.encoded))
        try Self.write(ticket.root.encoded, to: file("root"), mode: 0o600)
        let seeds = ticket.seeds.joined(separator: "\n")
        try Self.write(Array(seeds.utf8), to: file("seeds"), mode: 0o600)
        if isSealed { try write(sealing: .new) }
        try Self.write(certificate.encoded, to: file("certificate"), mode: 0o600)
        return certificate
    }

    /// Reads and checks the node's identity.
    package func identity() throws -> Identity {
        guard isJoined else {
            throw StoreError.unusable(
                "no node has joined in \(path) (run: meshctl join TICKET --data \(path))")
        }
        let root = try root()
        let certificate = try Certificate(
            decoding: try Self.read(file("certificate")), root: root,
            mayLack: [.goodKey, .approval])
        let nodeKey = SigningKey(seed: try secret("node.key"), isGuarded: true)
        let linkKey = AgreementKey(secret: try secret("link.key"), isGuarded: true)
        guard nodeKey.publicKey.node == certificate.node, linkKey.publicKey == certificate.linkKey
        else { throw StoreError.unusable("the keys in \(path) do not belong to its certificate") }
        let seeds = String(decoding: try Self.read(file("seeds")), as: UTF8.self)
            .split(separator: "\n").map(String.init)
        return Identity(
            root: root, certificate: certificate, nodeKey: nodeKey, linkKey: linkKey,
            secrets: try secrets(root), seeds: seeds)
    }

    /// The root document, with the list of what stands of retired keys where one has come.
    private func root() throws -> RootDocument {
        let root = try RootDocument(decoding: try Self.read(file("root")))
        guard let name = root.honoursFile, FileManager.default.fileExists(atPath: file(name)),
            let honours = try? Honours(decoding: try Self.read(file(name)))
        else { return root }
        return try root.with(honours)
    }

    /// Keeps a root document that goes on where the present one ends.
    ///
    /// - Returns: false where it does not; then nothing is changed.
    package func adopt(_ root: RootDocument) throws -> Bool {
        let old = try self.root()
        guard old.isSucceeded(by: root) else { return false }
        if let name = root.honoursFile {
            try Self.write(root.honours.encoded, to: file(name), mode: 0o600)
        }
        try Self.write(root.encoded, to: file("root"), mode: 0o600)
        if let name = old.honoursFile, name != root.honoursFile { unlink(file(name)) }
        return true
    }

    /// The mesh's secret with its changes.
    private func secrets(_ root: RootDocument) throws -> MeshSecrets {
        var reader = WireReader(try readSecret("mesh.secret"))
        let first = MeshSecret(epoch: try reader.u32(), value: try reader.bytes32())
        try reader.finish()
        return MeshSecrets(
            first,
            changes: try changes().compactMap { try? SecretDocument(decoding: $0, root: root) })
    }

    private func changes() throws -> [[UInt8]] {
        guard FileManager.default.fileExists(atPath: file("secrets")) else { return [] }
        var reader = WireReader(try Self.readSecret(file("secrets")))
        var list: [[UInt8]] = []
        while reader.left > 0 {
            list.append(try reader.medium("mesh secret", limit: SecretDocument.byteCount))
        }
        return list
    }

    private func write(changes: [[UInt8]]) throws {
        if changes.isEmpty { return }
        var writer = WireWriter()
        for change in changes { writer.medium(change) }
        try Self.write(writer.bytes, to: file("secrets"), mode: 0o600)
    }

    /// Keeps a change of the mesh's secret.
    ///
    /// - Returns: false where it is known, or too old to be of use; then nothing is changed.
    package func adopt(_ change: SecretDocument, root: RootDocument) throws -> Bool {
        guard let next = try secrets(root).taking(change, root: root) else { return false }
        try write(changes: next.changes.map(\.encoded))
        return true
    }

    /// Keeps this node's certificate with an operator's word for it.
    ///
    /// - Returns: false where it is not the one that waits; then nothing is changed.
    package func adopt(
        _ approved: Certificate, instead own: Certificate
    ) throws -> Bool {
        guard !own.isApproved, approved.isApproved, approved.fingerprint == own.fingerprint else {
            return false
        }
        try Self.write(approved.encoded, to: file("certificate"), mode: 0o600)
        return true
    }

    private func secretOrNew(_ name: String) throws -> Bytes32 {
        if FileManager.default.fileExists(atPath: file(name)) { return try secret(name) }
        guard let value = Bytes32(Sodium.random(32)) else {
            throw StoreError.unusable("no random bytes")
        }
        return value
    }

    private func secret(_ name: String) throws -> Bytes32 {
        var bytes = try readSecret(name)
        defer { Sodium.wipe(&bytes) }
        guard let value = Bytes32(bytes) else {
            throw StoreError.unusable("\(name) in \(path) is not a key")
        }
        return value
    }

    /// Reads a secret from where the service manager keeps it, or else from the directory.
    private func readSecret(_ name: String) throws -> [UInt8] {
        if let credential = credentials.map({ "\($0)/\(name)" }),
            FileManager.default.fileExists(atPath: credential)
        {
            // It is root's, and an entry for this user in its access list shows as the group's.
            return try Self.readSecret(credential, forbidden: 0o007)
        }
        return try Self.readSecret(file(name))
    }

    /// Reads a file that only its owner may read; any other mode is refused.
    package static func readSecret(_ path: String) throws -> [UInt8] {
        try readSecret(path, forbidden: 0o077)
    }

    private static func readSecret(_ path: String, forbidden: mode_t) throws -> [UInt8] {
        // Looked at and read by one descriptor, so that nobody puts another file in between.
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw StoreError.unusable("\(path) is missing or cannot be read")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw StoreError.unusable("\(path) is not a file")
        }
        guard status.st_uid == geteuid() || status.st_uid == 0 else {
            throw StoreError.unusable("\(path) is another user's (owner \(status.st_uid))")
        }
        let mode = status.st_mode & 0o777
        guard mode & forbidden == 0 else {
            throw StoreError.unusable(
                "\(path) has mode \(String(mode, radix: 8)): others may read the key (run: chmod 600 \(path))"
            )
        }
        guard status.st_size <= secretBytesMax else {
            throw StoreError.unusable("\(path) has \(status.st_size) bytes; it is no key")
        }
        let size = Int(status.st_size)
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { space, count in
            count = max(0, Glibc.read(descriptor, space.baseAddress, size))
        }
        guard bytes.count == size else { throw StoreError.unusable("\(path) cannot be read") }
        return bytes
    }

    /// Longest file of a key or a ticket, in bytes.
    private static let secretBytesMax = 131_072

    private static func read(_ path: String) throws -> [UInt8] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw StoreError.unusable("\(path) is missing or cannot be read")
        }
        return Array(data)
    }

    /// The folder in which a file lies: "." for a bare name. Foundation's own traps on names of one
    /// letter.
    package static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Writes a file whole or not at all: to another name, synced, then renamed.
    package static func write(_ bytes: [UInt8], to path: String, mode: UInt32) throws {
        let temporary = path + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode)
        guard descriptor >= 0 else {
            throw StoreError.unusable(
                "\(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        fchmod(descriptor, mode)
        let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: false)
        try handle.write(contentsOf: Data(bytes))
        try handle.synchronize()
        guard rename(temporary, path) == 0 else {
            throw StoreError.unusable(
                "\(path) cannot be renamed: \(String(cString: strerror(errno)))")
        }
        // The name itself is durable once its folder is.
        let parent = DataDirectory.folder(of: path)
        let folder = open(parent, O_RDONLY | O_DIRECTORY)
        guard folder >= 0 else { return }
        defer { close(folder) }
        fsync(folder)
    }

    /// Holds the directory for this process until the lock is released.
    package final class Lock: Sendable {
        private let descriptor: CInt

        fileprivate init(_ descriptor: CInt) { self.descriptor = descriptor }

        deinit { close(descriptor) }
    }

    /// Locks the directory, or names the process that has it.
    package func lock() throws -> Lock {
        let descriptor = open(lockFile, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw StoreError.unusable(
                "\(lockFile) cannot be opened: \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let holder = FileManager.default.contents(atPath: lockFile) ?? Data()
            close(descriptor)
            throw StoreError.inUse(pid: String(decoding: holder, as: UTF8.self))
        }
        ftruncate(descriptor, 0)
        let pid = Array("\(getpid())".utf8)
        _ = pid.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
        return Lock(descriptor)
    }

    /// Refuses a directory that others may read or write, and takes from them what they may do with
    /// its files.
    ///
    /// Others may pass through it: a web server does, to folders of content.
    package func keepToOwner() throws {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw StoreError.unusable("\(path): \(String(cString: strerror(errno)))")
        }
        guard status.st_uid == geteuid() || status.st_uid == 0 else {
            throw StoreError.unusable("\(path) is another user's (owner \(status.st_uid))")
        }
        guard status.st_mode & 0o066 == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw StoreError.unusable(
                "\(path) has mode \(mode): others may read or change it (run: chmod go-rw \(path))")
        }
        let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        for name in files {
            let descriptor = open(file(name), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                continue
            }
            guard status.st_mode & 0o077 != 0 else { continue }
            fchmod(descriptor, status.st_mode & 0o700)
        }
    }

    /// Refuses file systems on which an acknowledged write may vanish or locks do not hold.
    package func checkFileSystem() throws {
        let mounts = FileManager.default.contents(atPath: "/proc/self/mounts") ?? Data()
        let whole = URL(fileURLWithPath: path).resolvingSymlinksInPath().path + "/"
        var best: (point: String, kind: String) = ("", "")
        for line in String(decoding: mounts, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: " ").map(String.init)
            guard fields.count > 2 else { continue }
            let point = fields[1].hasSuffix("/") ? fields[1] : fields[1] + "/"
            if whole.hasPrefix(point), point.count >= best.point.count {
                best = (point, fields[2])
            }
        }
        if ["tmpfs", "ramfs", "nfs", "nfs4", "cifs"].contains(best.kind) {
            throw StoreError.unusable(
                """
                \(path) is on \(best.kind), where acknowledged writes can be lost \
                (force with --store-volatile)
                """)
        }
    }
}
