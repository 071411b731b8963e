# SPDX-License-Identifier: Apache-2.0
"""A peer that was written from the articles dials a server: as an outsider, as a thief, as a member that lies."""
import os
import struct
import time

from nacl.exceptions import CryptoError

from bed import expect, until
from keys import mesh
from peer import Closed, Identity, Link, Ticket, Writer, policy_name, scope
from web import cpu_seconds, rss_mib

NOTES = scope(b"notes")
TEXT = {"Content-Type": "text/plain"}


def member(bed, site="s9", name="enemy"):
    return Identity(Ticket(bed.ticket(name, site)))


def notes(identity):
    """For all, by any, as a register: the policy of the bed's namespace, and its name in headers."""
    return policy_name(identity.mesh, b"notes", b"\0\3\1\0")


def is_refused(identity, port, **how):
    try:
        link = Link(identity, port, **how)
    except (Closed, CryptoError):
        return True
    refused = not link.is_up()
    link.close()
    return refused


def change_a_byte_of_the_handshake(bed):
    """Each byte of each message of a member's own handshake is changed on its way."""
    centre = bed.server("centre", "hq", "--central")
    identity, lengths = member(bed), {}

    def measure(number, message):
        lengths[number] = len(message)
        return message
    link = Link(identity, centre.ports[0], change=measure)
    expect(link.is_up(), "a member is not let in")
    link.close()
    tried = 0
    for number in sorted(lengths):
        # Of the long last message each third byte.
        for place in range(0, lengths[number], 3 if number == 3 else 1):
            def flip(which, message, number=number, place=place):
                if which != number:
                    return message
                return message[:place] + bytes([message[place] ^ 1]) + message[place + 1:]
            expect(is_refused(identity, centre.ports[0], change=flip), f"byte {place} of message {number}")
            tried += 1
            # A server that refused everybody would pass, too.
            if tried % 25 == 0:
                expect(not is_refused(identity, centre.ports[0]), f"an honest handshake after {tried}")
    expect(not is_refused(identity, centre.ports[0]), "the member is not let in any more")
    return f"{tried} handshakes"


def link_as_somebody_else(bed):
    """Without the secret, with another's certificate, with one that nobody signed, with that of another mesh."""
    centre, till = mesh(bed)
    identity, port = member(bed), centre.ports[0]
    expect(is_refused(identity, port, secret=os.urandom(32)), "without the secret")
    link = Link(identity, port)
    stolen = link.peer
    link.close()
    expect(is_refused(identity, till.ports[0], certificate=stolen), "with the centre's certificate")
    own = identity.certificate
    for place in range(2, len(own)):
        changed = own[:place] + bytes([own[place] ^ 1]) + own[place + 1:]
        if place % 7 == 0:
            expect(is_refused(identity, port, certificate=changed), f"byte {place} of the certificate")
    other = type(bed)()
    try:
        stranger = Identity(Ticket(other.ticket("centre", "hq", "--central")))
        stranger.ticket.secret, stranger.mesh = identity.ticket.secret, identity.mesh
        expect(is_refused(stranger, port), "a member of another mesh")
    finally:
        other.close()
    expect(centre.state("centre") == ["self"] and till.process.poll() is None, "a server ended")


def value(server, key):
    status, _, body = server.http("GET", f"/v1/records/notes/{key}")
    return body if status == 200 else None


