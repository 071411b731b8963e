// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import MeshCore

/// Whether the records of a data directory are sealed, and who may have their key.
extension DataDirectory {
    /// How records lie in a directory.
    package enum Sealing: Hashable, Sendable {
        /// As they are.
        case none
        /// They are to be sealed; there are none yet, and no key.
        case new
        /// Under the key of that name.
        case under(Digest)
    }

    /// Most addresses of keepers that are remembered; the oldest goes.
    package static let keepersMax = 16

    private var sealingFile: String { path + "/sealed" }
    private var keepersFile: String { path + "/keepers" }

    /// How records lie here.
    package func sealing() throws -> Sealing {
        guard let text = try text(of: sealingFile) else { return .none }
        if text == "new" { return .new }
        guard let name = Hex.decode(text).flatMap({ Digest($0) }) else {
            throw StoreError.unusable("\(sealingFile) names no key")
        }
        return .under(name)
    }

    /// Notes how records lie here from now on.
    package func write(sealing: Sealing) throws {
        let text: String
        switch sealing {
        case .none: preconditionFailure("what is sealed stays so")
        case .new: text = "new"
        case .under(let name): text = "\(name)"
        }
        try Self.write(Array((text + "\n").utf8), to: sealingFile, mode: 0o600)
    }

    /// Where servers were met that keep the key.
    package func keepers() -> [Address] {
        let text = (try? text(of: keepersFile)) ?? nil
        return (text ?? "").split(separator: "\n").compactMap { Address(String($0)) }
    }

    /// Remembers where a keeper was met.
    package func note(keeperAt address: Address) throws {
        let others = keepers().filter { $0 != address }
        let all = (others + [address]).suffix(Self.keepersMax)
        let text = all.map { "\($0)\n" }.joined()
        try Self.write(Array(text.utf8), to: keepersFile, mode: 0o600)
    }

    private func text(of file: String) throws -> String? {
        guard FileManager.default.fileExists(atPath: file) else { return nil }
        guard let data = FileManager.default.contents(atPath: file) else {
            throw StoreError.unusable("\(file) cannot be read")
        }
        return String(decoding: data, as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
