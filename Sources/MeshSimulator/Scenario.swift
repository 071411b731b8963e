// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// What happens to a mesh, and when: read from a file that the lab runs too, on real processes.
///
/// A line is `sites N [servers N]`, `centres N`, `marks NAME…`, `end TIME` or `at TIME ACTION`; `#`
/// begins a comment. The centre is `centre`; sites are `s1`, `s2`, …; their servers are `s1-1`,
/// `s1-2`, ….
package struct Scenario: Sendable {
    /// Something that an operator, an app or bad luck does.
    package enum Action: Sendable, Equatable {
        /// An app writes so many records through a node.
        case write(node: String, namespace: String, count: Int)
        /// Apps that had an answer of a node, or none, ask it or a neighbour again, so often.
        case retry(node: String, count: Int)
        /// A site's line to all others breaks, or is mended.
        case wan(site: String, isCut: Bool)
        /// Only what a site sends is lost, or only what it is sent.
        case oneWay(site: String, isOutward: Bool)
        /// The process dies at once.
        case kill(String)
        /// The process ends in good order.
        case stop(String)
        /// The process comes up.
        case start(String)
        /// The process stands still, or goes on.
        case pause(String), resume(String)
        /// The machine loses its power; up to so many of its writes later.
        case power(String, afterWrites: Int)
        /// The database is gone; the keys are not.
        case wipe(String)
        /// Somebody copies the disk; somebody puts the copy back.
        case image(String), restore(String)
        /// A virtual machine is saved with its memory; it is put back to that.
        case snapshot(String), revert(String)
        /// A second machine starts from a copy of the disk, under the name with a `+`; it is taken
        /// away again.
        case copy(String), retire(String)
        /// The box is enrolled again under another name; another box takes its name.
        case rename(String), replace(String)
        /// An operator takes the box out of the mesh for good, once another holds what it holds.
        case leave(String)
        /// Something is wrong with a disk that still works, or not any more.
        case disk(String, DiskFault?)
        /// A bit of the database flips.
        case rot(String)
        /// The store looks through all that it holds.
        case scrub(String)
        /// A server with a valid key signs what is not so.
        case lie(String, Lie)
        /// A central server defines a namespace, in one of several ways.
        case define(String, namespace: String, way: Int)
        /// A machine's cable is pulled out, or put in again.
        case cable(String, isOut: Bool)
        /// The wall clock jumps.
        case clock(String, by: Duration)
        /// The wall clocks of everyone but this node, which is off meanwhile, go on by years.
        case sleep(String, years: Int)
        /// An operator takes a node out of the mesh, through another; it goes on writing.
        case revoke(String, through: String)
        /// So great a part of all packets is lost from now on.
        case loss(Double)
        /// Chance does all of the above for so long.
        case mix(Duration)
    }

    /// One action at its time.
    package struct Step: Sendable {
        /// When, since the start.
        package let at: Duration
        /// What.
        package let action: Action
    }

    /// Why a file is not a scenario.
    package struct Malformed: Error, CustomStringConvertible {
        /// The line, from 1.
        let line: Int
        /// What is wrong there.
        let reason: String

        /// For a person.
        package var description: String { "line \(line): \(reason)" }
    }

    /// The file's name without folder and ending.
    package let name: String
    /// How many sites besides the centre; chance chooses within the range.
    package private(set) var sites = 1...1
    /// How many servers a site has.
    package private(set) var servers = 2...2
    /// How many central servers there are.
    package private(set) var centres = 1...1
    /// What must have happened, so that the run shows anything.
    package private(set) var marks: Set<String> = []
    /// What happens, in order.
    package private(set) var steps: [Step] = []
    /// When faults end and everything is to come together again.
    package private(set) var end = Duration.seconds(30)

    /// Reads a file's text.
    package init(name: String, text: String) throws(Malformed) {
        self.name = name
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            let code = line.prefix { $0 != "#" }
            let words = code.split(separator: " ").map(String.init)
            if words.isEmpty { continue }
            guard try read(words, line: index + 1) else {
                throw Malformed(line: index + 1, reason: "'\(code)' is not understood")
            }
        }
        steps.sort { $0.at < $1.at }
    }

    private mutating func read(_ words: [String], line: Int) throws(Malformed) -> Bool {
        switch words[0] {
        case "sites":
            guard words.count == 2 || (words.count == 4 && words[2] == "servers"),
                let sites = Self.range(words[1], most: 200)
            else { return false }
            self.sites = sites
            if words.count == 4 {
                guard let servers = Self.range(words[3], most: 200) else { return false }
                self.servers = servers
            }
        case "centres":
            guard words.count == 2, let centres = Self.range(words[1], most: 4) else {
                return false
            }
            self.centres = centres
        case "marks":
            for word in words.dropFirst() {
                guard Mark(rawValue: word) != nil else {
                    throw Malformed(line: line, reason: "there is no mark '\(word)'")
                }
                marks.insert(word)
            }
        case "end":
            guard words.count == 2, let time = Self.time(words[1]) else { return false }
            end = time
        case "at":
            guard words.count >= 3, let time = Self.time(words[1]),
                let action = Self.action(Array(words.dropFirst(2)))
            else { return false }
            steps.append(Step(at: time, action: action))
            end = max(end, time)
        default: return false
        }
        return true
    }

    private static func action(_ words: [String]) -> Action? {
        let rest = Array(words.dropFirst())
        switch (words[0], rest.count) {
        case ("write", 3):
            guard let count = Int(rest[2]), (1...1000).contains(count) else { return nil }
            return .write(node: rest[0], namespace: rest[1], count: count)
        case ("retry", 2):
            guard let count = Int(rest[1]), (1...1000).contains(count) else { return nil }
            return .retry(node: rest[0], count: count)
        case ("wan", 2):
            guard rest[0] == "cut" || rest[0] == "heal" else { return nil }
            return .wan(site: rest[1], isCut: rest[0] == "cut")
        case ("oneway", 2):
            guard rest[0] == "out" || rest[0] == "in" else { return nil }
            return .oneWay(site: rest[1], isOutward: rest[0] == "out")
        case ("kill", 1): return .kill(rest[0])
        case ("stop", 1): return .stop(rest[0])
        case ("start", 1): return .start(rest[0])
        case ("pause", 1): return .pause(rest[0])
        case ("resume", 1): return .resume(rest[0])
        case ("power", 1): return .power(rest[0], afterWrites: 0)
        case ("power", 2): return Int(rest[1]).map { .power(rest[0], afterWrites: max(0, $0)) }
        case ("wipe", 1): return .wipe(rest[0])
        case ("image", 1): return .image(rest[0])
        case ("restore", 1): return .restore(rest[0])
        case ("snapshot", 1): return .snapshot(rest[0])
        case ("revert", 1): return .revert(rest[0])
        case ("copy", 1): return .copy(rest[0])
        case ("retire", 1): return .retire(rest[0])
        case ("rename", 1): return .rename(rest[0])
        case ("replace", 1): return .replace(rest[0])
        case ("leave", 1): return .leave(rest[0])
        case ("disk", 2):
            if rest[1] == "well" { return .disk(rest[0], nil) }
            return DiskFault(rawValue: rest[1]).map { .disk(rest[0], $0) }
        case ("rot", 1): return .rot(rest[0])
        case ("scrub", 1): return .scrub(rest[0])
        case ("lie", 2): return Lie(rawValue: rest[1]).map { .lie(rest[0], $0) }
        case ("define", 3):
            guard let way = Int(rest[2]), Apps.definitions.indices.contains(way) else { return nil }
            return .define(rest[0], namespace: rest[1], way: way)
        case ("cable", 2):
            guard rest[0] == "out" || rest[0] == "in" else { return nil }
            return .cable(rest[1], isOut: rest[0] == "out")
        case ("clock", 2): return time(rest[1]).map { .clock(rest[0], by: $0) }
        case ("sleep", 2):
            guard rest[1].hasSuffix("y"), let years = Int(rest[1].dropLast()) else { return nil }
            return .sleep(rest[0], years: min(max(years, 0), 100))
        case ("revoke", 2): return .revoke(rest[0], through: rest[1])
        case ("loss", 1):
            guard let part = Double(rest[0]), (0..<1).contains(part) else { return nil }
            return .loss(part)
        case ("mix", 1): return time(rest[0]).map { .mix($0) }
        default: return nil
        }
    }

    private static func range(_ text: String, most: Int) -> ClosedRange<Int>? {
        let parts = text.split(separator: "-").compactMap { Int($0) }
        guard let low = parts.first, let high = parts.last, parts.count <= 2, low >= 1,
            low <= high, high <= most
        else { return nil }
        return low...high
    }

    /// Reads `250ms`, `5s`, `2m`, `3h`, `10y`, also with a minus.
    static func time(_ text: String) -> Duration? {
        let units: [(String, Int64)] = [
            ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("y", 31_556_952_000),
        ]
        for (unit, milliseconds) in units where text.hasSuffix(unit) {
            guard let number = Int64(text.dropLast(unit.count)), abs(number) <= 1_000_000 else {
                continue
            }
            return .milliseconds(number * milliseconds)
        }
        return nil
    }
}

