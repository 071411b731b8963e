// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@Suite struct `A connection to a server` {
    /// Runs a few lines against a port; gives what came back and how long it lasted.
    private func talk(_ port: Int, _ script: String) throws -> (text: String, seconds: Double) {
        let start = Date()
        let whole = "exec 3<>/dev/tcp/127.0.0.1/\(port); \(script)"
        let result = try Programs.run("/bin/bash", ["-c", whole])
        return (result.output, Date().timeIntervalSince(start))
    }

    @Test(arguments: [
        "timeout 20 cat <&3",
        "for i in $(seq 12); do printf x >&3 || break; sleep 1; done; timeout 9 cat <&3",
        "printf 'MSH1' >&3; for i in $(seq 12); do printf '\\001' >&3 || break; sleep 1; done; timeout 9 cat <&3",
    ])
    func `to its link port is closed within five seconds if it proves nothing`(script: String)
        throws
    {
        let node = try Node()
        let (_, seconds) = try talk(node.link, script)
        #expect(seconds < 14)
        #expect(try node.curl("/metrics").body.contains("event=\"handshake_failed\"} 1"))
    }

    @Test func `to its link port that speaks HTTP is closed at the first bytes`() throws {
        let node = try Node()
        let (text, seconds) = try talk(
            node.link, "printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3; timeout 4 cat <&3")
        #expect(text.isEmpty)
        #expect(seconds < 3)
        #expect(try node.curl("/metrics").body.contains("event=\"link_not_a_peer\"} 1"))
    }

    @Test func `beyond four half-open ones from a host is refused, and the server goes on`() throws
    {
        let node = try Node()
        let many =
            "for i in $(seq 40); do (exec 4<>/dev/tcp/127.0.0.1/\(node.link); sleep 2) & done; wait"
        _ = try Programs.run("/bin/bash", ["-c", many])
        let metrics = try node.curl("/metrics").body
        let line = metrics.split(separator: "\n").first { $0.contains("half_open_refused") }
        #expect(Int(line?.split(separator: " ").last ?? "0") ?? 0 >= 30)
    }

    @Test func `that sends its body drop by drop is told so after ten seconds`() throws {
        let node = try Node()
        let (text, seconds) = try talk(
            node.port,
            "printf 'POST /v1/batch HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 100\\r\\n\\r\\n{' >&3; timeout 25 head -n 1 <&3"
        )
        #expect(text.contains("408"))
        #expect(seconds < 20)
    }
}

