// SPDX-License-Identifier: Apache-2.0

import Logging
import Mesh
import MeshCore
import MeshCrypto
import MeshReplication
import MeshRules
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `A program that embeds a node` {
    @Test func `writes, reads and deletes, and is told in words what is not possible`() async throws
    {
        let mesh = try TestMesh()
        let key = TestMesh.key(5, 5)
        let ticket = Ticket(
            key: key.publicKey.id, serial: [UInt8](repeating: 1, count: 16), site: "hq", node: "n",
            isCentral: true, groups: [], grants: Grant.central)
        let directory = mesh.directory + "/embedded"
        _ = try DataDirectory(directory).join(
            TicketFile(
                root: mesh.root, enrol: mesh.enrol, secrets: MeshSecrets(mesh.secret),
                ticketSeed: key.seed,
                ticket: ticket, seeds: []))
        var configuration = MeshConfiguration(dataDirectory: directory)
        configuration.listenHost = "127.0.0.1"
        configuration.listenPort = 0
        configuration.discovery = false
        configuration.allowVolatile = true
        let node = try MeshNode(configuration, logger: Logger(label: "test"))
        let running = Task { try await node.run() }
        let policy = try mesh.define("menu", .menu)
        _ = try await node.store.write(
            WriteRequest(scope: NamespacePolicy.scope, writes: [policy]))

        let first = try await node.put([1, 2], for: "soup", in: "menu", contentType: "x/y")
        let value = try #require(try node.value(for: "soup", in: "menu"))
        #expect(value.body == [1, 2] && value.contentType == "x/y" && value.version == first)
        let second = try await node.put([3], for: "soup", in: "menu", ifVersion: first)
        #expect(second != first)
        await #expect(throws: MeshError.self) {
            try await node.put([4], for: "soup", in: "menu", ifVersion: first)
        }
        await #expect(throws: MeshError.self) { try await node.put([4], for: "a//b", in: "menu") }
        await #expect(throws: MeshError.self) { try await node.put([4], for: "a", in: "_mesh") }
        try await node.delete("soup", in: "menu")
        #expect(try node.value(for: "soup", in: "menu") == nil)
        running.cancel()
        try await running.value
    }
}
