// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

private func revoke(
    _ name: String, at node: Node, _ arguments: [String] = [], input: String? = nil
) throws -> Programs.Result {
    try Programs.run(
        "meshctl",
        ["revoke", name, "--keys", "\(node.scratch.path)/keys", "--data", node.data] + arguments,
        input: input)
}

@Suite struct `A server that is revoked` {
    private func mesh() throws -> (centre: Node, one: Node, two: Node) {
        let centre = try Node()
        let made = try Programs.ctl(
            centre, "namespace", "create", "--keys", "\(centre.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "any",
            "--merge", "register")
        #expect(made.code == 0)
        let one = try Node("one", site: "s1", joining: centre)
        let two = try Node("two", site: "s1", joining: centre)
        for node in [one, two] {
            #expect(
                try eventually {
                    try node.curl("/v1/records/menu/\(node.port)", "-X", "PUT", "-d", "a").status
                        == 201
                })
            #expect(
                try eventually { try centre.curl("/v1/records/menu/\(node.port)").body == "a" })
        }
        return (centre, one, two)
    }

    @Test func `is linked by nobody, told why, takes no writes, and what it wrote later goes`()
        throws
    {
        let (centre, one, two) = try mesh()
        // The line of the thief is cut off, and it goes on writing.
        one.kill()
        let dry = try revoke("s1/one", at: centre, ["--dry-run"])
        #expect(dry.output.contains("menu@all") && dry.output.contains("1 of 1"))
        #expect(try state(of: "one", at: centre) != ["revoked"])
        let done = try revoke(
            "one", at: centre, ["--reason", "stolen in May", "--confirm", "one"])
        #expect(done.code == 0, "\(done.errors)")
        #expect(try eventually { try state(of: "one", at: two) == ["revoked"] })
        let why = try Programs.ctl(two, "why", "one")
        #expect(why.code == 3)
        #expect(why.output.hasPrefix("revoked: it was taken out of the mesh by its keys: stolen"))

        try one.start()
        let late = try one.curl("/v1/records/menu/late", "-X", "PUT", "-d", "fraud").status
        #expect(try eventually { try Programs.ctl(one, "why", "one").output.hasPrefix("revoked:") })
        let refused = try one.curl("/v1/records/menu/later", "-X", "PUT", "-d", "fraud")
        #expect(refused.status == 403 && refused.body.contains("\"revoked\""))
        #expect(try one.curl("/v1/records/menu/\(one.port)").body == "a")
        #expect(try Programs.ctl(one, "peers").output.contains("this server was revoked"))
        #expect(late == 201 || late == 403)
        for node in [centre, two] {
            #expect(try state(of: "one", at: node) == ["revoked"])
            #expect(try node.curl("/v1/records/menu/late").status == 404)
            #expect(try node.curl("/v1/records/menu/\(one.port)").body == "a")
        }
        // A new box has its name.
        let ticket = "\(centre.scratch.path)/new.ticket"
        let made = try Programs.ctl(
            centre, "replace", "s1/one", "--keys", "\(centre.scratch.path)/keys", "--out", ticket,
            "--confirm", "one")
        #expect(made.code == 0, "\(made.errors)")
        let box = try Node(box: "one-new", ticket: ticket, dialling: centre)
        #expect(
            try eventually { try state(of: "one", at: two).sorted() == ["alive", "revoked"] })
        #expect(
            try eventually {
                try box.curl("/v1/records/menu/x", "-X", "PUT", "-d", "y").status == 201
            })
    }

    @Test func `is named once more where it is the last of its site, or the one that is asked`()
        throws
    {
        let (centre, one, two) = try mesh()
        let itself = try revoke("centre", at: centre, input: "no\n")
        #expect(itself.code == 1)
        #expect(itself.output.contains("the very server that is asked"))
        #expect(itself.output.contains("the last server of hq"))
        #expect(itself.errors.contains("nothing was done"))
        #expect(try revoke("one", at: centre, ["--confirm", "one"]).code == 0)
        #expect(try eventually { try state(of: "one", at: two) == ["revoked"] })
        let last = try revoke("two", at: centre, input: "\n")
        #expect(last.code == 1 && last.output.contains("the last server of s1"))
        #expect(try revoke("two", at: centre, ["--confirm", "tow"]).code == 1)
        #expect(try state(of: "two", at: centre) != ["revoked"])
        #expect(try revoke("two", at: centre, input: "two\n").code == 0)
        #expect(try eventually { try state(of: "two", at: centre) == ["revoked"] })
        _ = one
    }

    @Test func `is not cut by one who does not hold what it wrote, nor without its key`() throws {
        let (centre, one, two) = try mesh()
        let blind = try revoke("hq/centre", at: one)
        #expect(blind.code == 1 && blind.output.contains("does not hold *@*"))
        #expect(blind.errors.contains("nothing was done"))
        let keys = "\(centre.scratch.path)/keys"
        try FileManager.default.moveItem(atPath: "\(keys)/revoke.key", toPath: "\(keys)/away")
        let keyless = try revoke("one", at: centre)
        #expect(keyless.code == 1 && keyless.errors.contains("revoke.key"))
        try FileManager.default.copyItem(atPath: "\(keys)/enrol.key", toPath: "\(keys)/revoke.key")
        let wrong = try revoke("one", at: centre)
        #expect(wrong.code == 1 && wrong.errors.contains("is not a key that"))
        #expect(try state(of: "one", at: two).isEmpty == false)
        #expect(try state(of: "one", at: centre) == ["alive"])
    }

    @Test func `is revoked by a file too, where no line reaches`() throws {
        let (centre, one, two) = try mesh()
        let file = "\(centre.scratch.path)/trust.json"
        two.kill()
        // It would tell its neighbour itself.
        one.kill()
        #expect(try revoke("one", at: centre, ["--confirm", "one"]).code == 0)
        #expect(try Programs.ctl(centre, "trust", "export", file).code == 0)
        centre.kill()
        try two.start()
        #expect(try Programs.ctl(two, "trust", "list").output.contains("one") == false)
        let done = try Programs.ctl(two, "trust", "import", file)
        #expect(done.code == 0 && done.errors.contains("1 of 1 revocations were new"))
        #expect(try Programs.ctl(two, "trust", "list").output.contains("one"))
        #expect(try eventually { try state(of: "one", at: two) == ["revoked"] })
        let text = try String(contentsOfFile: file, encoding: .utf8)
        let forged = try one.scratch.file(
            "forged.json",
            text.replacingOccurrences(of: "\"document\":\"", with: "\"document\":\"00"))
        let refused = try Programs.ctl(two, "trust", "import", forged)
        #expect(refused.code == 1 && refused.errors.contains("revocation 1"))
        #expect(try Programs.ctl(two, "trust", "import", "/dev/null").code == 1)
    }
}
