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
    case token(String, [AppGrant])

    /// Whose requests these are: names that one gives mean nothing to another.
    var owner: String {
        switch self {
        case .admin: "admin"
        case .local: "local"
        case .token(let name, _): "token/\(name)"
        }
    }

    var isAdmin: Bool { if case .admin = self { true } else { false } }

    func mayRead(_ namespace: String) -> Bool {
        guard case .token(_, let grants) = self else { return true }
        return grants.contains { $0.covers(namespace) }
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
        guard case .token(_, let grants) = self else { return true }
        return grants.contains { $0.covers(namespace) && $0.mayWrite }
    }
}

extension Problem {
    static let unauthorised = Problem(
        code: "unauthorised", title: "Not authorised", status: 401,
        detail: "a valid token is needed (Authorization: Bearer …)")
    static let originRefused = Problem(
        code: "origin_refused", title: "Origin refused", status: 403,
        detail: "the request came from a page of another origin")

    static func forbidden(_ what: String) -> Problem {
        Problem(code: "forbidden", title: "Not allowed", status: 403, detail: what)
    }

    static func bad(_ code: String, _ detail: String) -> Problem {
        Problem(code: code, title: "Bad request", status: 400, detail: detail)
    }

    static func notFound(_ what: String) -> Problem {
        Problem(code: "not_found", title: "Not found", status: 404, detail: what)
    }

    static let overLimit = Problem(
        code: "busy", title: "Too busy", status: 503,
        detail: "this host, or all together, have as many connections as they may")

    static func tooLarge(_ what: String, _ limit: Int) -> Problem {
        Problem(
            code: "too_large", title: "Too large", status: 413,
            detail: "\(what); at most \(limit)")
    }

    static func tooSlow(_ seconds: Int64) -> Problem {
        Problem(
            code: "too_slow", title: "Too slow", status: 408,
            detail: "the body took more than \(seconds) s")
    }

    static let tooManyBodies = Problem(
        code: "busy", title: "Too busy", status: 503,
        detail: "too many bodies are on their way; try again")

    /// The one table from the store's errors to answers.
    init(_ error: StoreError) {
        let (code, status, title): (String, Int, String) =
            switch error {
            case .diskFull: ("disk_full", 507, "Disk full")
            case .unknownNamespace: ("unknown_namespace", 404, "Unknown namespace")
            case .notGranted: ("not_granted", 403, "Not granted")
            case .revoked: ("revoked", 403, "Revoked")
            case .preconditionFailed: ("precondition_failed", 412, "Precondition failed")
            case .exists: ("exists", 409, "Already written")
            case .idempotencyMismatch: ("idempotency_mismatch", 422, "Idempotency key reused")
            case .limit: ("limit", 413, "Over a limit")
            case .busy: ("busy", 503, "Too busy")
            case .leaving: ("leaving", 503, "This server leaves")
            case .closed, .database, .newerSchema, .olderSchema, .otherNode, .leaseLost, .inUse,
                .unusable:
                ("storage", 503, "Storage failed")
            }
        self.init(code: code, title: title, status: status, detail: "\(error)")
    }
}
