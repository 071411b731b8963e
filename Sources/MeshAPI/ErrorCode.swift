// SPDX-License-Identifier: Apache-2.0

/// What can be wrong with a request: the one table of it.
///
/// `code` of a `Problem` is for programs and never changes; its `detail` is for people, and may.
public enum ErrorCode: String, CaseIterable, Sendable {
    case badRequest = "bad_request"
    case badHost = "bad_host"
    case badPath = "bad_path"
    case badQuery = "bad_query"
    case unknownParameter = "unknown_parameter"
    case repeatedParameter = "repeated_parameter"
    case badLength = "bad_length"
    case badJSON = "bad_json"
    case badKey = "bad_key"
    case badBody = "bad_body"
    case badOp = "bad_op"
    case badContentType = "bad_content_type"
    case badCondition = "bad_condition"
    case badIfMatch = "bad_if_match"
    case badIfNoneMatch = "bad_if_none_match"
    case badIdempotencyKey = "bad_idempotency_key"
    case badAck = "bad_ack"
    case badWait = "bad_wait"
    case badPlace = "bad_place"
    case badAfter = "bad_after"
    case badLimit = "bad_limit"
    case badSiblings = "bad_siblings"
    case badFollow = "bad_follow"
    case badCursor = "bad_cursor"
    case badSince = "bad_since"
    case badSite = "bad_site"
    case badScope = "bad_scope"
    case badNamespace = "bad_namespace"
    case badSubject = "bad_subject"
    case badToken = "bad_token"
    case badManifest = "bad_manifest"
    case badPlaces = "bad_places"
    case badRelease = "bad_release"
    case badPublication = "bad_publication"
    case unauthorised
    case forbidden
    case hostRefused = "host_refused"
    case originRefused = "origin_refused"
    case notGranted = "not_granted"
    case revoked
    case notFound = "not_found"
    case unknownNamespace = "unknown_namespace"
    case unknownContent = "unknown_content"
    case methodRefused = "method"
    case tooSlow = "too_slow"
    case exists
    case ambiguous
    case notHandedOver = "not_handed_over"
    case notNewer = "not_newer"
    case incomplete
    case cursorGone = "cursor_gone"
    case preconditionFailed = "precondition_failed"
    case tooLarge = "too_large"
    case limit
    case targetTooLong = "target_too_long"
    case encodingRefused = "encoding_refused"
    case idempotencyMismatch = "idempotency_mismatch"
    case policyRefused = "policy_refused"
    case approvalRefused = "approval_refused"
    case revocationRefused = "revocation_refused"
    case rootRefused = "root_refused"
    case secretRefused = "secret_refused"
    case releaseRefused = "release_refused"
    case headTooLarge = "head_too_large"
    case internalError = "internal"
    case busy
    case tooManyFeeds = "too_many_feeds"
    case leaving
    case damaged
    case storage
    case diskFull = "disk_full"

    /// What of the request has come about all the same.
    public enum Remains: Sendable {
        /// The state is as it was.
        case nothing
        /// A write may be durable, or not.
        case unknown
    }

    /// Whether to ask again.
    public enum Again: Sendable {
        /// Not as it is: something in it has to change.
        case changed
        /// The same request, after a pause, a write under the same `Idempotency-Key`.
        case same
        /// Later: what is missing may still come.
        case later
        /// Once an operator has done something.
        case operators
    }

    /// What one line of the table says.
    public struct Entry: Sendable {
        /// The status of HTTP.
        public let status: Int
        /// What is wrong, in general.
        public let title: String
        /// What is wrong, in a sentence.
        public let meaning: String
        /// What of the request has come about.
        public let remains: Remains
        /// Whether to ask again.
        public let again: Again

        fileprivate init(
            _ status: Int, _ title: String, _ meaning: String, _ remains: Remains = .nothing,
            _ again: Again = .changed
        ) {
            (self.status, self.title, self.meaning) = (status, title, meaning)
            (self.remains, self.again) = (remains, again)
        }
    }

