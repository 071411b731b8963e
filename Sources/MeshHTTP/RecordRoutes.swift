// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshCrypto
internal import MeshReplication
internal import MeshRules
internal import MeshStore
internal import MeshTrust
internal import NIOCore
internal import NIOHTTP1

extension Routes {
    func read(_ call: Call) throws -> Answer {
        let key = try key(call.last)
        guard call.access.mayRead(call.name) else {
            throw Problem.forbidden("the token does not allow to read \(call.name)")
        }
        return .now(try read(call.request, try scope(call.name, call.request), key))
    }

    func write(_ call: Call) throws -> Answer {
        let key = try key(call.last)
        try mayWrite(call.name, call.access)
        return try write(call.request, try scope(call.name, call.request), key, call.access)
    }

    /// What the mesh keeps for itself has routes of its own, which check what is written.
    private func mayWrite(_ namespace: String, _ access: Access) throws {
        guard !namespace.hasPrefix("_") else {
            throw Problem.forbidden("\(namespace) is the mesh's own (policies: meshctl namespace)")
        }
        guard access.mayWrite(namespace) else {
            throw Problem.forbidden("the token does not allow to write \(namespace)")
        }
    }

    private func read(_ request: Request, _ scope: Scope, _ key: RecordKey) throws -> Response {
        let shows = request.parameter("siblings") ?? "shown"
        guard ["shown", "all"].contains(shows) else {
            throw Problem(.badSiblings, "siblings=\(shows): it is 'shown' or 'all'")
        }
        guard let state = try store.get(key, in: scope) else {
            throw Problem.notFound("\(scope) has no '\(key)'")
        }
        if shows == "all",
            state.versions.contains(where: { $0.record.kind == .put })
        {
            let records = state.versions.map { view(scope, state, $0) }
            return try Self.json(RecordsView(records: records, next: nil))
        }
        guard let value = state.value else {
            // Deleted; a value that was written at the same time may still live beside it.
            var answer = Self.answer(.notFound("\(scope) has no '\(key)'"))
            answer.headers[.eTag] = "\"\(state.etag)\""
            answer.headers[.siblings] = "\(state.versions.count - 1)"
            return answer
        }
        let tag = state.etag
        var headers: Fields = [
            .eTag: "\"\(tag)\"", .siblings: "\(state.versions.count - 1)",
            .author: "\(value.dot.author.node)", .cacheControl: "no-cache",
        ]
        if let field = request.headers[.ifNoneMatch] {
            guard let known = TagList(field) else { throw Self.noTags }
            if known.contains(tag) { return Response(status: .notModified, headers: headers) }
        }
        headers[.contentType] =
            value.record.contentType.isEmpty
            ? "application/octet-stream" : value.record.contentType
        // What an app stored is never opened as a page of this server.
        headers[.contentDisposition] = "attachment"
        return Response(
            status: .ok, headers: headers, body: .bytes(ByteBuffer(bytes: value.record.body)))
    }

    private func write(
        _ request: Request, _ scope: Scope, _ key: RecordKey, _ access: Access
    ) throws -> Answer {
        let isPut = request.method == .PUT
        let body = isPut ? request.body : []
        let type = request.headers[.contentType] ?? "application/octet-stream"
        if isPut { try Self.check(body, of: type) }
        let write = Write(
            isPut ? .put : .delete, key, contentType: isPut ? type : "", body: body,
            condition: try condition(request))
        var job = WriteRequest(scope: scope, writes: [write])
        job.idempotency = try idempotency(
            request, access, "\(request.method.rawValue) \(scope) \(key)", body)
        return .written(job, try demand(request, of: scope.namespace)) { receipts, outcome in
            guard let receipt = receipts.first else { return Response(status: .noContent) }
            let tag = receipt.etag
            return try answer(
                receipts, [tag], outcome, status: isPut && receipt.isNew ? .created : .ok,
                headers: [.eTag: "\"\(tag)\""])
        }
    }

    /// What the request asks of the key's state (RFC 9110, §13.1).
    private func condition(_ request: Request) throws -> Write.Condition {
        let match = try request.headers[.ifMatch].map { field throws -> Write.Condition in
            switch TagList(field) {
            case .any: return .holdsValue
            // A weak tag is equal to nothing here (§13.1.1), and an empty list fits no state.
            case .tags(let tags):
                return .matches(tags.filter { !$0.isWeak }.map { String($0.text) })
            case nil: throw Problem(.badIfMatch, "If-Match takes entity tags, or *")
            }
        }
        let noneMatch = try request.headers[.ifNoneMatch].map { field throws -> Write.Condition in
            switch TagList(field) {
            case .any: return .holdsNone
            case .tags(let tags): return .differs(tags.map { String($0.text) })
            case nil: throw Self.noTags
            }
        }
        switch (match, noneMatch) {
        case (let match?, let noneMatch?): return .both(match, noneMatch)
        default: return match ?? noneMatch ?? .none
        }
    }

    static let noTags = Problem(.badIfNoneMatch, "If-None-Match takes entity tags, or *")

