// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshClient
import MeshCore
import MeshTrust

/// What commands that hold keys believe: what the mesh's keys have signed, and of a server's other
/// words only what they show and a person confirms. The article `TrustDocuments` lists it.
extension KeyFolder {
    /// The certificates of a server, as another server has them, verified up to the root document
    /// in the folder.
    ///
    /// - Throws: where the server that is asked names one that is not called `subject`.
    func certificates(
        of subject: String, from client: NodeClient
    ) async throws -> (newest: Certificate, all: [Certificate]) {
        let root = try root()
        let view = try await client.certificates(subject)
        var newest: Certificate?
        var all: [Certificate] = []
        for text in view.certificates {
            guard let bytes = Hex.decode(text) else {
                throw Failure("the server's answer is no certificate of '\(subject)'")
            }
            let certificate: Certificate
            do { certificate = try Certificate(decoding: bytes, root: root) } catch {
                throw Failure("the server's certificate of '\(subject)' does not verify: \(error)")
            }
            let ticket = certificate.ticket
            all.append(certificate)
            if let newest, newest.node != certificate.node {
                throw Failure("the server's answer names two servers; nothing was done")
            }
            if newest.map({ $0.ticket.serial.lexicographicallyPrecedes(ticket.serial) }) ?? true {
                newest = certificate
            }
        }
        guard let newest else { throw Failure("the server gave no certificate of '\(subject)'") }
        let ticket = newest.ticket
        let id = newest.node.description
        guard
            ticket.node == subject || "\(ticket.site)/\(ticket.node)" == subject
                || (subject.count >= 8 && id.hasPrefix(subject))
        else {
            throw Failure(
                "'\(subject)' was asked for, and the server answered with \(ticket.site)/\(ticket.node) (\(id)); nothing was done"
            )
        }
        return (newest, all)
    }
}

extension Console {
    /// Says who a server is, by its certificate.
    static func show(_ certificate: Certificate) {
        let ticket = certificate.ticket
        Console.line("server:    \(ticket.site)/\(ticket.node)")
        Console.line(
            "role:      \(ticket.isCentral ? "central: it may write policies and content" : "edge")"
        )
        if !ticket.groups.isEmpty {
            Console.line("groups:    \(ticket.groups.joined(separator: ", "))")
        }
        Console.line("identity:  \(certificate.node)")
    }

    /// Has the operator type a server's name: what keys sign can't be taken back.
    ///
    /// - Parameter given: the name, where the command line gave it.
    static func demand(_ name: String, given: String?, to act: String) throws {
        if let given {
            guard given == name else {
                throw Failure("--confirm is not '\(name)'; nothing was done")
            }
            return
        }
        FileHandle.standardError.write(Data("type '\(name)' to \(act): ".utf8))
        guard readLine()?.trimmingCharacters(in: .whitespaces) == name else {
            throw Failure("not confirmed; nothing was done")
        }
    }
}
