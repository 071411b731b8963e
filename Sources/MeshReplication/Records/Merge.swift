// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// One version of a key as the merge rule sees it.
package struct Version: Hashable, Sendable {
    /// Its place.
    package let dot: Dot
    /// What it supersedes.
    package let context: Context
    /// Its writer's clock.
    package let stamp: HybridTime

    /// Names a version.
    package init(dot: Dot, context: Context, stamp: HybridTime) {
        self.dot = dot
        self.context = context
        self.stamp = stamp
    }

    /// Whether this version makes one at `dot` obsolete: by its context, or because one node wrote
    /// both.
    package func supersedes(_ other: Dot) -> Bool {
        (other.author.node == dot.author.node && other < dot) || context.covers(other)
    }
}

/// How concurrent versions of a key are kept and which is shown: chosen by a namespace's policy.
package enum MergeKind: UInt8, CaseIterable, Sendable {
    /// A value; the latest stamp is shown, siblings are kept.
    case register = 1
    /// Write once: nothing supersedes anything, the earliest stamp is shown.
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

/// What becomes of a key's live versions when one more is known.
package enum Integration: Hashable, Sendable {
    /// The new version lives; these do not any more.
    case lives(superseding: [Dot])
    /// A live version already supersedes the new one.
    case superseded(by: Dot)
}

extension MergeKind {
    /// Integrates a version among the live ones of its key.
    ///
    /// Commutative, associative and idempotent: any order of arrival leaves the same versions live.
    package func integrate(_ version: Version, into live: [Version]) -> Integration {
        guard self == .register else { return .lives(superseding: []) }
        if let winner = live.first(where: { $0.supersedes(version.dot) }) {
            return .superseded(by: winner.dot)
        }
        return .lives(superseding: live.map(\.dot).filter(version.supersedes))
    }

    /// Live versions in the order of display; the first is the value.
    package func ranked(_ live: [Version]) -> [Version] {
        live.sorted { lhs, rhs in
            switch self {
            case .register: (lhs.stamp, lhs.dot) > (rhs.stamp, rhs.dot)
            case .log: (lhs.stamp, lhs.dot) < (rhs.stamp, rhs.dot)
            }
        }
    }

    /// The context of a write that has seen the live versions, by an author that is about to write.
    package func context(after live: [Version], writer: NodeID) -> Context {
        guard self == .register else { return .empty }
        var context = Context.empty
        for version in live {
            for dot in version.context.dots + [version.dot] where dot.author.node != writer {
                context.insert(dot)
            }
        }
        return context
    }
}
