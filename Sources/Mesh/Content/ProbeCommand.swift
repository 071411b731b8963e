// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc

/// A site's own command that says by its exit code whether a release is well.
///
/// By `posix_spawn`, since Foundation's `Process` (6.3) was seen to read past a buffer, and so to
/// end its own process, where more than some 1,300 descriptors are open.
enum ProbeCommand {
    /// What became of it.
    enum Outcome {
        case well, unwell
        /// The system could not start it: it may a little later.
        case notRun
    }

    /// Runs a shell command to its end, for at most 20 s, and 5 s more where it does not heed that.
    static func run(_ command: String, environment: [String: String]) -> Outcome {
        let all = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let arguments = ["timeout", "-k", "5", "20", "/bin/sh", "-c", command]
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var settings: [UnsafeMutablePointer<CChar>?] = all.map { strdup("\($0)=\($1)") } + [nil]
        defer { for text in words + settings { free(text) } }
        var actions = posix_spawn_file_actions_t()
        guard posix_spawn_file_actions_init(&actions) == 0 else { return .notRun }
        defer { posix_spawn_file_actions_destroy(&actions) }
        for descriptor in 0...2 as ClosedRange<CInt> {
            posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0)
        }
        var process = pid_t()
        guard posix_spawn(&process, "/usr/bin/timeout", &actions, nil, &words, &settings) == 0
        else { return .notRun }
        var status: CInt = 0
        while waitpid(process, &status, 0) < 0 { guard errno == EINTR else { return .notRun } }
        // What `timeout` says of its own failures: it could not fork.
        let isOwnFailure = status & 0x7f == 0 && status >> 8 & 0xff == 125
        return status == 0 ? .well : isOwnFailure ? .notRun : .unwell
    }
}
