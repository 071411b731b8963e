// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Glibc
import MeshCore
import MeshCrypto
import MeshReplication
import MeshStore
import MeshTrust

/// Making a mesh: done once, on a machine that is kept safe.
struct MeshCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mesh", abstract: "Makes a mesh.", subcommands: [Create.self])

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes the keys of a mesh, and prints its identity.",
            discussion: """
                The root keys belong to different people and places, offline; take them away from DIR.
                The enrol key makes tickets and stays with the operator; the revoke key takes servers out of
                the mesh, and lies best with somebody else too.
                The files are sealed under a passphrase, which is asked for at a terminal, here and by every command
                that takes --keys; for scripts $MESH_PASSPHRASE_FILE names a file whose first line it is. Nobody can
                bring back one that is forgotten.
                """)

        @Argument(help: "A directory for the keys, made for them.") var directory: String
        @Option(help: "What people will call the mesh.") var name: String
        @Option(help: "How many root keys.") var roots = 3
        @Option(help: "How many of them must sign.") var threshold = 2
        @Flag(help: "Leave the keys readable to whoever copies DIR.") var noPassphrase = false

        func validate() throws {
            guard Name.isValid(name) else {
                throw ValidationError("'\(name)' is not a name: letters, digits, '.', '_', '-'")
            }
            guard (1...RootDocument.keysMax).contains(roots), (1...roots).contains(threshold) else {
                throw ValidationError(
                    "--roots is 1 to \(RootDocument.keysMax), --threshold 1 to --roots")
            }
        }

        func run() throws {
            try Sodium.start()
            let files = FileManager.default
            if let found = try? files.contentsOfDirectory(atPath: directory), !found.isEmpty {
                throw Failure("\(directory) is not empty")
            }
            let isSealed = noPassphrase ? false : try Passphrase.choose()
            try files.createDirectory(
                atPath: directory, withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700])
            let rootKeys = try (0..<roots).map { _ in try KeyFolder.newKey() }
            let enrol = try KeyFolder.newKey()
            let revoke = try KeyFolder.newKey()
            let secret = MeshSecret(epoch: 1, value: try KeyFolder.randomBytes32())
            let root = RootDocument(
                name: name, created: UInt64(Date().timeIntervalSince1970 * 1000),
                threshold: UInt8(threshold), roots: rootKeys, enrol: [enrol.publicKey.id],
                revoke: [revoke.publicKey.id])
            let folder = KeyFolder(directory)
            for (index, key) in rootKeys.enumerated() {
                try folder.writeSecret(key.seed.array, "root-\(index + 1).key")
            }
            try folder.writeSecret(enrol.seed.array, "enrol.key")
            try folder.writeSecret(revoke.seed.array, "revoke.key")
            var bytes = WireWriter()
            bytes.u32(secret.epoch)
            bytes.append(secret.value)
            try folder.writeSecret(bytes.bytes, "mesh.secret")
            try folder.write(root.encoded, "root")
            Console.line("\(root.meshID)")
            Console.complain(
                "keys are in \(directory); take root-*.key away, they are not needed to enrol or revoke servers"
            )
            if !isSealed {
                Console.complain(
                    "the keys are under no passphrase: whoever copies \(directory) can enrol and revoke servers"
                )
            }
        }
    }
}

/// Makes a node of this box.
struct Join: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a server of this box with a ticket; needs no network now.")

    @Argument(help: "The ticket, or - for standard input.") var ticket: String
    @Option(help: "The data directory to make.") var data: String?
    @Flag(
        help: """
            Seal the bytes of records under a key that does not lie on the disk. The site's other servers and those of \
            the centre keep it: one of them has to be met before this server serves. After each start it waits until a \
            neighbour gives the key, or until an operator allows that the centre does (meshctl unlock).
            """)
    var sealed = false

    func run() throws {
        try Sodium.start()
        let directory = data ?? ProcessInfo.processInfo.environment["MESH_DATA"] ?? "/var/lib/mesh"
        let bytes: [UInt8]
        if ticket == "-" {
            bytes = Array(FileHandle.standardInput.readDataToEndOfFile())
        } else {
            do { bytes = try DataDirectory.readSecret(ticket) } catch let error as StoreError {
                throw Failure("\(error)")
            }
        }
        let file: TicketFile
        do { file = try TicketFile(text: String(decoding: bytes, as: UTF8.self)) } catch {
            throw Failure("\(ticket): \(error)")
        }
        let certificate = try useUp {
            let directory = DataDirectory(directory)
            do { return try directory.join(file, isSealed: sealed) } catch let error as StoreError {
                throw Failure("\(error)")
            }
        }
        Console.line(
            "\(certificate.ticket.node) joined '\(file.root.name)' at \(certificate.ticket.site); run: meshd --data \(directory)"
        )
        if !certificate.isApproved {
            Console.line("fingerprint: \(certificate.fingerprint)")
            Console.complain(
                "the operator has to approve this server: read the fingerprint to him (there: meshctl approve)"
            )
        }
    }
}

