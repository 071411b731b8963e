// SPDX-License-Identifier: Apache-2.0

/// How durable a write has to be before it is acknowledged.
package enum AckLevel: Hashable, Sendable {
    /// On the disk of the server that took it.
    case local
    /// On the disks of so many servers of its site, itself among them.
    case site(Int)
    /// On its own disk and that of a server of the centre.
    case central

    /// Most servers of a site that may be asked for.
    package static let serversMax = 16

    /// The name in requests and answers.
    package var name: String {
        switch self {
        case .local: "local"
        case .site(let count): "site:\(count)"
        case .central: "central"
        }
    }

    /// Finds a level by its name.
    package init?(name: some StringProtocol) {
        switch name {
        case "local": self = .local
        case "central": self = .central
        default:
            let parts = name.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0] == "site", let count = Int(parts[1]),
                (1...Self.serversMax).contains(count), parts[1] == String(count)
            else { return nil }
            self = .site(count)
        }
    }
}
