// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshContent
import MeshCore
import MeshCrypto
import MeshTrust

/// Signed folders for every server.
struct ContentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "content",
        abstract: "Publishes folders to servers, and shows how far they are.",
        subcommands: [
            Publish.self, ContentList.self, ContentStatus.self, Rollback.self, Verify.self,
            Diff.self, Rotate.self, ContentExport.self, ContentImport.self,
        ])
}

/// What goes into a release.
struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publishes a folder as a new release of a channel.",
        discussion: """
            The first publication of a channel makes its publish keys in KEYS, and needs the mesh's root keys there;
            later ones need the publish keys alone. Only what no release had before is sent.
            --stage opens the release to one ring of sites after the other: site:NAME, group:NAME, 10% or all,
            each once the one before has been well for --hold seconds; a failed probe stops it.
            """)

    @OptionGroup var connection: Connection
    @Argument(help: "The channel.") var channel: String
    @Argument(help: "The folder.") var folder: String
    @Option(help: "The directory with the keys.") var keys: String
    @Option(help: "all, site:NAME or group:NAME.") var to = "all"
    @Option(help: "What to say of it.") var message = ""
    @Option(help: "When sites begin to use it, by their own clocks: 2026-12-24T06:00.")
    var activateAt = ""
    @Option(help: "A ring of the roll-out; may be given again.") var stage: [String] = []
    @Option(help: "Seconds that a ring must be well.") var hold: UInt32 = 600
    @Flag(help: "Leave symbolic links out instead of refusing them.") var skipLinks = false
    @Flag(help: "Say what would be sent, and send nothing.") var dryRun = false
    @Option(help: "With the first publication: how many publish keys, and how many must sign.")
    var publishers = 1
    @Option(help: ArgumentHelp("", visibility: .hidden)) var threshold: Int?

    func validate() throws {
        guard Name.isValid(channel) else {
            throw ValidationError("'\(channel)' is not a name: letters, digits, '.', '_', '-'")
        }
        guard message.utf8.count <= ContentSpecification.messageBytesMax else {
            throw ValidationError(
                "--message has at most \(ContentSpecification.messageBytesMax) bytes")
        }
        guard Release.isTime(activateAt) else {
            throw ValidationError("--activate-at is like 2026-12-24T06:00")
        }
        try Publication.check(publishers: publishers, threshold: threshold ?? publishers)
    }

    func run() async throws {
        try Sodium.start()
        let client = try connection.client()
        let keyFolder = KeyFolder(keys)
        let root = try keyFolder.root()
        let latest = try await Publication.latest(client, channel, root)
        let bar = ProgressBar("reading")
        let source = try ContentFolder(folder, channel: channel, skipLinks: skipLinks) {
            bar.show($0)
        }
        bar.end()
        let charter = try charter(keyFolder, latest)
        let bytes = source.manifest.encoded
        let audience = try Publication.audience(to)
        let number = try keyFolder.nextRelease(
            of: channel, charter, after: latest?.release.number, isKept: !dryRun)
        let release = Release(
            channel: channel, number: number, audience: audience,
            manifest: Manifest.id(ofManifest: bytes),
            manifestBytes: UInt32(bytes.count), totalBytes: source.manifest.byteCount,
            files: UInt32(source.manifest.files.count), created: Publication.now,
            message: message, activateAt: activateAt, rings: try rings(), holdSeconds: hold)
        if dryRun { return try await explain(client, source, latest, release) }
        let signers = try keyFolder.signingKeys("publish-\(channel)-\(charter.epoch)-")
        let signed = SignedRelease(
            release, charter: charter, mesh: root.meshID, signers: signers,
            wayBack: Publication.wayBack(from: release, to: latest?.release))
        try Publication.check(signed, root)
        try await Publication.send(client, signed, bytes, source)
        Console.line("\(channel) \(release.number)")
    }

    private func charter(_ folder: KeyFolder, _ latest: SignedRelease?) throws -> Charter {
        let own = try folder.charter(channel)
        if let own, own.epoch >= latest?.charter.epoch ?? 0 { return own }
        if let latest { return latest.charter }
        guard !dryRun else {
            return Charter(
                channel: channel, epoch: 1, threshold: 1, keys: [.zero], root: try folder.root(),
                signers: [])
        }
        return try folder.makeCharter(
            channel, epoch: 1, publishers: publishers, threshold: threshold ?? publishers)
    }

    private func rings() throws -> [Ring] {
        let rings = try stage.map { text -> Ring in
            if text == "all" { return .all }
            if text.hasSuffix("%"), let share = UInt8(text.dropLast()), (1...100).contains(share) {
                return .percent(share)
            }
            let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
            guard parts.count == 2 else {
                throw ValidationError("--stage is site:NAME[,NAME], group:NAME, 10% or all")
            }
            let names = parts[1].split(separator: ",").map(String.init)
            guard !names.isEmpty, names.allSatisfy({ Name.isValid($0) }) else {
                throw ValidationError("'\(parts[1])' is not a name")
            }
            return parts[0] == "group" ? .group(names[0]) : .sites(names)
        }
        // Whoever is in no ring gets it last.
        return rings.isEmpty || rings.last == .all ? rings : rings + [.all]
    }

    private func explain(
        _ client: NodeClient, _ source: ContentFolder, _ latest: SignedRelease?, _ release: Release
    ) async throws {
        var known: Set<Digest> = []
        if let latest, let old = try await client.manifest("\(latest.release.manifest)") {
            known = Set(try Manifest(decoding: old).files.flatMap(\.chunks).map(\.id))
        }
        let new = source.layout.chunks.filter { !known.contains($0.id) }
        let bytes = new.reduce(0) { $0 + UInt64($1.byteCount) }
        Console.line(
            "would publish \(channel) \(release.number): \(release.files) files, \(Console.size(release.totalBytes)); \(Console.size(bytes)) of it new"
        )
    }
}