extension Join {
    /// A ticket serves once: one that cannot be destroyed is not used, since whoever found it could
    /// join in the same name.
    private func useUp(_ join: () throws -> Certificate) throws -> Certificate {
        if ticket == "-" { return try join() }
        let aside = ticket + ".used"
        guard rename(ticket, aside) == 0 else {
            throw Failure(
                "\(ticket) cannot be removed (\(String(cString: strerror(errno)))), and whoever finds it could join with it; put it where it can be, or give it on standard input"
            )
        }
        let certificate: Certificate
        do { certificate = try join() } catch {
            if rename(aside, ticket) != 0 { Console.complain("the ticket is in \(aside) now") }
            throw error
        }
        guard unlink(aside) == 0 else {
            throw Failure(
                "joined, but \(aside) cannot be removed: destroy it, it can enrol another")
        }
        return certificate
    }
}

/// The files of `mesh create`.
struct KeyFolder {
    let path: String

    init(_ path: String) { self.path = path }

    static func randomBytes32() throws -> Bytes32 {
        guard let value = Bytes32(Sodium.random(32)) else { throw Failure("no random bytes") }
        return value
    }

    static func newKey() throws -> SigningKey { SigningKey(seed: try randomBytes32()) }

    func write(_ bytes: [UInt8], _ name: String) throws {
        try DataDirectory.write(bytes, to: "\(path)/\(name)", mode: 0o600)
    }

    func read(_ name: String) throws -> [UInt8] {
        guard let data = FileManager.default.contents(atPath: "\(path)/\(name)") else {
            throw Failure("\(path)/\(name) is missing or cannot be read")
        }
        return Array(data)
    }

    /// Makes a ticket and writes it; a later one under a name takes the name over.
    func makeTicket(
        site: String, node: String, isCentral: Bool, groups: [String], seeds: [String],
        needsApproval: Bool = false, to out: String
    ) throws {
        try Sodium.start()
        let root = try root()
        let enrol = try enrolKey(of: root)
        let ticketKey = try Self.newKey()
        let time = try nextTicketTime()
        let ticket = Ticket(
            key: ticketKey.publicKey.id,
            serial: Ticket.serial(milliseconds: time, random: Sodium.random(10)),
            site: site, node: node, isCentral: isCentral, groups: Array(Set(groups)),
            grants: isCentral ? Grant.central : Grant.edge(site: site, groups: groups),
            needsApproval: needsApproval)
        guard ticket.fits else {
            throw Failure("the names of the site, the server and its groups are too long together")
        }
        let file = TicketFile(
            root: root, enrol: enrol, secrets: try secrets(of: root),
            ticketSeed: ticketKey.seed, ticket: ticket, seeds: seeds)
        try note(ticket)
        try DataDirectory.write(Array(file.text.utf8), to: out, mode: 0o600)
        Console.complain(
            "ticket for \(node) at \(site) is in \(out) (use: meshctl join \(out))")
    }

    /// Signs a namespace's policy with the enrol key, now.
    func define(
        _ namespace: String, _ policy: NamespacePolicy, _ acknowledged: AckLevel
    ) throws -> PolicyDocument {
        try Sodium.start()
        let root = try root()
        let key = try enrolKey(of: root)
        return PolicyDocument(
            of: namespace, policy, acknowledged: acknowledged, created: try nextPolicyTime(),
            key: key, mesh: root.meshID)
    }

    /// The time for the next policy, later than that of the last: a clock that was ahead once does
    /// not hold a namespace's policy for ever.
    private func nextPolicyTime() throws -> UInt64 {
        let name = "last-policy"
        let now = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        var time = now
        if FileManager.default.fileExists(atPath: "\(path)/\(name)") {
            let text = String(decoding: try read(name), as: UTF8.self)
            guard let last = UInt64(text.trimmingCharacters(in: .whitespacesAndNewlines)),
                last < .max
            else { throw Failure("\(path)/\(name) is not a number of milliseconds") }
            time = max(now, last + 1)
        }
        if time > now + 86_400_000 {
            Console.complain(
                "the last policy was signed by a clock that was ahead of this one; this one is newer all the same"
            )
        }
        try write(Array("\(time)\n".utf8), name)
        return time
    }

    /// The time for the next ticket, which is noted beside the keys before the ticket is made.
    private func nextTicketTime() throws -> UInt64 {
        let name = "last-ticket"
        let now = UInt64(max(0, Date().timeIntervalSince1970 * 1000))
        var last: UInt64?
        if FileManager.default.fileExists(atPath: "\(path)/\(name)") {
            let text = String(decoding: try read(name), as: UTF8.self)
            guard let number = UInt64(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
                throw Failure(
                    "\(path)/\(name) is not a number of milliseconds; put the time of the newest ticket there, or remove it"
                )
            }
            last = number
        }
        guard let time = Ticket.time(now: now, after: last) else {
            throw Failure("\(path)/\(name): no ticket can be newer than the last one")
        }
        if time > now + 86_400_000 {
            Console.complain(
                "the last ticket was made by a clock that was ahead of this one; this ticket is newer all the same"
            )
        }
        try write(Array("\(time)\n".utf8), name)
        return time
    }

    /// Reads a key or a secret; asks for the passphrase where it is sealed.
    func readSecret(_ name: String) throws -> [UInt8] {
        let file = "\(path)/\(name)"
        let bytes: [UInt8]
        do { bytes = try DataDirectory.readSecret(file) } catch { throw Failure("\(error)") }
        return try Passphrase.open(bytes, file)
    }

    /// Writes a key or a secret, sealed where the folder's others are.
    func writeSecret(_ bytes: [UInt8], _ name: String) throws {
        try write(try Passphrase.seal(bytes), name)
    }
}
