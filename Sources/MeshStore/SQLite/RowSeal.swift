// SPDX-License-Identifier: Apache-2.0

internal import GRDB
internal import MeshCore
internal import MeshCrypto

/// How the bytes of records lie in their rows: as they are, or sealed under a key that is not on
/// the disk.
///
/// A row's place, key and hash are not sealed, since SQLite finds its way by them.
struct RowSeal: Sendable {
    private let seal: StorageSeal?

    /// - Parameter seal: nil for rows as they are.
    init(_ seal: StorageSeal?) { self.seal = seal }

    /// Refuses a database whose records lie under another key, or under none: all its rows would
    /// pass for rotten.
    func match(_ pool: DatabasePool, _ path: String) throws {
        let known = try pool.read { try Meta.get($0, "seal") }
        if known == seal?.name.array { return }
        // Where that note has rotted rows tell.
        let some = try pool.read {
            try $0.rows("SELECT bytes FROM record LIMIT 64") { $0.bytes(0) }
        }
        guard known == nil, let seal, some.isEmpty || some.contains(where: { seal.open($0) != nil })
        else { throw StoreError.unusable("the records in \(path) are sealed under another key") }
        try pool.write { try Meta.set($0, "seal", seal.name.array) }
    }

    /// What is written for bytes of a record.
    func stored(_ bytes: [UInt8]) -> [UInt8] { seal?.seal(bytes) ?? bytes }

    /// The bytes of a record; none where a box has rotted, so that the row is one that has rotted.
    func opened(_ bytes: [UInt8]) -> [UInt8] {
        guard let seal else { return bytes }
        return seal.open(bytes) ?? []
    }

    /// How many bytes lie in the row of a record of so many.
    func storedByteCount(_ count: Int) -> Int { seal == nil ? count : count + StorageSeal.overhead }
}
