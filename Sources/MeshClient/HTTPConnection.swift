// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import MeshAPI
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// Where a node's API is reached.
public enum Endpoint: Sendable {
    /// The admin socket of the local node.
    case socket(String)
    /// The HTTP port of a node, with a token where one is needed.
    case http(host: String, port: Int, token: String?)
}

/// An answer of the API.
struct Answer: Sendable {
    let status: Int
    let headers: [(name: String, value: String)]
    let body: [UInt8]

    func header(_ name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }
}

/// A request to the API.
struct Call: Sendable {
    var method = "GET"
    var path: String
    var headers: [(name: String, value: String)] = []
    var body: [UInt8] = []
}

/// One HTTP/1.1 exchange on a connection of its own: thin, since the API is local and its answers
/// small.
struct HTTPConnection: Sendable {
    enum Part: Sendable {
        case head(status: Int, headers: [(name: String, value: String)])
        case bytes([UInt8])
    }

    /// Longest answer that is kept in memory, and longest line of a stream.
    static let answerBytesMax = 256 << 20
    static let lineBytesMax = 16 << 20

    let endpoint: Endpoint

    /// What a failed connection says to a person.
    private static func reason(_ error: any Error, at endpoint: Endpoint) -> String {
        let first = (error as? NIOConnectionError)?.connectionErrors.first?.error ?? error
        let why = (first as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(first)"
        guard case .socket(let path) = endpoint else { return why }
        return
            "\(path): \(why) (is meshd running? One that is locked opens no socket, and its log says so)"
    }

    /// Sends a call and gives the parts of its answer as they come.
    ///
    /// - Throws: `ClientError.unreachable` where nobody answers.
    func parts(_ call: Call) async throws -> AsyncThrowingStream<Part, any Error> {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: Part.self)
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(.seconds(5))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(PartHandler(continuation))
                }
            }
        let channel: any Channel
        var host = "localhost"
        do {
            switch endpoint {
            case .socket(let path):
                channel = try await bootstrap.connect(unixDomainSocketPath: path).get()
            case .http(let name, let port, _):
                channel = try await bootstrap.connect(host: name, port: port).get()
                host = name.contains(":") ? "[\(name)]:\(port)" : "\(name):\(port)"
            }
        } catch {
            throw ClientError.unreachable(Self.reason(error, at: endpoint))
        }
        continuation.onTermination = { _ in channel.close(promise: nil) }
        var headers = HTTPHeaders([
            ("Host", host), ("Connection", "close"), ("Content-Length", "\(call.body.count)"),
        ])
        if case .http(_, _, let token?) = endpoint {
            headers.add(name: "Authorization", value: "Bearer \(token)")
        }
        for (name, value) in call.headers { headers.add(name: name, value: value) }
        let head = HTTPRequestHead(
            version: .http1_1, method: HTTPMethod(rawValue: call.method), uri: call.path,
            headers: headers)
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        channel.write(
            HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: call.body))), promise: nil)
        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        return stream
    }

    /// Sends a call and collects its answer; a problem document becomes an error.
    func answer(_ call: Call) async throws -> Answer {
        var status = 0
        var headers: [(name: String, value: String)] = []
        var body: [UInt8] = []
        for try await part in try await parts(call) {
            switch part {
            case .head(let code, let fields): (status, headers) = (code, fields)
            case .bytes(let bytes):
                body += bytes
                guard body.count <= Self.answerBytesMax else {
                    throw ClientError.unexpected("it is longer than \(Self.answerBytesMax) bytes")
                }
            }
        }
        guard status != 0 else { throw ClientError.unreachable("the connection ended early") }
        let answer = Answer(status: status, headers: headers, body: body)
        if status >= 400 { throw answer.problem }
        return answer
    }
}

extension Answer {
    /// The problem that an answer tells of.
    var problem: Problem {
        if let problem = try? MeshJSON.decode(Problem.self, from: Data(body)) { return problem }
        return Problem(
            code: "http_\(status)", title: "HTTP \(status)", status: status,
            detail: String(decoding: body.prefix(200), as: UTF8.self))
    }
}

private final class PartHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let continuation: AsyncThrowingStream<HTTPConnection.Part, any Error>.Continuation

    init(_ continuation: AsyncThrowingStream<HTTPConnection.Part, any Error>.Continuation) {
        self.continuation = continuation
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            let fields = head.headers.map { (name: $0.name, value: $0.value) }
            continuation.yield(.head(status: Int(head.status.code), headers: fields))
        case .body(let buffer): continuation.yield(.bytes(Array(buffer.readableBytesView)))
        case .end:
            continuation.finish()
            context.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) { continuation.finish() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        continuation.finish(throwing: ClientError.unreachable("\(error)"))
        context.close(promise: nil)
    }
}