    private func idempotency(
        _ request: Request, _ access: Access, _ what: @autoclosure () -> String, _ body: [UInt8]
    ) throws -> (name: String, request: Digest)? {
        guard let name = request.headers[.idempotencyKey] else { return nil }
        guard (1...128).contains(name.utf8.count) else {
            throw Problem(.badIdempotencyKey, "an Idempotency-Key has 1 to 128 bytes")
        }
        // A name means something to whoever gave it, and to nobody else.
        return (access.owner + " " + name, Blake2b.hash(Array(what().utf8) + [0] + body))
    }

    /// - Parameter status: where the writes are as durable as was asked for.
    private func answer(
        _ receipts: [Receipt], _ tags: [String], _ outcome: AckOutcome,
        status: HTTPResponseStatus = .ok, headers: Fields = [:]
    ) throws -> Response {
        var headers = headers
        let view = WriteView(
            etags: tags, sequences: receipts.map { $0.dot?.sequence ?? 0 },
            ack: outcome.level.name, reached: outcome.reached.isMet,
            durableOn: names(outcome.reached.holders), ask: outcome.ask)
        if let ask = outcome.ask { headers[.location] = ask }
        var writer = JSONWriter()
        view.write(to: &writer)
        return Self.json(
            bytes: ByteBuffer(bytes: writer.bytes),
            status: outcome.reached.isMet ? status : .accepted, headers: headers)
    }

    func batch(_ call: Call) throws -> Answer {
        let (request, access) = (call.request, call.access)
        let batch = try BatchReader.read(request.body, self)
        try mayWrite(batch.namespace, access)
        let scope = try scope(batch.namespace, request, site: batch.site)
        var job = WriteRequest(scope: scope, writes: batch.writes)
        job.idempotency = try idempotency(request, access, "batch \(scope)", request.body)
        let demand = try demand(request, of: batch.namespace)
        // Whoever writes very much does not want to hear each place (RFC 7240, §4.2).
        let prefers = request.headers[.prefer]?.split(separator: ",") ?? []
        guard !prefers.contains(where: { $0.drop { $0 == " " } == "return=minimal" }) else {
            return .written(job, demand) { receipts, outcome in
                let headers: Fields = [.preferenceApplied: "return=minimal"]
                guard !outcome.reached.isMet else {
                    return Response(status: .noContent, headers: headers)
                }
                return try answer(receipts, [], outcome, headers: headers)
            }
        }
        return .written(job, demand) { try answer($0, $0.map(\.etag), $1) }
    }

    /// Checks a value and its type: what says that it is JSON has to be, or whoever reads it fails.
    ///
    /// - Parameter body: nil for one that was read as JSON already.
    static func check(_ body: [UInt8]?, of type: String) throws {
        guard type.utf8.count <= Record.contentTypeBytesMax,
            type.utf8.allSatisfy({ (0x20...0x7e).contains($0) })
        else { throw Problem(.badContentType, "the content type is too long or not ASCII") }
        guard let body, isJSON(type) else { return }
        do throws(StrictJSON.Failure) { try StrictJSON.check(body) } catch {
            throw Problem(
                .badJSON,
                "the value is no JSON, though its type is \(type): byte \(error.offset): \(error.reason)"
            )
        }
    }

    /// Whether a media type is JSON's, or one that is written in it (RFC 6839, §3.1).
    private static func isJSON(_ type: String) -> Bool {
        let name = type.prefix { $0 != ";" && $0 != " " }.lowercased()
        return name == "application/json" || name.hasSuffix("+json")
    }

    func view(_ scope: Scope, _ state: KeyState, _ version: StoredVersion) -> RecordView {
        RecordView(
            scope: scope.description, key: version.record.key.description,
            contentType: version.record.contentType, body: version.record.body,
            etag: state.etag, deleted: version.record.kind == .delete,
            author: version.dot.author.node.description, sequence: version.dot.sequence,
            writtenMs: version.record.stamp.milliseconds, siblings: state.versions.count - 1,
            twin: state.listed.count > 1 ? true : nil,
            cursor: cursor(version.position))
    }

    /// A key of which nothing lives any more: what was there was taken away.
    func viewGone(_ change: StoredChange) -> RecordView {
        RecordView(
            scope: change.scope.description, key: change.key.description, contentType: "",
            body: [], etag: EntityTag.of([]), deleted: true, author: "", sequence: 0,
            writtenMs: 0, siblings: 0, cursor: cursor(change.position))
    }

    func cursor(_ position: FeedPosition) -> String {
        "\(Hex.encode(store.epoch))-\(position.number)"
    }

    // MARK: Lists

