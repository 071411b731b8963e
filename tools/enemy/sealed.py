# SPDX-License-Identifier: Apache-2.0
"""A server whose records are sealed is carried off, with its disk and its keys."""
import hashlib
import os
import pathlib
import shutil
import time

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from bed import Server, expect, until
from peer import Closed, Identity, Link, Ticket
from rotation import serves

TEXT = {"Content-Type": "text/plain"}
SECRET = b"the takings of Saturday: 4711 in the safe"


def name_of(key):
    return hashlib.blake2b(b"MESH1 storage" + key, digest_size=32).digest()


def holds(server, text):
    """Which files of a server hold a text."""
    return [path.name for path in server.data.rglob("*") if path.is_file() and text in path.read_bytes()]


def sealed(bed, ticket, centre):
    """A server that has joined with a ticket, its records to be sealed, and what was said to that."""
    safe = Server(bed, "safe", "s1", (bed.port, bed.port + 1), centre.ports[0])
    bed.port += 2
    joined = bed.run("join", ticket, "--sealed", "--data", safe.data)
    bed.servers.append(safe)
    return safe, joined.stdout


def as_the_box(server, ticket):
    """A peer of ours with the keys of a server's disk."""
    thief = Identity.__new__(Identity)
    thief.ticket, thief.mesh = ticket, ticket.mesh
    thief.node = SigningKey((server.data / "node.key").read_bytes())
    thief.link = PrivateKey((server.data / "link.key").read_bytes())
    thief.id, thief.certificate = bytes(thief.node.verify_key), (server.data / "certificate").read_bytes()
    return thief


def ask(identity, port, name, source="127.0.0.1"):
    """What a server answers to a request for a key: the type of its message, and what is in it."""
    try:
        link = Link(identity, port, source=source)
        link.send(52, name)
        while True:
            kind, fields = link.receive()
            if kind in (54, 56):
                return kind, fields
            link.answer(kind, fields)
    except (Closed, CryptoError):
        return None, b""


def carry_a_sealed_server_off(bed):
    """Its disk tells nothing, a copy of it gets no key from afar, nor does a thief who has its keys; a neighbour unlocks it."""
    centre = bed.server("centre", "hq", "--central")
    done = centre.ctl("namespace", "create", "--keys", bed.keys, "books", "--audience", "all", "--writers", "any", "--merge", "register")
    expect(done.returncode == 0, done.stderr)
    # The site's network is the loopback's.
    plain = bed.server("plain", "s1", seed=centre.ports[0], options=("--discovery-interfaces", "lo"))
    path = bed.ticket("safe", "s1")
    ticket = Ticket(path)
    safe = sealed(bed, path, centre)[0].start()
    put = safe.http("PUT", "/v1/records/books/secret", SECRET, TEXT)
    expect(until(lambda: safe.http("PUT", "/v1/records/books/secret", SECRET, TEXT)[0] in (200, 201)), f"it cannot write: {put}")
    expect(until(lambda: plain.http("GET", "/v1/records/books/secret")[2] == SECRET), "its neighbour does not get it")
    # A superseded one lies there too.
    expect(safe.http("PUT", "/v1/records/books/secret", SECRET + b" no more", TEXT)[0] == 200, "it cannot replace")
    expect(until(lambda: len(list((plain.data).glob("mesh.sqlite-notes*"))) > 0 and safe.peers() and b"deposit" in
                 b"".join(one.read_bytes() for one in plain.data.glob("mesh.sqlite-notes*"))), "the neighbour keeps no key")
    expect(holds(plain, SECRET), "the search finds nothing where it lies in the clear")
    expect(not holds(safe, SECRET), f"{holds(safe, SECRET)} holds it while the server runs")
    safe.stop()
    expect(not holds(safe, SECRET), f"{holds(safe, SECRET)} holds it")
    name = bytes.fromhex((safe.data / "sealed").read_text().strip())
    # A neighbour gives the key without anybody's word.
    centre.stop()
    (safe.data / "keepers").write_text(f"127.0.0.1:{plain.ports[0]}\n")
    safe.start()
    expect(safe.http("GET", "/v1/records/books/secret")[2] == SECRET + b" no more", "what it wrote is not there")
    safe.stop()
    plain.stop()
    centre.start()
    # Carried off: only the centre can be dialled.
    stolen = Server(bed, "safe", "s1", safe.ports, centre.ports[0])
    stolen.data = bed.scratch / "stolen"
    shutil.copytree(safe.data, stolen.data)
    bed.servers.append(stolen)
    thief = as_the_box(safe, ticket)
    expect(ask(thief, centre.ports[0], name) == (56, b"\2"), "the centre hands the key out")
    expect(ask(thief, centre.ports[0], os.urandom(32)) == (56, b"\1"), "the centre has a key that nobody gave it")
    other = Identity(Ticket(bed.ticket("other", "s2")))
    expect(ask(other, centre.ports[0], name) == (56, b"\1"), "a server of another site is told more")
    expect("s2/other is locked" not in centre.ctl("peers").stdout, "one that has no key there is shown as locked")
    done = centre.ctl("unlock", "s1/safe", "--from", "192.0.2.1", "--confirm", "safe")
    expect(done.returncode != 0 and "192.0.2.1" in done.stderr, "a word for a host that has not asked")
    expect(until(lambda: "s1/safe is locked" in centre.ctl("peers").stdout), "the centre does not say so")
    locked = safe.start_locked()
    expect(not until(lambda: safe.http("GET", "/healthz")[0], 5) and locked.poll() is None, "it serves without its key, or ends")
    # Another's word is of no use to it.
    done = centre.ctl("unlock", "s2/other", "--confirm", "other")
    expect(done.returncode != 0, "a key is handed out that is not there")
    done = centre.ctl("unlock", "s1/safe", "--confirm", "safe")
    expect(done.returncode == 0, done.stderr)
    expect(until(lambda: safe.http("GET", "/v1/records/books/secret")[2] == SECRET + b" no more", 40), "it stays locked")
    # The word held once.
    expect(ask(thief, centre.ports[0], name) == (56, b"\2"), "the word holds for a second time")
    safe.stop()
    done = centre.ctl("revoke", "s1/safe", "--keys", bed.keys, "--confirm", "safe")
    expect(done.returncode == 0, done.stderr)
    centre.ctl("unlock", "s1/safe", "--confirm", "safe")
    expect(ask(thief, centre.ports[0], name)[0] is None, "a revoked server gets its key")


