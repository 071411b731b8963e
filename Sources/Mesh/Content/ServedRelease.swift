// SPDX-License-Identifier: Apache-2.0

package import MeshContent

/// The release of a channel that is served: all of it as of one moment.
package struct ServedRelease: Sendable {
    /// One file of it.
    package struct File: Sendable {
        /// Within the release.
        package let path: String
        /// On disk.
        package let place: String
        /// How many bytes.
        package let byteCount: Int
        /// A hash of its content: equal on every server.
        package let etag: String
        /// Whether it has changed on disk and must not be served.
        package let isDamaged: Bool
    }

    /// Which release.
    package let number: ReleaseNumber
    let layout: Layout
    let folder: String
    let damaged: Set<String>

    /// Looks a file up by its path.
    package func file(_ path: String) -> File? {
        let wanted = Array(path.utf8)
        let files = layout.manifest.files
        var (low, high) = (0, files.count)
        while low < high {
            let middle = (low + high) / 2
            if files[middle].path.utf8.lexicographicallyPrecedes(wanted) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        guard low < files.count, files[low].path.utf8.elementsEqual(wanted) else { return nil }
        let file = files[low]
        let place = "\(folder)/\(file.path)"
        return File(
            path: file.path, place: place, byteCount: Int(clamping: file.byteCount),
            etag: layout.etags[low],
            isDamaged: damaged.contains(place))
    }
}