/// What publishing commands share.
enum Publication {
    static var now: UInt64 { UInt64(max(0, Date().timeIntervalSince1970 * 1000)) }

    static func latest(
        _ client: NodeClient, _ channel: String, _ root: RootDocument
    ) async throws -> SignedRelease? {
        guard let bytes = try await client.latestRelease(channel) else { return nil }
        return try verified(bytes, of: channel, root)
    }

    /// A release as the server has it, if publish keys of this very channel have signed it.
    static func verified(
        _ bytes: [UInt8], of channel: String, _ root: RootDocument
    ) throws -> SignedRelease {
        let signed: SignedRelease
        do { signed = try SignedRelease(decoding: bytes, root: root) } catch {
            throw Failure("the server's release of '\(channel)' does not verify: \(error)")
        }
        guard signed.release.channel == channel else {
            throw Failure(
                "a release of '\(channel)' was asked for, and the server answered with one of '\(signed.release.channel)'; nothing was done"
            )
        }
        return signed
    }

    static func check(publishers: Int, threshold: Int) throws {
        let most = ContentSpecification.publishersMax
        guard (1...most).contains(publishers), (1...publishers).contains(threshold) else {
            throw ValidationError(
                "--publishers is 1 to \(most), --threshold 1 to --publishers")
        }
    }

    static func audience(_ text: String) throws -> Audience {
        let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
        switch (parts.first, parts.count) {
        case ("all", 1): return .all
        case ("site", 2) where Name.isValid(parts[1]): return .site(parts[1])
        case ("group", 2) where Name.isValid(parts[1]): return .group(parts[1])
        default: throw ValidationError("--to is all, site:NAME or group:NAME")
        }
    }

    /// The next number with the files of the release before.
    static func wayBack(from release: Release, to old: Release?) -> Release? {
        guard var back = old, back.manifest != release.manifest else { return nil }
        back.rollbackOf = back.number.version
        back.number = ReleaseNumber(
            epoch: release.number.epoch, version: release.number.version + 1)
        back.audience = release.audience
        back.created = now
        back.message = "back to \(old.map { "\($0.number)" } ?? "")"
        back.activateAt = ""
        back.rings = []
        return back
    }

    /// What servers would refuse for want of signatures is refused here.
    static func check(_ signed: SignedRelease, _ root: RootDocument) throws {
        do { _ = try SignedRelease(decoding: signed.encoded, root: root) } catch {
            throw Failure(
                "channel '\(signed.release.channel)', epoch \(signed.charter.epoch): \(error) (bring its publish keys)"
            )
        }
    }

    /// Sends what is missing, then lets the release out.
    static func send(
        _ client: NodeClient, _ signed: SignedRelease, _ manifest: [UInt8], _ source: ContentFolder
    ) async throws {
        var body = WireWriter()
        body.long(signed.encoded)
        body.append(manifest)
        let missing = try await client.beginPublication(body.bytes).missing
        let places = try places(missing, of: source.layout.chunks.count)
        let all = places.reduce(0) { $0 + UInt64(source.layout.chunks[$1].byteCount) }
        let bar = ProgressBar("sending", of: all)
        var sent: UInt64 = 0
        var rest = places[...]
        while !rest.isEmpty {
            var batch: [Int] = []
            var bytes: [UInt8] = []
            while let place = rest.first, bytes.count < 4 << 20 {
                bytes += try source.chunk(place)
                batch.append(place)
                rest = rest.dropFirst()
            }
            try await client.sendChunks("\(signed.release.manifest)", ranges(batch), bytes)
            sent += UInt64(bytes.count)
            bar.show(sent)
        }
        bar.end()
        _ = try await client.commitPublication(signed.encoded)
    }

