// SPDX-License-Identifier: Apache-2.0

package import MeshCore
package import MeshCrypto

/// The document that a mesh stands on: who may enrol and revoke nodes, signed by offline keys.
///
/// The hash of its first version is the mesh's identity, so the document proves itself to whoever
/// knows the identity. Keys are changed by a later version, which a threshold of the one before and
/// of its own keys has signed. All versions are kept, so a box that was off for a year can walk
/// from the one that it knows to the newest. Layout: the article `TrustDocuments`.
package struct RootDocument: Sendable {
    /// Most keys of one role.
    package static let keysMax = 16
    /// Longest body of one version, in bytes.
    package static let byteCountMax = 4096
    /// Most versions.
    package static let versionsMax = 96
    /// Longest encoding of all versions, in bytes.
    package static let chainBytesMax = 48 << 10

    /// One version of the document.
    package struct Version: Sendable {
        /// 1 for the first.
        package let number: UInt32
        /// What people call the mesh.
        package let name: String
        /// Milliseconds since 1970 by the maker's clock; shown, never judged by.
        package let created: UInt64
        /// How many root keys must sign.
        package let threshold: UInt8
        /// The offline keys, ascending.
        package let rootKeys: [Bytes32]
        /// Keys that sign tickets and policies, ascending.
        package let enrolKeys: [Bytes32]
        /// Keys that sign revocations, ascending.
        package let revokeKeys: [Bytes32]
        /// The version before, and the list of what stands of retired keys; nil for the first.
        package let link: Link?
        /// The signed bytes.
        package let body: [UInt8]
        /// One signature of each signing root key, by its index, ascending.
        package let signatures: [(index: UInt8, signature: Signature)]
        /// The same by the root keys of the version before; none for the first.
        package let earlierSignatures: [(index: UInt8, signature: Signature)]
    }

    /// What ties a version to the one before.
    package struct Link: Hashable, Sendable {
        /// The hash of what was signed of the version before.
        package let previous: Digest
        /// The hash of the list; see `Honours`.
        package let honours: Digest
    }

    /// All versions, the newest last.
    package let versions: [Version]
    /// The newest.
    package let current: Version
    /// What of retired keys stands, where the list is held.
    package let honours: Honours
    /// The mesh that this document founds.
    package let meshID: MeshID

    /// The number of the newest version.
    package var version: UInt32 { current.number }
    /// What people call the mesh.
    package var name: String { current.name }
    /// The keys of the newest version that sign tickets and policies.
    package var enrolKeys: [Bytes32] { current.enrolKeys }
    /// The keys of the newest version that sign revocations.
    package var revokeKeys: [Bytes32] { current.revokeKeys }

    /// Whether the list of what stands of retired keys is here; a box that has just joined gets it
    /// with its first link.
    package var isWhole: Bool { current.link.map { $0.honours == honours.hash } ?? true }

    /// Makes and signs the first version with all the given root keys.
    package init(
        name: String, created: UInt64, threshold: UInt8, roots: [SigningKey], enrol: [Bytes32],
        revoke: [Bytes32] = []
    ) {
        precondition(Name.isValid(name), "the caller checks the name")
        precondition(
            threshold >= 1 && Int(threshold) <= roots.count, "the caller checks the threshold")
        let fields = Fields(
            number: 1, name: name, created: created, threshold: threshold,
            roots: roots.map(\.publicKey.id).sorted(), enrol: enrol.sorted(),
            revoke: revoke.sorted(), link: nil)
        let body = fields.body
        let message = SigningContext.root.message(mesh: .zero, body: body)
        let version = Version(
            fields, body, Self.sign(message, fields.roots, roots), earlier: [])
        versions = [version]
        current = version
        honours = Honours([])
        meshID = MeshID(Blake2b.hash(message).bytes)
    }

    /// The document with a further version, signed by those of `signers` whose keys are root keys
    /// of the newest version or of the further one.
    ///
    /// - Throws: where that does not make it valid, by the error that a reader of it would give.
    package func next(
        created: UInt64, threshold: UInt8, roots: [Bytes32], enrol: [Bytes32],
        revoke: [Bytes32], honours: Honours, signers: [SigningKey]
    ) throws(TrustError) -> RootDocument {
        guard version < .max else { throw .tooManyVersions }
        let fields = Fields(
            number: version + 1, name: name, created: created, threshold: threshold,
            roots: roots.sorted(), enrol: enrol.sorted(), revoke: revoke.sorted(),
            link: Link(previous: Self.hash(current, in: meshID), honours: honours.hash))
        let body = fields.body
        let message = SigningContext.root.message(mesh: meshID, body: body)
        var writer = WireWriter()
        writer.append(encoded)
        Self.encode(
            Version(
                fields, body, Self.sign(message, fields.roots, signers),
                earlier: Self.sign(message, current.rootKeys, signers)), to: &writer)
        return try RootDocument(decoding: writer.bytes, honours: honours)
    }

    /// Decodes and verifies a document: the form, the keys and the signatures of each version.
    ///
    /// - Parameters:
    ///   - honours: the list, where it is at hand. One that is not the newest version's own is not
    ///     taken.
    ///   - mesh: whose document it must be; what a stranger sends is judged no further than that.
    package init(
        decoding bytes: [UInt8], honours: Honours = Honours([]), of mesh: MeshID? = nil
    ) throws(TrustError) {
        guard bytes.count <= Self.chainBytesMax else {
            throw .malformed(
                "root document",
                .tooLong("root document", bytes.count, limit: Self.chainBytesMax))
        }
        var reader = WireReader(bytes)
        let first = try Self.version(&reader, isFirst: true)
        let message = SigningContext.root.message(mesh: .zero, body: first.body)
        let expected = mesh
        let mesh = MeshID(Blake2b.hash(message).bytes)
        guard expected == nil || expected == mesh else { throw .notASuccessor }
        try Self.verify(first.signatures, message, first)
        var versions = [first]
        var last = first
        while reader.left > 0 {
            guard versions.count < Self.versionsMax else { throw .tooManyVersions }
            let next = try Self.version(&reader, isFirst: false)
            let (number, isLast) = last.number.addingReportingOverflow(1)
            guard !isLast, next.number == number, next.name == first.name,
                next.link?.previous == Self.hash(last, in: mesh)
            else { throw .notASuccessor }
            let message = SigningContext.root.message(mesh: mesh, body: next.body)
            try Self.verify(next.earlierSignatures, message, last)
            try Self.verify(next.signatures, message, next)
            versions.append(next)
            last = next
        }
        self.versions = versions
        current = last
        meshID = mesh
        let isOwn = last.link.map { $0.honours == honours.hash } ?? false
        self.honours = isOwn ? honours : Honours([])
    }

    /// All versions with their signatures, as they are stored and carried.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        for version in versions { Self.encode(version, to: &writer) }
        return writer.bytes
    }

    /// The document and its list as links, files and the HTTP API carry them.
    package var carried: [UInt8] {
        var writer = WireWriter()
        writer.long(encoded)
        writer.long(honours.encoded)
        return writer.bytes
    }

    /// Longest carried document, in bytes.
    package static let carriedBytesMax = 8 + chainBytesMax + Honours.countMax * 32

    /// Decodes and verifies a document with its list.
    package init(carried bytes: [UInt8], of mesh: MeshID? = nil) throws(TrustError) {
        let (document, list): ([UInt8], [UInt8])
        do throws(WireError) {
            var reader = WireReader(bytes)
            document = try reader.long("root document", limit: Self.chainBytesMax)
            list = try reader.long("list of what stands", limit: Honours.countMax * 32)
            try reader.finish()
        } catch {
            throw .malformed("root document", error)
        }
        try self.init(decoding: document, honours: try Honours(decoding: list), of: mesh)
        guard isWhole else { throw .wrongHonours }
    }

    /// What links tell the newest version by: the beginning of its hash.
    package var tag: [UInt8] { Array(Self.hash(current, in: meshID).array.prefix(8)) }

    /// The document with its list, where that is at hand: one that is not its own changes nothing.
    package func with(_ honours: Honours) throws(TrustError) -> RootDocument {
        try RootDocument(decoding: encoded, honours: honours, of: meshID)
    }

    /// What a file is called that holds the list: by its hash, so that the one of this version and
    /// that of the next lie side by side until the document itself has changed.
    package var honoursFile: String? {
        current.link.map { "honours-" + Hex.encode($0.honours.array.prefix(8)) }
    }

    /// Whether a document goes on where this one ends.
    package func isSucceeded(by other: RootDocument) -> Bool {
        other.meshID == meshID && other.isWhole
            && (other.version > version || (other.version == version && !isWhole))
            && zip(versions, other.versions).allSatisfy { $0.body == $1.body }
    }
}

