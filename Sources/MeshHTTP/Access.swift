// SPDX-License-Identifier: Apache-2.0

internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import MeshStore
internal import NIOCore

/// What a request may do.
enum Access: Sendable {
    /// The admin socket: everything.
    case admin
    /// A program on this host, without a token: all records, nothing of the node's own.
    case local
    /// An app with a token of that name.
    case token(AppToken)

    /// Whose requests these are: names that one gives mean nothing to another.
    var owner: String {
        switch self {
        case .admin: "admin"
        case .local: "local"
        case .token(let token): "token/\(token.name)"
        }
    }

    var isAdmin: Bool { if case .admin = self { true } else { false } }

    func mayRead(_ namespace: String) -> Bool {
        guard case .token(let token) = self else { return true }
        return token.grants.contains { $0.covers(namespace) }
    }

    /// Refuses what a route is not for. Who is in the mesh, where they are and what ails them is
    /// the mesh's own: a token reads it where it was given `_mesh`.
    func demand(_ need: Route.Need) throws {
        switch need {
        case .access: break
        case .reads(let namespace):
            guard mayRead(namespace) else {
                throw Problem.forbidden("the token does not allow \(namespace):r")
            }
        case .writes(let namespace):
            guard mayWrite(namespace) else {
                throw Problem.forbidden("the token does not allow \(namespace):w")
            }
        case .operators:
            guard isAdmin else { throw Problem.forbidden("only on the admin socket") }
        }
    }

    func mayWrite(_ namespace: String) -> Bool {
        guard case .token(let token) = self else { return true }
        return token.grants.contains { $0.covers(namespace) && $0.mayWrite }
    }
}

extension Problem {
    static let unauthorised = Problem(
        .unauthorised, "a valid token is needed (Authorization: Bearer …)")
    static let originRefused = Problem(
        .originRefused, "the request came from a page of another origin")

    static func forbidden(_ what: String) -> Problem {
        Problem(.forbidden, what)
    }

    static func notFound(_ what: String) -> Problem {
        Problem(.notFound, what)
    }

    static let overLimit = Problem(
        .busy, "this host, or all together, have as many connections as they may")

    static func tooLarge(_ what: String, _ limit: Int) -> Problem {
        Problem(
            .tooLarge, "\(what); at most \(limit)")
    }

    static func tooSlow(_ seconds: Int64) -> Problem {
        Problem(
            .tooSlow, "the body took more than \(seconds) s")
    }

    static let tooManyBodies = Problem(
        .busy, "too many bodies are on their way; try again")

    /// The one table from the store's errors to answers.
    init(_ error: StoreError) {
        let code: ErrorCode =
            switch error {
            case .diskFull: .diskFull
            case .unknownNamespace: .unknownNamespace
            case .notGranted: .notGranted
            case .revoked: .revoked
            case .preconditionFailed: .preconditionFailed
            case .exists: .exists
            case .idempotencyMismatch: .idempotencyMismatch
            case .limit: .limit
            case .busy: .busy
            case .leaving: .leaving
            case .closed, .database, .newerSchema, .olderSchema, .otherNode, .leaseLost, .inUse,
                .unusable:
                .storage
            }
        self.init(code, "\(error)")
    }
}
