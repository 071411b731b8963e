// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOHTTP1

/// What of a request decides how its answer is put into HTTP/1.
struct Framing {
    var isForHead: Bool
    var isKeptAlive: Bool
    var version: HTTPVersion

    init(_ request: Request) {
        isForHead = request.method == .HEAD
        (isKeptAlive, version) = (request.isKeptAlive, request.version)
    }

    /// That of a request of which no more than its head can be read.
    init(_ head: HTTPRequestHead) {
        isForHead = head.method == .HEAD
        (isKeptAlive, version) = (Self.keepsAlive(head), head.version)
    }

    /// After an offer to go on in another protocol the parser takes nothing more.
    static func keepsAlive(_ head: HTTPRequestHead) -> Bool {
        head.isKeepAlive && head.method != .CONNECT && !head.headers.contains(name: "Upgrade")
    }

    private init(isForHead: Bool, isKeptAlive: Bool, version: HTTPVersion) {
        (self.isForHead, self.isKeptAlive, self.version) = (isForHead, isKeptAlive, version)
    }

    /// That of what is no request.
    static let broken = Framing(isForHead: false, isKeptAlive: false, version: .http1_1)

    private var isOld: Bool { version != .http1_1 }

    /// Whether the connection may stay after this answer. HTTP/1.0 knows no chunks: what is made as
    /// it is sent ends with the connection there.
    func keepsAlive(_ body: Response.Body) -> Bool {
        isKeptAlive && !(isOld && body.isMadeAsItIsSent)
    }

    func head(of response: Response, keepsAlive: Bool) -> HTTPResponseHead {
        var fields = response.headers
        fields[.connection] = keepsAlive ? (isOld ? "keep-alive" : nil) : "close"
        if case .bytes(let buffer) = response.body, response.status.mayHaveBody,
            !fields.has(.contentLength)
        {
            fields[.contentLength] = "\(buffer.readableBytes)"
        }
        return HTTPResponseHead(
            version: isOld ? .http1_0 : .http1_1, status: response.status, headers: fields.all)
    }
}

extension HTTPResponseStatus {
    /// RFC 9110, §6.4.1.
    fileprivate var mayHaveBody: Bool { code >= 200 && code != 204 && code != 304 }
}

extension Response.Body {
    fileprivate var isMadeAsItIsSent: Bool { if case .stream = self { true } else { false } }

    /// Lets go of a file that is not sent.
    func close() {
        if case .file(let handle, _) = self { try? handle.close() }
    }
}

extension Result where Success == Response, Failure == any Error {
    /// The answer, or that which tells what went wrong.
    var answer: Response {
        switch self {
        case .success(let response): response
        case .failure(let error): Routes.answer(error)
        }
    }
}
