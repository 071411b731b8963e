// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import GRDBSQLite

/// A file whose room a start on a full disk can have.
///
/// What is there could be read all the same, but SQLite needs some room for its log and the index
/// of that before it reads anything.
struct Ballast {
    /// More than the log and its index need for a start.
    static let byteCount = 1 << 20

    let path: String

    /// Takes the room while there is some.
    func keep() {
        let size = (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int
        guard size != Self.byteCount else { return }
        let bytes = Data(count: Self.byteCount)
        if (try? bytes.write(to: URL(fileURLWithPath: path))) == nil { drop() }
    }

    /// Gives the room back.
    func drop() { try? FileManager.default.removeItem(atPath: path) }

    /// Opens what needs room, with that of the ballast if there is no other.
    func opening<T>(_ open: () throws -> T) throws -> T {
        do { return try open() } catch {
            let isFull =
                switch StoreError(error) {
                case .diskFull: true
                // The index of the log could not be made.
                case .database(let code, _): code == SQLITE_IOERR | 19 << 8
                default: false
                }
            guard isFull else { throw error }
            drop()
            return try open()
        }
    }
}
