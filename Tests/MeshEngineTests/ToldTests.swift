// SPDX-License-Identifier: Apache-2.0

import MeshCore
@testable import MeshEngine
import MeshLink
import MeshMembership
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `An address that a peer tells` {
    private let own: Certificate
    private let peer: Certificate
    private let other: DataDirectory.Identity

    init() throws {
        let mesh = try TestMesh()
        own = mesh.identity("own").certificate
        peer = mesh.identity("peer").certificate
        other = mesh.identity("other")
    }

    /// What is dialled once a peer has told where another server is.
    private func dialled(_ bench: inout Bench, _ address: Address) -> [Address] {
        let (id, _) = bench.link(peer, dialled: false)
        _ = bench.give(.known([KnownNode(other.certificate)]))
        let presence = Presence(
            key: other.nodeKey, mesh: Bench.mesh, version: .init(incarnation: 1, counter: 1),
            status: .alive, wan: .untried, priority: 0, port: 7374)
        var writer = WireWriter()
        Rumour.encode([.presence(presence, address: address)], to: &writer)
        let told = bench.give(.message(id, LinkMessage.rumours(writer.bytes).encoded))
        return (told + bench.wait(3)).dialled
    }

    @Test(arguments: ["10.1.2.3:7374", "192.168.7.7:7374"])
    func `is dialled in the networks where that may be`(text: String) throws {
        var bench = Bench(own)
        _ = bench.give(
            .mayDial([
                try #require(IPNetwork("10.0.0.0/8")), try #require(IPNetwork("192.168.7.0/24")),
            ]
            ))
        let address = try #require(Address(text))
        #expect(dialled(&bench, address).contains(address))
    }

    @Test(arguments: ["203.0.113.5:22", "192.168.8.1:7374", "a.example:7374", "[2001:db8::1]:7374"])
    func `is not dialled elsewhere, nor looked up as a name`(text: String) throws {
        var bench = Bench(own)
        _ = bench.give(.mayDial([try #require(IPNetwork("192.168.7.0/24"))]))
        #expect(dialled(&bench, try #require(Address(text))).isEmpty)
        #expect(bench.engine.counters[.toldOutside] == 1)
    }

    @Test func `is dialled where it is a seed`() {
        let seed: Address = "a.example:7374"
        var bench = Bench(own, seeds: [seed])
        _ = bench.give(.mayDial([]))
        #expect(dialled(&bench, seed) == [seed])
    }
}
