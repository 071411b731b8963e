// SPDX-License-Identifier: Apache-2.0

@testable import MeshHTTP
import Synchronization
import Testing

/// Notes whose connections were ended.
private final class Gone: Sendable {
    private let names = Mutex<[String]>([])
    var all: [String] { names.withLock { $0 } }

    func note(_ name: String) { names.withLock { $0.append(name) } }
}

@Suite struct `Connections of the API` {
    private let gone = Gone()

    private func connections(known: Int = 8, strangers: Int = 4) -> Connections {
        Connections(
            known: Allowance(total: known) {}, strangers: strangers, turnedAway: {})
    }

    private func enter(
        _ connections: Connections, _ one: One, _ host: Int, isKnown: Bool = false
    ) -> Bool {
        connections.enter(ObjectIdentifier(one), of: "\(host)", isKnown: isKnown) { [gone] in
            gone.note("\(host)")
        }
    }

    /// Stands for a channel.
    private final class One {}

    @Test func `of an app that shows its token stay, however many strangers come`() {
        let connections = connections()
        let app = One()
        #expect(enter(connections, app, 1))
        #expect(connections.greet(ObjectIdentifier(app)))
        let strangers = (2..<1000).map { _ in One() }
        for (number, one) in strangers.enumerated() { #expect(enter(connections, one, number + 2)) }
        #expect(gone.all.count == 994)
        #expect(!gone.all.contains("1"))
        // Another app gets in as well, though all places of strangers are taken.
        let late = One()
        #expect(enter(connections, late, 1000))
        #expect(connections.greet(ObjectIdentifier(late)))
        #expect(!gone.all.contains("1000"))
        // What had to make way has no say any more.
        #expect(!connections.greet(ObjectIdentifier(strangers[0])))
    }

    @Test func `make way on the host that has most of them`() {
        let connections = connections()
        let all = (0..<6).map { _ in One() }
        #expect(enter(connections, all[0], 1))
        for one in all[1...] { #expect(enter(connections, one, 2)) }
        #expect(gone.all == ["2", "2"])
        #expect(connections.greet(ObjectIdentifier(all[0])))
        #expect(!connections.greet(ObjectIdentifier(all[1])))
    }

    @Test func `have room again once they have ended`() {
        let connections = connections()
        for _ in 1...100 {
            let one = One()
            #expect(enter(connections, one, 1))
            #expect(connections.greet(ObjectIdentifier(one)))
            #expect(connections.greet(ObjectIdentifier(one)))
            connections.leave(ObjectIdentifier(one))
        }
        // One host has half of what there is for those who are known.
        let all = (1...5).map { _ in One() }
        for (number, one) in all.enumerated() {
            #expect(enter(connections, one, 1))
            #expect(connections.greet(ObjectIdentifier(one)) == (number < 4))
        }
        #expect(gone.all == [])
        // Whoever made way has left as well, later.
        for one in all { connections.leave(ObjectIdentifier(one)) }
        for one in all { connections.leave(ObjectIdentifier(one)) }
        #expect(enter(connections, all[0], 1, isKnown: true))
    }

    @Test func `of this host are known at once`() {
        let connections = connections()
        let (known, strangers) = ((1...5).map { _ in One() }, (1...4).map { _ in One() })
        for (number, one) in known.enumerated() {
            #expect(enter(connections, one, 1, isKnown: true) == (number < 4))
        }
        for one in strangers { #expect(enter(connections, one, 2)) }
    }
}
