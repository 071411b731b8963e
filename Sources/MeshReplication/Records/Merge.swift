// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// How concurrent versions of a key are kept and which is shown: chosen by a namespace's policy.
package enum MergeKind: UInt8, CaseIterable, Sendable {
    /// A value; the latest stamp is shown, siblings are kept.
    case register = 1
    /// Write once: nothing supersedes anything, the one that was held first is shown.
    case log = 2

    /// The name in commands and JSON.
    package var name: String {
        switch self {
        case .register: "register"
        case .log: "log"
        }
    }

    /// Finds a kind by its name.
    package init?(name: String) {
        guard let kind = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = kind
    }
}

/// One version of a key as the merge rule sees it.
package struct Version: Hashable, Sendable {
    /// Its place.
    package let dot: Dot
    /// What it supersedes.
    package let context: Context
    /// Its writer's clock.
    package let stamp: HybridTime
    /// The merge kind of the policy under which it was written.
    package let merge: MergeKind

    /// Names a version.
    package init(dot: Dot, context: Context, stamp: HybridTime, merge: MergeKind) {
        self.dot = dot
        self.context = context
        self.stamp = stamp
        self.merge = merge
    }

    /// Whether this version makes another of its key obsolete: by its context, or because its
    /// author had the other behind it. Entries of a log stand for ever.
    package func supersedes(_ other: Version, lives: ScopeLives) -> Bool {
        guard merge == .register, other.merge == .register, dot != other.dot else { return false }
        return lives.isBehind(other.dot, dot) || context.covers(other.dot, lives: lives)
    }
}

/// The merge rule: commutative, associative and idempotent, so any order of arrival leaves the same
/// versions live.
package enum Merge {
    /// What becomes of a key's live versions when one more is known.
    package enum Integration: Hashable, Sendable {
        /// The new version lives; these do not any more.
        case lives(superseding: [Dot])
        /// A live version already supersedes the new one.
        case superseded(by: Dot)
    }

    /// Integrates a version among the live ones of its key.
    package static func integrate(
        _ version: Version, into live: [Version], lives: ScopeLives
    ) -> Integration {
        if let winner = live.first(where: { $0.supersedes(version, lives: lives) }) {
            return .superseded(by: winner.dot)
        }
        return .lives(
            superseding: live.filter { version.supersedes($0, lives: lives) }.map(\.dot))
    }

    /// The context of a write that has seen the live versions.
    ///
    /// - Parameters:
    ///   - live: the versions that it replaces, and others that it does not.
    ///   - dot: where it will stand; what its life had behind it goes without saying.
    /// - Returns: nil where there are more live versions than a context has room for. Where only
    ///   earlier ones are too many, some of those are left out.
    package static func context(
        after live: [Version], at dot: Dot, lives: ScopeLives
    ) -> Context? {
        let replaced = live.filter { $0.merge == .register }
        let seen = replaced.flatMap { $0.context.dots + [$0.dot] }
        let context = Context(seen.filter { !lives.isBehind($0, dot) })
        return context.cut(keeping: Set(replaced.map(\.dot)))
    }
}
