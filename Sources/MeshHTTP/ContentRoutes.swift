// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshContent
internal import MeshCore
internal import MeshStore
internal import MeshTrust
internal import NIOCore
internal import NIOHTTP1

/// Content: what is there, and publishing. The files themselves are served by `ContentReply`.
extension Routes {
    /// Most bytes of chunks in one request of a publisher.
    static let chunkBytesMax = 8 << 20
    /// Most bytes of one request of a publisher.
    static let publicationBytesMax = max(
        chunkBytesMax, SignedRelease.byteCountMax + ContentSpecification.manifestBytesMax + 8)

    func content() async throws -> Response {
        let wall = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        let fresh = try await node.content.freshness(wall: wall)
        return try Self.json(
            ContentView(channels: try await channels(), freshSeconds: fresh?.seconds))
    }

    func manifest(_ name: String) async throws -> Response {
        guard let id = Hex.decode(name).flatMap({ Digest($0) }),
            let bytes = try await node.content.manifest(id)
        else { throw Problem.notFound("there is no manifest \(name) here") }
        return Self.octets(bytes)
    }

    func latest(_ channel: String) async throws -> Response {
        guard let signed = try await node.content.latest(channel) else {
            throw Problem.notFound("there is no channel '\(channel)'")
        }
        return Self.octets(signed.encoded)
    }

    func release(_ text: String, of channel: String) async throws -> Response {
        guard let number = ReleaseNumber(text) else {
            throw Problem(.badRelease, "'\(text)' is not EPOCH.VERSION")
        }
        guard let signed = try await node.content.release(number, of: channel) else {
            throw Problem.notFound("there is no release \(number) of '\(channel)' here")
        }
        return Self.octets(signed.encoded)
    }

    func chunks(_ call: Call) async throws -> Response {
        let (manifest, places) = try named(call.request, call.name)
        guard let bytes = try await node.content.chunks(manifest, places) else {
            throw Problem.notFound("these chunks are not here")
        }
        return Self.octets(bytes)
    }

    func rollBack(_ channel: String) async throws -> Response {
        let release = try await node.content.rollBack(channel)
        return try Self.json(PublishedView(release: "\(release.number)"), status: .created)
    }

    func verify(_ channel: String) async throws -> Response {
        let (chunks, damaged) = try await node.content.verify(channel)
        return try Self.json(VerifyView(chunks: chunks, damaged: damaged))
    }

    private static func octets(_ bytes: [UInt8]) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/octet-stream"],
            body: .bytes(ByteBuffer(bytes: bytes)))
    }

    // MARK: Publishing

    func begin(_ request: Request) async throws -> Response {
        let limit = SignedRelease.byteCountMax + ContentSpecification.manifestBytesMax + 8
        let bytes = try body(request, upTo: limit)
        var reader = WireReader(bytes)
        let signed: [UInt8]
        let manifest: [UInt8]
        do throws(WireError) {
            signed = try reader.long("release", limit: SignedRelease.byteCountMax)
            manifest = try reader.take(reader.left)
        } catch {
            throw Problem(
                .badPublication, "the body is not a release and a manifest: \(error)")
        }
        let missing = try await node.content.beginPublication(signed, manifest: manifest)
        return try Self.json(
            PublicationView(missing: missing.map { [$0.lowerBound, $0.upperBound] }))
    }

    func insert(_ call: Call) async throws -> Response {
        let (manifest, places) = try named(call.request, call.name)
        let bytes = try body(call.request, upTo: Self.chunkBytesMax)
        try await node.content.insert(manifest, places, bytes)
        return Response(status: .noContent)
    }

    func commit(_ request: Request) async throws -> Response {
        let bytes = try body(request, upTo: SignedRelease.byteCountMax)
        let number = try await node.content.commitPublication(bytes)
        return try Self.json(PublishedView(release: "\(number)"), status: .created)
    }

    /// The manifest in the path and the places in the query.
    private func named(_ request: Request, _ name: String) throws -> (Digest, [Range<Int>]) {
        guard let manifest = Hex.decode(name).flatMap({ Digest($0) }) else {
            throw Problem(.badManifest, "'\(name)' is not the name of a manifest")
        }
        let places = try (request.parameter("places") ?? "").split(separator: ".").map { part in
            let ends = part.split(separator: "-").compactMap { Int($0) }
            guard ends.count == 2, ends[0] >= 0, ends[0] < ends[1],
                ends[1] <= ContentSpecification.chunksMax
            else { throw Problem(.badPlaces, "'\(part)' is not FIRST-END") }
            return ends[0]..<ends[1]
        }
        return (manifest, places)
    }

    // MARK: Views

    /// Every channel, as the node sees it.
    func channels() async throws -> [ChannelView] {
        let certificates = Dictionary(
            try store.certificates().map { ($0.node, $0) }, uniquingKeysWith: { first, _ in first })
        let wall = Date().timeIntervalSince1970 * 1000
        return try await node.content.report().map { report in
            let own = node.certificate
            let left = report.own.bytesAll - min(report.own.bytesAll, report.own.bytesHere)
            return ChannelView(
                channel: report.channel,
                own: Self.view(report.own, own.ticket.node, own.ticket.site, told: nil),
                bytesPerSecond: report.rate,
                expectedSeconds: report.rate > 1 && left > 0 ? Double(left) / report.rate : nil,
                releases: report.releases.map(Self.view),
                servers: report.others.filter { $0.node != own.node }.map { other in
                    let ticket = certificates[other.node]?.ticket
                    return Self.view(
                        other.line, ticket?.node ?? "\(other.node)", ticket?.site ?? "?",
                        told: max(0, (wall - Double(other.milliseconds)) / 1000))
                })
        }
    }

    private static func view(
        _ line: ChannelProgress, _ node: String, _ site: String, told: Double?
    ) -> ServerContentView {
        ServerContentView(
            node: node, site: site, active: line.active.map { "\($0)" },
            target: "\(max(line.target, line.active ?? line.target))", phase: line.phase.name,
            bytesHere: line.bytesHere, bytesAll: line.bytesAll,
            reason: line.reason.isEmpty ? nil : line.reason, toldSeconds: told)
    }

    private static func view(
        _ one: (release: Release, isHere: Bool, isOpen: Bool, isHalted: Bool)
    ) -> ReleaseView {
        let release = one.release
        return ReleaseView(
            release: "\(release.number)", message: release.message, createdMs: release.created,
            files: release.files, bytes: release.totalBytes, audience: "\(release.audience)",
            manifest: "\(release.manifest)", isHere: one.isHere, isOpen: one.isOpen,
            isHalted: one.isHalted,
            rollbackOf: release.rollbackOf == 0 ? nil : release.rollbackOf,
            activateAt: release.activateAt.isEmpty ? nil : release.activateAt)
    }
}

extension Problem {
    /// What a publisher or an operator is told.
    init(_ error: ContentError) {
        switch error {
        case .refused(let reason): self.init(.releaseRefused, reason)
        case .notNewer(let highest):
            self.init(
                .notNewer,
                "release \(highest) of this channel stands already: publish a higher one")
        case .unknown(let what): self.init(.unknownContent, what)
        case .incomplete(let count):
            self.init(.incomplete, "\(count) chunks have not been sent yet")
        case .noRoom(let why): self.init(.diskFull, why)
        }
    }
}