def copy_a_sealed_server_and_ask_first(bed):
    """The operator's word is for the box that stands at its site, and a copy of its disk asks at the same time, from elsewhere."""
    centre = bed.server("centre", "hq", "--central")
    path = bed.ticket("safe", "s1")
    ticket = Ticket(path)
    safe = sealed(bed, path, centre)[0].start()
    name = bytes.fromhex((safe.data / "sealed").read_text().strip())
    thief = as_the_box(safe, ticket)
    safe.stop()
    expect(ask(thief, centre.ports[0], name, "127.0.0.77") == (56, b"\2"), "the copy gets the key")
    locked = safe.start_locked()
    expect(until(lambda: centre.ctl("peers").stdout.count("s1/safe is locked") == 2), "not both callers are shown")
    done = centre.ctl("unlock", "s1/safe", "--confirm", "safe")
    expect(done.returncode != 0 and "--from" in done.stderr, done.stdout + done.stderr)
    done = centre.ctl("unlock", "s1/safe", "--from", "127.0.0.1", "--confirm", "safe")
    expect(done.returncode == 0, done.stderr)
    expect(ask(thief, centre.ports[0], name, "127.0.0.77") == (56, b"\2"), "the copy gets the key by the word for the other")
    expect(until(lambda: safe.http("GET", "/healthz")[0] == 200, 60) and locked.poll() is None, "the box gets no key")


def join_sealed_and_wait_for_approval(bed):
    """A box that is to be sealed and approved serves once both have come, in whatever order."""
    centre = bed.server("centre", "hq", "--central")
    path = bed.ticket("safe", "s1", "--needs-approval")
    safe, said = sealed(bed, path, centre)
    shown = said.split("fingerprint: ")[1].split()[0]
    safe.start_locked()
    expect(until(lambda: "s1/safe" in centre.ctl("approve", "--keys", bed.keys).stdout), "it is not shown")
    done = centre.ctl("approve", "--keys", bed.keys, shown)
    expect(done.returncode == 0, done.stderr)
    expect(until(lambda: safe.http("GET", "/healthz")[0] == 200, 60), "it does not serve")
    expect(until(lambda: centre.state("safe") == ["alive"]), "it has no link")


def have_a_key_kept_that_is_not_ones_own(bed):
    """A member floods the centre with keys to keep, and takes those of others; a server of another site keeps none."""
    centre = bed.server("centre", "hq", "--central")
    till = bed.server("till", "s1", seed=centre.ports[0])
    identity = Identity(Ticket(bed.ticket("enemy", "s9")))
    for _ in range(10):
        link = Link(identity, centre.ports[0])
        for _ in range(20):
            link.send(48, os.urandom(32))
        expect(link.is_up(), "the link ended")
        link.close()
    size = sum(path.stat().st_size for path in centre.data.glob("mesh.sqlite-notes*"))
    expect(size < 400_000, f"{size} bytes are kept")
    link, key = Link(identity, till.ports[0]), os.urandom(32)
    link.send(48, key)
    expect(link.is_up(), "the link ended")
    time.sleep(1)
    expect(ask(identity, till.ports[0], name_of(key)) == (56, b"\1"), "a till of another site keeps a key")
    link.close()


def change_the_meshs_keys_under_a_sealed_server(bed):
    """A new root document has a sealed server begin anew: it keeps its key, though nobody is there who would give it."""
    centre = bed.server("centre", "hq", "--central")
    path = bed.ticket("safe", "s1")
    safe = sealed(bed, path, centre)[0].start()
    expect(until(lambda: centre.state("safe") == ["alive"]), "it has no link")
    process = safe.process.pid
    done = centre.ctl("keys", "rotate", "enrol", "--keys", bed.keys, "--confirm", "enemy")
    expect(done.returncode == 0, done.stdout + done.stderr)
    expect(serves(safe, b'"version":2'), "it does not begin anew")
    said = pathlib.Path(f"{safe.data}.log").read_text()
    expect(said.count("meshd: locked") == 1 and safe.process.pid == process, said[-600:])


CASES = [change_the_meshs_keys_under_a_sealed_server, join_sealed_and_wait_for_approval,
         copy_a_sealed_server_and_ask_first, carry_a_sealed_server_off, have_a_key_kept_that_is_not_ones_own]
