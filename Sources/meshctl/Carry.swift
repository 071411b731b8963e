// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MeshClient
import MeshContent
import MeshCore
import MeshCrypto

/// A release in one file: what a stick carries to a site whose line is too thin.
///
/// `"MESHREL1"`, `long` signed release, `long` manifest, then the chunks in the order of their
/// places. Everything in it proves itself, so whoever carries it need not be trusted.
private enum Carried {
    static let magic = Array("MESHREL1".utf8)
    static let step = 64
}

/// Writes a release into a file.
struct ContentExport: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Writes the latest release of a channel into one file.")

    @OptionGroup var connection: Connection
    @Argument(help: "The channel.") var channel: String
    @Option(help: "The file to write.") var out: String

    func run() async throws {
        try Sodium.start()
        let client = try connection.client()
        guard let signed = try await client.latestRelease(channel) else {
            throw Failure("there is no channel '\(channel)'", code: 4)
        }
        let known = try await client.content().channels.first { $0.channel == channel }
        guard let release = known?.releases.last,
            let manifest = try await client.manifest(release.manifest)
        else {
            throw Failure("the files of the latest '\(channel)' are not on the node yet", code: 4)
        }
        let layout = Layout(try Manifest(decoding: manifest))
        guard FileManager.default.createFile(atPath: out, contents: nil),
            let file = FileHandle(forWritingAtPath: out)
        else { throw Failure("\(out) cannot be written") }
        var head = WireWriter()
        head.append(Carried.magic)
        head.long(signed)
        head.long(manifest)
        try file.write(contentsOf: Data(head.bytes))
        let bar = ProgressBar("writing", of: release.bytes)
        var written: UInt64 = 0
        for start in stride(from: 0, to: layout.chunks.count, by: Carried.step) {
            let range = start..<min(start + Carried.step, layout.chunks.count)
            let bytes = try await client.chunks(release.manifest, range)
            try file.write(contentsOf: Data(bytes))
            written += UInt64(bytes.count)
            bar.show(written)
        }
        try file.synchronize()
        bar.end()
        Console.line("\(channel) \(release.release)")
    }
}

/// Gives a node what a file carries.
struct ContentImport: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Gives a server the release in a file, and through it its site.")

    @OptionGroup var connection: Connection
    @Argument(help: "The file of 'content export'.") var file: String

    func run() async throws {
        try Sodium.start()
        guard let handle = FileHandle(forReadingAtPath: file) else {
            throw Failure("\(file) cannot be read")
        }
        guard try take(handle, 8) == Carried.magic else {
            throw Failure("\(file) carries no release")
        }
        let signed = try long(handle, SignedRelease.byteCountMax)
        let manifest = try long(handle, ContentSpecification.manifestBytesMax)
        let layout = Layout(try Manifest(decoding: manifest))
        let name = "\(Manifest.id(ofManifest: manifest))"
        let client = try connection.client()
        var body = WireWriter()
        body.long(signed)
        body.append(manifest)
        let missing = try await client.beginPublication(body.bytes).missing
        let wanted = Set(try Publication.places(missing, of: layout.chunks.count))
        let bar = ProgressBar("reading")
        var read: UInt64 = 0
        for (place, chunk) in layout.chunks.enumerated() {
            let bytes = try take(handle, Int(chunk.byteCount))
            if wanted.contains(place) {
                try await client.sendChunks(name, [place..<(place + 1)], bytes)
            }
            read += UInt64(bytes.count)
            bar.show(read)
        }
        bar.end()
        Console.line("release \(try await client.commitPublication(signed).release)")
    }

    private func take(_ handle: FileHandle, _ count: Int) throws -> [UInt8] {
        let bytes = Array(try handle.read(upToCount: count) ?? Data())
        guard bytes.count == count else { throw Failure("\(file) ends too early") }
        return bytes
    }

    private func long(_ handle: FileHandle, _ limit: Int) throws -> [UInt8] {
        var reader = WireReader(try take(handle, 4))
        let count = Int(try reader.u32())
        guard count <= limit else { throw Failure("\(file) carries no release") }
        return try take(handle, count)
    }
}
