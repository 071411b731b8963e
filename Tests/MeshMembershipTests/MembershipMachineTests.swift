// SPDX-License-Identifier: Apache-2.0

import MeshCore
import MeshCrypto
@testable import MeshMembership
import MeshTesting
import Testing

private let tuning = MembershipTuning()

private func at(_ seconds: Double) -> Instant {
    Instant(nanoseconds: Int64(seconds * 1_000_000_000))
}

private func node(_ number: UInt8) -> NodeID { TestMesh.bytes(number, 0) }

private func key(_ number: UInt8) -> SigningKey { SigningKey(seed: Blake2b.hash([number]).bytes) }

private let mesh: MeshID = TestMesh.bytes(9, 9)

@Suite struct `A suspicion` {
    private func lasting(_ accusers: [ShortID], witnesses: Int) -> Duration {
        var suspicion = Suspicion()
        for accuser in accusers { _ = suspicion.accuse(by: accuser, tuning) }
        return suspicion.timeout(scale: 1, witnesses: witnesses, tuning)
    }

    @Test func `lasts the less the more accuse, and no less than its shortest`() {
        let alone = lasting([1], witnesses: 8)
        #expect(alone == tuning.suspicion * tuning.suspicionFactor)
        let shared = lasting([1, 2], witnesses: 8)
        #expect(shared < alone)
        #expect(lasting([1, 2, 3, 4], witnesses: 8) == tuning.suspicion)
        #expect(lasting([1, 2, 3, 4, 5, 6, 7], witnesses: 8) == tuning.suspicion)
        // Where nobody else could accuse there is nothing to wait for.
        #expect(lasting([1], witnesses: 0) == tuning.suspicion)
    }

    @Test func `counts an accuser once, and forgets all who were wrong`() {
        var suspicion = Suspicion()
        let (isFirst, isSecond) = (
            suspicion.accuse(by: 5, tuning), suspicion.accuse(by: 5, tuning)
        )
        #expect(isFirst && !isSecond)
        suspicion.acquit()
        #expect(suspicion.isNews(5, tuning))
    }

    @Test func `does not run out while this process stood still`() {
        var suspicion = Suspicion()
        suspicion.begin(at(0))
        #expect(suspicion.hasRunOut(at(10), lasting: .seconds(10)))
        suspicion.shift(by: .seconds(8))
        #expect(!suspicion.hasRunOut(at(17), lasting: .seconds(10)))
        #expect(suspicion.hasRunOut(at(18), lasting: .seconds(10)))
    }

    @Test func `takes a dial of which nothing is heard for one in vain`() {
        var suspicion = Suspicion()
        #expect(suspicion.dial(at(0), tuning) == .none)
        suspicion.beginDial(at(0))
        #expect(suspicion.dial(at(5), tuning) == .underway)
        #expect(suspicion.dial(at(11), tuning) == .inVain)
        let (wasUnderWay, isUnderWay) = (suspicion.endDial(), suspicion.endDial())
        #expect(wasUnderWay && !isUnderWay)
    }
}

@Suite struct `Evidence of a member` {
    @Test func `that only others have is asked for once, and doubted if it does not come`() {
        var evidence = Evidence()
        #expect(evidence.belief(at(0), tuning) == .refused)
        evidence.prove(at(0))
        #expect(evidence.belief(at(9), tuning) == .believed)
        #expect(evidence.belief(at(11), tuning) == .challenge)
        evidence.challenge(at(11))
        #expect(evidence.belief(at(13), tuning) == .believed)
        #expect(evidence.belief(at(15), tuning) == .refused)
        evidence.prove(at(15))
        #expect(evidence.belief(at(16), tuning) == .believed)
    }

    @Test func `is later than a question only if it came after it`() {
        var evidence = Evidence()
        evidence.hear(at(3))
        #expect(evidence.isLater(than: at(2)))
        #expect(!evidence.isLater(than: at(3)))
    }
}