// MARK: What keys of several versions have signed

extension RootDocument {
    /// What keys of the document do, beside signing its next version.
    package enum Role: Sendable {
        /// Signs tickets and policies.
        case enrol
        /// Signs revocations.
        case revoke
    }

    /// What a signature of a known key is worth.
    package enum Standing: Hashable, Sendable {
        /// It counts: by a key of the newest version, or listed as one that stands.
        case good
        /// By a key that was taken out, and not listed.
        case retired
    }

    /// What a key's signature of a body is worth; nil for a key that no version names.
    package func standing(
        of key: Bytes32, as role: Role, of body: [UInt8], for context: SigningContext
    ) -> Standing? {
        if current.keys(of: role).contains(key) { return .good }
        guard versions.contains(where: { $0.keys(of: role).contains(key) }) else { return nil }
        return honours.contains(Honours.name(of: body, for: context)) ? .good : .retired
    }
}

extension RootDocument.Version {
    func keys(of role: RootDocument.Role) -> [Bytes32] {
        switch role {
        case .enrol: enrolKeys
        case .revoke: revokeKeys
        }
    }
}

extension RootDocument: Hashable {
    /// Two documents are one if their bytes and what they hold of the list are.
    package static func == (lhs: RootDocument, rhs: RootDocument) -> Bool {
        lhs.encoded == rhs.encoded && lhs.isWhole == rhs.isWhole
    }

    /// Hashes the mesh's identity.
    package func hash(into hasher: inout Hasher) { hasher.combine(meshID) }
}
