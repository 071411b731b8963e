// SPDX-License-Identifier: Apache-2.0

/// Room for records on one link, both ways: what was sent and not given back, what came and is not
/// judged yet.
///
/// A sender waits for room. A receiver that is sent more than twice the most that any link has
/// closes the link, so no peer can fill its memory.
struct CreditWindow {
    /// Bytes that may be on their way to the peer where neither end has many links.
    let limit: Int
    /// This end's part of its room for all links.
    var part: Int
    /// What the peer has room for, by its own word.
    private var told: Int
    /// Bytes on their way to the peer, or not judged by it yet.
    private(set) var inFlight = 0
    /// Bytes from the peer that are not judged yet.
    private(set) var unjudged = 0
    /// Messages from the peer that are not judged yet.
    private(set) var judging = 0

    init(limit: Int) {
        self.limit = limit
        part = limit
        told = limit
    }

    /// Whether more may be sent.
    var hasRoom: Bool { inFlight < min(part, told) }

    /// The peer says how much it has room for.
    mutating func told(_ byteCount: Int) { told = min(byteCount, limit) }

    /// A message of records goes out.
    mutating func sent(_ byteCount: Int) { inFlight += byteCount }

    /// The peer gives room back; more than was taken is none.
    mutating func returned(_ byteCount: Int) { inFlight -= min(byteCount, inFlight) }

    /// A message of records came.
    ///
    /// - Returns: false where the peer sends more than it has credit for.
    mutating func received(_ byteCount: Int) -> Bool {
        guard byteCount <= 2 * limit - unjudged else { return false }
        unjudged += byteCount
        judging += 1
        return true
    }

    /// A message that came was judged.
    mutating func judged(_ byteCount: Int) {
        precondition(judging > 0 && unjudged >= byteCount, "what is judged came before")
        judging -= 1
        unjudged -= byteCount
    }
}