/// Something that a run must have reached to show anything; counted by name.
package enum Mark: String, CaseIterable, Sendable {
    /// A link broke because its packets were lost.
    case linkLost = "link-lost"
    /// Bytes of a link were changed on the way, and the link was closed for it.
    case bytesChanged = "bytes-changed"
    /// A site's gateway became another.
    case gatewayMoved = "gateway-moved"
    /// A member was taken for away, and came back.
    case memberBack = "member-back"
    /// A process died between a commit and its acknowledgement.
    case diedUnacknowledged = "died-unacknowledged"
    /// The power failed again while a process recovered its database.
    case diedRecovering = "died-recovering"
    /// A power cut lost writes that were not synced.
    case writesLost = "writes-lost"
    /// A power cut left a write half done.
    case writesTorn = "writes-torn"
    /// A process began a new life.
    case lifeNew = "life-new"
    /// A process went on in its life, since its machine was put back with its memory.
    case lifeKept = "life-kept"
    /// A node that had lost its database, or had an old one, was filled again.
    case refilled
    /// Two nodes wrote one key without knowing of each other.
    case siblings
    /// A comparison found differences.
    case compared
    /// A clock stood years off.
    case clockWrong = "clock-wrong"
    /// A server gave its stamps by its peers' clocks, since its own was wrong.
    case clockCorrected = "clock-corrected"
    /// A node was away for years.
    case yearsAway = "years-away"
    /// Records past a revoked node's cut were taken away.
    case recordsRevoked = "records-revoked"
    /// What such records had superseded lived again.
    case recordsRestored = "records-restored"
    /// A site was cut off and wrote.
    case wroteWhileCut = "wrote-while-cut"
    /// Two machines of one identity wrote in the same places.
    case forked
    /// What lost its place to a copy was written again by its author.
    case rewritten
    /// A commit that had rotted at its author, who alone had it, was signed again.
    case signedAgain = "signed-again"
    /// A box was enrolled again under another name.
    case renamed
    /// Another box was enrolled under a name that was taken.
    case replaced
    /// A box left for good, and another held all that it held.
    case left
    /// A box was to leave, and nobody held all that it held.
    case stayed
    /// A disk was full, and writes were refused.
    case diskFull = "disk-full"
    /// A write to a disk failed, and the process ended.
    case diskFailed = "disk-failed"
    /// A disk lost what it had said would last.
    case diskLied = "disk-lied"
    /// A rotten row was found, and taken out.
    case rotFound = "rot-found"
    /// A database whose structure had rotted was replaced by an empty one.
    case diskReplaced = "disk-replaced"
    /// A server with a valid key signed what is not so.
    case lied
    /// Records waited for what they say that they have seen.
    case logWaited = "log-waited"
    /// A namespace had two definitions, which were made apart.
    case defined
    /// An app asked again for what was done already.
    case retried
    /// An app asked another server of the site again; that took the write a second time.
    case retriedElsewhere = "retried-elsewhere"
    case takenTwice = "taken-twice"
    /// A server has said that it holds what another's apps wrote.
    case held
    /// A write was acknowledged as on the disks that its app wanted, or as on fewer.
    case acknowledged
    case acknowledgedLess = "acknowledged-less"
    /// A follower of a feed was told to begin anew.
    case feedAnew = "feed-anew"
}