@Suite struct `A disk that was put back` {
    @Test func `is not followed from a cursor of what it has lost`() throws {
        let node = try Node()
        _ = try Programs.ctl(
            node, "namespace", "create", "--keys", "\(node.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "any",
            "--merge", "register")
        func write(_ key: String) throws {
            #expect(try node.curl("/v1/records/menu/\(key)", "-X", "PUT", "-d", "x").status == 201)
        }
        func cursor() throws -> String {
            let body = try node.curl("/v1/changes", "-m", "1").body
            let line = body.split(separator: "\n").last { $0.hasPrefix("id: ") }
            return String((try #require(line)).dropFirst(4))
        }
        try write("before")
        let kept = try cursor()
        _ = node.stop()
        try Programs.run("/bin/cp", ["-a", node.data, node.data + "-image"])
        try node.start()
        for index in 1...30 { try write("lost/\(index)") }
        let lost = try cursor()
        _ = node.stop()
        try Programs.run("/bin/rm", ["-r", node.data])
        try Programs.run("/bin/mv", [node.data + "-image", node.data])
        try node.start()
        // As many changes come as were lost: by number alone the old cursor would fit.
        for index in 1...30 { try write("new/\(index)") }
        let gone = try node.curl("/v1/changes?since=\(lost)", "-m", "2")
        #expect(gone.status == 410 && gone.body.contains("cursor_gone"))
        let feed = try node.curl("/v1/changes?since=\(kept)", "-m", "2").body
        for index in 1...30 { #expect(feed.contains("\"new/\(index)\"")) }
    }
}

@Suite struct `A full disk` {
    @Test(.enabled("mounting a small disk needs root") { geteuid() == 0 })
    func `refuses writes, serves reads, also after a start, and takes writes when there is room`()
        throws
    {
        let disk = try #require(try Scratch(mebibytes: 8))
        let node = try Node(in: disk)
        _ = try Programs.ctl(
            node, "namespace", "create", "--keys", "\(node.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "central",
            "--merge", "register")
        #expect(try node.curl("/v1/records/menu/first", "-X", "PUT", "-d", "kept").status == 201)
        let ballast = try disk.file("ballast", String(repeating: "b", count: 3 << 20))
        let body = try disk.file("body", String(repeating: "x", count: 60_000))
        var statuses: [Int] = []
        for index in 0..<120 where statuses.last != 507 {
            statuses.append(
                try node.curl(
                    "/v1/records/menu/k\(index)", "-X", "PUT", "--data-binary", "@\(body)"
                ).status)
        }
        #expect(statuses.last == 507)
        #expect(try node.curl("/v1/records/menu/first").body == "kept")
        // Power comes back to a disk that is still full: reads go on, writes are refused.
        node.kill()
        try node.start()
        #expect(try node.curl("/v1/records/menu/first").body == "kept")
        #expect(
            try node.curl("/v1/records/menu/late", "-X", "PUT", "--data-binary", "@\(body)").status
                == 507)
        // Everything that was acknowledged is there.
        for (index, status) in statuses.enumerated() where status == 201 {
            #expect(try node.curl("/v1/records/menu/k\(index)").status == 200)
        }
        // Nor does a stop in good order, and a start on a disk that was filled up meanwhile.
        _ = node.stop()
        var fillers: [String] = []
        while let filler = try? disk.file(
            "filler\(fillers.count)", String(repeating: "f", count: 4096))
        {
            fillers.append(filler)
        }
        try node.start()
        #expect(try node.curl("/v1/records/menu/first").body == "kept")
        for filler in fillers { try FileManager.default.removeItem(atPath: filler) }
        try FileManager.default.removeItem(atPath: ballast)
        #expect(try node.curl("/v1/records/menu/after", "-X", "PUT", "-d", "again").status == 201)
    }
}

@Suite(.serialized) struct `Servers on one segment` {
    private func alive(_ node: Node) throws -> Int {
        try Programs.ctl(node, "peers", "--state", "alive", "-o", "name").output.split(
            separator: "\n"
        ).count
    }

    @Test func `find each other with nothing configured but their certificates, in either order`()
        throws
    {
        let port = Ports.next()
        let first = try Node(multicast: port)
        let second = try Node("b", site: "s1", joining: first, multicast: port)
        for _ in 0..<50 where try alive(first) != 1 || alive(second) != 1 { usleep(100_000) }
        #expect(try alive(first) == 1 && alive(second) == 1)
        // And again when one of them was killed and comes back.
        first.kill()
        try first.start()
        for _ in 0..<100 where try alive(first) != 1 || alive(second) != 1 { usleep(100_000) }
        #expect(try alive(first) == 1 && alive(second) == 1)
        #expect(try first.curl("/metrics").body.contains("event=\"beacon_own\""))
    }

    @Test func `leave a flood of beacons to the kernel, and find each other after it`() throws {
        let port = Ports.next()
        let first = try Node(multicast: port)
        let flood = """
            import os, socket, sys, time
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            end = time.time() + 2
            while time.time() < end:
                for _ in range(50): s.sendto(os.urandom(84), ("239.255.73.74", int(sys.argv[1])))
                time.sleep(0.01)
            """
        #expect(try Programs.run("/usr/bin/python3", ["-c", flood, "\(port)"]).code == 0)
        let metrics = try first.curl("/metrics").body.split(separator: "\n")
        func count(_ event: String) -> Int {
            let line = metrics.first { $0.contains("event=\"\(event)\"") }
            return line.flatMap { Int($0.split(separator: " ").last ?? "") } ?? 0
        }
        #expect(count("beacon_reading_paused") >= 5)
        #expect((1..<3000).contains(count("beacon_foreign")))
        let second = try Node("b", site: "s1", joining: first, multicast: port)
        #expect(try eventually { try alive(first) == 1 && alive(second) == 1 })
    }

    @Test func `report a copy of themselves`() throws {
        let node = try Node(multicast: Ports.next())
        let copy = try Node(copying: node)
        var found = false
        for _ in 0..<100 where !found {
            found = try node.curl("/metrics").body.contains("event=\"duplicate_node\"")
            usleep(100_000)
        }
        #expect(found)
        #expect(
            try Programs.ctl(node, "peers").output.contains(
                "! another server runs with this node's key"))
        _ = copy.stop()
    }
}

@Suite struct `A server that loses what it stands on` {
    @Test func `goes on after it had no file descriptors left`() throws {
        let first = try Node()
        let second = try Node("b", site: "s1", joining: first)
        for _ in 0..<100 {
            if try Programs.ctl(first, "peers", "--state", "alive", "-o", "name").output != "" {
                break
            }
            usleep(100_000)
        }
        let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(first.pid)/fd")
        // Room for a few more, and four times as many who want in.
        _ = try Programs.run(
            "/usr/bin/prlimit", ["--pid", "\(first.pid)", "--nofile=\(open.count + 10):4096"])
        _ = try Programs.run(
            "/bin/bash",
            [
                "-c",
                "for i in $(seq 40); do (exec 4<>/dev/tcp/127.0.0.1/\(first.port); sleep 3) & done; wait",
            ])
        var status = 0
        for _ in 0..<50 where status != 200 {
            status = try first.curl("/healthz").status
            if status != 200 { usleep(100_000) }
        }
        #expect(status == 200)
        #expect(
            try Programs.ctl(first, "peers", "--state", "alive", "-o", "name").output.contains("b"))
        #expect(first.isRunning && second.isRunning)
    }

    @Test func `opens without its write-ahead log, and gets what was in it from a neighbour`()
        throws
    {
        let first = try Node()
        let second = try Node("b", site: "s1", joining: first)
        _ = try Programs.ctl(
            first, "namespace", "create", "--keys", "\(first.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "any",
            "--merge", "register")
        func count(_ node: Node) throws -> Int {
            try Programs.ctl(node, "list", "menu", "-o", "name").output.split(separator: "\n").count
        }
        for key in 0..<20 { _ = try first.curl("/v1/records/menu/\(key)", "-X", "PUT", "-d", "x") }
        for _ in 0..<100 {
            if try count(second) == 20 { break }
            usleep(100_000)
        }
        first.kill()
        try FileManager.default.removeItem(atPath: first.data + "/mesh.sqlite-wal")
        try first.start()
        for _ in 0..<150 {
            if try count(first) == 20 { break }
            usleep(100_000)
        }
        // A new life of its author writes on, and no place of the old one is used twice.
        #expect(try first.curl("/v1/records/menu/new", "-X", "PUT", "-d", "y").status == 201)
        for _ in 0..<100 {
            if try count(second) == 21 { break }
            usleep(100_000)
        }
        #expect(try count(first) == 21 && count(second) == 21)
        #expect(first.isRunning && second.isRunning)
    }
}
