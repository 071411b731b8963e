// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc

/// The service manager that started this process, if one did (sd_notify(3)).
enum Supervisor {
    /// Tells it that the node serves.
    static func tellReady() { tell("READY=1\nSTATUS=") }

    /// Tells it that the node waits for its key, which may take until an operator comes.
    static func tellLocked() {
        tell("STATUS=locked: waits for the key of its records\nEXTEND_TIMEOUT_USEC=604800000000")
    }

    private static func tell(_ message: String) {
        guard let path = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"] else { return }
        let socket = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        guard socket >= 0 else { return }
        defer { close(socket) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        // A leading '@' names the abstract space, whose names begin with a zero byte.
        if path.hasPrefix("@") { address.sun_path.0 = 0 }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = sendto(socket, message, message.utf8.count, 0, $0, length)
            }
        }
    }
}