@Suite struct `Questions to members` {
    private func asked(_ purpose: Questions.Purpose = .routine) -> Questions {
        var questions = Questions()
        _ = questions.makeRoom(for: node(1), purpose)
        questions.begin(
            7, node(1), purpose, timeout: .milliseconds(500), reaches: true, now: at(0))
        return questions
    }

    @Test func `are one a member, of which only an urgent one takes the place of another`() {
        var questions = asked()
        let hasRoom = [node(1), node(2)].map { questions.makeRoom(for: $0, .routine) }
        #expect(hasRoom == [false, true])
        let isUrgent = questions.makeRoom(for: node(1), .urgent)
        #expect(isUrgent && questions.numbers.isEmpty)
        var urgent = asked(.urgent)
        let isUrgentTwice = urgent.makeRoom(for: node(1), .urgent)
        #expect(!isUrgentTwice)
    }

    @Test func `go to others after a timeout, once, and fail after another`() {
        var questions = asked()
        guard case .wait = questions.advance(7, at(0.4)) else {
            Issue.record("too early")
            return
        }
        guard case .askOthers = questions.advance(7, at(0.5)) else {
            Issue.record("nobody else was asked")
            return
        }
        questions.ask([node(2), node(3)], 7)
        guard case .wait = questions.advance(7, at(0.9)) else {
            Issue.record("twice")
            return
        }
        questions.refuse(7, by: node(2))
        questions.refuse(7, by: node(4))
        guard case .failed(let question) = questions.advance(7, at(1)) else {
            Issue.record("did not fail")
            return
        }
        // The other one did not even say that it had no answer.
        #expect(question.silentRelays == 1)
        #expect(questions.numbers.isEmpty)
    }

    @Test func `are answered by those alone who were asked`() {
        var questions = asked()
        #expect(questions.target(of: 7, answeredBy: node(2)) == nil)
        _ = questions.advance(7, at(0.5))
        questions.ask([node(2)], 7)
        #expect(questions.target(of: 7, answeredBy: node(2)) == node(1))
        #expect(questions.target(of: 7, answeredBy: node(1)) == node(1))
        #expect(questions.target(of: 8, answeredBy: node(1)) == nil)
    }

    @Test func `to a member that is away are not passed on`() {
        var questions = asked(.awaiting)
        guard case .wait = questions.advance(7, at(0.6)) else {
            Issue.record("passed on")
            return
        }
    }

    @Test func `on behalf of others are refused once and answered by their target alone`() {
        var requests = Requests(most: 1)
        requests.begin(7, node(1), for: node(2), under: 40, tuning, now: at(0))
        #expect(requests.isFull)
        let astray = requests.answer(7, by: node(3))
        #expect(astray == nil)
        let refused = [0.1, 0.2, 0.3].map { requests.tick(at($0)).map(\.number) }
        #expect(refused == [[], [40], []])
        let answered = requests.answer(7, by: node(1))
        #expect(answered?.asker == node(2))
        #expect(!requests.isFull)
    }
}

@Suite struct `The order in which members are asked` {
    @Test func `gives each its turn before any has a second`() {
        var (turns, entropy) = (Turns(), SeededGenerator(seed: 4))
        let none = turns.next()
        #expect(none == nil)
        let all = (1...9).map { node($0) }
        for _ in 0..<3 {
            turns.begin(all, &entropy)
            var seen: [NodeID] = []
            while let next = turns.next() { seen.append(next) }
            #expect(seen.sorted() == all.sorted())
        }
    }

    @Test func `tries one that is away ever more seldom, and for ever`() {
        var entropy = SeededGenerator(seed: 4)
        var retry = AwayRetry(at(0))
        #expect(retry.isDue(at(0)))
        retry.begin(at(0), tuning)
        #expect(!retry.isDue(at(1.9)) && retry.isDue(at(2)))
        for _ in 0..<100 { retry.advance(at(0), tuning, &entropy) }
        #expect(!retry.isDue(at(40)))
        #expect(retry.isDue(at(80)))
    }
}

