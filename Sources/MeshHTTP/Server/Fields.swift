// SPDX-License-Identifier: Apache-2.0

internal import NIOHTTP1

/// The name of a header field; upper and lower case mean the same.
struct FieldName: Hashable, Sendable {
    let text: String

    init(_ text: String) { self.text = text }

    static let accept = FieldName("Accept")
    static let accessControlAllowHeaders = FieldName("Access-Control-Allow-Headers")
    static let accessControlAllowMethods = FieldName("Access-Control-Allow-Methods")
    static let accessControlAllowOrigin = FieldName("Access-Control-Allow-Origin")
    static let accessControlExposeHeaders = FieldName("Access-Control-Expose-Headers")
    static let accessControlMaxAge = FieldName("Access-Control-Max-Age")
    static let accessControlRequestMethod = FieldName("Access-Control-Request-Method")
    static let acceptRanges = FieldName("Accept-Ranges")
    static let allow = FieldName("Allow")
    static let author = FieldName("Mesh-Author")
    static let authorization = FieldName("Authorization")
    static let cacheControl = FieldName("Cache-Control")
    static let connection = FieldName("Connection")
    static let contentDisposition = FieldName("Content-Disposition")
    static let contentEncoding = FieldName("Content-Encoding")
    static let contentLength = FieldName("Content-Length")
    static let contentRange = FieldName("Content-Range")
    static let contentSecurityPolicy = FieldName("Content-Security-Policy")
    static let contentType = FieldName("Content-Type")
    static let crossOriginResourcePolicy = FieldName("Cross-Origin-Resource-Policy")
    static let date = FieldName("Date")
    static let eTag = FieldName("ETag")
    static let expect = FieldName("Expect")
    static let host = FieldName("Host")
    static let idempotencyKey = FieldName("Idempotency-Key")
    static let ifMatch = FieldName("If-Match")
    static let ifNoneMatch = FieldName("If-None-Match")
    static let ifRange = FieldName("If-Range")
    static let lastEventID = FieldName("Last-Event-ID")
    static let location = FieldName("Location")
    static let origin = FieldName("Origin")
    static let prefer = FieldName("Prefer")
    static let preferenceApplied = FieldName("Preference-Applied")
    static let range = FieldName("Range")
    static let release = FieldName("Mesh-Release")
    static let retryAfter = FieldName("Retry-After")
    static let secFetchSite = FieldName("Sec-Fetch-Site")
    static let server = FieldName("Server")
    static let siblings = FieldName("Mesh-Siblings")
    static let transferEncoding = FieldName("Transfer-Encoding")
    static let vary = FieldName("Vary")
    static let wwwAuthenticate = FieldName("WWW-Authenticate")
    static let xContentTypeOptions = FieldName("X-Content-Type-Options")

    /// Fields by which a proxy tells for whom it asks (RFC 7239; what was customary before it).
    static let ofProxies = ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"]
        .map { FieldName($0) }
}

/// The header fields of a request or an answer.
struct Fields: Sendable, ExpressibleByDictionaryLiteral {
    private(set) var all: HTTPHeaders

    init(_ all: HTTPHeaders) { self.all = all }

    init(dictionaryLiteral elements: (FieldName, String)...) {
        all = HTTPHeaders()
        all.reserveCapacity(elements.count + 8)
        for (name, value) in elements { all.add(name: name.text, value: value) }
    }

    /// A field's value; of several fields of one name all values, as a list (RFC 9110, §5.3).
    subscript(name: FieldName) -> String? {
        get {
            guard let first = all.first(name: name.text) else { return nil }
            let values = all[name.text]
            return values.count == 1 ? first : values.joined(separator: ", ")
        }
        set {
            if let newValue {
                all.replaceOrAdd(name: name.text, value: newValue)
            } else {
                all.remove(name: name.text)
            }
        }
    }

    /// Adds fields; the caller knows that none of them is there.
    mutating func add(_ more: Fields) {
        for (name, value) in more.all { all.add(name: name, value: value) }
    }

    func count(of name: FieldName) -> Int { all[name.text].count }

    func has(_ name: FieldName) -> Bool { all.contains(name: name.text) }
}
