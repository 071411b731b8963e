// SPDX-License-Identifier: Apache-2.0

import MeshCore
@testable import MeshEngine
import MeshLink
import MeshMembership
import MeshStore
import MeshTesting
import MeshTrust
import Testing

@Suite struct `A box that waits to be approved` {
    private let mesh: TestMesh
    private let own: Certificate
    private let box: Certificate
    private let approved: Certificate

    init() throws {
        mesh = try TestMesh()
        own = mesh.identity("centre", site: "hq", central: true).certificate
        box = mesh.identity("till", needsApproval: true).certificate
        approved = box.approved(by: mesh.enrol, in: mesh.root.meshID)
    }

    private func shows(_ effects: [Effect], _ node: NodeID) -> Bool {
        effects.contains { if case .show(_, node) = $0 { true } else { false } }
    }

    @Test func `has no link, is no member, and is shown to the operator once`() {
        var bench = Bench(own)
        let (id, effects) = bench.link(box, dialled: false)
        #expect(effects.sent.isEmpty)
        #expect(shows(effects, box.node))
        #expect(bench.engine.peers.isEmpty)
        #expect(bench.engine.membership.member(box.node) == nil)
        #expect(bench.engine.waitingBoxes(bench.now).map(\.certificate) == [box])
        let ends = bench.give(.shown(id, []))
        #expect(ends.closed == [id])
        #expect(ends.sent.isEmpty)
        // Whatever it says is late.
        _ = bench.give(.message(id, LinkMessage.ping(1).encoded))
        #expect(bench.engine.counters[.messageLate] == 1)
        _ = bench.give(.linkDown(id, reason: ""))
        let (_, again) = bench.link(box, dialled: false)
        let notes = (effects + again).filter {
            if case .note(.waitsForApproval, _) = $0 { true } else { false }
        }
        #expect(notes.count == 1)
    }

    @Test func `is handed its approval by whoever holds it, and is a member with that`() {
        var bench = Bench(own)
        let (id, _) = bench.link(box, dialled: false)
        let effects = bench.give(.shown(id, [approved.encoded]))
        #expect(effects.sent.map(\.message) == [.certificate(approved.encoded)])
        #expect(effects.closed == [id])
        let (_, up) = bench.link(approved, dialled: false)
        #expect(up.closed.isEmpty)
        #expect(bench.engine.membership.member(box.node)?.state == .alive)
        #expect(bench.engine.waitingBoxes(bench.now).isEmpty)
    }

    @Test func `says nothing itself, and takes nothing but its approval or a revocation`() {
        var bench = Bench(box)
        let (id, effects) = bench.link(own, dialled: true)
        #expect(effects.sent.isEmpty)
        #expect(effects.closed.isEmpty)
        #expect(bench.engine.peers.isEmpty)
        let card = bench.give(.message(id, LinkMessage.certificate(approved.encoded).encoded))
        #expect(card.contains { if case .enrol(approved.encoded) = $0 { true } else { false } })
        let word = bench.give(.message(id, LinkMessage.revocation([7]).encoded))
        #expect(word.contains { if case .heed(id, [7]) = $0 { true } else { false } })
        #expect(bench.give(.message(id, LinkMessage.commits([]).encoded)).isEmpty)
        #expect(bench.engine.counters[.messageLate] == 1)
    }

    @Test func `keeps no connection that says nothing, and none with another that waits`() {
        var bench = Bench(box)
        let (id, _) = bench.link(own, dialled: true)
        let other = mesh.identity("kiosk", needsApproval: true).certificate
        let (rival, effects) = bench.link(other, dialled: false)
        #expect(effects.closed == [rival])
        #expect(bench.wait(12).closed.contains(id))
    }

    @Test func `calls ever more seldom, down to twice a minute`() {
        var bench = Bench(box, seeds: ["h:7374"])
        #expect((4...8).contains(bench.dials(own, seconds: 60)))
        #expect((6...15).contains(bench.dials(own, seconds: 300)))
    }

    @Test func `leaves room for others, however many identities are made with its ticket`() {
        var bench = Bench(own)
        func call(_ card: Certificate) {
            let (id, _) = bench.link(card, dialled: false)
            _ = bench.give(.shown(id, []))
            _ = bench.give(.linkDown(id, reason: ""))
        }
        for _ in 0..<20 {
            call(mesh.identity("till", serial: box.ticket.serial, needsApproval: true).certificate)
        }
        #expect(bench.engine.waitingBoxes(bench.now).count == WaitingRoom.perTicketMax)
        #expect(bench.engine.counters[.waitingOverLimit] == 20 - UInt64(WaitingRoom.perTicketMax))
        let other = mesh.identity("kiosk", needsApproval: true).certificate
        call(other)
        #expect(bench.engine.waitingBoxes(bench.now).contains { $0.certificate == other })
        _ = bench.wait(601)
        #expect(bench.engine.waitingBoxes(bench.now).isEmpty)
    }

    @Test func `is turned away for good once its ticket was cancelled`() {
        var bench = Bench(own)
        let document = Revocation(
            of: .zero, created: 1, reason: "", cuts: [], serials: [box.ticket.serial],
            key: mesh.revoke, mesh: mesh.root.meshID)
        _ = bench.give(.revoked([document]))
        let (id, effects) = bench.link(box, dialled: false)
        #expect(effects.sent.map(\.message) == [.revocation(document.encoded)])
        #expect(effects.closed == [id])
        #expect(bench.engine.waitingBoxes(bench.now).isEmpty)
    }
}

@Suite struct `A fingerprint` {
    @Test func `is compared without hyphens, case and blanks, and whole`() throws {
        let mesh = try TestMesh()
        let print = mesh.identity("till", needsApproval: true).certificate.fingerprint
        let text = "\(print)"
        #expect(text.count == Fingerprint.characterCount + 4)
        #expect(print.matches(text))
        #expect(print.matches(" " + text.uppercased().replacing("-", with: " ")))
        #expect(!print.matches(String(text.dropLast())))
        #expect(!print.matches(""))
        let other = mesh.identity("till", needsApproval: true).certificate.fingerprint
        #expect(!other.matches(text))
    }
}
