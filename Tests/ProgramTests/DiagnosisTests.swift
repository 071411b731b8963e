// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

private func namespace(_ name: String, at node: Node) throws {
    let made = try Programs.ctl(
        node, "namespace", "create", "--keys", "\(node.scratch.path)/keys", name, "--audience",
        "all", "--writers", "any", "--merge",
        "register")
    #expect(made.code == 0)
}

@Suite struct `A server that is replaced` {
    @Test func `gives its name and place to the new box, which fills itself`() throws {
        let centre = try Node()
        try namespace("menu", at: centre)
        let old = try Node("till", site: "s1", joining: centre)
        #expect(try eventually { try state(of: "till", at: centre) == ["alive"] })
        #expect(
            try eventually {
                try old.curl("/v1/records/menu/soup", "-X", "PUT", "-d", "a").status == 201
            })
        #expect(try eventually { try centre.curl("/v1/records/menu/soup").body == "a" })
        old.kill()
        let ticket = "\(centre.scratch.path)/new.ticket"
        let made = try Programs.ctl(
            centre, "replace", "s1/till", "--keys", "\(centre.scratch.path)/keys", "--out", ticket,
            "--confirm", "till")
        #expect(made.code == 0)
        let box = try Node(box: "till-new", ticket: ticket, dialling: centre)
        #expect(try eventually { try state(of: "till", at: centre).sorted() == ["alive", "left"] })
        #expect(try eventually { try box.curl("/v1/records/menu/soup").body == "a" })
        // The old box comes back: it stays replaced, is told so, and is named wherever it is linked.
        try old.start()
        #expect(
            try eventually {
                try Programs.ctl(old, "peers").output.contains("has this server's name and place")
            })
        #expect(
            try eventually {
                try Programs.ctl(centre, "peers").output.contains("was replaced but still runs")
            })
        #expect(try state(of: "till", at: centre).sorted() == ["alive", "left"])
    }

    @Test func `must be known by its name`() throws {
        let centre = try Node()
        let made = try Programs.ctl(
            centre, "replace", "nobody", "--keys", "\(centre.scratch.path)/keys", "--out",
            "/dev/null")
        #expect(made.code == 4)
        #expect(made.errors.contains("no server 'nobody' is known here"))
    }
}

@Suite struct `A server that leaves` {
    @Test func `is gone for good everywhere, over restarts too`() throws {
        let centre = try Node()
        try namespace("menu", at: centre)
        let till = try Node("till", site: "s1", joining: centre)
        #expect(try eventually { try state(of: "till", at: centre) == ["alive"] })
        let left = try Programs.ctl(till, "leave")
        #expect(left.code == 0)
        #expect(left.errors.contains("centre holds all records"))
        #expect(try eventually { try state(of: "till", at: centre) == ["left"] })
        #expect(eventually { !till.isRunning })
        #expect(till.exitCode == 0)
        #expect(throws: (any Error).self) { try till.start() }
        #expect(till.log.contains("this server has left the mesh"))
        centre.kill()
        try centre.start()
        #expect(try state(of: "till", at: centre) == ["left"])
        #expect(try Programs.ctl(centre, "why", "till").output.hasPrefix("left: "))
    }

    @Test func `does not while nobody holds what it holds`() throws {
        let centre = try Node()
        let left = try Programs.ctl(centre, "leave")
        #expect(left.code == 1)
        #expect(left.errors.contains("what is only here would be lost"))
        #expect(try Programs.ctl(centre, "status").code != 69)
    }
}

@Suite struct `meshctl why` {
    private func code(_ node: Node, _ subject: String) throws -> String {
        try Programs.ctl(node, "why", subject, "-o", "name").output
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test func `names what keeps an address from being linked`() throws {
        let stranger = try Node()
        let closed = "127.0.0.1:1"
        let deaf = try Node(seeds: [closed, "127.0.0.1:\(stranger.link)"])
        #expect(try eventually { try code(deaf, closed) == "unreachable" })
        #expect(try eventually { try code(deaf, "127.0.0.1:\(stranger.link)") == "wrong_mesh" })
        let why = try Programs.ctl(deaf, "why", closed)
        #expect(why.code == 3)
        #expect(why.output.contains("Connection refused"))
        // Who was dialled can tell as well who it was that came to nothing.
        let told = try Programs.ctl(stranger, "discovery")
        #expect(told.code == 2)
        #expect(told.output.contains("! 127.0.0.1: ") && told.output.contains("(wrong_mesh, "))
        let trouble = try Programs.ctl(deaf, "peers").output
        #expect(
            try eventually {
                try Programs.ctl(deaf, "peers").output.contains("meshctl why \(closed)")
            }, "\(trouble)")
    }

