// SPDX-License-Identifier: Apache-2.0

/// Which paths a release may hold: such that every file system and every web server takes each for
/// the same file, inside the release and nowhere else.
package enum ContentPath {
    private static let devices: Set<String> = [
        "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
        "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
    ]

    /// Why a path is refused; nil for a good one.
    package static func fault(_ bytes: [UInt8]) -> String? {
        guard (1...ContentSpecification.pathBytesMax).contains(bytes.count) else {
            return "a path has 1 to \(ContentSpecification.pathBytesMax) bytes"
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { return "not UTF-8" }
        if bytes.contains(where: { $0 < 0x20 || $0 == 0x7f || $0 == 0x5c }) {
            return "control characters and backslashes are not allowed"
        }
        for part in bytes.split(separator: 0x2f, omittingEmptySubsequences: false) {
            if part.isEmpty { return "an empty part, or a slash at an end" }
            if part.count > ContentSpecification.componentBytesMax {
                return "a part of more than \(ContentSpecification.componentBytesMax) bytes"
            }
            if part.elementsEqual([0x2e]) || part.elementsEqual([0x2e, 0x2e]) {
                return "'.' and '..' are not allowed"
            }
        }
        for part in text.split(separator: "/") {
            let stem = part.split(separator: ".", omittingEmptySubsequences: false).first ?? ""
            if devices.contains(stem.lowercased()) { return "the name of a device" }
        }
        return nil
    }

    /// What two paths share that some file system would take for one.
    static func folded(_ path: String) -> String { path.lowercased() }
}
