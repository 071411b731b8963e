// SPDX-License-Identifier: Apache-2.0

@testable import MeshHTTP
import NIOCore
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

    private func address(_ host: Int, _ port: Int) throws -> SocketAddress {
        try SocketAddress(ipAddress: "10.0.\(host / 250).\(1 + host % 250)", port: port)
    }

    private func enter(
        _ connections: Connections, _ host: Int, _ port: Int, isKnown: Bool = false
    ) throws -> Bool {
        let address = try address(host, port)
        return connections.enter(address, of: "\(host)", isKnown: isKnown) { [gone] in
            gone.note("\(host):\(port)")
        }
    }

    @Test func `of an app that shows its token stay, however many strangers come`() throws {
        let connections = connections()
        #expect(try enter(connections, 1, 1))
        #expect(connections.greet(try address(1, 1)))
        for host in 2..<1000 { #expect(try enter(connections, host, 1)) }
        #expect(gone.all.count == 994)
        #expect(!gone.all.contains("1:1"))
        // Another app gets in as well, though all places of strangers are taken.
        #expect(try enter(connections, 1000, 1))
        #expect(connections.greet(try address(1000, 1)))
        #expect(!gone.all.contains("1000:1"))
    }

    @Test func `make way on the host that has most of them`() throws {
        let connections = connections()
        #expect(try enter(connections, 1, 1))
        for port in 1...5 { #expect(try enter(connections, 2, port)) }
        #expect(gone.all == ["2:1", "2:2"])
    }

    @Test func `have room again once they have ended`() throws {
        let connections = connections()
        for port in 1...100 {
            #expect(try enter(connections, 1, port))
            #expect(connections.greet(try address(1, port)))
            #expect(connections.greet(try address(1, port)))
            connections.leave(try address(1, port))
        }
        // One host has half of what there is for those who are known.
        for port in 1...5 {
            #expect(try enter(connections, 1, port))
            #expect(connections.greet(try address(1, port)) == (port < 5))
        }
        #expect(gone.all == [])
    }

    @Test func `of this host are known at once`() throws {
        let connections = connections()
        for port in 1...5 { #expect(try enter(connections, 1, port, isKnown: true) == (port < 5)) }
        for port in 1...4 { #expect(try enter(connections, 2, port)) }
    }
}