    @Test func `names what keeps a node or a scope from being in step`() throws {
        let centre = try Node()
        try namespace("menu", at: centre)
        _ = try Programs.ctl(
            centre, "namespace", "create", "--keys", "\(centre.scratch.path)/keys", "orders",
            "--audience", "site", "--writers", "site",
            "--merge", "log")
        let till = try Node("till", site: "s1", joining: centre)
        #expect(try eventually { try code(centre, "till") == "in_step" })
        #expect(try code(centre, "hq/centre") == "in_step")
        #expect(try eventually { try code(till, "menu@all") == "in_step" })
        #expect(try code(till, "menu") == "in_step")
        #expect(try code(till, "orders@site/s2") == "no_grant")
        #expect(try code(till, "nothing@all") == "policy_unknown")
        let unknown = try Programs.ctl(till, "why", "nobody")
        #expect(unknown.code == 4)
        #expect(unknown.errors.contains("'nobody' is no node, scope, namespace or dialled address"))
        #expect(try Programs.ctl(till, "why", "a@b@c").errors.contains("is not a scope"))
        till.kill()
        #expect(try eventually { try state(of: "till", at: centre) == ["away"] })
        #expect(try centre.curl("/v1/records/menu/late", "-X", "PUT", "-d", "1").status == 201)
        let why = try Programs.ctl(centre, "why", "till")
        #expect(why.code == 3 && why.output.hasPrefix("unreachable: "))
        #expect(try code(centre, "menu@all") == "unreachable")
        // It lacks what was written since, and that is said of it while it is away.
        let row = try Programs.ctl(centre, "peers", "--no-headers").output
            .split(separator: "\n").first { $0.hasPrefix("till") }
        let fields = (row ?? "").split(separator: " ").map(String.init)
        #expect(fields.count > 6 && fields[6] == "1", "\(fields)")
    }

    @Test func `says that the disk does not match its hashes`() throws {
        let centre = try Node()
        try namespace("menu", at: centre)
        #expect(try centre.curl("/v1/records/menu/a", "-X", "PUT", "-d", "1").status == 201)
        _ = centre.stop()
        try Programs.run(
            "/usr/bin/python3",
            [
                "-c",
                "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute(\"INSERT INTO damage SELECT scope, author, sequence FROM record JOIN scope ON scope.id = scope WHERE name = 'menu@all'\"); d.commit()",
                "\(centre.data)/mesh.sqlite",
            ])
        try centre.start()
        #expect(try code(centre, "menu@all") == "damaged")
        #expect(try Programs.ctl(centre, "peers").output.contains("! 1 damaged records"))
    }
}

@Suite struct `meshctl discovery` {
    @Test func `shows each interface and each rung`() throws {
        let port = 30_000 + Int.random(in: 0..<20_000)
        let first = try Node(multicast: port)
        let second = try Node("b", site: "s1", joining: first, multicast: port)
        #expect(try eventually { try state(of: "b", at: first) == ["alive"] })
        // Who was dialled may not have heard the other's beacon yet.
        let views = try [first, second].map {
            try Programs.ctl($0, "discovery", "-o", "json").output
        }
        #expect(views.allSatisfy { $0.contains("\"name\":\"lo\"") })
        #expect(views.contains { $0.contains("\"rung\":\"beacon\"") })
        let table = try Programs.ctl(first, "discovery")
        #expect(table.code == 0, "\(table.output)")
        #expect(table.output.contains("INTERFACE") && table.output.contains("127.0.0.1"))
    }

    @Test func `says when multicast is turned off`() throws {
        let view = try Programs.ctl(try Node(), "discovery")
        #expect(view.code == 2 && view.output.contains("! multicast is turned off"))
    }
}
