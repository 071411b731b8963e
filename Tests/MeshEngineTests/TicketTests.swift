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

    private func revocation(of card: Certificate, keepsTicket: Bool = false) -> Revocation {
        Revocation(
            of: card.node, created: 1, reason: "", cuts: [],
            serials: keepsTicket ? [] : [card.ticket.serial], key: mesh.revoke,
            mesh: mesh.root.meshID)
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

    @Test func `are one once a revocation keeps the ticket, whichever it names`() {
        for isFirst in [true, false] {
            var bench = Bench(own)
            let (id, _) = bench.link(first, dialled: false)
            _ = bench.link(second, dialled: false)
            let document = revocation(of: isFirst ? first : second, keepsTicket: true)
            let effects = bench.give(.revoked([document]))
            #expect(effects.closed == (isFirst ? [id] : []))
            #expect(bench.engine.doubles == [])
            let stays = isFirst ? second : first
            if isFirst { #expect(bench.link(stays, dialled: false).1.closed == []) }
            #expect(bench.engine.membership.member(stays.node)?.state == .alive)
            // Over a restart too, in whatever order they are read.
            var next = Bench(own)
            _ = next.give(.revoked([document]))
            _ = next.give(.known([KnownNode(first), KnownNode(second)]))
            #expect(next.link(stays, dialled: false).1.closed == [])
        }
    }

    @Test func `are told apart by the tickets that a box had before`() {
        let key = TestMesh.key(45, 4)
        let old = mesh.identity("old", key: key).certificate
        let new = mesh.identity("new", key: key).certificate
        var bench = Bench(own)
        _ = bench.give(.known([KnownNode(new, earlier: [old])]))
        let thief = mesh.identity("old", serial: old.ticket.serial).certificate
        #expect(bench.link(thief, dialled: false).1.closed.count == 1)
    }

    @Test func `are told apart where a box joins again after its ticket was revoked`() {
        let key = TestMesh.key(46, 4)
        let old = mesh.identity("old", key: key).certificate
        let new = mesh.identity("new", key: key).certificate
        let thief = mesh.identity("old", serial: old.ticket.serial).certificate
        var bench = Bench(own)
        let (id, _) = bench.link(old, dialled: false)
        #expect(bench.give(.revoked([revocation(of: thief)])).closed == [id])
        #expect(bench.engine.membership.member(old.node)?.state == .revoked)
        _ = bench.give(.linkDown(id, reason: "closed"))
        #expect(bench.link(new, dialled: false).1.closed == [])
        #expect(bench.engine.membership.member(new.node)?.state == .alive)
    }

    @Test func `cost no memory for identities that a revoked ticket makes`() {
        var bench = Bench(own)
        _ = bench.give(.revoked([revocation(of: second)]))
        for _ in 0..<50 {
            let minted = mesh.identity("till", serial: first.ticket.serial).certificate
            #expect(bench.link(minted, dialled: false).1.closed.count == 1)
        }
        #expect(bench.engine.revoked.count == 1)
        #expect(bench.engine.membership.members.isEmpty)
    }

    @Test func `are not dialled without end by the one that turns them away`() {
        var bench = Bench(own)
        _ = bench.link(first, dialled: false)
        var effects = bench.give(.heard(second.node, Incarnation(1), address: "h:7374"))
        var count = 0
        for tick in 0..<60 {
            for _ in effects.dialled {
                count += 1
                _ = bench.link(second, dialled: true)
            }
            effects = bench.wait(2)
            if tick.isMultiple(of: 2) {
                effects += bench.give(.heard(second.node, Incarnation(1), address: "h:7374"))
            }
        }
        #expect((1...20).contains(count))
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
