// SPDX-License-Identifier: Apache-2.0

internal import Foundation

/// Where a clean stop leaves its token: a file in memory, outside the data directory.
package struct TailProof: Sendable {
    /// Reads the token and takes it away; nil if there is none, or it cannot be taken away.
    let take: @Sendable () -> [UInt8]?
    /// Leaves a token; says whether it was left.
    let leave: @Sendable ([UInt8]) -> Bool

    /// Names a place by what is done with it.
    package init(
        take: @escaping @Sendable () -> [UInt8]?, leave: @escaping @Sendable ([UInt8]) -> Bool
    ) {
        self.take = take
        self.leave = leave
    }

    /// Names the file.
    package init(path: String) {
        take = {
            guard let data = FileManager.default.contents(atPath: path), data.count <= 64,
                (try? FileManager.default.removeItem(atPath: path)) != nil
            else { return nil }
            return Array(data)
        }
        leave = { token in
            try? FileManager.default.removeItem(atPath: path)
            return FileManager.default.createFile(
                atPath: path, contents: Data(token), attributes: [.posixPermissions: 0o600])
        }
    }
}
