// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MeshCore
import MeshCrypto
import MeshStore
internal import Synchronization

/// The passphrase of a folder of keys: asked for at the terminal, or read from a file.
enum Passphrase {
    /// Names a file with the passphrase, for scripts.
    static let variable = "MESH_PASSPHRASE_FILE"

    /// The last one that fitted: new keys of the folder are sealed under it too.
    private static let known = Mutex<[UInt8]?>(nil)

    /// Has a new folder sealed, where somebody is there to say under what.
    ///
    /// - Returns: whether it is.
    static func choose() throws -> Bool {
        if let told = try fromFile() {
            known.withLock { $0 = told }
            return true
        }
        guard isatty(STDIN_FILENO) == 1 else { return false }
        let first = try ask("passphrase for the keys: ")
        guard first.count >= SealedBytes.passphraseBytesMin else {
            throw Failure(
                "a passphrase has at least \(SealedBytes.passphraseBytesMin) bytes; better five words by chance"
            )
        }
        guard try ask("once more: ") == first else {
            throw Failure("the two are not the same; nothing was made")
        }
        known.withLock { $0 = first }
        return true
    }

    /// A secret as it lies in the folder.
    static func seal(_ secret: [UInt8]) throws -> [UInt8] {
        guard let known = known.withLock({ $0 }) else { return secret }
        do { return try SealedBytes.seal(secret, under: known) } catch {
            throw Failure("the keys cannot be sealed: \(error)")
        }
    }

    /// A secret of the folder, whether it is sealed or not.
    static func open(_ bytes: [UInt8], _ path: String) throws -> [UInt8] {
        guard SealedBytes.isSealed(bytes) else { return bytes }
        if let known = known.withLock({ $0 }),
            let secret = try? SealedBytes.open(bytes, with: known)
        {
            return secret
        }
        guard let passphrase = try fromFile() ?? atTerminal(path) else {
            throw Failure(
                "\(path) is sealed: run this at a terminal, or name a file with its passphrase in $\(variable)"
            )
        }
        do {
            let secret = try SealedBytes.open(bytes, with: passphrase)
            known.withLock { $0 = passphrase }
            return secret
        } catch {
            throw Failure("\(path): \(error)")
        }
    }

    private static func fromFile() throws -> [UInt8]? {
        guard let path = ProcessInfo.processInfo.environment[variable] else { return nil }
        let bytes: [UInt8]
        do { bytes = try DataDirectory.readSecret(path) } catch { throw Failure("\(error)") }
        let line = Array(bytes.prefix { $0 != 10 && $0 != 13 })
        guard line.count >= SealedBytes.passphraseBytesMin else {
            throw Failure(
                "\(path): the first line is the passphrase, with at least \(SealedBytes.passphraseBytesMin) bytes"
            )
        }
        return line
    }

    private static func atTerminal(_ path: String) throws -> [UInt8]? {
        guard isatty(STDIN_FILENO) == 1 else { return nil }
        return try ask("passphrase for \(path): ")
    }

    /// What Ctrl-C types.
    private static let interrupt: UInt8 = 3

    /// Reads a line that the terminal does not show.
    private static func ask(_ prompt: String) throws -> [UInt8] {
        FileHandle.standardError.write(Data(prompt.visible.utf8))
        var shown = termios()
        guard tcgetattr(STDIN_FILENO, &shown) == 0 else { throw Failure("this is no terminal") }
        var hidden = shown
        // An interrupt ends the line, so that the terminal shows again what is typed.
        hidden.c_lflag &= ~tcflag_t(ECHO | ISIG)
        withUnsafeMutableBytes(of: &hidden.c_cc) { $0[Int(VEOL)] = interrupt }
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden)
        defer {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown)
            FileHandle.standardError.write(Data("\n".utf8))
        }
        guard let line = readLine(), !line.isEmpty, line.utf8.last != interrupt else {
            throw Failure("no passphrase was given; nothing was done")
        }
        return Array(line.utf8)
    }
}
