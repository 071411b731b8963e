// SPDX-License-Identifier: Apache-2.0

internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshEngine
internal import MeshTrust

/// From what a node knows to the cause that an operator can remove.
enum Diagnosis {
    /// A difference between clocks that nobody needs to hear of.
    static let clockTolerance = Duration.seconds(120)
    /// How a server of a large site is reached that is no neighbour on its rings.
    static let ringPath = "via neighbours"
    /// How long an interface may be silent before that is called a fault.
    private static let silence = 45.0

    /// How far the clocks of peers are before this host's, at the median; nil without peers.
    static func medianOffset(_ snapshot: NodeSnapshot) -> Duration? {
        let offsets = snapshot.peers.compactMap(\.clockOffset).sorted()
        return offsets.isEmpty ? nil : offsets[offsets.count / 2]
    }

    /// The same where most peers agree that this host's clock is off; nil where it is well.
    static func clockOffset(_ snapshot: NodeSnapshot) -> Duration? {
        let offsets = snapshot.peers.compactMap(\.clockOffset)
        let off = offsets.filter { abs($0.seconds) > clockTolerance.seconds }
        // Of two clocks neither is the judge of the other.
        guard offsets.count >= 2, off.count * 2 > offsets.count else { return nil }
        return medianOffset(snapshot)
    }

    /// `3 h before`, `5 min behind`.
    static func spoken(_ offset: Duration) -> String {
        let seconds = abs(offset.seconds)
        let size =
            switch seconds {
            case ..<120: "\(Int(seconds)) s"
            case ..<7200: "\(Int(seconds / 60)) min"
            case ..<172_800: "\(Int(seconds / 3600)) h"
            default: "\(Int(seconds / 86_400)) days"
            }
        return "\(size) \(offset < .zero ? "behind" : "before")"
    }

    // MARK: Why

    /// Why a node is not linked.
    static func whyUnlinked(_ line: PeerView, _ tried: [AddressView]) -> WhyView {
        if line.state == "left" {
            return WhyView(
                line.node, "left", "it left the mesh, or another took its name and place")
        }
        var why: WhyView
        let failed = tried.filter { $0.failures > 0 }
        if line.path == ringPath {
            why = WhyView(
                line.node, "relayed",
                "it is there; in a site of so many servers each links with its neighbours only, and all comes along them",
                next: "how far it is: on \(line.node), meshctl peers")
        } else if line.path.hasPrefix("via ") {
            let voucher = line.path.dropFirst(4)
            why = WhyView(
                line.node, "relayed", "it is reached through \(voucher), which is linked with it",
                next: "how far it is: on \(voucher), meshctl why \(line.node)")
        } else if let worst = failed.first(where: { $0.code != "unreachable" }) ?? failed.first {
            why = Self.why(worst)
            why.subject = line.node
        } else if tried.isEmpty {
            why = WhyView(
                line.node, "unreachable",
                "no address of it is known, and no linked node says that it is there",
                next: "on \(line.node): meshctl discovery")
        } else {
            why = WhyView(
                line.node, "unreachable", "its addresses have not been dialled yet",
                next: "meshctl why \(line.node), in a few seconds")
        }
        why.addresses = tried
        return why
    }

    /// Why an address leads to no link.
    static func why(_ address: AddressView) -> WhyView {
        guard let code = address.code, let error = address.error else {
            return WhyView(
                address.address, address.dials == 0 ? "unreachable" : "in_step",
                address.dials == 0 ? "not dialled yet" : "the last dial led to a link")
        }
        let next =
            switch code {
            case "wrong_mesh": "compare 'meshctl status' of both: the line 'mesh' must be equal"
            case "no_common_version": "update the older of both servers"
            case "certificate_refused": "join that server anew with a ticket of this mesh"
            case "own_address": "remove it from the seeds of this server"
            default: "see that meshd runs there, and that TCP to \(address.address) is open"
            }
        var why = WhyView(
            address.address, code, "\(address.address): \(error), \(address.failures) times",
            next: next)
        why.addresses = [address]
        return why
    }

    /// A linked node that lacks nothing, as far as was proven.
    static func whyInStep(_ line: PeerView) -> WhyView {
        guard let age = line.lastSyncSeconds else {
            return WhyView(
                line.node, "behind", "the first comparison has not ended yet",
                next: "meshctl sync, then meshctl why \(line.node)")
        }
        return WhyView(
            line.node, "in_step", "both were proven to hold the same \(Int(age)) s ago")
    }

    /// A linked node that lacks records, with the rate at which they go to it now.
    static func whyBehind(_ line: PeerView, _ behind: UInt64, perSecond: UInt64) -> WhyView {
        let lack = "it lacked \(behind) records at the last comparison"
        guard perSecond > 0 else {
            return WhyView(
                line.node, "behind", "\(lack); none has gone to it in the last second",
                next: "meshctl sync, then meshctl why \(line.node)")
        }
        let left = behind / perSecond + (behind % perSecond == 0 ? 0 : 1)
        return WhyView(
            line.node, "behind",
            "\(lack); \(perSecond) a second go to it now: done in about \(left) s")
    }

    // MARK: Discovery

    /// What is wrong with discovery, each cause in one line.
    static func causes(
        _ snapshot: NodeSnapshot, _ addresses: [AddressView], isEnabled: Bool
    ) -> [String] {
        let log = snapshot.discovery
        var causes = log.complaints
        if !isEnabled {
            causes.append(
                "multicast is turned off (discovery.enabled): only seeds and known addresses are dialled"
            )
        } else if log.interfaces.isEmpty, log.began != nil {
            causes.append(
                "no interface with multicast is up: the cable, or the address, is missing")
        }
        // An interface stands there once for each family.
        var blocked: Set<String> = []
        for interface in log.interfaces {
            if let error = interface.error {
                blocked.insert("\(interface.name): beacons cannot be sent: \(error)")
            }
            if let names = unheard(on: interface, snapshot) {
                blocked.insert(
                    "\(interface.name): \(names) is linked over it but not heard by multicast: a switch (IGMP snooping), an access point or a firewall blocks multicast to UDP 7375"
                )
            }
        }
        causes += blocked.sorted()
        for stranger in log.strangers {
            causes.append(
                "\(stranger.host): \(stranger.reason) (\(stranger.code), \(stranger.count) times)")
        }
        for address in addresses where address.rung == "beacon" && address.failures >= 2 {
            let who = address.node ?? "a node"
            causes.append(
                "\(who) announces \(address.address), which cannot be reached: \(address.error ?? "")"
            )
        }
        return causes
    }

    /// Neighbours that are linked over an interface by other rungs, while it has heard nobody for
    /// so long that multicast cannot work; nil if it can.
    private static func unheard(
        on interface: DiscoveryLog.Interface, _ snapshot: NodeSnapshot
    ) -> String? {
        let age = interface.last.map { snapshot.at.since($0).seconds } ?? .infinity
        let running = snapshot.discovery.began.map { snapshot.at.since($0).seconds } ?? 0
        guard interface.sent >= 4, min(age, running) > silence else { return nil }
        let neighbours = snapshot.peers.filter { $0.origin.interface == interface.name }
        guard !neighbours.isEmpty else { return nil }
        return neighbours.map(\.certificate.ticket.node).sorted().joined(separator: ", ")
    }
}