def sign_what_is_not_so(bed):
    """A member signs commits that no honest server would: each is refused, or waits alone, and honest writers go on."""
    centre, till = mesh(bed)
    identity = member(bed)
    policy, link = notes(identity), Link(identity, centre.ports[0]).attend()
    # Later than any clock of the mesh, so that of siblings it would be shown first.
    stamp = int((time.time() + 86_400) * 1000) << 16

    def writer(**how):
        return Writer(identity, NOTES, how.pop("policy", policy), **how)

    def say(who, *commits, **how):
        link.send(15, who.message(commits, **how))

    # What is right is taken, at both servers: the articles say enough to write a server by.
    honest = writer()
    say(honest, honest.commit([honest.record(b"enemy/1", b"first"), honest.record(b"enemy/2", b"second")]))
    say(honest, honest.commit([honest.record(b"enemy/1", b"third")]))
    expect(until(lambda: value(till, "enemy/1") == b"third" and value(till, "enemy/2") == b"second"), "an honest commit is not taken")
    mine = (honest.author, 3)
    far = (honest.author, 1 << 20)
    nobody = (os.urandom(40), 1)

    def lie(name, **how):
        who = how.pop("writer", None) or writer()
        message = {key: how.pop(key) for key in ("after", "through") if key in how}
        seen = how.pop("seen", ())
        commit = who.commit([who.record(key, b"lie", seen=seen, stamp=stamp) for key in (b"lie/" + name, b"a")], **how)
        return who, commit, message

    lies = {
        b"future": lie(b"future", seen=[far]),
        b"invention": lie(b"invention", seen=[nobody]),
        b"inheritance": lie(b"inheritance", inherits=[(honest.life, 1 << 20)]),
        b"jump": lie(b"jump", first=1 << 62, previous=os.urandom(32)),
        b"policy": lie(b"policy", writer=writer(policy=os.urandom(32))),
        b"wrong-writer": lie(b"wrong-writer", writer=writer(policy=policy_name(identity.mesh, b"notes", b"\0\1\1\0"))),
        b"another": lie(b"another", writer=writer(node=centre_id(centre))),
    }
    link.close()
    for _, (who, commit, how) in sorted(lies.items()):
        # Each on a link of its own, which stands until it was heard.
        link = Link(identity, centre.ports[0])
        say(who, commit, **how)
        link.is_up()
        link.close()
    time.sleep(2)
    for name in lies:
        expect(value(centre, "lie/" + name.decode()) is None, f"{name.decode()} is shown")
    for server in (centre, till):
        status, headers, body = server.http("GET", "/v1/records/notes/a")
        expect(body == b"1" and headers.get("Mesh-Siblings") == "0", f"a lie stands beside the till's value: {headers} {body}")
    link = Link(identity, centre.ports[0]).attend()
    # A value that has seen what is there is no lie.
    say(honest, honest.commit([honest.record(b"enemy/1", b"fourth", seen=[mine])]))
    expect(until(lambda: value(till, "enemy/1") == b"fourth"), "its true log does not go on")
    for number in range(5):
        expect(till.http("PUT", "/v1/records/notes/a", str(number).encode(), TEXT)[0] in (200, 201), "the till cannot write")
    expect(until(lambda: value(centre, "a") == b"4"), "the till's writes do not arrive")
    # Two histories of one life, one for each server: both come to show the same.
    one, other = writer(life=7), writer(life=7)
    say(one, one.commit([one.record(b"fork", b"x")]))
    second = Link(identity, till.ports[0]).attend()
    second.send(15, other.message([other.commit([other.record(b"fork", b"y")])]))
    expect(until(lambda: value(centre, "fork") in (b"x", b"y") and value(centre, "fork") == value(till, "fork")),
           f"a fork: {value(centre, 'fork')} and {value(till, 'fork')}")
    second.close()
    link.close()


def centre_id(server):
    return bytes.fromhex(next(peer["id"] for peer in server.peers() if peer["state"] == "self"))


def flood_a_link_with_messages(bed):
    """A member sends all kinds of messages without end: chance bytes, forged commits, requests, on link after link."""
    centre, till = mesh(bed)
    identity, port = member(bed), centre.ports[0]
    policy, sent, links = notes(identity), 0, 0
    begin, mine, theirs = time.monotonic(), time.process_time(), cpu_seconds(centre)
    while time.monotonic() < begin + 10:
        try:
            link = Link(identity, port)
        except (Closed, CryptoError):
            continue
        links += 1
        link.attend()
        who, forger = Writer(identity, NOTES, policy), Writer(identity, NOTES, policy)
        # On every other link what is said is well formed, so that all of it is read.
        is_good = links % 2
        try:
            while time.monotonic() < begin + 10 and not link.error:
                sent += 1
                if is_good:
                    kind = (1, 15, 15, 17, 28, 30, 32)[sent % 7]
                    fields = {1: struct.pack("<Q", sent), 17: struct.pack("<I", 1), 28: NOTES + os.urandom(40) + struct.pack("<Q", sent)}
                else:
                    kind, fields = (7, 9, 15, 19, 21, 22, 24, 26, 34, 36, 38, 40, 42, 44, 46)[sent % 15], {}
                if kind == 15:
                    one = who if is_good else forger
                    commit = one.commit([one.record(b"flood", os.urandom(40))], signer=None if is_good else type(identity.node).generate())
                    link.send(15, one.message([commit]))
                else:
                    link.send(kind, fields.get(kind, b"" if is_good else os.urandom(sent % 60)))
        except Closed:
            pass
        link.close()
    spent = cpu_seconds(centre) - theirs
    expect(centre.process.poll() is None, "the server ended")
    expect(till.http("PUT", "/v1/records/notes/a", b"after", TEXT)[0] in (200, 201), "the till cannot write")
    expect(until(lambda: value(centre, "a") == b"after"), "the till's write does not arrive")
    size, end = rss_mib(centre), time.monotonic()
    expect(size < 300, f"{size} MiB")
    # What waits of a flood is not done before the end.
    centre.stop()
    return (f"{links} links, {sent} messages; CPU of attacker {time.process_time() - mine:.1f} s, of server {spent:.1f} s;"
            f" server {size:.0f} MiB, and ends in {time.monotonic() - end:.1f} s")