@Suite struct `What a member tells` {
    private func rumour(_ number: UInt64) -> Rumour {
        .away(number, .init(incarnation: 1, counter: 1), by: 1)
    }

    @Test func `goes to those first whom it was told least, and so many times`() {
        var retellings = Retellings(most: 2)
        let added = [1, 2, 3].map { retellings.add(rumour($0)) }
        #expect(added == [true, true, false])
        retellings.tell(1, times: 2)
        #expect(retellings.inOrder.map(\.subject) == [2, 1])
        retellings.tell(1, times: 2)
        #expect(retellings.inOrder.map(\.subject) == [2])
        // Newer words about the same are told anew, whatever room there is.
        let isAddedAnew = retellings.add(rumour(2))
        #expect(isAddedAnew)
        retellings.forget(2)
        #expect(retellings.inOrder.isEmpty)
    }

    @Test func `before its subject is known waits, the newest of each, within a limit`() {
        var few = MembershipTuning()
        few.vouchesWaiting = 2
        var early = EarlyWords(few)
        func vouch(_ voucher: UInt8, for subject: UInt8, _ counter: UInt64 = 1) -> Vouch {
            Vouch(
                key: key(voucher), mesh: mesh, version: .init(incarnation: 1, counter: counter),
                subject: node(subject), isThere: true)
        }
        let vouches = [
            vouch(1, for: 9), vouch(2, for: 9, 2), vouch(2, for: 9), vouch(3, for: 9),
        ]
        let hadRoom = vouches.map { early.keep($0, from: node(5)) }
        #expect(hadRoom == [true, true, true, false])
        let (taken, left) = (early.take(node(9)).vouches, early.take(node(9)).vouches)
        #expect(taken.map(\.vouch.node) == [key(2), key(3)].map(\.publicKey.node))
        #expect(taken.map(\.vouch.version.counter) == [2, 1])
        #expect(left.isEmpty)
    }

    @Test func `of a copy of a linked member reach the member, which goes on from there`() {
        func machine(_ number: UInt8) -> Membership {
            Membership(
                .init(key: key(number), mesh: mesh, site: "s1", isCentral: false),
                incarnation: Incarnation(1), port: 7374, seed: 1, now: at(0))
        }
        var (asked, original) = (machine(1), machine(2))
        let (own, third) = (key(2).publicKey.node, key(3).publicKey.node)
        for node in [own, third] {
            asked.admit(node, site: "s1", isCentral: false, now: at(0))
            asked.linked(node, host: nil, now: at(0))
        }
        asked.hear(.presence(original.presence, address: nil), from: own, at(0))
        _ = asked.takeEffects()
        let copy = Presence(
            key: key(2), mesh: mesh, version: .init(incarnation: 5, counter: 3), status: .alive,
            wan: .untried, priority: 0, port: 7374)
        asked.hear(.presence(copy, address: nil), from: third, at(1))
        let told = asked.takeEffects().flatMap { effect -> [Rumour] in
            if case .tell(own, let rumours) = effect { rumours } else { [] }
        }
        #expect(told == [.presence(copy, address: nil)])
        for rumour in told { original.hear(rumour, from: key(1).publicKey.node, at(1)) }
        #expect(original.presence.version > copy.version)
    }