    /// What the code says.
    public var entry: Entry {
        guard let entry = Self.entries[self] else {
            preconditionFailure("\(rawValue) has no line in the table")
        }
        return entry
    }

    private static let entries: [ErrorCode: Entry] = [
        .badRequest: Entry(400, "Bad request", "The bytes are no HTTP/1.1."),
        .badHost: Entry(400, "Bad request", "The request has no field `Host`, or several."),
        .badPath: Entry(400, "Bad request", "A part of the path cannot be read."),
        .badQuery: Entry(400, "Bad request", "A parameter is not percent-encoded UTF-8."),
        .unknownParameter: Entry(
            400, "Bad request",
            "The route does not know a parameter; `detail` names those that it knows."),
        .repeatedParameter: Entry(400, "Bad request", "A parameter stands twice."),
        .badLength: Entry(400, "Bad request", "The length of the body cannot be read."),
        .badJSON: Entry(
            400, "Bad request",
            "The body, or a value whose type is JSON, is no JSON or of another shape; `detail` names the byte."
        ),
        .badKey: Entry(
            400, "Bad request", "The key is empty, too long, percent-encoded twice or not UTF-8."),
        .badBody: Entry(400, "Bad request", "A write of a batch has no value, or more than one."),
        .badOp: Entry(400, "Bad request", "A write of a batch neither puts nor deletes."),
        .badContentType: Entry(400, "Bad request", "The type of a value is too long or not ASCII."),
        .badCondition: Entry(
            400, "Bad request", "A write has two conditions that exclude each other."),
        .badIfMatch: Entry(
            400, "Bad request", "`If-Match` is no list of entity tags, and not `*`."),
        .badIfNoneMatch: Entry(
            400, "Bad request", "`If-None-Match` is no list of entity tags, and not `*`."),
        .badIdempotencyKey: Entry(400, "Bad request", "An `Idempotency-Key` has 1 to 128 bytes."),
        .badAck: Entry(
            400, "Bad request", "`ack` is not `local`, `central`, or `site:1` to `site:16`."),
        .badWait: Entry(400, "Bad request", "`wait` is not `0ms` to `30000ms`, or `0s` to `30s`."),
        .badPlace: Entry(400, "Bad request", "The path names no write of this server."),
        .badAfter: Entry(400, "Bad request", "`after` is no key."),
        .badLimit: Entry(400, "Bad request", "`limit` is not 1 to 1000."),
        .badSiblings: Entry(400, "Bad request", "`siblings` is neither `shown` nor `all`."),
        .badFollow: Entry(400, "Bad request", "`follow` is neither `true` nor `false`."),
        .badCursor: Entry(400, "Bad request", "`since` or `Last-Event-ID` is no cursor."),
        .badSince: Entry(400, "Bad request", "`since` is no time."),
        .badSite: Entry(400, "Bad request", "`site` is no name of a site."),
        .badScope: Entry(400, "Bad request", "The path names no scope, such as `orders@site/s12`."),
        .badNamespace: Entry(400, "Bad request", "The name is none for a namespace."),
        .badSubject: Entry(400, "Bad request", "The path names no server."),
        .badToken: Entry(400, "Bad request", "A token has a name and grants."),
        .badManifest: Entry(400, "Bad request", "The path names no manifest."),
        .badPlaces: Entry(400, "Bad request", "`places` names no chunks."),
        .badRelease: Entry(400, "Bad request", "The path names no release."),
        .badPublication: Entry(400, "Bad request", "The body is not a release and its manifest."),
        .unauthorised: Entry(
            401, "Not authorised", "No valid token came with the request, or it was taken back."),
        .forbidden: Entry(
            403, "Not allowed",
            "The token, or the place that the request comes from, does not allow this."),
        .hostRefused: Entry(
            403, "Host refused", "The request names a host that this server is not."),
        .originRefused: Entry(
            403, "Origin refused",
            "A page of another origin asks, which `http.origins` does not name."),
        .notGranted: Entry(
            403, "Not granted",
            "This server's certificate, or the namespace's policy, does not allow the write."),
        .revoked: Entry(403, "Revoked", "This server was revoked.", .nothing, .operators),
        .notFound: Entry(
            404, "Not found", "Nothing is at this path, or no value is under this key.", .nothing,
            .later),
        .unknownNamespace: Entry(
            404, "Unknown namespace", "No policy of this namespace has come here yet.", .nothing,
            .later),
        .unknownContent: Entry(
            404, "Unknown content", "The channel or release is not known here.", .nothing, .later),
        .methodRefused: Entry(
            405, "Method not allowed",
            "The path is there, but not by this method; `Allow` names those that it takes."),
        .tooSlow: Entry(408, "Too slow", "The body did not come in time.", .nothing, .same),
        .exists: Entry(
            409, "Already there", "A log's key is written already, or something newer is there."),
        .ambiguous: Entry(409, "Ambiguous", "Several servers have this name; `detail` lists them."),
        .notHandedOver: Entry(
            409, "Not handed over", "No other server holds all that this one does.", .nothing,
            .later),
        .notNewer: Entry(409, "Not newer", "A release with this number, or a higher one, stands."),
        .incomplete: Entry(409, "Incomplete", "Chunks of the release are still to be sent."),
        .cursorGone: Entry(
            410, "Cursor gone",
            "The cursor is of another server or of an earlier database: list the records, then follow without one."
        ),
        .preconditionFailed: Entry(
            412, "Precondition failed",
            "The key is in another state than the condition says: read it, and decide again."),
        .tooLarge: Entry(413, "Too large", "The body is larger than the route takes."),
        .limit: Entry(413, "Over a limit", "A limit of records or batches is passed."),
        .targetTooLong: Entry(414, "Target too long", "Path and query are too long."),
        .encodingRefused: Entry(415, "Encoding refused", "Compressed bodies are not taken."),
        .idempotencyMismatch: Entry(
            422, "Idempotency key reused", "Another request had this `Idempotency-Key`."),
        .policyRefused: Entry(422, "Policy refused", "The policy proves nothing to this server."),
        .approvalRefused: Entry(
            422, "Approval refused", "The approval proves nothing to this server."),
        .revocationRefused: Entry(
            422, "Revocation refused", "The revocation proves nothing to this server."),
        .rootRefused: Entry(
            422, "Root document refused", "The root document proves nothing to this server."),
        .secretRefused: Entry(
            422, "Secret refused", "The change of the secret proves nothing to this server."),
        .releaseRefused: Entry(
            422, "Release refused", "The release proves nothing to this server."),
        .headTooLarge: Entry(431, "Head too large", "The fields of the head are too large."),
        .internalError: Entry(
            500, "Internal error", "The server could not answer; its log may say why.", .unknown,
            .same),
        .busy: Entry(503, "Too busy", "Too much is on its way already.", .nothing, .same),
        .tooManyFeeds: Entry(503, "Too many feeds", "Too many feeds are open.", .nothing, .same),
        .leaving: Entry(
            503, "This server leaves",
            "The server leaves the mesh and takes no more writes: ask another of the site.",
            .nothing, .operators),
        .damaged: Entry(
            503, "Being mended", "A file has changed on the disk, and is fetched anew.", .nothing,
            .same),
        .storage: Entry(
            503, "Storage failed", "The disk failed, or the server ends.", .unknown, .same),
        .diskFull: Entry(
            507, "Disk full", "The disk has no room for the write. What is there can be read.",
            .nothing, .operators),
    ]
}

extension Problem {
    /// Something that is wrong, with what it is here.
    public init(_ code: ErrorCode, _ detail: String) {
        let entry = code.entry
        self.init(code: code.rawValue, title: entry.title, status: entry.status, detail: detail)
    }

    /// The same, of a part of what was asked.
    public func inside(_ part: String) -> Problem {
        Problem(code: code, title: title, status: status, detail: "\(part): \(detail)")
    }
}
