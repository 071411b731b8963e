// SPDX-License-Identifier: Apache-2.0

internal import MeshCore
internal import MeshLink

/// Room for records is one budget for all links: each gets a part, both to send and to be sent.
extension Engine {
    /// Deals the room out anew once there are so many more links, or fewer, that the part of each
    /// changes.
    ///
    /// - Parameter newcomer: a link whose peer has not been told of any part yet.
    mutating func share(with newcomer: LinkID? = nil) {
        let part = limits.part(ofLinks: links.count)
        if part != linkPart {
            linkPart = part
            for id in links.keys.sorted() { grant(part, to: id) }
        } else if let newcomer {
            grant(part, to: newcomer)
        }
    }

    private mutating func grant(_ part: Int, to id: LinkID) {
        guard let link = links[id], link.credit.part != part else { return }
        links[id]?.credit.part = part
        send(id, .window(UInt32(clamping: part)))
        pump(id)
    }
}

extension EngineLimits {
    /// The part of the room for records that one of so many links has, in bytes; it changes by
    /// halves, so that peers are told seldom.
    func part(ofLinks count: Int) -> Int {
        var part = bytesInFlight
        while part > bytesInFlightLeast, part > bytesInFlightAll / max(1, count) { part /= 2 }
        return part
    }
}
