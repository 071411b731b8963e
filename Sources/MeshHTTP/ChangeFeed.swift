// SPDX-License-Identifier: Apache-2.0

internal import MeshAPI
internal import MeshCore
internal import MeshRules
internal import MeshStore
internal import NIOCore

/// One client's way through the changes.
struct ChangeFeed {
    private static let pause = Duration.seconds(15)

    let routes: Routes
    var position: FeedPosition
    let namespace: String?
    let access: Access
    let isNDJSON: Bool

    /// A line that tells both ends that the connection stands.
    var heartbeat: ByteBuffer { ByteBuffer(string: isNDJSON ? "\n" : ": still here\n\n") }

    /// The next changes that this client may see; nil when there are none.
    mutating func next() throws -> ByteBuffer? {
        while true {
            try checkAccess()
            let (changes, reached) = try routes.store.changes(
                after: position, limit: 100, showsState: { isShown($0.namespace) })
            guard reached > position else { return nil }
            position = reached
            var buffer = ByteBuffer()
            for change in changes where isShown(change.scope.namespace) {
                append(change, to: &buffer)
            }
            if buffer.readableBytes > 0 { return buffer }
        }
    }

    /// A token that was taken back ends what it began.
    func checkAccess() throws {
        guard case .token(let token) = access else { return }
        guard try routes.store.tokens.stands(token) else { throw Problem.unauthorised }
    }

    private func isShown(_ name: String) -> Bool {
        name == namespace ?? name && (!name.hasPrefix("_") || namespace == name)
            && access.mayRead(name)
    }

    private func append(_ change: StoredChange, to buffer: inout ByteBuffer) {
        var view: RecordView
        if let state = change.state, let version = change.version ?? state.versions.first {
            view = routes.view(change.scope, state, state.shown(for: version))
            view.cursor = routes.cursor(change.position)
        } else {
            view = routes.viewGone(change)
        }
        var writer = JSONWriter()
        view.write(to: &writer)
        let line = writer.bytes
        if isNDJSON {
            buffer.writeBytes(line)
            buffer.writeString("\n")
        } else {
            buffer.writeString("id: \(view.cursor ?? "")\nevent: change\ndata: ")
            buffer.writeBytes(line)
            buffer.writeString("\n\n")
        }
    }

    /// True when something changed, false now and then in between; ends with the node.
    static func wakes(_ positions: AsyncStream<FeedPosition>) -> AsyncStream<Bool> {
        let (wakes, waker) = AsyncStream.makeStream(
            of: Bool.self, bufferingPolicy: .bufferingNewest(1))
        let listener = Task {
            for await _ in positions { waker.yield(true) }
            waker.finish()
        }
        let timer = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: pause)
                waker.yield(false)
            }
        }
        waker.onTermination = { _ in
            listener.cancel()
            timer.cancel()
        }
        return wakes
    }
}