    @Test func `that a node is there is kept from each teller until it is known or taken back`() {
        var few = MembershipTuning()
        few.rumoursWaiting = 3
        var early = EarlyWords(few)
        let subject = key(9).publicKey.node
        func words(_ teller: UInt8, of subject: UInt8) -> EarlyWords.Said {
            let presence = Presence(
                key: key(subject), mesh: mesh, version: .init(incarnation: 1, counter: 1),
                status: .alive, wan: .untried, priority: 0, port: 1)
            return EarlyWords.Said(presence: presence, address: nil, teller: node(teller))
        }
        let hadRoom = [words(1, of: 9), words(2, of: 9), words(2, of: 9), words(3, of: 9)].map {
            early.keep($0)
        }
        #expect(hadRoom == [true, true, true, true])
        // A fourth has no room before one is taken back.
        let isFull = !early.keep(words(4, of: 9))
        early.forget(subject.short, from: node(2))
        let hasRoom = early.keep(words(4, of: 9))
        #expect(isFull && hasRoom)
        let (taken, left) = (early.take(subject).said, early.take(subject).said)
        #expect(taken.map(\.teller) == [1, 3, 4].map(node))
        #expect(left.isEmpty)
    }

    @Test func `of a far member counts though it came before the far member was known`() {
        let own = key(1)
        var member = Membership(
            .init(key: own, mesh: mesh, site: "s1", isCentral: false),
            incarnation: Incarnation(1), port: 7374, seed: 1, now: at(0))
        let (neighbour, far) = (key(2), key(3))
        member.admit(neighbour.publicKey.node, site: "s1", isCentral: false, now: at(0))
        member.linked(neighbour.publicKey.node, host: nil, now: at(0))
        let vouch = Vouch(
            key: neighbour, mesh: mesh, version: .init(incarnation: 1, counter: 1),
            subject: far.publicKey.node, isThere: true)
        _ = member.takeEffects()
        member.hear(.vouch(vouch), from: neighbour.publicKey.node, at(1))
        // Its own words may be old news to all, so that nobody tells them again.
        let wanted = member.takeEffects().contains { effect in
            guard case .wantCertificate(let node, let teller) = effect else { return false }
            return node == far.publicKey.node && teller == neighbour.publicKey.node
        }
        #expect(wanted)
        member.admit(far.publicKey.node, site: "s2", isCentral: false, now: at(2))
        #expect(member.member(far.publicKey.node)?.state == .alive)
    }
}

@Suite struct `A neighbour that others alone tell of` {
    @Test func `is taken for away, and for no gateway, where nothing is ever heard of it`() {
        var member = Membership(
            .init(key: key(1), mesh: mesh, site: "s1", isCentral: false),
            incarnation: Incarnation(1), port: 7374, seed: 1, now: at(0))
        let (centre, ghost) = (key(2), key(3))
        member.admit(centre.publicKey.node, site: "hq", isCentral: true, now: at(0))
        member.linked(centre.publicKey.node, host: "hq", now: at(0))
        // It was switched off for good; the centre still has its last words.
        let words = Presence(
            key: ghost, mesh: mesh, version: .init(incarnation: 1, counter: 1), status: .alive,
            wan: .linked, priority: 255, port: 7374)
        member.hear(.presence(words, address: nil), from: centre.publicKey.node, at(0))
        member.admit(ghost.publicKey.node, site: "s1", isCentral: false, now: at(0))
        #expect(member.gateway == ghost.publicKey.node)
        for tick in 1...300 {
            let now = at(Double(tick) / 5)
            member.heard(centre.publicKey.node, now: now)
            member.tick(now)
            for case .reach(let node) in member.takeEffects() {
                member.unreachable(node, isHostThere: false, now: now)
            }
        }
        #expect(member.member(ghost.publicKey.node)?.state == .away)
        #expect(member.gateway == key(1).publicKey.node)
    }
}

@Suite struct `A member that is slow` {
    @Test func `is patient with others until it does well again`() {
        var health = LocalHealth(most: 3)
        #expect(health.patient(.seconds(1)) == .seconds(1))
        health.doubt()
        #expect(health.patient(.seconds(1)) == .seconds(4))
        health.adjust(by: 5)
        #expect(health.score == 3)
        for _ in 0..<9 { health.adjust(by: -1) }
        #expect(health.score == 0)
    }
}
