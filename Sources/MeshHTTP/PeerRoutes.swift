// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshContent
internal import MeshCore
internal import MeshDiscovery
internal import MeshEngine
internal import MeshMembership
internal import MeshReplication
internal import MeshStore
internal import MeshTrust
internal import NIOHTTP1
internal import Synchronization

extension Routes {
    func peers() async throws -> PeersView {
        let snapshot = await node.snapshot()
        var lines = try lines(snapshot)
        let content = try await contentWords()
        for index in lines.indices { lines[index].content = content[lines[index].id] }
        return PeersView(
            node: node.certificate.ticket.node, peers: lines,
            trouble: try trouble(snapshot, lines))
    }

    /// How each server is with all its channels, in a word: `ok`, `2/3`, `failed`.
    private func contentWords() async throws -> [String: String] {
        var all: [String: [ChannelProgress]] = [:]
        for report in try await node.content.report() {
            all["\(node.certificate.node)", default: []].append(report.own)
            for other in report.others where other.node != node.certificate.node {
                all["\(other.node)", default: []].append(other.line)
            }
        }
        return all.mapValues { lines in
            if lines.contains(where: \.phase.isFailure) { return "failed" }
            let good = lines.count { $0.phase == .active || $0.phase == .held }
            return good == lines.count ? "ok" : "\(good)/\(lines.count)"
        }
    }

    private func lines(_ snapshot: NodeSnapshot) throws -> [PeerView] {
        let linked = Dictionary(
            snapshot.peers.map { ($0.certificate.node, $0) },
            uniquingKeysWith: { first, _ in first })
        let members = Dictionary(
            snapshot.members.map { ($0.node, $0) }, uniquingKeysWith: { first, _ in first })
        let certificates = try store.certificates()
        let names = Dictionary(
            certificates.map { ($0.node, $0.ticket.node) }, uniquingKeysWith: { first, _ in first })
        return certificates.map { certificate in
            let node = certificate.node
            if node == self.node.certificate.node { return ownLine(certificate) }
            let member = members[node]
            // Who is not linked is there because somebody who would know says so.
            let voucher =
                member?.state == .alive ? member?.vouchers.compactMap { names[$0] }.min() : nil
            return line(
                certificate, linked[node], member, snapshot.exchanges[node], snapshot.at,
                via: voucher)
        }
    }

    private func ownLine(_ certificate: Certificate) -> PeerView {
        var view = Self.line(certificate)
        view.state = "self"
        view.behind = 0
        view.version = meshVersion
        return view
    }

    private static func line(_ certificate: Certificate) -> PeerView {
        let ticket = certificate.ticket
        return PeerView(
            node: ticket.node, id: certificate.node.description, site: ticket.site,
            role: ticket.isCentral ? "central" : "edge", groups: ticket.groups)
    }

    private func line(
        _ certificate: Certificate, _ peer: PeerStatus?, _ member: Member?,
        _ exchange: Exchange?, _ now: Instant, via voucher: String?
    ) -> PeerView {
        var view = Self.line(certificate)
        view.state = (member?.state ?? (peer == nil ? .away : .alive)).rawValue
        view.stateSeconds = (member?.since ?? peer?.since).map { now.since($0).seconds }
        if let peer {
            view.path = "\(peer.origin.isLocal ? "lan" : "wan") \(peer.origin.remote)"
        } else if let voucher {
            view.path = "via \(voucher)"
        } else if member?.state == .alive {
            view.path = Diagnosis.ringPath
        }
        view.rttSeconds = (member?.roundTrip ?? peer?.roundTrip)?.seconds
        // Who is there without a link here gets records from others, and nobody here knows which.
        view.behind = peer == nil && member?.state == .alive ? nil : exchange?.behind
        view.lastSyncSeconds = exchange?.inStep.map { now.since($0).seconds }
        view.clockOffsetSeconds = peer?.clockOffset?.seconds
        view.version = exchange?.version
        return view
    }

    func status() async throws -> StatusView {
        let snapshot = await node.snapshot()
        let own = node.certificate
        let attributes = try? FileManager.default.attributesOfFileSystem(
            forPath: node.dataDirectory)
        let free = (attributes?[.systemFreeSize] as? NSNumber)?.intValue ?? 0
        let lines = try lines(snapshot)
        return StatusView(
            mesh: store.identity.root.name, meshId: store.identity.root.meshID.description,
            node: own.ticket.node, id: own.node.description, site: own.ticket.site,
            role: own.ticket.isCentral ? "central" : "edge", version: meshVersion,
            incarnation: String(store.incarnation.value, radix: 16),
            uptimeSeconds: node.uptime.seconds, linked: snapshot.peers.count,
            gateway: lines.first { $0.id == snapshot.gateway?.description }?.node,
            clockOffsetSeconds: Diagnosis.medianOffset(snapshot)?.seconds,
            scopes: try store.scopes().map {
                .init(scope: $0.description, records: try store.liveCount(in: $0))
            },
            diskBytes: try store.diskBytes(), diskFreeBytes: free,
            holes: try store.damageCount(),
            interfaces: snapshot.discovery.interfaces.map { "\($0.name) \($0.address)" },
            addresses: addresses(snapshot, lines), trouble: try trouble(snapshot, lines))
    }