    func list(_ call: Call) throws -> Answer {
        let (request, namespace) = (call.request, call.name)
        guard call.access.mayRead(namespace) else {
            throw Problem.forbidden("the token does not allow to read \(namespace)")
        }
        let scope = try scope(namespace, request)
        let prefix = Array((request.parameter("prefix") ?? "").utf8)
        let after = try request.parameter("after").map { text throws in
            do throws(KeyError) { return try RecordKey(text) } catch {
                throw Problem(.badAfter, "\(error)")
            }
        }
        let limit = try request.parameter("limit").map { text throws in
            guard let limit = Int(text), (1...1000).contains(limit) else {
                throw Problem(.badLimit, "limit is 1 to 1000")
            }
            return limit
        }
        if Accept.names("application/x-ndjson", in: request.headers[.accept]) {
            return .now(stream(scope, prefix, after, limit))
        }
        let name = ListCache.Name(scope: scope, query: String(request.query))
        let (known, mark) = store.lists.find(name)
        if let known { return .now(Self.json(bytes: ByteBuffer(bytes: known))) }
        return .read {
            let page = try page(scope, prefix, after, limit ?? 100)
            var writer = JSONWriter()
            RecordsView(records: page.records, next: page.next?.description).write(to: &writer)
            store.lists.note(writer.bytes, as: name, at: mark)
            return Self.json(bytes: ByteBuffer(bytes: writer.bytes))
        }
    }

    /// What stands under so many keys, and the last of them where more may follow.
    private func page(
        _ scope: Scope, _ prefix: [UInt8], _ after: RecordKey?, _ limit: Int
    ) throws -> (records: [RecordView], next: RecordKey?) {
        let states = try store.list(scope, prefix: prefix, after: after, limit: limit)
        let records = states.flatMap { state in state.listed.map { view(scope, state, $0) } }
        return (records, states.count == limit ? states.last?.key : nil)
    }

    private func stream(
        _ scope: Scope, _ prefix: [UInt8], _ after: RecordKey?, _ limit: Int?
    ) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/x-ndjson"],
            body: .stream { writer in
                var (after, left) = (after, limit ?? .max)
                while left > 0 {
                    let count = min(500, left)
                    let page = try page(scope, prefix, after, count)
                    left -= count
                    var lines = JSONWriter()
                    for record in page.records {
                        record.write(to: &lines)
                        lines.endLine()
                    }
                    if !lines.bytes.isEmpty {
                        try await writer.write(ByteBuffer(bytes: lines.bytes))
                    }
                    guard let next = page.next else { break }
                    after = next
                }
            })
    }

    // MARK: Changes

    /// The changes after a cursor, then those that come: as server-sent events or lines of JSON.
    func changes(_ call: Call) throws -> Response {
        let (request, access) = (call.request, call.access)
        let wanted = request.parameter("namespace")
        if let wanted, !access.mayRead(wanted) {
            throw Problem.forbidden("the token does not allow to read \(wanted)")
        }
        // A browser that has seen no event may send none, or an empty one.
        let last = request.headers[.lastEventID].flatMap { $0.isEmpty ? nil : $0 }
        let cursor = last ?? request.parameter("since")
        let start = try position(cursor)
        let claim = Claim(on: feeds, for: access.owner)
        guard claim.take(1), let positions = node.changes.positions() else {
            throw Problem(
                .tooManyFeeds,
                """
                at most \(ChangeHub.waitersMax) feeds are open at once, half of them by one client
                """)
        }
        let isNDJSON = Accept.names("application/x-ndjson", in: request.headers[.accept])
        let follow = request.parameter("follow") ?? "true"
        guard ["true", "false"].contains(follow) else {
            throw Problem(.badFollow, "follow=\(follow): it is 'true' or 'false'")
        }
        let follows = follow == "true"
        let type = isNDJSON ? "application/x-ndjson" : "text/event-stream"
        return Response(
            status: .ok, headers: [.contentType: type, .cacheControl: "no-store"],
            body: .stream { writer in
                defer { claim.release() }
                var feed = ChangeFeed(
                    routes: self, position: start, namespace: wanted, access: access,
                    isNDJSON: isNDJSON)
                while let buffer = try feed.next() { try await writer.write(buffer) }
                if follows {
                    try await writer.write(feed.heartbeat)
                    // A client that left is noticed by the next write, a heartbeat at the latest.
                    let wakes = ChangeFeed.wakes(positions)
                    for await hasChanged in wakes {
                        if !hasChanged { try await writer.write(feed.heartbeat) }
                        while let buffer = try feed.next() { try await writer.write(buffer) }
                    }
                }
            })
    }

    /// A cursor names the epoch it counts in. One that has come no further than what is left of its
    /// epoch goes on from there, so nothing is skipped; any other begins anew.
    private func position(_ cursor: String?) throws -> FeedPosition {
        guard let cursor else { return .beginning }
        if cursor == "now" { return store.lastPosition }
        let parts = cursor.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let epoch = Hex.decode(parts[0]), let number = UInt64(parts[1])
        else { throw Problem(.badCursor, "'\(cursor)' is not a cursor") }
        guard let position = try store.resume(FeedPosition(number), of: epoch) else {
            throw Problem(
                .cursorGone,
                "the cursor is of another node or an earlier database; list the records and start without one"
            )
        }
        return position
    }
}