    /// The chunks that a server asks for, if the release has them.
    static func places(_ missing: [[Int]], of count: Int) throws -> [Int] {
        try missing.flatMap { range -> Range<Int> in
            guard range.count == 2, 0 <= range[0], range[0] < range[1], range[1] <= count else {
                throw Failure("the server asks for chunks that the release has not: \(range)")
            }
            return range[0]..<range[1]
        }
    }

    private static func ranges(_ places: [Int]) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        for place in places {
            if let last = ranges.last, last.upperBound == place {
                ranges[ranges.count - 1] = last.lowerBound..<(place + 1)
            } else {
                ranges.append(place..<(place + 1))
            }
        }
        return ranges
    }
}

/// Back to files that were served before.
struct Rollback: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves the files of an earlier release again, under a new and higher number.",
        discussion: """
            Without keys it uses the way back that was signed with the latest release: at once, on a site that is cut
            off too. With --keys any release whose files are still on the node can be named.
            """)

    @OptionGroup var connection: Connection
    @Argument(help: "The channel.") var channel: String
    @Argument(help: "The release, EPOCH.VERSION; the one before the latest.") var release: String?
    @Option(help: "The directory with the publish keys.") var keys: String?
    @Option(help: "With --keys: the release that is meant, instead of typing it when asked.")
    var confirm: String?

    func run() async throws {
        let client = try connection.client()
        guard let keys else {
            guard release == nil else {
                throw ValidationError("to name a release --keys is needed")
            }
            Console.line("\(channel) \(try await client.rollBack(channel).release)")
            return
        }
        try Sodium.start()
        let folder = KeyFolder(keys)
        let root = try folder.root()
        guard let latest = try await Publication.latest(client, channel, root) else {
            throw Failure("there is no channel '\(channel)'", code: 4)
        }
        let old = try await earlier(client, root)
        if release == nil {
            // Which one was before is the server's word.
            Console.line(
                "\(channel) \(old.number) of \(Console.date(old.created)): \(old.files) files, \(Console.size(old.totalBytes)) \(old.message)"
            )
            try Console.demand("\(old.number)", given: confirm, to: "serve it again")
        }
        let charter = try folder.charter(channel) ?? latest.charter
        let number = try folder.nextRelease(of: channel, charter, after: latest.release.number)
        let back = Release(
            channel: channel, number: number, audience: latest.release.audience,
            manifest: old.manifest, manifestBytes: old.manifestBytes, totalBytes: old.totalBytes,
            files: old.files, created: Publication.now, message: "back to \(old.number)",
            rollbackOf: old.number.version)
        let signers = try folder.signingKeys("publish-\(channel)-\(charter.epoch)-")
        let signed = SignedRelease(back, charter: charter, mesh: root.meshID, signers: signers)
        try Publication.check(signed, root)
        Console.line("\(channel) \(try await client.commitPublication(signed.encoded).release)")
    }

    /// The release to go back to, as its publishers signed it.
    private func earlier(_ client: NodeClient, _ root: RootDocument) async throws -> Release {
        let view = try await client.content().channels.first { $0.channel == channel }
        let wanted = release ?? view?.releases.dropLast().last?.release ?? ""
        guard view?.releases.first(where: { $0.release == wanted })?.isHere == true,
            let bytes = try await client.release(wanted, of: channel)
        else { throw Failure("the files of '\(wanted)' are not on the server any more", code: 4) }
        let signed = try Publication.verified(bytes, of: channel, root)
        guard "\(signed.release.number)" == wanted else {
            throw Failure(
                "release \(wanted) was asked for, and the server answered with \(signed.release.number); nothing was done"
            )
        }
        return signed.release
    }
}

/// New publish keys for a channel.
struct Rotate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes new publish keys for a channel, with the root keys.",
        discussion:
            "The next publication is under the new keys and outranks every version of the old ones, whoever signed it."
    )

    @OptionGroup var connection: Connection
    @Argument(help: "The channel.") var channel: String
    @Option(help: "The directory with the root keys.") var keys: String
    @Option(help: "How many publish keys.") var publishers = 1
    @Option(help: "How many of them must sign; all.") var threshold: Int?

    func validate() throws {
        try Publication.check(publishers: publishers, threshold: threshold ?? publishers)
    }

    func run() async throws {
        try Sodium.start()
        let folder = KeyFolder(keys)
        let latest = try await Publication.latest(
            try connection.client(), channel, try folder.root())
        let known = max(latest?.charter.epoch ?? 0, try folder.charter(channel)?.epoch ?? 0)
        guard known < .max else { throw Failure("there are no more epochs") }
        let charter = try folder.makeCharter(
            channel, epoch: known + 1, publishers: publishers, threshold: threshold ?? publishers)
        Console.line("\(channel) epoch \(charter.epoch)")
    }
}