    private func addresses(_ snapshot: NodeSnapshot, _ lines: [PeerView]) -> [AddressView] {
        snapshot.addresses.map { target in
            Self.view(target, lines.first { $0.id == target.node?.description }?.node)
        }
    }

    private static func view(_ target: DialPlan.Target, _ name: String?) -> AddressView {
        AddressView(
            address: target.address.description, rung: target.rung.rawValue, node: name,
            dials: target.dials, failures: target.failures,
            code: target.lastFailure?.cause.rawValue, error: target.lastFailure?.reason)
    }

    /// Takes this node out of the mesh; the process ends by itself afterwards.
    func leave(isForced: Bool) async throws -> Response {
        let heir: String?
        do { heir = try await node.leave(isForced: isForced) } catch {
            throw Problem(
                .notHandedOver, "\(error)")
        }
        return try Self.json(LeaveView(heir: heir))
    }

    // MARK: Diagnosis

    func discovery() async throws -> DiscoveryView {
        let snapshot = await node.snapshot()
        let lines = try lines(snapshot)
        let log = snapshot.discovery
        let addresses = addresses(snapshot, lines)
        return DiscoveryView(
            node: node.certificate.ticket.node, isEnabled: node.isDiscovering,
            interfaces: log.interfaces.map { one in
                .init(
                    name: one.name, address: one.address, sent: one.sent, lost: one.lost,
                    error: one.error, own: one.own, heard: one.heard,
                    heardSeconds: one.last.map { snapshot.at.since($0).seconds })
            },
            addresses: addresses,
            strangers: log.strangers.map {
                .init(host: $0.host, code: $0.code, reason: $0.reason, count: $0.count)
            },
            causes: Diagnosis.causes(snapshot, addresses, isEnabled: node.isDiscovering))
    }

    func why(_ subject: String) async throws -> WhyView {
        let snapshot = await node.snapshot()
        let lines = try lines(snapshot)
        let addresses = addresses(snapshot, lines)
        if subject.contains("@") { return try whyScope(subject, snapshot, lines) }
        let matches = lines.filter { Self.names($0, subject) }
        // Of several of one name, the one that has it now.
        let isMember: (PeerView) -> Bool = { $0.state != "left" && $0.state != "revoked" }
        if let line = matches.first(where: isMember) ?? matches.first {
            return try await whyNode(line, snapshot, addresses)
        }
        if let address = addresses.first(where: { $0.address == subject }) {
            return Diagnosis.why(address)
        }
        if let policy = try store.policy(of: subject) {
            let scope = policy.scope(of: subject, site: node.certificate.ticket.site)
            return try whyScope(scope.description, snapshot, lines)
        }
        throw Problem.notFound(
            "'\(subject)' is no node, scope, namespace or dialled address that is known here (run: meshctl peers; meshctl discovery)"
        )
    }

    /// Whether a person's word for a server is this one: its name, with its site, or its identity.
    static func names(_ line: PeerView, _ subject: String) -> Bool {
        line.node == subject || "\(line.site)/\(line.node)" == subject
            || (subject.count >= 8 && line.id.hasPrefix(subject))
    }

