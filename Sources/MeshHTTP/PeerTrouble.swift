// SPDX-License-Identifier: Apache-2.0

internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshDiscovery
internal import MeshEngine
internal import MeshMembership
internal import MeshStore
internal import MeshTrust
internal import Synchronization

/// What an operator should look at, in sentences with the command that helps.
extension Routes {
    func trouble(_ snapshot: NodeSnapshot, _ lines: [PeerView]) throws -> [String] {
        var trouble: [String] = []
        for target in snapshot.addresses where target.rung == .seed && target.failures >= 3 {
            let reason = target.lastFailure?.reason ?? ""
            trouble.append(
                "seed \(target.address): \(reason) (run: meshctl why \(target.address))")
        }
        if snapshot.peers.isEmpty {
            trouble.append("no peer is linked (run: meshctl discovery)")
        }
        for line in lines where line.site == node.certificate.ticket.site {
            if line.state == "suspect" || line.state == "away" {
                let what = line.state == "suspect" ? "does not answer" : "is away"
                trouble.append(
                    "\(line.node) of this site \(what) (run: meshctl why \(line.node))")
            }
        }
        if let offset = Diagnosis.clockOffset(snapshot) {
            trouble.append(
                "this host's clock is \(Diagnosis.spoken(.zero - offset)) its peers' (run: timedatectl)"
            )
        }
        trouble += try ownTrouble(snapshot, lines)
        return trouble
    }

    private func ownTrouble(_ snapshot: NodeSnapshot, _ lines: [PeerView]) throws -> [String] {
        var trouble: [String] = []
        if store.isRevoked(node.certificate) {
            trouble.append(
                "this server was revoked: it refuses writes, and no other links with it (run: meshctl why \(node.certificate.ticket.node))"
            )
        }
        if !node.certificate.isApproved {
            trouble.append(
                "this server waits to be approved: read its fingerprint \(node.certificate.fingerprint) to the operator (there: meshctl approve)"
            )
        }
        for box in snapshot.waiting {
            let ticket = box.certificate.ticket
            trouble.append(
                "\(ticket.site)/\(ticket.node) waits to be approved, at \(box.remote) (run: meshctl approve)"
            )
        }
        for server in snapshot.locked {
            let ticket = server.certificate.ticket
            let name = "\(ticket.site)/\(ticket.node)"
            trouble.append(
                "\(name) is locked, at \(server.host): if it stands where it belongs, allow that it gets its key (run: meshctl unlock \(name))"
            )
        }
        if let keepers = snapshot.keepers, !keepers.isWithCentre {
            trouble.append(
                "no server of the centre has said since the start that it keeps the key of this one's records, \(keepers.count) neighbours have: with the site's power off it may stay locked (run: meshctl why centre)"
            )
        }
        for double in snapshot.doubles {
            let isOwn = double.first.node == node.certificate.node
            let ticket = double.second.ticket
            let ids = [double.first, double.second].map { $0.node.description.prefix(16) }
            trouble.append(
                isOwn
                    ? "another server (\(ids[1])) joined with the ticket of this one (\(ids[0])): find out which is yours (run: meshctl revoke OTHER --keep-ticket)"
                    : "two servers joined with the ticket of \(ticket.node) at \(ticket.site): \(ids[0]) was here first, \(ids[1]) gets no link; find out which is yours (run: meshctl revoke OTHER --keep-ticket)"
            )
        }
        if let successor = snapshot.successor {
            let name = lines.first { $0.id == successor.description }?.node ?? "another"
            trouble.append("a later \(name) has this server's name and place: stop this one")
        }
        // Its links come and go, since another carries its site's: heard lately is enough.
        for member in snapshot.members
        where member.state == .left && member.presence?.status != .left {
            guard let heard = member.lastHeard, snapshot.at.since(heard) < .seconds(60),
                let line = lines.first(where: { $0.id == member.node.description })
            else { continue }
            let place = line.path == "-" ? "" : " at \(line.path)"
            trouble.append("\(line.node)\(place) was replaced but still runs: stop it")
        }
        if snapshot.counters["duplicate_node"] != nil {
            trouble.append("another server runs with this node's key: stop the copy")
        }
        if store.statistics.isDiskFull.load(ordering: .relaxed) {
            trouble.append(
                "the disk is full: nothing can be written (run: df \(node.dataDirectory))")
        }
        let holes = try store.damageCount()
        if holes > 0 { trouble.append("\(holes) damaged records wait to be fetched again") }
        for author in try store.forkedAuthors() {
            let name = lines.first { $0.id == author.node.description }?.node ?? "\(author)"
            trouble.append(
                "\(name) wrote two things in one place: its disk was copied; stop one of them")
        }
        return trouble
    }
}
