// SPDX-License-Identifier: Apache-2.0

package import MeshCore
internal import MeshRules
internal import Synchronization

/// Answers to lists, as bytes, as long as nothing of their scope changes.
///
/// Menu boards and tills ask for the same page again and again. What was begun before a change is
/// not remembered after it.
package final class ListCache: Sendable {
    /// A page of a scope, by all that was asked for.
    package struct Name: Hashable, Sendable {
        let scope: Scope
        let query: String

        /// Names a page.
        package init(scope: Scope, query: String) {
            self.scope = scope
            self.query = query
        }
    }

    /// Bytes of all pages; beyond it, everything is forgotten.
    private static let byteCountMax = 4 << 20

    private struct State {
        var pages: [Scope: [String: [UInt8]]] = [:]
        var byteCount = 0
        /// The number of the last change of each scope.
        var changes: [Scope: UInt64] = [:]
        /// The number of the last change that may have touched any scope.
        var floor: UInt64 = 0
        var count: UInt64 = 0

        func mark(of scope: Scope) -> UInt64 { max(changes[scope] ?? 0, floor) }

        mutating func forgetAll() { (pages, byteCount) = ([:], 0) }
    }

    private let state = Mutex(State())

    /// Nothing is remembered.
    init() {}

    private static func size(_ page: [UInt8], _ query: String) -> Int {
        page.count + query.utf8.count + 256
    }

    /// A page that is as it was; otherwise a mark to bring along with it.
    package func find(_ name: Name) -> (page: [UInt8]?, mark: UInt64) {
        state.withLock { ($0.pages[name.scope]?[name.query], $0.mark(of: name.scope)) }
    }

    /// Remembers a page, unless its scope has changed since the mark was given.
    package func note(_ page: [UInt8], as name: Name, at mark: UInt64) {
        let size = Self.size(page, name.query)
        guard size <= Self.byteCountMax / 4 else { return }
        state.withLock { state in
            guard state.mark(of: name.scope) == mark,
                state.pages[name.scope]?[name.query] == nil
            else { return }
            if state.byteCount + size > Self.byteCountMax { state.forgetAll() }
            state.pages[name.scope, default: [:]][name.query] = page
            state.byteCount += size
        }
    }

    func forget(_ touched: TouchedKeys) {
        state.withLock { state in
            state.count += 1
            if touched.areUnknown {
                state.forgetAll()
                (state.changes, state.floor) = ([:], state.count)
            }
            for scope in touched.scopes {
                state.changes[scope] = state.count
                let gone = state.pages.removeValue(forKey: scope) ?? [:]
                state.byteCount -= gone.reduce(0) { $0 + Self.size($1.value, $1.key) }
            }
        }
    }
}
