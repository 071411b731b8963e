// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// What was met in one database file that is not what was written there.
///
/// A rotten page is handed on as it is: most of a page is rows, which show their own rot, and no
/// page may stop the rows beside it. But whoever has read one gives no answer before what SQLite
/// finds its way by was looked at (`SQLiteRecords`).
final class PageWatch: Sendable {
    /// Where something was met.
    enum Place: Hashable {
        /// A page of the file, counted from 1.
        case page(Int64)
        /// A page in the write-ahead log, by its offset.
        case logged(Int64)
    }

    private struct State {
        var metCount = 0
        var settledCount = 0
        var fresh: [Place: UInt64] = [:]
        var settled: [Place: UInt64] = [:]
        var marked: Set<Int64> = []
    }

    private struct Entry {
        weak var watch: PageWatch?
    }

    private static let all = Mutex<[String: Entry]>([:])

    private let path: String
    private let state = Mutex(State())

    private init(_ path: String) { self.path = path }

    deinit {
        Self.all.withLock { all in
            if all[path]?.watch == nil { all[path] = nil }
        }
    }

    /// Watches a file, named by its full path, from its next opening on.
    static func watching(_ path: String) -> PageWatch {
        all.withLock { all in
            if let watch = all[path]?.watch { return watch }
            let watch = PageWatch(path)
            all[path] = Entry(watch: watch)
            return watch
        }
    }

    /// Who watches a file; nil for a file of somebody else.
    static func ofFile(_ path: String) -> PageWatch? { all.withLock { $0[path]?.watch } }

    /// How often something rotten was read, but for what is settled.
    var metCount: Int { state.withLock { $0.metCount } }

    /// What `metCount` was when the file was last looked at.
    var settledCount: Int { state.withLock { $0.settledCount } }

    /// Whether nothing was met since the file was last looked at.
    var isSettled: Bool { state.withLock { $0.metCount == $0.settledCount } }

    /// Notes a page whose sum is not the one that it carries, unless this very page was looked at.
    func meet(_ place: Place, sum: UInt64) {
        state.withLock { state in
            if state.settled[place] == sum { return }
            state.metCount += 1
            // Beyond the limit a page is met again as long as it is rotten.
            if state.fresh.count < StoreLimits.rottenPages { state.fresh[place] = sum }
        }
    }

    /// A page has rotted in the log: where it is copied into the file it is met again.
    func mark(page: Int64) {
        state.withLock { state in
            if state.marked.count < StoreLimits.rottenPages { state.marked.insert(page) }
        }
    }

    /// Whether a page is to be met again.
    func isMarked(_ page: Int64) -> Bool { state.withLock { $0.marked.contains(page) } }

    /// The pages that were looked at, each with the sum of what stands there.
    var settled: [Place: UInt64] { state.withLock { $0.settled } }

    /// Everything that depends on the pages that were met was looked at, and made anew where it
    /// had to be.
    func settle() {
        state.withLock { state in
            if state.settled.count > StoreLimits.rottenPages { state.settled = [:] }
            state.settled.merge(state.fresh) { $1 }
            state.fresh = [:]
            state.marked = []
            state.settledCount = state.metCount
        }
    }
}
