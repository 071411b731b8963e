// SPDX-License-Identifier: Apache-2.0

internal import MeshReplication

/// Streams of records that wait to be sent to one peer; one part of one of them is read at a time.
struct Outbox {
    private enum Phase {
        case resting, reading
    }

    private var phase = Phase.resting
    private var streams: [StreamRequest] = []

    /// How many streams wait.
    var count: Int { streams.count }

    /// Whether nothing waits and nothing is read.
    var isEmpty: Bool { phase == .resting && streams.isEmpty }

    /// Whether a stream waits, of which nothing was read yet.
    func waits(_ stream: StreamRequest) -> Bool { streams.contains(stream) }

    /// Adds streams behind those that wait.
    ///
    /// - Returns: how many there was no room for; a later comparison asks for them again.
    mutating func add(_ more: [StreamRequest], limit: Int) -> Int {
        let room = limit > streams.count ? limit - streams.count : 0
        streams += more.prefix(room)
        return more.count > room ? more.count - room : 0
    }

    /// Takes the stream of which a part is to be read next; nil while one is read or none waits.
    ///
    /// - Parameter isRefused: whether the peer may not have a stream.
    /// - Returns: the stream, and how many before it were refused.
    mutating func next(
        unless isRefused: (StreamRequest) -> Bool
    ) -> (stream: StreamRequest?, refused: Int) {
        guard phase == .resting else { return (nil, 0) }
        let refused = streams.prefix(while: isRefused).count
        streams.removeFirst(refused)
        guard !streams.isEmpty else { return (nil, refused) }
        phase = .reading
        return (streams.removeFirst(), refused)
    }

    /// A part was read; what is left of its stream comes next.
    mutating func read(rest: StreamRequest?) {
        precondition(phase == .reading, "what was read was asked for")
        phase = .resting
        if let rest { streams.insert(rest, at: 0) }
    }
}