def frame(size, *blocks):
    """A zstd frame as it stands in a packed message: without its magic number. A block is bytes, or a byte with how often it comes."""
    text = b"\xa0" + struct.pack("<I", size)
    for number, block in enumerate(blocks):
        is_run = isinstance(block, tuple)
        head = (number == len(blocks) - 1) | is_run << 1 | (block[1] if is_run else len(block)) << 3
        text += struct.pack("<I", head)[:3] + (bytes([block[0]]) if is_run else block)
    return text


def unpack_bombs(bed):
    """A member of another site sends packed messages that would become a gigabyte, or are not what they say."""
    centre, till = mesh(bed)
    identity, port = member(bed), centre.ports[0]
    link, who = Link(identity, port, offers=1), Writer(identity, NOTES, notes(identity))
    good = bytes([15]) + who.message([who.commit([who.record(b"packed", b"as it should be")])])
    link.send(57, b"\0" + frame(len(good), good))
    expect(until(lambda: value(centre, "packed") == b"as it should be"), "what is packed well is not taken")
    chunk, packed = 128 << 10, b"\x39\0" + frame(1, b"\x26")
    bombs = {
        "a mebibyte of 45 bytes": b"\0" + frame(8 * chunk, *[(38, chunk)] * 8),
        "a gigabyte": b"\0" + frame(1 << 30, *[(38, chunk)] * 8),
        "more than it says": b"\0" + frame(10, bytes([38]) * 11),
        "less than it says": b"\0" + frame(12, bytes([38]) * 11),
        "another frame behind it": b"\0" + frame(11, bytes([38]) * 11) + b"\x28\xb5\x2f\xfd" + frame(11, bytes([38]) * 11),
        "a ping in it": b"\0" + frame(9, bytes([1]) + bytes(8)),
        "a packed message in it": b"\0" + frame(len(packed), packed),
        "what nobody sent before": b"\2" + frame(4, bytes([38]) * 3)[:-2],
        "chance": b"\0" + os.urandom(40),
    }
    for name, fields in bombs.items():
        before, link = counted(centre, "link_bad_packing"), Link(identity, port, offers=1)
        try:
            for _ in range(1000):
                link.send(57, fields)
        except Closed:
            pass
        expect(until(lambda: counted(centre, "link_bad_packing") > before), f"{name} is taken")
        link.close()
    # Who has not offered it sends an unknown message.
    expect(not is_open_after(Link(identity, port), 57, b"\0" + frame(len(good), good)), "it is unpacked though nobody agreed on it")
    size = rss_mib(centre)
    expect(size < 150, f"{size} MiB")
    expect(till.http("PUT", "/v1/records/notes/a", b"after", TEXT)[0] in (200, 201), "the till cannot write")
    expect(until(lambda: value(centre, "a") == b"after"), "the till's write does not arrive")
    return f"{len(bombs)} kinds, a thousand each; server {size:.0f} MiB"


def counted(server, event):
    for line in server.admin("GET", "/metrics")[2].decode().splitlines():
        if line.startswith(f'mesh_events_total{{event="{event}"}}'):
            return float(line.split()[1])
    return 0.0


def is_open_after(link, kind, fields):
    try:
        link.send(kind, fields)
        return link.is_up()
    except Closed:
        return False


CASES = [change_a_byte_of_the_handshake, link_as_somebody_else, sign_what_is_not_so, flood_a_link_with_messages, unpack_bombs]
