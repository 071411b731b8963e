// SPDX-License-Identifier: Apache-2.0

internal import MeshRules
internal import MeshStore
internal import NIOCore
internal import NIOHTTP1

/// An answer: its head, and a body that is there, lies in a file, or is made as it is sent.
struct Response: Sendable {
    enum Body: Sendable {
        case bytes(ByteBuffer)
        /// A part of an open file, which the connection closes once it is sent.
        case file(NIOFileHandle, Range<Int>)
        case stream(@Sendable (ResponseWriter) async throws -> Void)

        static let none = Body.bytes(ByteBuffer())
    }

    var status: HTTPResponseStatus
    var headers: Fields
    var body: Body

    init(status: HTTPResponseStatus, headers: Fields = [:], body: Body = .none) {
        self.status = status
        self.headers = headers
        self.body = body
    }
}

/// Takes the parts of an answer that is made as it is sent.
struct ResponseWriter: Sendable {
    let channel: any Channel

    /// Returns once the part has gone to the kernel, so that a slow client slows whoever writes.
    func write(_ buffer: ByteBuffer) async throws {
        try await channel.writeAndFlush(HTTPServerResponsePart.body(.byteBuffer(buffer))).get()
    }
}

/// How a request comes to its answer.
enum Answer: Sendable {
    /// It is there.
    case now(Response)
    /// It needs long reads of the disk, on a thread that may wait for them.
    case read(@Sendable () throws -> Response)
    /// It waits for others.
    case later(@Sendable () async throws -> Response)
    /// It is given once a write is as durable as is asked for, or that takes too long.
    case written(WriteRequest, AckDemand, @Sendable ([Receipt], AckOutcome) throws -> Response)
}
