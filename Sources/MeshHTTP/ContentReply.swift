// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
internal import Mesh
internal import MeshAPI
internal import NIOCore
internal import NIOHTTP1

/// Serves `/content/CHANNEL/PATH` from disk, by `sendfile`: a file's bytes go from the page cache
/// to the socket without passing through this process.
enum ContentReply {
    /// Looks the file up in what is served, and answers conditions and ranges (RFC 9110, §13, §14).
    static func response(
        to request: Request, _ served: [String: ServedRelease]
    ) throws -> Response {
        let path = request.path
        guard let decoded = path.removingPercentEncoding, !decoded.utf8.contains(0) else {
            throw Problem(.badPath, "the path has a malformed percent escape")
        }
        let parts = decoded.dropFirst("/content/".count)
            .split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let release = served[String(parts.first ?? "")] else {
            throw Problem.notFound("nothing of channel '\(parts.first ?? "")' is served here")
        }
        let name = parts.count == 2 ? String(parts[1]) : ""
        let isFolder = name.isEmpty || name.hasSuffix("/")
        // Links relative to a folder's page want the slash.
        if parts.count < 2 || (!isFolder && release.file(name + "/index.html") != nil) {
            return Response(status: .permanentRedirect, headers: [.location: path + "/"])
        }
        guard let found = release.file(isFolder ? name + "index.html" : name) else {
            throw Problem.notFound("release \(release.number) has no file '\(name)'")
        }
        guard !found.isDamaged else {
            throw Problem(
                .damaged, "the file has changed on disk and is fetched anew")
        }
        let fields: Fields = [
            .eTag: "\"\(found.etag)\"", .release: "\(release.number)", .acceptRanges: "bytes",
            .cacheControl: "no-cache",
        ]
        if let field = request.headers[.ifNoneMatch] {
            guard let known = TagList(field) else { throw Routes.noTags }
            if known.contains(found.etag) {
                return Response(status: .notModified, headers: fields)
            }
        }
        return try open(found, request, fields)
    }

    private static func open(
        _ found: ServedRelease.File, _ request: Request, _ fields: Fields
    ) throws -> Response {
        var response = Response(status: .ok, headers: fields)
        response.headers[.contentType] = MediaType.of(found.path)
        var range = 0..<found.byteCount
        // A range of another version of the file would be of use to nobody (If-Range).
        let isSame = request.headers[.ifRange].map { $0 == "\"\(found.etag)\"" } ?? true
        if let text = request.headers[.range], isSame, request.method == .GET {
            switch Self.range(text, of: found.byteCount) {
            case .whole: break
            case .part(let part):
                range = part
                response.status = .partialContent
                response.headers[.contentRange] =
                    "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(found.byteCount)"
            case .outside:
                response.status = .rangeNotSatisfiable
                response.headers[.contentRange] = "bytes */\(found.byteCount)"
                return response
            }
        }
        response.headers[.contentLength] = "\(range.count)"
        if request.method == .HEAD || range.isEmpty { return response }
        let descriptor = Glibc.open(found.place, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw Problem(
                .storage, "'\(found.path)' cannot be opened: \(String(cString: strerror(errno)))")
        }
        // A file that somebody cut short would be sent for ever.
        guard lseek(descriptor, 0, SEEK_END) == off_t(found.byteCount) else {
            Glibc.close(descriptor)
            throw Problem(
                .damaged, "the file has changed on disk")
        }
        let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: descriptor)
        response.body = .file(handle, range)
        return response
    }

    enum Wanted: Equatable {
        case whole
        case part(Range<Int>)
        case outside
    }

    /// Reads a `Range` field. Several ranges, and what is not understood, get the whole file, as
    /// RFC 9110, §14.2 allows.
    static func range(_ text: String, of size: Int) -> Wanted {
        guard text.hasPrefix("bytes="), !text.contains(",") else { return .whole }
        let ends = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
            .map { $0.trimmingCharacters(in: .whitespaces) }
        guard ends.count == 2 else { return .whole }
        let digits = (ends[0] + ends[1]).utf8
        guard digits.allSatisfy({ (48...57).contains($0) }), !digits.isEmpty else { return .whole }
        if ends[0].isEmpty {
            let count = Int(ends[1]) ?? size
            return count == 0 || size == 0 ? .outside : .part(max(0, size - count)..<size)
        }
        guard let first = Int(ends[0]), first < size else { return .outside }
        let last = ends[1].isEmpty ? size - 1 : min(Int(ends[1]) ?? size - 1, size - 1)
        return last < first ? .whole : .part(first..<(last + 1))
    }
}

/// Media types by the endings of names.
enum MediaType {
    private static let known = [
        "html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
        "mjs": "text/javascript; charset=utf-8", "json": "application/json",
        "txt": "text/plain; charset=utf-8", "csv": "text/csv; charset=utf-8",
        "xml": "application/xml", "svg": "image/svg+xml", "png": "image/png",
        "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
        "avif": "image/avif", "ico": "image/vnd.microsoft.icon", "mp4": "video/mp4",
        "webm": "video/webm", "mov": "video/quicktime", "mp3": "audio/mpeg", "ogg": "audio/ogg",
        "wav": "audio/wav", "pdf": "application/pdf", "zip": "application/zip",
        "wasm": "application/wasm", "woff": "font/woff", "woff2": "font/woff2", "ttf": "font/ttf",
        "apk": "application/vnd.android.package-archive", "m3u8": "application/vnd.apple.mpegurl",
    ]

    static func of(_ path: String) -> String {
        let ending = path.split(separator: ".").last?.lowercased() ?? ""
        return known[ending] ?? "application/octet-stream"
    }
}
