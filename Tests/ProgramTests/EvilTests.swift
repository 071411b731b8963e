// SPDX-License-Identifier: Apache-2.0

import Foundation
import MeshTesting
import Testing

/// Two honest servers of one site, and a third with a valid certificate that lies to the first.
private struct Siege {
    let first: Node
    let second: Node
    let evil: String

    init() throws {
        first = try Node("a", site: "s1")
        second = try Node("b", site: "s1", joining: first)
        evil = "\(first.scratch.path)/evil"
        try Programs.run(
            "meshctl",
            [
                "ticket", "create", "--keys", "\(first.scratch.path)/keys", "--site", "s1",
                "--node",
                "evil", "--out", "\(evil).ticket",
            ])
        try Programs.run("meshctl", ["join", "\(evil).ticket", "--data", evil])
        _ = try Programs.ctl(
            first, "namespace", "create", "--keys", "\(first.scratch.path)/keys", "menu",
            "--audience", "all", "--writers", "any",
            "--merge", "register")
        for _ in 0..<100 {
            if try areAlive() { break }
            usleep(100_000)
        }
    }

    func areAlive() throws -> Bool {
        let names = try [first, second].map {
            try Programs.ctl($0, "peers", "--state", "alive", "-o", "name").output
        }
        return names[0].contains("b") && names[1].contains("a")
    }

    /// Runs the evil peer beside, and looks whether anything changes meanwhile.
    ///
    /// - Returns: what the evil peer says of itself, and how many writes went through.
    func endure(_ lies: [String]) throws -> (account: String, arrived: Int, flaps: Int) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "\(Programs.build)/evilpeer")
        process.arguments = [evil, "\(first.link)", "4"] + lies
        let output = Pipe()
        process.standardOutput = output
        try Launch.lock.withLock { try process.run() }
        var (arrived, flaps, count) = (0, 0, 0)
        while process.isRunning {
            count += 1
            let key = "\(lies.joined())/\(count)"
            _ = try first.curl("/v1/records/menu/\(key)", "-X", "PUT", "-d", "x")
            for _ in 0..<40 {
                if try second.curl("/v1/records/menu/\(key)").status == 200 {
                    arrived += 1
                    break
                }
                usleep(50_000)
            }
            if !(try areAlive()) { flaps += 1 }
        }
        let said = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        return (said, count - arrived, flaps)
    }

    func peakMebibytes(_ node: Node) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(node.pid)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line?.split(separator: " ").compactMap { Int($0) }.first ?? .max) / 1024
    }
}

@Suite(.serialized) struct `A peer with a valid certificate that lies` {
    @Test(arguments: [
        (["garbage"], "message_malformed"), (["accuse", "forge"], "membership_presence_forged"),
        (["flood", "claim"], "certificate_"), (["boast"], "commits_gap"),
    ])
    func `changes nothing for honest servers`(lies: [String], counter: String) throws {
        let siege = try Siege()
        let (account, lost, flaps) = try siege.endure(lies)
        let numbers = account.split(whereSeparator: { $0 == " " || $0 == "\n" }).compactMap {
            Int($0)
        }
        #expect(numbers.count == 2 && numbers.allSatisfy { $0 > 0 }, "\(account)")
        #expect(lost == 0 && flaps == 0)
        #expect(siege.first.isRunning && siege.second.isRunning)
        #expect(try siege.peakMebibytes(siege.first) < 256)
        #expect(try siege.first.curl("/metrics").body.contains("event=\"\(counter)"))
    }
}
