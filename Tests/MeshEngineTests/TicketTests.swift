// SPDX-License-Identifier: Apache-2.0

import MeshCore
@testable import MeshEngine
import MeshLink
import MeshMembership
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `Two servers with one ticket` {
    private let mesh: TestMesh
    private let own: Certificate
    private let first: Certificate
    private let second: Certificate

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("own").certificate
        first = mesh.identity("till").certificate
        second = mesh.identity("till", serial: first.ticket.serial).certificate
    }

    private func revocation(of card: Certificate) -> Revocation {
        Revocation(
            of: card.node, created: 1, reason: "", cuts: [], serials: [card.ticket.serial],
            key: mesh.revoke, mesh: mesh.root.meshID)
    }

    @Test func `are one member: the other is shown its certificate, and the operator both`() {
        for isFirstHigher in [false, true] {
            let (first, second) = isFirstHigher ? (second, first) : (first, second)
            var bench = Bench(own)
            _ = bench.link(first, dialled: false)
            let (id, effects) = bench.link(second, dialled: false)
            #expect(effects.sent.map(\.message) == [.certificate(first.encoded)])
            #expect(effects.closed == [id])
            let double = TicketDouble(first: first, second: second)
            #expect(bench.engine.doubles == [double])
            #expect(bench.engine.membership.member(second.node) == nil)
            #expect(bench.engine.membership.member(first.node)?.state == .alive)
            let notes = effects.filter {
                if case .note(.ticketUsedTwice(double), _) = $0 { true } else { false }
            }
            #expect(notes.count == 1)
            let (_, again) = bench.link(second, dialled: false)
            #expect(again.closed.count == 1)
            #expect(bench.engine.counters[.ticketUsedTwice] == 1)
            #expect(bench.engine.counters[.linkTicketUsed] == 2)
        }
    }

    @Test func `are told apart over a restart, and by a certificate that only others showed`() {
        var bench = Bench(own)
        _ = bench.give(.known([KnownNode(second), KnownNode(first)]))
        let (id, effects) = bench.link(first, dialled: false)
        #expect(effects.closed == [id])
        #expect(bench.engine.doubles == [TicketDouble(first: second, second: first)])
    }

    @Test func `are no members both once one is revoked, nor is a third that comes later`() {
        var bench = Bench(own)
        let (id, _) = bench.link(first, dialled: false)
        _ = bench.link(second, dialled: false)
        let document = revocation(of: second)
        let effects = bench.give(.revoked([document]))
        #expect(effects.sent.map(\.message) == [.revocation(document.encoded)])
        #expect(effects.closed == [id])
        #expect(bench.engine.doubles == [])
        let third = mesh.identity("till", serial: first.ticket.serial).certificate
        let (last, turned) = bench.link(third, dialled: false)
        #expect(turned.sent.map(\.message) == [.revocation(document.encoded)])
        #expect(turned.closed == [last])
        #expect(bench.engine.membership.member(third.node) == nil)
    }

    @Test func `leave a box alone that has joined with a later ticket`() {
        let key = TestMesh.key(44, 4)
        let old = mesh.identity("old", key: key).certificate
        let new = mesh.identity("new", key: key).certificate
        var bench = Bench(own)
        _ = bench.give(.known([KnownNode(old)]))
        let (id, _) = bench.link(new, dialled: false)
        let thief = mesh.identity("old", serial: old.ticket.serial).certificate
        let effects = bench.give(.revoked([revocation(of: thief)]))
        #expect(!effects.closed.contains(id))
        #expect(bench.engine.membership.member(new.node)?.state == .alive)
    }

    @Test func `keep a server whose ticket was revoked to itself`() {
        var bench = Bench(first)
        let (id, _) = bench.link(own, dialled: false)
        let document = revocation(of: second)
        let effects = bench.give(.revoked([document]))
        #expect(effects.closed == [id])
        let isRevoked = bench.engine.isRevoked
        #expect(isRevoked)
    }

    @Test func `do not dial without end where every link is closed at once`() {
        func dials(_ isShown: Bool) -> Int {
            var bench = Bench(second)
            var count = 0
            var effects = bench.give(.heard(own.node, Incarnation(1), address: "h:7374"))
            for _ in 0..<30 {
                for _ in effects.dialled {
                    count += 1
                    let (id, _) = bench.link(own, dialled: true)
                    if isShown { _ = bench.give(.certificate(id, first)) }
                    _ = bench.give(.linkDown(id, reason: "closed"))
                }
                effects = bench.wait(2)
            }
            return count
        }
        let (told, untold) = (dials(true), dials(false))
        #expect(told > 0)
        #expect(told * 3 < untold)
    }
}