    private func whyNode(
        _ line: PeerView, _ snapshot: NodeSnapshot, _ addresses: [AddressView]
    ) async throws -> WhyView {
        if let cause = try localCause(line.node, snapshot, nil) { return cause }
        if line.state == "revoked" { return try whyRevoked(line.node, line.id) }
        if line.state == "self" {
            return WhyView(line.node, "in_step", "this node itself, and nothing is in its way")
        }
        let tried = addresses.filter { $0.node == line.node }
        guard line.path.hasPrefix("lan") || line.path.hasPrefix("wan"), line.state != "left" else {
            return Diagnosis.whyUnlinked(line, tried)
        }
        let peer = snapshot.peers.first { $0.certificate.node.description == line.id }
        let shared = try store.scopes().filter {
            $0 != NamespacePolicy.scope && peer?.certificate.allows(.read, $0) == true
        }
        let held = try store.scopes().contains { $0 != NamespacePolicy.scope }
        if shared.isEmpty, held {
            return WhyView(
                line.node, "no_grant", "its certificate lets it hold nothing of what is here",
                next: "meshctl ticket create with the right site and groups, and join anew")
        }
        if let offset = peer?.clockOffset, abs(offset.seconds) > Diagnosis.clockTolerance.seconds {
            return WhyView(
                line.node, "clock_suspect",
                "its clock is \(Diagnosis.spoken(offset)) this host's",
                next: "on \(line.node): timedatectl")
        }
        guard let behind = line.behind, behind > 0 else { return Diagnosis.whyInStep(line) }
        // The rate is what is measured in the next second, not what was hoped for.
        try await Task.sleep(for: .seconds(1))
        let later = await node.snapshot().peers.first {
            $0.certificate.node == peer?.certificate.node
        }
        let sent = (later?.recordsSent ?? 0) - min(later?.recordsSent ?? 0, peer?.recordsSent ?? 0)
        return Diagnosis.whyBehind(line, later?.exchange.behind ?? behind, perSecond: sent)
    }

    /// What keeps this node itself from being in step with anybody.
    private func localCause(
        _ subject: String, _ snapshot: NodeSnapshot, _ scope: Scope?
    ) throws -> WhyView? {
        if store.isRevoked(node.certificate) {
            return try whyRevoked(subject, node.certificate.node.description)
        }
        if store.statistics.isDiskFull.load(ordering: .relaxed) {
            return WhyView(
                subject, "disk_full", "the last write here failed for want of room",
                next: "df \(node.dataDirectory)")
        }
        if let offset = Diagnosis.clockOffset(snapshot) {
            return WhyView(
                subject, "clock_suspect",
                "this host's clock is \(Diagnosis.spoken(.zero - offset)) its peers'",
                next: "timedatectl")
        }
        let holes = try store.damageCount(in: scope)
        guard holes > 0 else { return nil }
        return WhyView(
            subject, "damaged",
            "\(holes) records here do not match their hashes; peers are asked for them",
            next:
                "check the disk (smartctl), and see that a peer that holds them is linked: meshctl peers"
        )
    }

    private func whyRevoked(_ subject: String, _ id: String) throws -> WhyView {
        let isSelf = id == node.certificate.node.description
        let serial = isSelf ? node.certificate.ticket.serial : []
        let revocation = try store.revocations().first {
            $0.node.description == id || $0.serials.contains(serial)
        }
        let reason = revocation.map { $0.reason.isEmpty ? "" : ": \($0.reason)" } ?? ""
        return WhyView(
            subject, "revoked",
            (isSelf ? "this server itself was taken" : "it was taken")
                + " out of the mesh by its keys\(reason)",
            next: "to have the box back: empty its data directory, and join with a new ticket")
    }

    private func whyScope(
        _ subject: String, _ snapshot: NodeSnapshot, _ lines: [PeerView]
    ) throws -> WhyView {
        guard let scope = Scope(subject) else {
            throw Problem(.badScope, "'\(subject)' is not a scope such as orders@site/s12")
        }
        guard node.certificate.allows(.read, scope) else {
            return WhyView(
                subject, "no_grant", "this node's certificate does not let it hold \(scope)",
                next: "ask a node of that audience: meshctl peers")
        }
        guard try store.policy(of: scope.namespace) != nil else {
            return WhyView(
                subject, "policy_unknown",
                "no namespace '\(scope.namespace)' has been heard of here; its records wait for its policy",
                next: "at the centre: meshctl namespace list")
        }
        if let cause = try localCause(subject, snapshot, scope) { return cause }
        let holders = snapshot.peers.filter { $0.certificate.allows(.read, scope) }
        guard !holders.isEmpty else {
            return WhyView(
                subject, "unreachable", "no linked peer may hold \(scope)",
                next: "meshctl discovery")
        }
        let late = holders.filter { ($0.exchange.behind ?? 1) > 0 }
        if let worst = late.max(by: { ($0.exchange.behind ?? 0) < ($1.exchange.behind ?? 0) }) {
            let name = worst.certificate.ticket.node
            let count = worst.exchange.behind.map { "\($0) records" } ?? "an unknown number"
            return WhyView(
                subject, "behind",
                "\(late.count) of \(holders.count) linked holders are behind, \(name) by \(count)",
                next: "meshctl why \(name)")
        }
        let ages = holders.compactMap { $0.exchange.inStep.map { snapshot.at.since($0).seconds } }
        return WhyView(
            subject, "in_step",
            "all \(holders.count) linked holders were in step within the last \(Int(ages.max() ?? 0) + 1) s"
        )
    }
}
