// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshRules

/// Why the store could not do what was asked. Nothing was changed unless the case says so.
package enum StoreError: Error, Hashable {
    /// SQLite failed; no further write may be acknowledged on this handle.
    case database(code: Int32, message: String)
    /// The disk is full; the transaction was rolled back, reads go on.
    case diskFull
    /// The files were written by a newer program.
    case newerSchema(found: Int, known: Int)
    /// The files were written by a program before the first release, whose formats are gone.
    case olderSchema(found: Int, known: Int)
    /// The files belong to another node.
    case otherNode
    /// Another writer has taken the database over.
    case leaseLost
    /// Another process uses the data directory.
    case inUse(pid: String)
    /// The data directory cannot be used, and why.
    case unusable(String)
    /// No policy of that namespace is known here.
    case unknownNamespace(String)
    /// The policy does not let this node write there.
    case notGranted(Scope)
    /// This node was revoked: nobody would take what it writes.
    case revoked
    /// The state of the key is not the one that the writer asked for.
    case preconditionFailed(current: String?)
    /// A write-once key is taken.
    case exists(RecordKey)
    /// The idempotency key was used for another request.
    case idempotencyMismatch
    /// A write of the wrong size, and which limit it breaks.
    case limit(String)
    /// Too many jobs wait for the writer.
    case busy
    /// This server leaves the mesh: what it took now might be handed to nobody.
    case leaving
    /// The store was closed.
    case closed
}

extension StoreError {
    /// A write that the rules refuse.
    init(_ refusal: WriteRefusal) {
        switch refusal {
        case .unknownNamespace(let name): self = .unknownNamespace(name)
        case .notGranted(let scope): self = .notGranted(scope)
        case .revoked: self = .revoked
        case .preconditionFailed(let current): self = .preconditionFailed(current: current)
        case .exists(let key): self = .exists(key)
        case .idempotencyMismatch: self = .idempotencyMismatch
        case .limit(let what): self = .limit(what)
        }
    }
}

extension StoreError: CustomStringConvertible {
    /// What happened, for a person.
    package var description: String {
        switch self {
        case .database(let code, let message): "SQLite error \(code): \(message)"
        case .diskFull: "the disk is full"
        case .newerSchema(let found, let known):
            "the data was written by a newer version (schema \(found)); this one knows schema \(known)"
        case .olderSchema(let found, let known):
            "the data was written before the first release (schema \(found)); this program knows schema \(known): join anew"
        case .leaseLost: "another process has taken the database over"
        case .otherNode: "the database belongs to another node than the key in this directory"
        case .inUse(let pid): "the data directory is in use by process \(pid)"
        case .unusable(let why): why
        case .unknownNamespace(let name): "no namespace '\(name)' is known here"
        case .notGranted(let scope): "this node may not write to \(scope)"
        case .revoked: "this server was revoked: no other takes what is written here"
        case .preconditionFailed(let current):
            "the key's version is \(current ?? "none"), not the one asked for"
        case .exists(let key): "'\(key)' is already written, and the namespace is write-once"
        case .idempotencyMismatch: "the idempotency key was used for another request"
        case .limit(let what): what
        case .busy: "too many writes are waiting; try again"
        case .leaving: "this server leaves the mesh and takes no writes any more; use another"
        case .closed: "the store is closed"
        }
    }
}
